# SPDX-License-Identifier: Apache-2.0
"""
rpm packages onto an image's tree, by rpm's rules, in the order of one transaction.

`unpacker` is the way in; `package`, `cpio` and `payload` read packages, `omissions`, `fate` and `owners` decide what
becomes of each file, `install` and `erase` put them in place and take old ones away, and `transaction` does all of it
with the scripts and triggers in between, which `scripts` and `lua` follow. Nothing is run, and nothing is written but
into the tree and the scratch folder.
"""

from copacetic.unpack.rpm.unpacker import RpmUnpacker

__all__ = ["RpmUnpacker"]
