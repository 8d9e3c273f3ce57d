# SPDX-License-Identifier: Apache-2.0
"""The device nodes that a sandbox has: its own, so that nothing that is done to them is done to this machine's."""

from __future__ import annotations

import os
import stat

__all__ = ["NODES", "make_node"]

NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def make_node(folder: int, name: str) -> None:
    """Make one in an open directory. Raises `PermissionError` in a user namespace, where there are no new ones."""
    os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(*NODES[name]), dir_fd=folder)
    os.chmod(name, 0o666, dir_fd=folder)  # noqa: S103 - as everywhere
