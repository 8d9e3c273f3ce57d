# SPDX-License-Identifier: Apache-2.0
"""apk packages onto an image's tree, by apk's rules."""

from copacetic.unpack.apk.unpacker import ApkUnpacker

__all__ = ["ApkUnpacker"]
