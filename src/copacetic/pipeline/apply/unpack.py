# SPDX-License-Identifier: Apache-2.0
"""One image's unpacker for a whole run: composing asks nothing again that judging has found out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from copacetic.errors import ImageError
from copacetic.inventory import detect_database
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.recording import RecordingFilesystem
from copacetic.unpack import FetchedPackage, Unpacker, open_unpacker

__all__ = ["Unpacking"]


class Unpacking:
    """
    Opens the unpacker when it is first needed, and records what it reads.

    Without a scratch folder nothing is spooled ahead. It has to be left before that folder is removed.
    """

    def __init__(self, fs: ImageFilesystem, scratch: Path | None = None) -> None:
        self._recorder = RecordingFilesystem(fs)
        self._scratch = scratch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was spooled for nothing."""
        if "unpacker" in self.__dict__:
            self.unpacker.close()

    @cached_property
    def unpacker(self) -> Unpacker:
        """Raises `ImageError` for an image without a package database."""
        database = detect_database(self._recorder)
        if database is None:
            raise ImageError("the package database is gone")
        return open_unpacker(self._recorder, database)

    def spool(self, packages: Sequence[FetchedPackage]) -> None:
        """Begin to decompress packages that are probably going to be composed."""
        if self._scratch is not None:
            self.unpacker.spool(packages, self._scratch)

    def reads(self) -> frozenset[str]:
        """The paths that anything up to here depends on; see `RecordingFilesystem.reads`."""
        return self._recorder.reads()
