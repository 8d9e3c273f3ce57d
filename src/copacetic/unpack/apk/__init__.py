# SPDX-License-Identifier: Apache-2.0
"""
apk packages onto an image's tree, by apk's rules, in the order of its commits.

`unpacker` is the way in; `install`, `directories`, `holders` and `protected` put files in place, `upgrade` does a whole
commit, `scripts` follows each script at its moment. Nothing is run, and nothing is written but into the tree and the
scratch folder.
"""

from copacetic.unpack.apk.unpacker import ApkUnpacker

__all__ = ["ApkUnpacker"]
