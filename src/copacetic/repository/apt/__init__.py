# SPDX-License-Identifier: Apache-2.0
"""
apt repositories: `sources.list(5)` in, verified packages out.

`sources` finds them, `release` verifies one by `keys`, `index` searches it, `offers` holds pins and vendors against
what is there, `resolver` makes a set. Of the image only configuration, keys and what is installed are looked at.
"""

from copacetic.repository.apt.repository import AptRepository

__all__ = ["AptRepository"]
