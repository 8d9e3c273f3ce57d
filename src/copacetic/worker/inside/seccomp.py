# SPDX-License-Identifier: Apache-2.0
"""
The system calls that a program in the sandbox can't make, as a BPF program.

Refused is what an installation of packages has no use for and what has let programs out of containers: namespaces,
mounts, device nodes, the kernel's keys, modules, tracing, io_uring, sockets that are neither local nor the internet's,
and calls that nobody has judged yet. What would write files to the disk at once does nothing: the result is read back
by this machine or thrown away. 64- and 32-bit calls are filtered; those of other kinds don't exist.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Literal

__all__ = ["NUMBERS", "OwnerRule", "Sockets", "build_filter", "machine", "owner_calls"]

OwnerRule = Literal["change", "ask", "ignore"]
Sockets = Literal["local", "internet", "old ways"]

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
    "name_to_handle_at": (303, 341, 264, 370, 345, 335),
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
    "modify_ldt": (154, 123, None, None, 123, None),
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
_LOOKED_AT = {
    "clone": (56, 120, 220, 120, 120, 120),
    "ioctl": (16, 54, 29, 54, 54, 54),
    "personality": (135, 136, 92, 136, 136, 136),
    "mknod": (133, 14, None, 14, 14, 14),
    "mknodat": (259, 297, 33, 324, 288, 290),
    "socket": (41, 359, 198, 281, 326, 359),
    "socketpair": (53, 360, 199, 288, 333, 360),
    "socketcall": (None, 102, None, None, 102, 102),
}
"""What an argument decides. The last is the old way to the two before it, whose own arguments no filter sees."""
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_OLD_SOCKET = (1, 8)
"""What socketcall is asked for: socket, socketpair."""
_PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""None, a 32-bit machine's, an older kernel's name, both, and a question. Others take protections away."""
_DEVICE = 0x2000
"""A bit that character and block devices have, and no other file that can be made so."""
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020080
"""All CLONE_NEW* flags: mount, cgroup, uts, ipc, user, pid, net and time namespaces."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into a terminal's mouth."""
_UNKNOWN = 467
"""Calls from here on are newer than this list, or x32's; a newer one makes mounts again."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_ASK = 0x7FC00000
_ERROR = 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

NUMBERS = {**_REFUSED, **_IDLE, **_OWNERS, **_GROUPS, **_LOOKED_AT}
_Condition = tuple[int, Literal["has a bit of", "is", "is not"], tuple[int, ...]]
"""Of an argument, by its position."""


def build_filter(machine: str, *, owners: OwnerRule, sockets: Sockets) -> bytes | None:
    """
    Return the program for a kind of machine (`os.uname().machine`), None for one that isn't known.

    `owners` says what becomes of a change of a file's owner: it is made (`change`), whoever listens is asked (`ask`),
    or nothing happens (`ignore`); the last two for a namespace with a single user. `sockets` are `local` only, where no
    network namespace would hold others; or the internet's too (`internet`), and in any way (`old ways`), for machines
    whose C library knows only that through which kinds can't be told apart.
    """
    kinds = _RUNS.get(machine)
    if kinds is None:
        return None
    program = [_instruction(_LOAD, _ARCHITECTURE)]
    for kind in kinds:
        section = _section(kind, owners, sockets)
        program += [_instruction(_EQUAL, _AUDIT[kind], 0, len(section)), *section]
    program.append(_instruction(_RETURN, _ERROR | errno.ENOSYS))
    return b"".join(program)


def _section(kind: str, owners: OwnerRule, sockets: Sockets) -> list[bytes]:
    """What is decided about the calls of one kind of program; its last instructions are the verdicts."""
    plan = _decisions(kind, owners)
    rules = [*_rules(kind, sockets), _instruction(_RETURN, _ALLOW)]
    verdicts = {
        "refuse": _ERROR | errno.EPERM,
        "succeed": _ERROR,
        "absent": _ERROR | errno.ENOSYS,
        "ask": _ASK,
    }
    end = 1 + len(plan) + len(rules)
    targets = {name: end + offset for offset, name in enumerate(verdicts)}
    code = [_instruction(_LOAD, _NUMBER)]
    for operation, value, verdict in plan:
        code.append(_instruction(operation, value, targets[verdict] - len(code) - 1, 0))
    return [*code, *rules, *(_instruction(_RETURN, verdict) for verdict in verdicts.values())]


def _decisions(kind: str, owners: OwnerRule) -> list[tuple[int, int, str]]:
    """What the number of a call decides by itself: a comparison, what with, and the verdict."""
    refused = [*_numbers(_REFUSED, kind), *_NEW_CALLS.values()]
    idle = _numbers(_IDLE, kind) if owners == "change" else [*_numbers(_IDLE, kind), *_numbers(_GROUPS, kind)]
    plan: list[tuple[int, int, str]] = []
    if kind != "arm":  # whose own few have the highest numbers
        plan.append((_AT_LEAST, _UNKNOWN, "absent"))
    plan.append((_EQUAL, _CLONE3, "absent"))
    plan += [(_EQUAL, number, "refuse") for number in refused]
    plan += [(_EQUAL, number, "succeed") for number in idle]
    if owners != "change":
        verdict = "ask" if owners == "ask" else "succeed"
        plan += [(_EQUAL, number, verdict) for number in _numbers(_OWNERS, kind)]
    return plan


def _rules(kind: str, sockets: Sockets) -> list[bytes]:
    """What arguments decide."""
    families = (_UNIX,) if sockets == "local" else (_UNIX, _INET, _INET6, _NETLINK)
    flags = 1 if kind == "s390x" else 0
    rules: list[tuple[str, int, list[_Condition]]] = [
        ("clone", errno.EPERM, [(flags, "has a bit of", (_NEW_NAMESPACES,))]),
        ("ioctl", errno.EPERM, [(1, "is", _TERMINAL_INPUT)]),
        ("personality", errno.EPERM, [(0, "is not", _PERSONALITIES)]),
        ("mknod", errno.EPERM, [(1, "has a bit of", (_DEVICE,))]),
        ("mknodat", errno.EPERM, [(2, "has a bit of", (_DEVICE,))]),
        # Answers that programs know from kernels built without, and live with.
        ("socket", errno.EAFNOSUPPORT, [(0, "is not", families)]),
        ("socket", errno.EPROTONOSUPPORT, [(0, "is", (_NETLINK,)), (2, "is not", (0,))]),
        ("socketpair", errno.EAFNOSUPPORT, [(0, "is not", (_UNIX,))]),
    ]
    if sockets != "old ways":
        rules.append(("socketcall", errno.EAFNOSUPPORT, [(0, "is", _OLD_SOCKET)]))
    code = []
    for call, error, conditions in rules:
        for number in _numbers({call: _LOOKED_AT[call]}, kind):
            code += _rule(number, conditions, _ERROR | error)
    return code


def _rule(number: int, conditions: Sequence[_Condition], verdict: int) -> list[bytes]:
    """Code that gives a call this verdict where all conditions hold, and goes on behind itself everywhere else."""
    code = [_instruction(_RETURN, verdict)]
    for position, test, values in reversed(conditions):
        out = len(code)
        tests = []
        for left in reversed(range(len(values))):
            value = values[len(values) - 1 - left]
            yes, no = (left + out, 0) if test == "is not" else (left, 0 if left else out)
            tests.append(_instruction(_ANY_BIT if test == "has a bit of" else _EQUAL, value, yes, no))
        code = [_instruction(_LOAD, _argument(position)), *tests, *code]
    return [_instruction(_LOAD, _NUMBER), _instruction(_EQUAL, number, 0, len(code)), *code]


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
