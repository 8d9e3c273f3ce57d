# SPDX-License-Identifier: Apache-2.0
"""Whether two files hold the same."""

from __future__ import annotations

import os

from copacetic.worker.inside.stack import Found

__all__ = ["same_bytes"]

_PIECE = 1 << 20


def same_bytes(path: str, lower: Found, upper: Found) -> bool:
    """Compare the regular files at one path in two open directories."""
    if lower[1].st_size != upper[1].st_size:
        return False
    handles = [os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer) for layer, _ in (lower, upper)]
    try:
        while True:
            first, second = (os.read(handle, _PIECE) for handle in handles)
            if first != second:
                return False
            if not first:
                return True
    finally:
        for handle in handles:
            os.close(handle)
