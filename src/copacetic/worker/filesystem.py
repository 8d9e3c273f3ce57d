# SPDX-License-Identifier: Apache-2.0
"""A solved filesystem as `ImageFilesystem`: every question goes to a job of the helper, which sees the files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from threading import Lock
from typing import Any

from copacetic.errors import ImageError
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.worker.agent import AgentJob, JobRefusedError

__all__ = ["WorkerFilesystem"]

_TYPES = {kind.value: kind for kind in FileType}


class WorkerFilesystem:
    """Good for as long as its job is. Thread-safe; links are resolved inside the root."""

    def __init__(self, job: AgentJob) -> None:
        self._job = job
        self._lock = Lock()

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        found, _ = self._ask({"ask": "lookup", "path": path, "follow": follow})
        return None if found is None else _entry(found)

    def resolve(self, path: str, *, follow: bool = True) -> str:
        return str(self._ask({"ask": "resolve", "path": path, "follow": follow})[0])

    def read(self, path: str, *, limit: int) -> bytes:
        answer, parts = self._ask({"ask": "read", "path": path, "limit": limit})
        if answer is None:
            raise FileNotFoundError(path)
        if answer["size"] > limit:
            raise ImageError(f"{path} has {answer['size']} bytes, the limit is {limit}")
        return b"".join(base64.b64decode(part) for part in parts)

    def iterdir(self, path: str) -> tuple[str, ...]:
        return tuple(self._ask({"ask": "names", "path": path})[0])

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        last, batches = self._ask({"ask": "walk", "path": path})
        for batch in (*batches, last):
            for below, described in batch:
                yield below, _entry(described)

    def layer_of(self, path: str) -> int | None:
        layer: int | None = self._ask({"ask": "layer", "path": path})[0]
        return layer

    def _ask(self, question: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Return the answer, and what came before it."""
        more: list[Any] = []
        with self._lock:
            self._job.ask(question)
            try:
                while True:
                    message = self._job.receive()
                    if "answer" in message:
                        return message["answer"], more
                    more.append(message["more"])
            except JobRefusedError as error:
                raise ImageError(str(error)) from error


def _entry(described: Any) -> Entry:
    return Entry(
        type=_TYPES[described["type"]],
        mode=described["mode"],
        uid=described["uid"],
        gid=described["gid"],
        size=described["size"],
        mtime=described["mtime"],
        target=described["target"],
        xattrs={name: base64.b64decode(value) for name, value in described["xattrs"].items()},
        sha256=described["sha256"],
        link_group=described["group"],
    )


_: type[ImageFilesystem] = WorkerFilesystem
