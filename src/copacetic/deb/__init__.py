# SPDX-License-Identifier: Apache-2.0
"""Grammars that several rooms of the deb family share: deb822 and the relations between packages. No I/O."""
