# SPDX-License-Identifier: Apache-2.0
"""
Copies from one tree into another, as `cp -a` makes them and BuildKit's file operation means them.

A directory goes into an existing one under its own name, unless only its contents are wanted; existing directories
are merged, files replaced, and links in the source are copied as links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.metadata import Metadata, Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack, join, open_layers, parent_of

__all__ = ["copy"]


def copy(builder: LayerBuilder, owners: Owners, action: Mapping[str, Any]) -> None:
    """Raises `RefusalError` (`missing`) when a source is not there, or a file stands where a directory has to be."""
    source = Stack(open_layers(action["layers"]))
    try:
        _Copier(builder, owners, source, action).copy(action["path"].strip("/"))
    finally:
        for layer in source.layers:
            os.close(layer)


class _Copier:
    def __init__(self, builder: LayerBuilder, owners: Owners, source: Stack, action: Mapping[str, Any]) -> None:
        self._builder = builder
        self._owners = owners
        self._source = source
        self._action = action
        self._names: dict[tuple[int, int], str] = {}

    def copy(self, path: str) -> None:
        canonical = join(self._source.resolve(parent_of(path)), path.rpartition("/")[2]) if path else ""
        found = self._source.find(canonical)
        if found is None:
            raise RefusalError("missing", f"{path!r}, which is to be copied, is not there")
        target = self._target(path, stat.S_ISDIR(found[1].st_mode))
        self._directories(parent_of(target))
        if not stat.S_ISDIR(found[1].st_mode):
            self._copy_file(canonical, found, target)
            return
        self._copy_directory(canonical, found, target, top=True)
        for below, layer, info in self._source.walk(canonical):
            place = join(target, below[len(canonical) :].strip("/"))
            if stat.S_ISDIR(info.st_mode):
                self._copy_directory(below, (layer, info), place, top=False)
            else:
                self._copy_file(below, (layer, info), place)

    def _target(self, path: str, is_directory: bool) -> str:
        """The canonical path that the source gets."""
        dest = self._action["dest"]
        if dest.endswith("/"):
            self._directories(self._builder.view.resolve(dest))
        view = self._builder.view
        target = view.resolve(dest)
        found = view.find(target)
        contents = self._action["contents"] and is_directory
        into = found is not None and (is_directory or stat.S_ISDIR(found[1].st_mode))
        if into and not contents:
            target = join(target, path.rpartition("/")[2])
        return target

    def _directories(self, path: str) -> None:
        """Make what is missing of a canonical path, root's and 0755."""
        at = ""
        for part in path.split("/") if path else ():
            at = join(at, part)
            found = self._builder.view.find(at)
            if found is not None and not stat.S_ISDIR(found[1].st_mode):
                raise RefusalError("missing", f"/{at} is no directory, and one is needed there")
            if found is None:
                self._builder.directory(parent_of(at))
                self._builder.make_directory(at, Metadata(0o755))

    def _copy_directory(self, path: str, found: tuple[int, os.stat_result], target: str, *, top: bool) -> None:
        present = self._builder.view.find(target)
        if present is not None and not stat.S_ISDIR(present[1].st_mode):
            raise RefusalError("missing", f"a directory can't be copied onto /{target}, which is none")
        self._builder.directory(parent_of(target) if present is None else target)
        # The directory that was named keeps its own attributes where it exists; those in it are the source's.
        if present is None or not top:
            self._builder.make_directory(target, self._owners.read(found[0], path, found[1]))

    def _copy_file(self, path: str, found: tuple[int, os.stat_result], target: str) -> None:
        layer, info = found
        present = self._builder.view.find(target)
        if present is not None and stat.S_ISDIR(present[1].st_mode):
            raise RefusalError("missing", f"a file can't replace the directory /{target}")
        if stat.S_ISFIFO(info.st_mode):
            return
        if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
            first = self._names.setdefault((info.st_dev, info.st_ino), target)
            if first != target:
                self._builder.make_hard_link(target, first)
                return
        self._builder.copy(target, layer, info, source=path)
