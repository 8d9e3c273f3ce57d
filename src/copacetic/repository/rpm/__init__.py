# SPDX-License-Identifier: Apache-2.0
"""
rpm repositories: `.repo` files in, verified packages out.

`sources` finds them with `config`, `metadata` verifies and searches one, `visible` leaves out what may not be seen,
`resolver` makes a set, `verify` proves package files. Of the image only configuration, keys and what is installed are
looked at.
"""

from copacetic.repository.rpm.repository import RpmRepository

__all__ = ["RpmRepository"]
