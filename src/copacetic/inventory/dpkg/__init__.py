# SPDX-License-Identifier: Apache-2.0
"""
dpkg's database: `var/lib/dpkg/status`, or `status.d` in distroless images, or chisel's manifest.

Rewriting gives files with their bytes; who puts them into an image is somebody else. Nothing of repositories is here.
"""

from copacetic.inventory.dpkg.config import Conffile, Diversion, PathFilters, StatOverride
from copacetic.inventory.dpkg.database import DpkgDatabase
from copacetic.inventory.dpkg.rewrite import DebRecord

__all__ = ["Conffile", "DebRecord", "Diversion", "DpkgDatabase", "PathFilters", "StatOverride"]
