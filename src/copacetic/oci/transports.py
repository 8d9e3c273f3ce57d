# SPDX-License-Identifier: Apache-2.0
"""
The kinds of places where images are, one row for each, as containers/image has its `ImageTransport`s.

A row says how a place is written, what it can hold, and how it is opened. Adding a kind of place is one file with a
source and a destination, and one row here. What opens a place is imported when it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from msgspec import Struct

from copacetic.errors import InvalidReferenceError
from copacetic.oci.reference import Reference

if TYPE_CHECKING:
    from copacetic.connect.dockercontext import EngineKind
    from copacetic.connect.engine import EngineClient
    from copacetic.oci.registryclient import RegistryClient
    from copacetic.oci.transport import Destination, Source

_Place = TypeVar("_Place")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.:@+-]*)*")
_MAX_TAG = 512


class Clients(Protocol):
    """What places are reached with; whoever opens a location has them."""

    @property
    def registries(self) -> RegistryClient: ...
    def engine(self, kind: EngineKind, /) -> EngineClient: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport(Generic[_Place]):
    """A kind of place. `str()` of a place is what is written after the first of the prefixes."""

    name: str
    label: str
    """For sentences, as in `a registry`."""
    prefixes: tuple[str, ...]
    """What stands before a place of this kind, other tools' spellings too; of two that fit, the longer one counts."""
    form: str = ""
    """How a location is written, for help and hints; empty for references, which say so themselves."""
    parse: Callable[[str, str], _Place]
    """From what follows the prefix, and the whole text for the message of `InvalidReferenceError`."""
    open_source: Callable[[_Place, Clients], Source]
    open_destination: Callable[[_Place, Clients], Destination]
    holds_index: bool = True
    """Whether all platforms of an image have room there, or only one."""
    attaches: bool = False
    """Whether documents can be put beside an image (`Destination.attach`)."""


class TaggedPath(Struct, frozen=True):
    """An OCI layout on the disk; the tag may be a whole reference, since some writers put one there."""

    path: Path
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.tag}" if self.tag else str(self.path)


class NamedPath(Struct, frozen=True):
    """What `docker save` writes; the name is that of one image in it."""

    path: Path
    reference: Reference | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.reference}" if self.reference is not None else str(self.path)


def _parse_layout(rest: str, text: str) -> TaggedPath:
    return _parse_tagged(rest, text, "directory")


def _parse_tagged(rest: str, text: str, what: str = "file") -> TaggedPath:
    path, tag = _split_path(rest, text, what)
    if tag and (len(tag) > _MAX_TAG or not _TAG.fullmatch(tag)):
        raise InvalidReferenceError(f"{text[:200]!r}: {tag[:140]!r} is not a tag")
    return TaggedPath(path, tag)


def _parse_named(rest: str, text: str) -> NamedPath:
    path, name = _split_path(rest, text, "file")
    return NamedPath(path, Reference.parse(name) if name else None)


def _split_path(rest: str, text: str, what: str) -> tuple[Path, str]:
    """As in skopeo, the first colon ends the path."""
    path, _, name = rest.partition(":")
    if not path or "\0" in path:
        raise InvalidReferenceError(f"{text[:200]!r} names no {what}")
    return Path(path), name


def _read_registry(reference: Reference, clients: Clients) -> Source:
    from copacetic.oci.registry import RegistrySource

    return RegistrySource(reference, clients.registries)


def _write_registry(reference: Reference, clients: Clients) -> Destination:
    from copacetic.oci.registry import RegistryDestination

    return RegistryDestination(reference, clients.registries)


def _read_layout(place: TaggedPath, _clients: Clients) -> Source:
    from copacetic.oci.layout import LayoutSource

    return LayoutSource(place.path, place.tag)


def _write_layout(place: TaggedPath, _clients: Clients) -> Destination:
    from copacetic.oci.layout import LayoutDestination

    return LayoutDestination(place.path, place.tag)


def _read_oci_archive(place: TaggedPath, _clients: Clients) -> Source:
    from copacetic.oci.archive import OciArchiveSource

    return OciArchiveSource(place.path, place.tag)


def _write_oci_archive(place: TaggedPath, _clients: Clients) -> Destination:
    from copacetic.oci.archive import OciArchiveDestination

    return OciArchiveDestination(place.path, place.tag)


def _read_docker_archive(place: NamedPath, _clients: Clients) -> Source:
    from copacetic.oci.dockerarchive import DockerArchiveSource

    return DockerArchiveSource(place.path, place.reference)


def _write_docker_archive(place: NamedPath, _clients: Clients) -> Destination:
    from copacetic.oci.dockerarchive import DockerArchiveDestination

    return DockerArchiveDestination(place.path, place.reference)


def _engine(kind: EngineKind) -> Transport[Reference]:
    def read(reference: Reference, clients: Clients) -> Source:
        from copacetic.oci.engine import EngineSource

        return EngineSource(kind, reference, clients.engine(kind))

    def write(reference: Reference, clients: Clients) -> Destination:
        from copacetic.oci.engine import EngineDestination

        return EngineDestination(kind, reference, clients.engine(kind))

    return Transport(
        name=kind,
        label=f"{kind}'s storage",
        prefixes=(f"{kind}:", *(("docker-daemon:",) if kind == "docker" else ())),
        form=f"{kind}:NAME",
        parse=lambda rest, _text: Reference.parse(rest),
        open_source=read,
        open_destination=write,
        holds_index=False,
    )


REGISTRY: Transport[Reference] = Transport(
    name="registry",
    label="a registry",
    prefixes=("", "docker://", "registry://", "image://"),
    parse=lambda rest, _text: Reference.parse(rest),
    open_source=_read_registry,
    open_destination=_write_registry,
    attaches=True,
)
TRANSPORTS: tuple[Transport[Any], ...] = (
    REGISTRY,
    Transport(
        name="oci",
        label="an OCI layout",
        prefixes=("oci:", "oci-dir://"),
        form="oci:DIR[:TAG]",
        parse=_parse_layout,
        open_source=_read_layout,
        open_destination=_write_layout,
        attaches=True,
    ),
    Transport(
        name="oci-archive",
        label="an OCI archive",
        prefixes=("oci-archive:",),
        form="oci-archive:FILE",
        parse=_parse_tagged,
        open_source=_read_oci_archive,
        open_destination=_write_oci_archive,
    ),
    Transport(
        name="docker-archive",
        label="a docker archive",
        prefixes=("docker-archive:", "archive://"),
        form="docker-archive:FILE",
        parse=_parse_named,
        open_source=_read_docker_archive,
        open_destination=_write_docker_archive,
        holds_index=False,
    ),
    _engine("docker"),
    _engine("podman"),
)
UNSUPPORTED = ("containers-storage:", "local://", "dir:", "fs://", "sbom://", "http://", "https://")
"""Prefixes of other tools that would be taken for something else."""


def list_forms(reference: str) -> str:
    """Return how locations are written, for help and hints; `reference` is how those in registries are."""
    *others, last = (transport.form for transport in TRANSPORTS if transport.form)
    return f"{', '.join((reference, *others))} or {last}"
