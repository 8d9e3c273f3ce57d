# SPDX-License-Identifier: Apache-2.0
"""
rpm's database in its three formats (sqlite, ndb, Berkeley DB), and the list that distroless images have instead.

Rewriting gives files with their bytes; who puts them into an image is somebody else. Nothing of repositories is here.
"""

from copacetic.inventory.rpm.database import RpmDatabase
from copacetic.inventory.rpm.record import RpmRecord, record_of

__all__ = ["RpmDatabase", "RpmRecord", "record_of"]
