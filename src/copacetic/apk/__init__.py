# SPDX-License-Identifier: Apache-2.0
"""
apk's own grammars, which its database, its repositories and its packages share: stanzas of one-letter fields
(apk-package(5), apk_db's `installed`), dependencies, and what a set of packages lacks by them.
"""

from copacetic.apk.stanza import checksum_of, format_header, parse_fields
from copacetic.apk.tools import ApkTools

__all__ = ["SCRIPTS", "ApkTools", "checksum_of", "format_header", "parse_fields"]

SCRIPTS = ("pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade", "trigger")
"""The names of a package's scripts, in the order in which the database keeps them."""
