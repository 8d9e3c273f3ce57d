# SPDX-License-Identifier: Apache-2.0
"""
Emulators for other architectures, registered with a binfmt_misc of our own.

Since Linux 6.7 every user namespace can have one; nothing changes for the rest of the machine. An emulator is opened
when it is registered, so that no image needs to have it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from copacetic.worker.inside import linux

__all__ = ["register_emulators"]

_LITTLE, _BIG = 1, 2
_KINDS = {
    "amd64": (2, _LITTLE, 0x3E),
    "386": (1, _LITTLE, 0x03),
    "arm64": (2, _LITTLE, 0xB7),
    "arm": (1, _LITTLE, 0x28),
    "riscv64": (2, _LITTLE, 0xF3),
    "ppc64le": (2, _LITTLE, 0x15),
    "s390x": (2, _BIG, 0x16),
}
"""Word size, byte order and machine of an ELF header."""


def register_emulators(place: str, emulators: Mapping[str, str]) -> list[str]:
    """
    Register emulators by architecture, and return those that are.

    `place` is a directory that isn't there yet, and won't be afterwards: what is registered stays as long as this
    process keeps the filesystem open. An older kernel has none to give; that is no error.
    """
    if not emulators:
        return []
    try:
        os.mkdir(place)
        linux.mount("binfmt_misc", place, "binfmt_misc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    except OSError:
        os.rmdir(place)
        return []
    os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    registered = []
    for architecture, program in sorted(emulators.items()):
        try:
            handle = os.open(f"{place}/register", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(handle, _line(architecture, program))
            finally:
                os.close(handle)
        except OSError:
            continue
        registered.append(architecture)
    linux.unmount(place)
    os.rmdir(place)
    return registered


def _line(architecture: str, program: str) -> bytes:
    """See Documentation/admin-guide/binfmt-misc.rst; O, C and F: opened binary, its credentials, opened emulator."""
    size, order, machine = _KINDS[architecture]
    name: Literal["little", "big"] = "little" if order == _LITTLE else "big"
    kind, any_kind = (2).to_bytes(2, name), (0xFFFE).to_bytes(2, name)
    magic = b"\x7fELF" + bytes([size, order, 1]) + bytes(9) + kind + machine.to_bytes(2, name)
    mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + any_kind + b"\xff\xff"
    fields = [b"copacetic-" + architecture.encode(), b"M", b"", _escaped(magic), _escaped(mask), os.fsencode(program)]
    return b":" + b":".join(fields) + b":OCF"


def _escaped(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)
