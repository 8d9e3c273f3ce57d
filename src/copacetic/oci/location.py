# SPDX-License-Identifier: Apache-2.0
"""
Where an image is: `[registry/]repository…`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]`.

As in skopeo, the first colon after the transport ends the path; a tag may be a whole reference, as in
`oci:dir:web:1.0`, since some writers put one into `org.opencontainers.image.ref.name`. `docker://REF`,
`registry://REF`, `oci-dir://DIR` and `archive://FILE` are other tools' spellings of the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from copacetic.errors import InvalidReferenceError
from copacetic.oci.reference import Reference

Kind = Literal["registry", "oci", "oci-archive", "docker-archive"]

_FILES: tuple[tuple[str, Kind], ...] = (
    ("oci-dir://", "oci"),
    ("oci:", "oci"),
    ("oci-archive:", "oci-archive"),
    ("docker-archive:", "docker-archive"),
    ("archive://", "docker-archive"),
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.:@+-]*)*")
_MAX_TAG = 512
_REGISTRIES = ("docker://", "registry://", "image://")
_UNSUPPORTED = (
    "docker-daemon:",
    "containers-storage:",
    "local://",
    "dir:",
    "fs://",
    "sbom://",
    "http://",
    "https://",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One of the four kinds; `reference` belongs to registries, `path` and `tag` to files."""

    kind: Kind
    reference: Reference | None = None
    path: Path | None = None
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> Location:
        """Raises `InvalidReferenceError`."""
        for prefix in _UNSUPPORTED:
            if text.startswith(prefix):
                raise InvalidReferenceError(f"{text[:200]!r}: the transport {prefix} is not supported")
        for prefix, kind in _FILES:
            if text.startswith(prefix):
                return cls._file(kind, text[len(prefix) :], text)
        prefix = next((prefix for prefix in _REGISTRIES if text.startswith(prefix)), "")
        return cls(kind="registry", reference=Reference.parse(text.removeprefix(prefix)))

    @classmethod
    def _file(cls, kind: Kind, rest: str, text: str) -> Location:
        path, _, tag = rest.partition(":")
        if not path or "\0" in path:
            raise InvalidReferenceError(f"{text[:200]!r} names no {'directory' if kind == 'oci' else 'file'}")
        if tag and kind != "docker-archive":
            _check_tag(tag, text)
        if tag and kind == "docker-archive":
            tag = str(Reference.parse(tag))
        return cls(kind=kind, path=Path(path), tag=tag)

    def __str__(self) -> str:
        if self.reference is not None:
            return str(self.reference)
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.kind}:{self.path}{tag}"


def _check_tag(tag: str, text: str) -> None:
    if len(tag) > _MAX_TAG or not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{text[:200]!r}: {tag[:140]!r} is not a tag")
