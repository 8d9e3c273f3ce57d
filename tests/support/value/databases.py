# SPDX-License-Identifier: Apache-2.0
"""The package database of an image that has one."""

from __future__ import annotations

from copacetic.inventory import PackageDatabase, detect_databases
from copacetic.oci.filesystem import ImageFilesystem

__all__ = ["detect_database"]


def detect_database(fs: ImageFilesystem) -> PackageDatabase | None:
    found = detect_databases(fs)
    assert len(found) <= 1
    return found[0] if found else None
