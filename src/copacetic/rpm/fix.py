# SPDX-License-Identifier: Apache-2.0
"""When an rpm package has a fix."""

from __future__ import annotations

from copacetic.version.branch import FixedPackage, FixingFinding, has_fix

__all__ = ["is_fixed"]


def is_fixed(package: FixedPackage, finding: FixingFinding) -> bool:
    """Tell whether a package, installed or offered, has a finding's fix. Raises `InvalidVersionError`."""
    return has_fix("rpm", package, finding, _with_epoch)


def _with_epoch(fix: str, version: str) -> str:
    """Some scanners leave epochs out: a fix without one is taken to have the package's own."""
    epoch, colon, _ = version.partition(":")
    return f"{epoch}:{fix}" if colon and ":" not in fix else fix
