# SPDX-License-Identifier: Apache-2.0
"""
File capabilities as rpm headers spell them, into the extended attribute that the kernel reads.

Follows cap_from_text(3) for what packages have (`= cap_setuid+ep`, `cap_chown,cap_kill=p`) and vfs_cap_data, version 2.
"""

from __future__ import annotations

import re
import struct

from copacetic.errors import PackageError

__all__ = ["ATTRIBUTE", "encode_capabilities"]

ATTRIBUTE = "security.capability"
_NAMES = tuple(
    re.findall(
        r"\w+",
        """
        chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
        net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
        sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap
        mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
        """,
    )
)
"""In the kernel's order."""
_CLAUSE = re.compile(r"([a-z_,]*)((?:[=+-][eip]*){1,8})")
_STEP = re.compile(r"([=+-])([eip]*)")
_VERSION_2 = 0x02000000
_EFFECTIVE = 1
_LONGEST = 2_000


def encode_capabilities(text: str) -> bytes:
    """Return the attribute's bytes. Raises `PackageError` for anything that isn't a set of capabilities."""
    sets = {"e": 0, "i": 0, "p": 0}
    clauses = text.lower().split() if len(text) <= _LONGEST else []
    if not clauses:
        raise PackageError(f"{text[:100]!r} are no capabilities of a file")
    for clause in clauses:
        match = _CLAUSE.fullmatch(clause)
        bits = _read_names(match[1]) if match is not None else None
        if match is None or bits is None:
            raise PackageError(f"{text[:100]!r} are no capabilities of a file")
        for operator, letters in _STEP.findall(match[2]):
            for letter, known in sets.items():
                kept = known & ~bits if operator == "=" or (operator == "-" and letter in letters) else known
                sets[letter] = kept | (bits if letter in letters and operator != "-" else 0)
    low, high = 0xFFFFFFFF, 32
    permitted, inherited = sets["p"], sets["i"]
    flags = _VERSION_2 | (_EFFECTIVE if sets["e"] else 0)
    return struct.pack("<5I", flags, permitted & low, inherited & low, permitted >> high, inherited >> high)


def _read_names(text: str) -> int | None:
    """Return the bits of some names; all of them where there is none. None for one that isn't known."""
    names = _NAMES if text in ("", "all") else [name.removeprefix("cap_") for name in text.split(",")]
    return sum({1 << _NAMES.index(name) for name in names}) if all(name in _NAMES for name in names) else None
