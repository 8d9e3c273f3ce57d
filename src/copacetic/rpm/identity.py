# SPDX-License-Identifier: Apache-2.0
"""What a package is called: name, epoch, version, release, architecture."""

from __future__ import annotations

import re

from msgspec import Struct

from copacetic.rpm import tags
from copacetic.rpm.header import HeaderError, RpmHeader

__all__ = ["NO_ARCHITECTURE", "RpmIdentity", "source_of"]

NO_ARCHITECTURE = "(none)"
"""As rpm prints it for a key that it trusts, which is a package without files."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~%{}-]{0,254}")
_VERSION = re.compile(r"[A-Za-z0-9_.+~^%{}]{1,255}")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_]{1,64}")
_SOURCE = re.compile(r"(.+)-([^-]+)-([^-]+)\.(?:no)?src\.rpm")


class RpmIdentity(Struct, frozen=True):
    """NEVRA; an epoch that isn't given is none, which counts as 0 when versions are compared."""

    name: str
    epoch: int | None
    version: str
    release: str
    architecture: str

    @classmethod
    def of(cls, header: RpmHeader) -> RpmIdentity:
        """Raises `HeaderError` for what rpmbuild would call nothing."""
        name, version, release = (header.text(tag) for tag in (tags.NAME, tags.VERSION, tags.RELEASE))
        architecture = header.text(tags.ARCH)
        if not _NAME.fullmatch(name):
            raise HeaderError(f"not a package name: {name[:100]!r}")
        if not _VERSION.fullmatch(version) or not _VERSION.fullmatch(release):
            raise HeaderError(f"{name} has the version {version[:100]!r} and the release {release[:100]!r}")
        if architecture and not _ARCHITECTURE.fullmatch(architecture):
            raise HeaderError(f"{name} is for {architecture[:100]!r}")
        return cls(name, header.number(tags.EPOCH), version, release, architecture or NO_ARCHITECTURE)

    @property
    def evr(self) -> str:
        """`[epoch:]version-release`; an epoch of 0 is left out, as repositories have it where headers don't."""
        return f"{_prefix(self.epoch)}{self.version}-{self.release}"

    def __str__(self) -> str:
        """As `rpm -q` prints it, with the epoch."""
        return f"{self.name}-{self.evr}.{self.architecture}"


def source_of(header: RpmHeader) -> tuple[str, str] | None:
    """
    Return the name and the version of the source package that a package was built from; None where it doesn't say.
    The name of a source package's file has no epoch: it is taken to be the package's own.
    """
    match = _SOURCE.fullmatch(header.text(tags.SOURCE_RPM))
    if match is None or not _NAME.fullmatch(match[1]):
        return None
    if not _VERSION.fullmatch(match[2]) or not _VERSION.fullmatch(match[3]):
        return None
    return match[1], f"{_prefix(header.number(tags.EPOCH))}{match[2]}-{match[3]}"


def _prefix(epoch: int | None) -> str:
    return f"{epoch}:" if epoch else ""
