# SPDX-License-Identifier: Apache-2.0
"""What turns one tree into another that was not made from it: a layer that brings what is new, and whiteouts."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.metadata import Owners
from copacetic.worker.inside.stack import Stack, join, open_layers

__all__ = ["run"]

_PIECE = 1 << 20
Found = tuple[int, os.stat_result]


def run(_channel: Channel, request: Message, _fds: Sequence[int]) -> Message:
    """From the layers `lower` to those of `upper`, into the empty directory `target`."""
    owners = Owners(single=request["single"])
    lower, upper = Stack(open_layers(request["lower"])), Stack(open_layers(request["upper"]))
    target = os.open(request["target"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    builder = LayerBuilder(target, lower, owners)
    _Comparison(lower, upper, builder, owners).run()
    builder.finish()
    return {}


class _Comparison:
    def __init__(self, lower: Stack, upper: Stack, builder: LayerBuilder, owners: Owners) -> None:
        self._lower = lower
        self._upper = upper
        self._builder = builder
        self._owners = owners
        self._names: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        pending = [""]
        while pending:
            folder = pending.pop()
            names = self._upper.names(folder)
            # A directory in place of something else hides that anyway.
            for name in self._lower.names(folder).keys() - names.keys():
                self._builder.whiteout(join(self._builder.directory(folder), name))
            for name in sorted(names):
                path = join(folder, name)
                found = self._upper.find(path)
                assert found is not None
                self._take(path, found)
                if stat.S_ISDIR(found[1].st_mode):
                    pending.append(path)

    def _take(self, path: str, found: Found) -> None:
        present = self._lower.find(path)
        if present is not None and self._is_same(path, present, found):
            return
        info = found[1]
        if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
            first = self._names.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                self._builder.directory(path.rpartition("/")[0])
                self._builder.make_hard_link(path, first)
                return
        self._builder.copy(path, *found, source=path)

    def _is_same(self, path: str, lower: Found, upper: Found) -> bool:
        before, after = lower[1], upper[1]
        if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino):
            return True
        if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
            return False
        if stat.S_ISLNK(after.st_mode):
            if os.readlink(path, dir_fd=lower[0]) != os.readlink(path, dir_fd=upper[0]):
                return False
        elif stat.S_ISREG(after.st_mode) and not _same_bytes(path, lower, upper):
            return False
        old, new = self._owners.read(lower[0], path, before), self._owners.read(upper[0], path, after)
        old.mtime = new.mtime = None
        return old == new


def _same_bytes(path: str, lower: Found, upper: Found) -> bool:
    if lower[1].st_size != upper[1].st_size:
        return False
    handles = [os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer) for layer, _ in (lower, upper)]
    try:
        while True:
            first, second = (os.read(handle, _PIECE) for handle in handles)
            if first != second:
                return False
            if not first:
                return True
    finally:
        for handle in handles:
            os.close(handle)
