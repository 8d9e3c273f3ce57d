# SPDX-License-Identifier: Apache-2.0
"""
Digests, platforms and descriptors, as in the OCI image specification.

A descriptor read from a document keeps the fields that it doesn't know, so that it can be written back unharmed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from copacetic.errors import ImageError, IntegrityError, UsageError
from copacetic.oci.document import refuse_lookalikes, text_field, text_fields

_ENCODED = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm/v7",
    "armel": "arm/v6",
    "i386": "386",
}
_ABOUT_CONTENT = frozenset({"data", "urls"})
_FIELDS = ("mediaType", "digest", "size", "platform", "annotations", "artifactType", "urls", "data")
_PLATFORM_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:encoded`; only sha256 and sha512 are accepted."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises `ImageError` for anything that is not a digest."""
        algorithm, _, encoded = text.partition(":")
        grammar = _ENCODED.get(algorithm)
        if grammar is None or not grammar.fullmatch(encoded):
            raise ImageError(f"not a digest: {text[:160]!r}")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the SHA-256 of bytes."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> Any:
        """Return a `hashlib` object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """os/architecture[/variant], in Go's spelling."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `linux/arm64/v8`; `x86_64` and `aarch64` are understood. Raises `UsageError`."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
            raise UsageError(
                f"not a platform: {text[:80]!r}", hint="write os/architecture[/variant], as in linux/arm64"
            )
        architecture = parts[1].lower()
        architecture, _, implied = _ARCHITECTURES.get(architecture, architecture).partition("/")
        variant = parts[2] if len(parts) == 3 else implied
        if architecture in {"arm", "arm64"} and variant.isdigit():
            variant = f"v{variant}"
        return cls(os=parts[0].lower(), architecture=architecture, variant=variant)

    def matches(self, other: Platform) -> bool:
        """Tell whether `other` is what this one asks for; no variant asks for any, and arm64 is arm64/v8."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        return not self.variant or self._variant() == other._variant()

    def _variant(self) -> str:
        return self.variant or ("v8" if self.architecture == "arm64" else "")

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A pointer to content."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()
    document: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The object that it was read from, with all its fields."""

    @classmethod
    def from_json(cls, value: object, where: str) -> Descriptor:
        """Read a descriptor; `where` names the place in the document for `ImageError`."""
        if not isinstance(value, dict):
            raise ImageError(f"{where} is not a descriptor")
        media_type, digest, size = value.get("mediaType", ""), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise ImageError(f"{where} has no usable mediaType and digest")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise ImageError(f"{where} has no usable size")
        urls = value.get("urls") or []
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise ImageError(f"{where} has unusable urls")
        refuse_lookalikes(value, _FIELDS, where)
        return cls(
            media_type=media_type,
            digest=Digest.parse(digest),
            size=size,
            platform=_platform(value.get("platform"), where),
            annotations=text_fields(value.get("annotations"), f"{where}: annotations"),
            artifact_type=text_field(value, "artifactType", where),
            urls=tuple(urls),
            document=value,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object for a document: the original fields in their order, with this digest, size and type."""
        if self.document is not None:
            return {**self.document, **self._core()}
        value: dict[str, Any] = self._core()
        if self.platform is not None:
            value["platform"] = _platform_document(self.platform)
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.urls:
            value["urls"] = list(self.urls)
        return value

    def pointing_to(self, other: Descriptor) -> Descriptor:
        """
        Return this entry with another's content: its platform, annotations and unknown fields stay.

        `data` and `urls` don't: they are the old content, and where it is.
        """
        document = self.document and {k: v for k, v in self.document.items() if k not in _ABOUT_CONTENT}
        return replace(
            self, media_type=other.media_type, digest=other.digest, size=other.size, urls=(), document=document
        )

    def check(self, data: bytes, *, where: str) -> None:
        """Raise `IntegrityError` unless `data` is what this descriptor points to."""
        if len(data) != self.size:
            raise IntegrityError(f"{where}: {self.digest} has {len(data)} bytes instead of {self.size}")
        hasher = self.digest.hasher()
        hasher.update(data)
        if hasher.hexdigest() != self.digest.encoded:
            actual = f"{self.digest.algorithm}:{hasher.hexdigest()}"
            raise IntegrityError(f"{where}: expected the digest {self.digest}, got {actual}")

    def _core(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}


def _platform(value: object, where: str) -> Platform | None:
    """One that names no system or no architecture says nothing: both are required (image-index.md)."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ImageError(f"{where} has an unusable platform")
    refuse_lookalikes(value, ("os", "architecture", "variant", "os.version", "os.features"), where)
    features = value.get("os.features") or []
    if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
        raise ImageError(f"{where} has an unusable platform")
    system, architecture = text_field(value, "os", where), text_field(value, "architecture", where)
    if not system or not architecture:
        return None
    return Platform(
        os=system,
        architecture=architecture,
        variant=text_field(value, "variant", where),
        os_version=text_field(value, "os.version", where),
        os_features=tuple(features),
    )


def _platform_document(platform: Platform) -> dict[str, Any]:
    value: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        value["os.version"] = platform.os_version
    if platform.os_features:
        value["os.features"] = list(platform.os_features)
    if platform.variant:
        value["variant"] = platform.variant
    return value
