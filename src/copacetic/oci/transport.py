# SPDX-License-Identifier: Apache-2.0
"""Where images come from and go to: the two seams that registries, layouts, archives and daemons implement."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, Protocol, Self

from msgspec import Struct

from copacetic.errors import UsageError
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.referrers import Document


class ByteStream(Protocol):
    """The part of a binary file that consumers use; short reads are allowed, b"" is the end."""

    def read(self, size: int, /) -> bytes: ...


class Source(Protocol):
    """Reads one image, or one index with all its images."""

    @property
    def name(self) -> str:
        """The canonical name for people, plans and labels; never holds credentials."""
        ...

    def root(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that the name leads to; its digest is checked, its bytes are as stored."""
        ...

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or index by digest; size and digest are checked."""
        ...

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[ByteStream]:
        """
        Stream a blob from its beginning. A broken connection is resumed.

        The reader checks the digest (every reader of a blob hashes it anyway); the source promises only that no
        more than `descriptor.size` bytes come.
        """
        ...


class Published(Struct, frozen=True, kw_only=True):
    """What a destination's name leads to from now on."""

    name: str
    digest: Digest

    @property
    def reference(self) -> str:
        """`name@digest`, for people and scripts."""
        return f"{self.name}@{self.digest}"


class Destination(Protocol):
    """
    Writes one image or index. Nothing is visible under the destination's name until `publish`.

    Used as a context manager: leaving it without `publish` takes back whatever can be taken back.
    """

    @property
    def name(self) -> str: ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def copy_blob(self, descriptor: Descriptor, source: Source) -> None:
        """Make sure that a blob of the source is here: already there, mounted, linked, or copied and checked."""
        ...

    def write_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write a blob from a local file whose digest the caller has computed."""
        ...

    def write_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """Write a manifest that an index is going to name; all its blobs are here already."""
        ...

    def attach(self, subject: Descriptor, document: Document) -> None:
        """
        Put a document beside a manifest or index that was written before; its readers may see it from `publish` on.

        Attaching a document twice adds nothing, and what others have attached stays. Raises `UsageError` where there
        is no place for documents (`Transport.attaches`).
        """
        ...

    def publish(self, descriptor: Descriptor, raw: bytes) -> Published:
        """Give the manifest or index the destination's name, in one step."""
        ...


def refuse_document(destination: Destination) -> NoReturn:
    """Be the `attach` of a destination that can't have documents beside an image."""
    hint = "push to a registry, or write an oci: layout"
    raise UsageError(f"{destination.name} has no place for documents about the image", hint=hint)
