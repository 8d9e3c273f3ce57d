# SPDX-License-Identifier: Apache-2.0
"""The step after which a process of ours sees an image where its own files were."""

from __future__ import annotations

import sys

__all__ = ["forbid_imports"]


def forbid_imports() -> None:
    """
    Let nothing be imported any more that isn't yet.

    To be called before every chroot and pivot_root: Python would look for modules at their usual places, and find the
    image's, with all the rights that this process still has.
    """
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
