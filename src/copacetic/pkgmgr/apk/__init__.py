# SPDX-License-Identifier: Apache-2.0
"""
apk as a graph: the image's own, or a tooling image's acting on an image that has none.

Nothing is run here; what is to be run is a vector of arguments, and a shell's text is a constant.
"""

from copacetic.pkgmgr.apk.manager import ApkPackageManager

__all__ = ["ApkPackageManager"]
