# SPDX-License-Identifier: Apache-2.0
"""apt and dpkg as graphs: the image's own, or a tooling image's acting on an image that has none."""

from copacetic.pkgmgr.apt.manager import AptPackageManager

__all__ = ["AptPackageManager"]
