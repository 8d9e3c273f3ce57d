# SPDX-License-Identifier: Apache-2.0
"""What makes a small image of a test look as if its package manager could be run; only running it would show."""

from __future__ import annotations

from support.image.images import TarItem, tar_file

PROGRAMS = ("bin/sh", "bin/tar", "bin/rm", "usr/bin/dpkg", "usr/bin/dpkg-deb", "usr/bin/apt-get")


def program_items(*, without: str = "") -> list[TarItem]:
    """Members of a layer with the programs, but for one."""
    return [tar_file(path, "a program", mode=0o755) for path in PROGRAMS if path != without]
