# SPDX-License-Identifier: Apache-2.0
"""When a Debian package has a fix."""

from __future__ import annotations

from typing import Protocol

from copacetic.version import reaches

__all__ = ["is_fixed"]


class _Package(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def source_version(self) -> str: ...


class _Fix(Protocol):
    @property
    def fixed_versions(self) -> tuple[str, ...]: ...
    @property
    def fixed_is_source_version(self) -> bool: ...


def is_fixed(package: _Package, finding: _Fix) -> bool:
    """Tell whether a package, installed or offered, has a finding's fix. Raises `InvalidVersionError`."""
    reached = package.source_version if finding.fixed_is_source_version else package.version
    return reaches("deb", reached, finding.fixed_versions)
