# SPDX-License-Identifier: Apache-2.0
"""
Answers questions about layer directories as one tree, until nobody asks any more.

The questions are those of `ImageFilesystem`; see `worker.filesystem` for the other side.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from copacetic.oci.filesystem import kind_of
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.metadata import Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack, open_layers

__all__ = ["run"]

_BATCH = 256
_PIECE = 1 << 22
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def run(channel: Channel, request: Message, _fds: Sequence[int]) -> Message:
    """`layers`, the lowest first."""
    reader = _Reader(Stack(open_layers(request["layers"])), Owners(single=request["single"]), channel)
    answers: dict[str, Callable[[Message], Any]] = {
        "lookup": reader.lookup,
        "resolve": lambda q: reader.stack.resolve(q["path"], follow=q["follow"]),
        "read": reader.read,
        "names": lambda q: sorted(reader.stack.names(reader.stack.resolve(q["path"]))),
        "walk": reader.walk,
        "layer": reader.layer,
    }
    while (received := channel.receive()) is not None:
        question = received[0]
        try:
            answer = {"answer": answers[question["ask"]](question)}
        except RefusalError as error:
            answer = {"refused": error.kind, "reason": str(error)}
        except OSError as error:
            answer = {"refused": "storage", "reason": f"{error.strerror or error}"}
        channel.send(answer)
    return {}


class _Reader:
    def __init__(self, stack: Stack, owners: Owners, channel: Channel) -> None:
        self.stack = stack
        self._owners = owners
        self._channel = channel
        self._names: dict[tuple[int, int], str] = {}
        self._digests: dict[tuple[int, int], str] = {}

    def lookup(self, question: Message) -> Any:
        canonical = self.stack.resolve(question["path"], follow=question["follow"])
        found = self.stack.find(canonical)
        return None if found is None else self._describe(canonical, *found)

    def read(self, question: Message) -> Any:
        """The size, and then as many messages as it takes; None when it is no regular file."""
        canonical = self.stack.resolve(question["path"])
        found = self.stack.find(canonical)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            return None
        size = found[1].st_size
        if size > question["limit"]:
            return {"size": size}
        handle = os.open(canonical, _READ, dir_fd=found[0])
        try:
            while part := os.read(handle, _PIECE):
                self._channel.send({"more": base64.b64encode(part).decode("ascii")})
        finally:
            os.close(handle)
        return {"size": size}

    def walk(self, question: Message) -> Any:
        batch: list[Any] = []
        for row in self._rows(self.stack.resolve(question["path"])):
            batch.append(row)
            if len(batch) == _BATCH:
                self._channel.send({"more": batch})
                batch = []
        return batch

    def layer(self, question: Message) -> Any:
        found = self.stack.find(question["path"])
        return None if found is None else self.stack.layers.index(found[0])

    def _rows(self, start: str) -> Iterator[Any]:
        for path, layer, info in self.stack.walk(start):
            described = self._describe(path, layer, info)
            if described is not None:
                yield [path, described]

    def _describe(self, path: str, layer: int, info: os.stat_result) -> Any:
        kind = kind_of(info.st_mode)
        if kind is None:
            return None
        meta = self._owners.read(layer, path, info)
        identity = (info.st_dev, info.st_ino)
        regular = stat.S_ISREG(info.st_mode)
        return {
            "type": kind.value,
            "mode": meta.mode,
            "uid": meta.uid,
            "gid": meta.gid,
            "size": info.st_size if regular else 0,
            "mtime": info.st_mtime_ns // 1_000_000_000,
            "target": os.readlink(path, dir_fd=layer) if stat.S_ISLNK(info.st_mode) else "",
            "xattrs": {name: base64.b64encode(value).decode("ascii") for name, value in meta.xattrs.items()},
            "sha256": self._digest(layer, path, identity) if regular else "",
            "group": self._names.setdefault(identity, path) if regular and info.st_nlink > 1 else "",
        }

    def _digest(self, layer: int, path: str, identity: tuple[int, int]) -> str:
        if identity not in self._digests:
            with open(os.open(path, _READ, dir_fd=layer), "rb") as file:
                self._digests[identity] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[identity]
