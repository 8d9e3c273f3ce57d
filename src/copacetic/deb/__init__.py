# SPDX-License-Identifier: Apache-2.0
"""
Grammars that several rooms of the deb family share: deb822, relations between packages, and when a version has a fix.

No I/O, and nothing that only one of those rooms needs.
"""
