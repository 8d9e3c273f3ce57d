# SPDX-License-Identifier: Apache-2.0
"""
Python byte code of modules that an upgrade changes or removes.

A package's scripts compile them anew, for the image's interpreter. Byte code is only a cache, and Python checks it
against the source's size and time: what is stale is removed, so that nothing old is left behind, and Python compiles
the module when it is next used. Byte code of modules that stay the same stays, as does the time of their source. What a
package ships is the package's, and its source gets the time that goes with it.
"""

from __future__ import annotations

import re

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["STALE", "remove_bytecode", "remove_stale", "renew_sources", "source_of"]

STALE = "byte code that isn't true any more"
"""In whose name it goes."""

_CACHE = re.compile(r"(?P<module>[^/]+?)\.[a-z0-9_]+-[0-9][a-z0-9-]*(?:\.opt-[12])?\.pyc")


def source_of(path: str) -> str | None:
    """Return from what byte code at a path was compiled, whether or not that is there; None for another path."""
    if not path.endswith((".pyc", ".pyo")):
        return None
    folder, _, name = path.rpartition("/")
    above, _, cache = folder.rpartition("/")
    if cache != "__pycache__":
        return path[:-1]
    match = _CACHE.fullmatch(name)
    return f"{above}/{match['module']}.py".lstrip("/") if match is not None else None


def remove_bytecode(tree: TreeBuilder) -> None:
    """Remove what was compiled from sources that aren't the same any more."""
    for path in tree.changed_paths():
        if path.endswith(".py"):
            remove_stale(tree, path)


def remove_stale(tree: TreeBuilder, path: str) -> None:
    """
    Remove the byte code of one source that no package has put there, and the folder for it when nothing else is left
    in that.
    """
    path = tree.resolve(path, follow=False)
    cache = f"{path.rpartition('/')[0]}/__pycache__".lstrip("/")
    is_folder = tree.type_of(cache, follow=False) is FileType.DIRECTORY
    beside = [f"{cache}/{name}" for name in tree.iterdir(cache)] if is_folder else []
    for code in (f"{path}c", f"{path}o", *(code for code in beside if source_of(code) == path)):
        if not tree.holds(code):
            tree.remove(code)
    if is_folder and not tree.holds(cache):
        tree.remove(cache)


def renew_sources(tree: TreeBuilder) -> None:
    """Have the sources of byte code that packages bring come with it: that is true for no other time of theirs."""
    for path in tree.changed_paths():
        source = source_of(path)
        if source is not None and tree.holds(path) and tree.holds(source):
            tree.renew(source)
