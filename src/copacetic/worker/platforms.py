# SPDX-License-Identifier: Apache-2.0
"""Which platforms' programs this machine can run: its own, and those that binfmt_misc gives to an emulator."""

from __future__ import annotations

import os
from pathlib import Path

from copacetic.errors import UnsupportedBuilderError
from copacetic.oci import Platform

__all__ = ["native_platform", "require_platform", "runnable_platforms"]

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "i686": ("386", ""),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
}
_ALSO = {"amd64": ("386",), "arm64": ()}
"""What a machine's kernel runs besides its own kind; 32-bit ARM is not on every 64-bit one."""
_EMULATORS = {
    "amd64": "qemu-x86_64",
    "386": "qemu-i386",
    "arm64": "qemu-aarch64",
    "arm": "qemu-arm",
    "riscv64": "qemu-riscv64",
    "ppc64le": "qemu-ppc64le",
    "s390x": "qemu-s390x",
}
_REGISTERED = Path("/proc/sys/fs/binfmt_misc")


def native_platform() -> Platform:
    """Return this machine's own."""
    architecture, variant = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
    return Platform(os="linux", architecture=architecture, variant=variant)


def runnable_platforms() -> tuple[Platform, ...]:
    """Return the native platform and the emulated ones."""
    native = native_platform()
    others = [*_ALSO.get(native.architecture, ())]
    others += [name for name in _EMULATORS if name != native.architecture and _is_emulated(name)]
    return (native, *(Platform(os="linux", architecture=name) for name in dict.fromkeys(others)))


def require_platform(platform: Platform) -> None:
    """Raise `UnsupportedBuilderError` when programs of a platform can't be run here."""
    if any((one.os, one.architecture) == (platform.os, platform.architecture) for one in runnable_platforms()):
        return
    raise UnsupportedBuilderError(
        f"programs for {platform} can't be run on this {native_platform()} machine",
        hint="let QEMU run them (Debian, Ubuntu: `apt install qemu-user-static binfmt-support`), or use a builder "
        "of that platform, or --strategy unpack, which runs nothing",
    )


def _is_emulated(architecture: str) -> bool:
    """An interpreter must have been opened when it was registered (flag F): the image doesn't have it."""
    try:
        lines = (_REGISTERED / _EMULATORS[architecture]).read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return lines[:1] == ["enabled"] and "F" in flags
