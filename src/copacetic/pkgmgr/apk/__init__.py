# SPDX-License-Identifier: Apache-2.0
"""apk as a graph: the image's own, or a tooling image's acting on an image that has none."""

from copacetic.pkgmgr.apk.manager import ApkPackageManager

__all__ = ["ApkPackageManager"]
