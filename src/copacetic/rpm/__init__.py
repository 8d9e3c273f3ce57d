# SPDX-License-Identifier: Apache-2.0
"""
rpm's own grammars, which its database, its repositories and its packages share: headers with their tags, package
files, and what a package is called.
"""

from copacetic.rpm.header import HeaderError, RpmEntry, RpmHeader
from copacetic.rpm.identity import RpmIdentity
from copacetic.rpm.package import RpmPackage

__all__ = ["HeaderError", "RpmEntry", "RpmHeader", "RpmIdentity", "RpmPackage"]
