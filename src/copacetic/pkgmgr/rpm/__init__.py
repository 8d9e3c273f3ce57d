# SPDX-License-Identifier: Apache-2.0
"""
rpm runs once, whatever plans in front of it (dnf, microdnf, yum, tdnf, zypper): the image's own in its own root, or a
tooling image's on the root of one that has none.
"""

from __future__ import annotations

from copacetic.pkgmgr.rpm.manager import RpmPackageManager

__all__ = ["RpmPackageManager"]
