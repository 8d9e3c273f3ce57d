# SPDX-License-Identifier: Apache-2.0
"""
OCI layouts in a tar file (`oci-archive:`), as skopeo, podman and `docker buildx -o type=oci` write them.

A layout is read where it lies in the archive; a gzip-compressed archive costs a temporary copy. Writing replaces
the whole file: an archive holds one image or index.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Self

from copacetic.errors import ImageError, IntegrityError
from copacetic.oci.archivefile import ArchiveFile, ArchiveWriter
from copacetic.oci.blobs import BlobWindow, copy_checked, open_regular
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.layout import LAYOUT_FILE
from copacetic.oci.layoutindex import find_root, replace_entry
from copacetic.oci.manifest import MANIFEST_LIMIT
from copacetic.oci.referrers import Document
from copacetic.oci.transport import ByteStream, Destination, Published, Source, refuse_document


class OciArchiveSource:
    """Reads one tag of an archived layout, or its only image."""

    def __init__(self, path: Path, tag: str = "") -> None:
        self._path = path
        self._tag = tag
        self.name = f"oci-archive:{path}:{tag}" if tag else f"oci-archive:{path}"

    @cached_property
    def _file(self) -> ArchiveFile:
        return ArchiveFile(self._path)

    def root(self) -> tuple[Descriptor, bytes]:
        if "index.json" not in self._file:
            hint = "for what `docker save` writes, use docker-archive:FILE" if "manifest.json" in self._file else None
            raise ImageError(f"{self._path} is not an archived OCI layout: it has no index.json", hint=hint)
        return find_root(self._file.read("index.json", limit=MANIFEST_LIMIT), self._tag, self.name, self.manifest)

    def manifest(self, descriptor: Descriptor) -> bytes:
        raw = self._file.read(_blob_name(descriptor), limit=MANIFEST_LIMIT)
        descriptor.check(raw, where=self.name)
        return raw

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        where = f"{self.name}: {descriptor.digest}"
        member = self._file.find(_blob_name(descriptor))
        if member.size != descriptor.size:
            raise IntegrityError(f"{where} has {member.size} bytes instead of {descriptor.size}")
        yield self._file.window(member, where)


def _blob_name(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.encoded}"


class OciArchiveDestination:
    """Writes a new archive; one that is there already is replaced at the end."""

    def __init__(self, path: Path, tag: str = "") -> None:
        self._path = path
        self._tag = tag
        self.name = f"oci-archive:{path}:{tag}" if tag else f"oci-archive:{path}"
        self._writer: ArchiveWriter | None = None
        self._lock = threading.Lock()
        self._written: set[Digest] = set()
        self._folders: set[str] = set()

    def __enter__(self) -> Self:
        self._writer = ArchiveWriter(self._path)
        self._writer.append("oci-layout", LAYOUT_FILE)
        self._writer.append_directory("blobs/")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        if self._claim(descriptor):
            with source.open_blob(descriptor) as stream:
                self._write(descriptor, stream, source.name)

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        if self._claim(descriptor):
            with open_regular(path, missing=f"{path} is gone") as (handle, size):
                self._write(descriptor, BlobWindow(handle, 0, size, str(path)), str(path))

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        descriptor.check(raw, where=self.name)
        if self._claim(descriptor):
            self._open.append(_blob_name(descriptor), raw)

    def append(self, name: str, data: bytes) -> None:
        """Add a file that is no part of a layout."""
        self._open.append(name, data)

    def attach(self, subject: Descriptor, document: Document) -> NoReturn:
        refuse_document(self)

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        self.write_manifest(descriptor, raw)
        self._open.append("index.json", replace_entry(None, descriptor, self._tag, self.name))
        self._open.finish()
        return Published(name=self.name, digest=descriptor.digest)

    @property
    def _open(self) -> ArchiveWriter:
        assert self._writer is not None, "used outside of its context"
        return self._writer

    def _claim(self, descriptor: Descriptor) -> bool:
        """
        Tell whether this call has to write the blob: each is written once.

        A blob that fails to come ends the whole archive, so nobody has to wait for one that another call claimed.
        """
        with self._lock:
            if descriptor.digest in self._written:
                return False
            self._written.add(descriptor.digest)
            if descriptor.digest.algorithm not in self._folders:
                self._folders.add(descriptor.digest.algorithm)
                self._open.append_directory(f"blobs/{descriptor.digest.algorithm}/")
            return True

    def _write(self, descriptor: Descriptor, stream: ByteStream, where: str) -> None:
        at = self._open.reserve(_blob_name(descriptor), descriptor.size)

        def write(data: bytes) -> None:
            nonlocal at
            self._open.write_at(data, at)
            at += len(data)

        copy_checked(stream, write, descriptor, where=where)


_SOURCE: type[Source] = OciArchiveSource
_DESTINATION: type[Destination] = OciArchiveDestination
