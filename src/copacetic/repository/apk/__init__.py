# SPDX-License-Identifier: Apache-2.0
"""apk repositories: `etc/apk/repositories` in, verified packages out."""

from copacetic.repository.apk.repository import ApkRepository

__all__ = ["ApkRepository"]
