# SPDX-License-Identifier: Apache-2.0
"""
The system calls that a program in the sandbox can't make, as a BPF program.

Refused is what an installation of packages has no use for and what has let programs out of containers: namespaces,
mounts, the kernel's keys, modules, tracing, io_uring. What would write files to the disk at once does nothing: the
result is read back by this machine or thrown away. 64- and 32-bit calls are filtered; those of other kinds don't exist.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping
from typing import Literal

__all__ = ["NUMBERS", "OwnerRule", "build_filter", "machine", "owner_calls"]

OwnerRule = Literal["change", "ask", "ignore"]

_COLUMNS = ("x86_64", "i386", "aarch64", "arm", "ppc64le", "s390x")
_AUDIT = {
    "x86_64": 0xC000003E,
    "i386": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
    "riscv64": 0xC00000F3,
    "ppc64le": 0xC0000015,
    "s390x": 0x80000016,
}
_RUNS = {
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "arm"),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
}
"""The kinds of programs that a machine runs natively."""

_NEW_CALLS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
"""These have one number everywhere."""
_REFUSED = {
    "mount": (165, 21, 40, 21, 21, 21),
    "umount": (None, 22, None, None, 22, 22),
    "umount2": (166, 52, 39, 52, 52, 52),
    "pivot_root": (155, 217, 41, 218, 203, 217),
    "unshare": (272, 310, 97, 337, 282, 303),
    "setns": (308, 346, 268, 375, 350, 339),
    "ptrace": (101, 26, 117, 26, 26, 26),
    "process_vm_readv": (310, 347, 270, 376, 351, 340),
    "process_vm_writev": (311, 348, 271, 377, 352, 341),
    "kcmp": (312, 349, 272, 378, 354, 343),
    "keyctl": (250, 288, 219, 311, 271, 280),
    "add_key": (248, 286, 217, 309, 269, 278),
    "request_key": (249, 287, 218, 310, 270, 279),
    "bpf": (321, 357, 280, 386, 361, 351),
    "init_module": (175, 128, 105, 128, 128, 128),
    "finit_module": (313, 350, 273, 379, 353, 344),
    "delete_module": (176, 129, 106, 129, 129, 129),
    "kexec_load": (246, 283, 104, 347, 268, 277),
    "kexec_file_load": (320, None, 294, 401, 382, 381),
    "open_by_handle_at": (304, 342, 265, 371, 346, 336),
    "perf_event_open": (298, 336, 241, 364, 319, 331),
    "userfaultfd": (323, 374, 282, 388, 364, 355),
    "fanotify_init": (300, 338, 262, 367, 323, 332),
    "lookup_dcookie": (212, 253, 18, 249, 235, 110),
    "quotactl": (179, 131, 60, 131, 131, 131),
    "swapon": (167, 87, 224, 87, 87, 87),
    "swapoff": (168, 115, 225, 115, 115, 115),
    "reboot": (169, 88, 142, 88, 88, 88),
    "acct": (163, 51, 89, 51, 51, 51),
    "settimeofday": (164, 79, 170, 79, 79, 79),
    "clock_settime": (227, 264, 112, 262, 245, 259),
    "clock_settime64": (None, 404, None, 404, None, None),
    "stime": (None, 25, None, None, 25, None),
    "iopl": (172, 110, None, None, 110, None),
    "ioperm": (173, 101, None, None, 101, None),
    "syslog": (103, 103, 116, 103, 103, 103),
    "vhangup": (153, 111, 58, 111, 111, 111),
    "uselib": (134, 86, None, 86, 86, 86),
    "vm86": (None, 166, None, None, 113, None),
    "vm86old": (None, 113, None, None, None, None),
    "nfsservctl": (180, 169, 42, 169, 168, 169),
    "sysfs": (139, 135, None, 135, 135, 135),
    "_sysctl": (156, 149, None, 149, 149, 149),
    "move_pages": (279, 317, 239, 344, 301, 310),
}
_IDLE = {
    "fsync": (74, 118, 82, 118, 118, 118),
    "fdatasync": (75, 148, 83, 148, 148, 148),
    "sync": (162, 36, 81, 36, 36, 36),
    "syncfs": (306, 344, 267, 373, 348, 338),
    "sync_file_range": (277, 314, 84, None, None, 307),
    "sync_file_range2": (None, None, None, None, 308, None),
    "arm_sync_file_range": (None, None, None, 341, None, None),
}
_OWNERS = {
    "chown": (92, 182, None, 182, 181, 212),
    "chown32": (None, 212, None, 212, None, None),
    "lchown": (94, 16, None, 16, 16, 198),
    "lchown32": (None, 198, None, 198, None, None),
    "fchown": (93, 95, 55, 95, 95, 207),
    "fchown32": (None, 207, None, 207, None, None),
    "fchownat": (260, 298, 54, 325, 289, 291),
}
_GROUPS = {
    "setgroups": (116, 81, 159, 81, 81, 206),
    "setgroups32": (None, 206, None, 206, None, None),
}
_CLONE = {"clone": (56, 120, 220, 120, 120, 120)}
_IOCTL = {"ioctl": (16, 54, 29, 54, 54, 54)}
_SOCKET = {"socket": (41, 359, 198, 281, 326, 359)}
_SOCKET_CALL = {"socketcall": (None, 102, None, None, 102, 102)}
"""The old way on some machines, whose arguments no filter sees."""
_AF_UNIX = 1
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020080
"""All CLONE_NEW* flags: mount, cgroup, uts, ipc, user, pid, net and time namespaces."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into a terminal's mouth."""
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_ASK = 0x7FC00000
_ERROR = 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

