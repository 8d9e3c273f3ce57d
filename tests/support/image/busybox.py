# SPDX-License-Identifier: Apache-2.0
"""A small image in which programs can run: Debian's static busybox, and little else."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import pytest

from support.image.images import Image, TarItem, make_image, make_layer, tar_file

_BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")


def busybox_image() -> Image:
    """Return the image; skips the test where there is no static busybox."""
    if not _BUSYBOX.exists() or platform.machine() != "x86_64":
        pytest.skip("busybox-static is not installed")
    if not _BUSYBOX.read_bytes().startswith(b"\x7fELF"):
        pytest.skip(f"{_BUSYBOX} is no program any more")
    return _make()


@cache
def _make() -> Image:
    listed = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    programs = [("bin/busybox", _BUSYBOX.read_bytes())]
    items = [_directory(path) for path in ("bin", "dev", "etc", "old", "proc", "run", "srv", "sys", "var", "var/lib")]
    items += [tar_file(path, data, mode=0o755) for path, data in programs]
    items += [_link(f"bin/{name}", "busybox") for name in listed if name != "busybox"]
    items += [
        _directory("tmp", mode=0o1777),
        tar_file("etc/passwd", "root:x:0:0::/:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n"),
        tar_file("etc/group", "root:x:0:\ndaemon:x:1:\n"),
        tar_file("old/file", "old\n"),
        tar_file("old/other", "other\n"),
        _link("etc/absolute", "/etc/passwd"),
        _link("etc/climbing", "../../../../etc/group"),
        _link("etc/loop", "loop"),
        _link("lib", "var/lib"),
        tar_file("var/lib/data", "data\n", uid=7, gid=8, mode=0o640),
    ]
    config = {"config": {"Env": ["PATH=/bin"]}}
    return make_image([make_layer(items)], config=config)


def _directory(path: str, mode: int = 0o755) -> TarItem:
    return tar_file(path, type=tarfile.DIRTYPE, mode=mode)


def _link(path: str, target: str) -> TarItem:
    return tar_file(path, type=tarfile.SYMTYPE, linkname=target, mode=0o777)
