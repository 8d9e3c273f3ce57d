# SPDX-License-Identifier: Apache-2.0
"""
apk repositories: `etc/apk/repositories` in, verified packages out.

`sources` finds them, `index` verifies and searches one, `resolver` makes a set out of all (`offers`, `solve`, `order`),
`package` opens and checks files. Of the image only configuration, keys and what is installed are looked at.
"""

from copacetic.repository.apk.repository import ApkRepository

__all__ = ["ApkRepository"]
