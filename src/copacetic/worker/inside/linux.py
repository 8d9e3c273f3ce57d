# SPDX-License-Identifier: Apache-2.0
"""
What the kernel offers and Python doesn't: mounts, namespaces, capabilities, by way of the C library.

Every function raises `OSError` with the name of the call, so that a refusal can be explained.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
_MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "ppc64le": 358, "s390x": 348}
"""The system call's number."""
_CAPABILITY_VERSION_3 = 0x20080522

CAP_SYS_CHROOT = 18
CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31})
"""
Docker's without two: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot,
audit_write, setfcap. With mknod a program makes a way to any of this machine's disks, with net_raw it listens to
whatever passes on a network that is this machine's.
"""
FILE_CAPABILITIES = frozenset({0, 1, 3, 4, 27, 31})
"""chown, dac_override, fowner, fsetid, mknod, setfcap: to write and read files of any owner."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    _call("unshare", ctypes.c_int(flags))


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    _call("mount", _bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))


def unmount(target: str) -> None:
    """Take a mount out of the tree at once, whoever still uses it."""
    _call("umount2", _bytes(target), ctypes.c_int(_MNT_DETACH))


def pivot_root(new: str, old: str) -> None:
    _call("pivot_root", _bytes(new), _bytes(old))


def set_hostname(name: str) -> None:
    data = os.fsencode(name)
    _call("sethostname", data, ctypes.c_size_t(len(data)))


def _prctl(option: int, *arguments: int) -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _call("prctl", ctypes.c_int(option), *(ctypes.c_ulong(argument) for argument in padded))


def die_with_parent(signal: int) -> None:
    """Get a signal when the thread that forked this process ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_tracing() -> None:
    """Make this process unreadable for others of its user."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forget_arguments() -> None:
    """Overwrite the command line of this process where it is kept, for whoever looks into /proc: it holds paths."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read(4096).rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5), counted behind the name
    ctypes.memset(start, 0, end - start)


def forbid_new_privileges() -> None:
    """From now on no program gains anything by being executed: setuid bits and file capabilities don't count."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def filter_system_calls(program: bytes) -> None:
    """Install a BPF program of 8-byte instructions (seccomp(2)); it stays for all descendants."""
    described = _Program(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(described))


def filter_and_listen(program: bytes) -> int:
    """The same, and return the descriptor through which the program's questions come."""
    number = _SECCOMP.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "seccomp: its number is not known on this machine")
    described = _Program(len(program) // 8, program)
    return _call(
        "syscall",
        ctypes.c_long(number),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_NEW_LISTENER),
        ctypes.byref(described),
    )


def limit_capabilities(keep: Iterable[int]) -> None:
    """Leave no more than these: now, and for whatever this process executes."""
    permitted = _permitted()
    kept = {number for number in keep if permitted >> number & 1 and _in_bounding_set(number)}
    number = 0
    while _in_bounding_set(number) is not None:
        if number not in kept:
            _prctl(_PR_CAPBSET_DROP, number)
        number += 1
    mask = sum(1 << number for number in kept)
    words = [mask & 0xFFFFFFFF, mask & 0xFFFFFFFF, 0, mask >> 32, mask >> 32, 0]
    _call("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *words))


def _permitted() -> int:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    words = struct.unpack("=6I", data.raw)
    return int(words[1] | words[4] << 32)


def _in_bounding_set(number: int) -> bool | None:
    """None when the kernel knows no such capability."""
    try:
        return bool(_prctl(_PR_CAPBSET_READ, number))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise
