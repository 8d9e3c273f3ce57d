# SPDX-License-Identifier: Apache-2.0
"""
Python byte code of modules that an upgrade changes or removes.

A package's scripts compile them anew, for the image's interpreter. Byte code is only a cache, and Python checks it
against the source's size and time: what is stale is removed, so that nothing old is left behind, and Python compiles
the module when it is next used. Byte code of modules that stay the same stays.
"""

from __future__ import annotations

import re

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["remove_bytecode", "remove_stale"]

_CACHE = re.compile(r"\.[a-z0-9_]+-[0-9]+[a-z0-9-]*(?:\.opt-[12])?\.pyc")


def remove_bytecode(tree: TreeBuilder) -> None:
    """Remove what was compiled from sources that aren't the same any more."""
    for path in tree.changed_paths():
        if path.endswith(".py"):
            remove_stale(tree, path)


def remove_stale(tree: TreeBuilder, path: str) -> None:
    """Remove the byte code of one source, and the folder for it when nothing else is left there."""
    folder, _, name = path.rpartition("/")
    cache, module = f"{folder}/__pycache__", name.removesuffix(".py")
    tree.remove(f"{path}c")
    tree.remove(f"{path}o")
    if tree.type_of(cache, follow=False) is not FileType.DIRECTORY:
        return
    for name in tree.iterdir(cache):
        if name.startswith(module) and _CACHE.fullmatch(name[len(module) :]):
            tree.remove(f"{cache}/{name}")
    tree.remove(cache)
