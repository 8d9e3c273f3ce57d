# SPDX-License-Identifier: Apache-2.0
"""Debian packages: read, judged, and installed onto an image's tree."""

from copacetic.unpack.deb.unpacker import DebUnpacker

__all__ = ["DebUnpacker"]
