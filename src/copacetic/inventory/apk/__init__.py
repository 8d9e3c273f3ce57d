# SPDX-License-Identifier: Apache-2.0
"""
apk's database: `lib/apk/db/installed` and what stands beside it, also where apko wrote it.

Rewriting gives files with their bytes; who puts them into an image is somebody else. Nothing of repositories is here.
"""

from copacetic.inventory.apk.database import ApkDatabase
from copacetic.inventory.apk.installed import ApkDirectory, ApkRecord, ListedFile, Owner
from copacetic.inventory.apk.rewrite import ApkChange

__all__ = ["ApkChange", "ApkDatabase", "ApkDirectory", "ApkRecord", "ListedFile", "Owner"]
