# SPDX-License-Identifier: Apache-2.0
"""When a Debian package has a fix."""

from __future__ import annotations

from copacetic.version.branch import FixedPackage, FixingFinding, has_fix

__all__ = ["is_fixed"]


def is_fixed(package: FixedPackage, finding: FixingFinding) -> bool:
    """Tell whether a package, installed or offered, has a finding's fix. Raises `InvalidVersionError`."""
    return has_fix("deb", package, finding)
