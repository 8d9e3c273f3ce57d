# SPDX-License-Identifier: Apache-2.0
"""The kinds of files that images know, as the kernel's mode bits say them."""

from __future__ import annotations

import os
import stat

from copacetic.oci.filesystem import FileType

__all__ = ["kind_of"]

_KINDS = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
}


def kind_of(info: os.stat_result) -> FileType | None:
    """None for a socket, which no layer holds."""
    return _KINDS.get(stat.S_IFMT(info.st_mode))
