# SPDX-License-Identifier: Apache-2.0
"""When an rpm package has a fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from copacetic.version.branch import fix_ahead

__all__ = ["is_fixed"]


class _Package(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def source_version(self) -> str: ...


class _Fix(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def is_source(self) -> bool: ...


class _Finding(Protocol):
    @property
    def installed_version(self) -> str: ...
    @property
    def fixes(self) -> Sequence[_Fix] | None: ...


def is_fixed(package: _Package, finding: _Finding) -> bool:
    """Tell whether a package, installed or offered, has a finding's fix. Raises `InvalidVersionError`."""
    fixes = finding.fixes or ()
    for is_source in dict.fromkeys(fix.is_source for fix in fixes):
        version = package.source_version if is_source else package.version
        own = [_with_epoch(fix.version, version) for fix in fixes if fix.is_source == is_source]
        if fix_ahead("rpm", version, own, reported=finding.installed_version) is not None:
            return False
    return True


def _with_epoch(fix: str, version: str) -> str:
    """Some scanners leave epochs out: a fix without one is taken to have the package's own."""
    epoch, colon, _ = version.partition(":")
    return f"{epoch}:{fix}" if colon and ":" not in fix else fix
