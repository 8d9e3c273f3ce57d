# SPDX-License-Identifier: Apache-2.0
"""
Debian packages: read, judged, and installed onto an image's tree, by dpkg's rules.

`unpacker` is the way in; `package` and `payload` read, `assess`, `scripts` and `judge` give verdicts, `install`,
`owners` and `slices` put files in place. Nothing is run, and nothing is written but into the tree and the scratch
folder.
"""

from copacetic.unpack.deb.unpacker import DebUnpacker

__all__ = ["DebUnpacker"]
