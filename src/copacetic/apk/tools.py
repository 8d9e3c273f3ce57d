# SPDX-License-Identifier: Apache-2.0
"""Which apk-tools an image has: it decides how versions are ordered and how the database is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from copacetic.version.branch import fix_ahead

__all__ = ["ApkTools"]

PACKAGE = "apk-tools"
_RELEASE = re.compile(r"(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?")


class _Package(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


class _Finding(Protocol):
    @property
    def installed_version(self) -> str: ...
    @property
    def fixed_versions(self) -> tuple[str, ...]: ...


class ApkTools(Struct, frozen=True):
    """The release of the installed apk-tools."""

    release: tuple[int, int, int] | None
    """None when the image has none: its database was written by something else (apko), or by a host's apk."""

    @classmethod
    def of(cls, packages: Iterable[_Package]) -> ApkTools:
        """Look for the package `apk-tools`."""
        version = next((package.version for package in packages if package.name == PACKAGE), "")
        match = _RELEASE.match(version)
        return cls((int(match[1]), int(match[2] or 0), int(match[3] or 0)) if match else None)

    @property
    def installed(self) -> bool:
        return self.release is not None

    @property
    def version_scheme(self) -> str:
        """The name in `Family.schemes` of the order that this apk-tools has; without one that of apk 3."""
        return "apk2" if self.release is not None and self.release[0] < 3 else "apk"

    def is_fixed(self, package: _Package, finding: _Finding) -> bool:
        """
        Tell whether a package, installed or offered, has a finding's fix; its source has no version of its own.

        Raises `InvalidVersionError`.
        """
        fixes, reported = finding.fixed_versions, finding.installed_version
        return fix_ahead(self.version_scheme, package.version, fixes, reported=reported) is None

    @property
    def writes_by_name(self) -> bool:
        """Whether `installed` is sorted by name; before 2.14.0 it has the order of installation."""
        return self.release is not None and self.release >= (2, 14, 0)

    @property
    def is_apk3(self) -> bool:
        return self.release is not None and self.release[0] >= 3