NUMBERS = {**_REFUSED, **_IDLE, **_OWNERS, **_GROUPS, **_CLONE, **_IOCTL, **_SOCKET, **_SOCKET_CALL}


def build_filter(machine: str, *, owners: OwnerRule, only_local_sockets: bool) -> bytes | None:
    """
    Return the program for a kind of machine (`os.uname().machine`), None for one that isn't known.

    `owners` says what becomes of a change of a file's owner: it is made (`change`), whoever listens is asked (`ask`),
    or nothing happens (`ignore`); the last two for a namespace with a single user. With `only_local_sockets` there is
    no network: for a sandbox without a network namespace.
    """
    kinds = _RUNS.get(machine)
    if kinds is None:
        return None
    program = [_instruction(_LOAD, _ARCHITECTURE)]
    for kind in kinds:
        section = _section(kind, owners, only_local_sockets)
        program += [_instruction(_EQUAL, _AUDIT[kind], 0, len(section)), *section]
    program.append(_instruction(_RETURN, _ERROR | errno.ENOSYS))
    return b"".join(program)


def _section(kind: str, owners: OwnerRule, only_local_sockets: bool) -> list[bytes]:
    """What is decided about the calls of one kind of program; its last instructions are the verdicts."""
    plan = _decisions(kind, owners, only_local_sockets)
    looks = _looks(kind, only_local_sockets)
    verdicts = {
        "refuse": _ERROR | errno.EPERM,
        "succeed": _ERROR,
        "absent": _ERROR | errno.ENOSYS,
        "ask": _ASK,
    }
    end = 1 + len(plan) + len(looks)
    targets = {name: end + offset for offset, name in enumerate(verdicts)}
    code = [_instruction(_LOAD, _NUMBER)]
    for operation, value, verdict in plan:
        code.append(_instruction(operation, value, targets[verdict] - len(code) - 1, 0))
    for what, value, skip in looks:
        here = len(code)
        if what == "load":
            code.append(_instruction(_LOAD, value))
        elif what == "allow":
            code.append(_instruction(_RETURN, _ALLOW))
        elif what == "refuse":
            code.append(_instruction(_RETURN, _ERROR | errno.EPERM))
        elif what == "if":
            code.append(_instruction(_EQUAL, value, 0, skip))
        else:
            code.append(_instruction(_ANY_BIT if what == "bits" else _EQUAL, value, targets["refuse"] - here - 1, 0))
    code += [_instruction(_RETURN, verdict) for verdict in verdicts.values()]
    return code


def _decisions(kind: str, owners: OwnerRule, only_local_sockets: bool) -> list[tuple[int, int, str]]:
    """What the number of a call decides by itself: a comparison, what with, and the verdict."""
    refused = [*_numbers(_REFUSED, kind), *_NEW_CALLS.values()]
    idle = _numbers(_IDLE, kind) if owners == "change" else [*_numbers(_IDLE, kind), *_numbers(_GROUPS, kind)]
    if only_local_sockets:
        refused += _numbers(_SOCKET_CALL, kind)
    plan: list[tuple[int, int, str]] = []
    if kind == "x86_64":
        plan.append((_AT_LEAST, _X32, "absent"))
    plan.append((_EQUAL, _CLONE3, "absent"))
    plan += [(_EQUAL, number, "refuse") for number in refused]
    plan += [(_EQUAL, number, "succeed") for number in idle]
    if owners != "change":
        verdict = "ask" if owners == "ask" else "succeed"
        plan += [(_EQUAL, number, verdict) for number in _numbers(_OWNERS, kind)]
    return plan


def _looks(kind: str, only_local_sockets: bool) -> list[tuple[str, int, int]]:
    """What needs a look at an argument; other calls jump over it, by so many instructions."""
    (clone,), (ioctl,), (socket,) = _numbers(_CLONE, kind), _numbers(_IOCTL, kind), _numbers(_SOCKET, kind)
    flags = 1 if kind == "s390x" else 0
    looks = [
        ("if", clone, 2),
        ("load", _argument(flags), 0),
        ("bits", _NEW_NAMESPACES, 0),
        ("load", _NUMBER, 0),
        ("if", ioctl, 3),
        ("load", _argument(1), 0),
        ("is", _TERMINAL_INPUT[0], 0),
        ("is", _TERMINAL_INPUT[1], 0),
    ]
    if only_local_sockets:
        looks += [
            ("load", _NUMBER, 0),
            ("if", socket, 4),
            ("load", _argument(0), 0),
            ("if", _AF_UNIX, 1),
            ("allow", 0, 0),
            ("refuse", 0, 0),
        ]
    return [*looks, ("allow", 0, 0)]


def _argument(position: int) -> int:
    """Where the lower half of an argument is."""
    return _ARGUMENTS + 8 * position + (4 if sys.byteorder == "big" else 0)


def _numbers(table: Mapping[str, tuple[int | None, ...]], kind: str) -> list[int]:
    column = _COLUMNS.index("aarch64" if kind == "riscv64" else kind)
    return [number for row in table.values() if (number := row[column]) is not None]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def owner_calls() -> dict[tuple[int, int], str]:
    """Return the names of the calls that change owners, by kind of program and number."""
    found: dict[tuple[int, int], str] = {}
    for kind, audit in _AUDIT.items():
        old = kind in {"i386", "arm"}
        for name, row in _OWNERS.items():
            number = row[_COLUMNS.index("aarch64" if kind == "riscv64" else kind)]
            if number is not None:
                found[audit, number] = f"{name}16" if old and name in {"chown", "lchown", "fchown"} else name
    return found


def machine() -> str:
    """Return the kind of machine that this is."""
    return os.uname().machine
