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
from collections.abc import Collection

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["STALE", "remove_bytecode", "remove_stale", "renew_sources", "source_of"]

STALE = "byte code that isn't true any more"
"""In whose name it goes."""

_ENDINGS = (".pyc", ".pyo")
_CACHE = re.compile(r"(?P<module>[^/]+?)\.[a-z0-9_]+-[0-9][a-z0-9-]*(?:\.opt-[12])?\.pyc")


def source_of(path: str) -> str | None:
    """Return from what byte code at a path was compiled, whether or not that is there; None for another path."""
    if not path.endswith(_ENDINGS):
        return None
    folder, _, name = path.rpartition("/")
    above, _, cache = folder.rpartition("/")
    if cache != "__pycache__":
        return path[:-1]
    match = _CACHE.fullmatch(name)
    return f"{above}/{match['module']}.py".lstrip("/") if match is not None else None


def remove_bytecode(tree: TreeBuilder) -> None:
    """Remove what was compiled from sources that aren't the same any more."""
    changed: dict[str, set[str]] = {}
    for path in tree.changed_paths(".py"):
        changed.setdefault(path.rpartition("/")[0], set()).add(path)
    for folder, sources in changed.items():
        _remove(tree, folder, sources)


def remove_stale(tree: TreeBuilder, path: str) -> None:
    """Remove the byte code of one source."""
    source = tree.resolve(path, follow=False)
    _remove(tree, source.rpartition("/")[0], {source})


def _remove(tree: TreeBuilder, folder: str, sources: Collection[str]) -> None:
    """What a package has put there stays; the folder for byte code goes when nothing else is left in it."""
    stale = [f"{source}{letter}" for source in sorted(sources) for letter in "co"]
    cache = f"{folder}/__pycache__".lstrip("/")
    is_folder = tree.type_of(cache, follow=False) is FileType.DIRECTORY
    if is_folder:
        first = {source.rpartition("/")[2].partition(".")[0] for source in sources}
        codes = (f"{cache}/{name}" for name in tree.iterdir(cache) if name.partition(".")[0] in first)
        stale += [code for code in codes if source_of(code) in sources]
    for code in stale:
        if not tree.holds(code):
            tree.remove(code)
    if is_folder and not tree.holds(cache):
        tree.remove(cache)


def renew_sources(tree: TreeBuilder) -> None:
    """Have the sources of byte code that packages bring come with it: that is true for no other time of theirs."""
    for path in tree.changed_paths(_ENDINGS):
        source = source_of(path)
        if source is not None and tree.holds(path) and tree.holds(source):
            tree.date(source)
