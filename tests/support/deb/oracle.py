# SPDX-License-Identifier: Apache-2.0
"""
The real package manager as the judge: it runs in a chroot of the same root, and both trees are compared.

Two trees are equal when every path has the same type, mode, owner, content, link target, hard links, device and
extended attributes. Modification times don't count: dpkg itself writes its database at the time of the run.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import subprocess
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.deb.differences import DIFFERENCES

_APT = (
    "apt-get -y -qq -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root "
    "-o APT::Install-Recommends=false -o DPkg::Lock::Timeout=60 "
)


@dataclass(frozen=True, slots=True)
class Node:
    """All of a path that counts."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str
    xattrs: Mapping[str, bytes]


ISOLATED = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
"""Before a command: mounts of its own, and processes of its own, so that nothing it sees of `/proc` ends meanwhile."""


def extract(tar: Path, root: Path) -> Path:
    """Unpack a root tar as root, with owners and attributes."""
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["tar", "--extract", "--file", tar, "--directory", root, "--numeric-owner", "--preserve-permissions",
         "--xattrs", "--xattrs-include=*"],
        check=True,
    )  # fmt: skip
    return root


def run_in(root: Path, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a chroot with namespaces of its own, without services being started."""
    script = textwrap.dedent(
        f"""\
        set -e
        mount -t proc proc "{root}/proc"
        mount -t tmpfs none "{root}/dev"
        for node in null zero full random urandom tty; do
          touch "{root}/dev/$node"; mount --bind "/dev/$node" "{root}/dev/$node"
        done
        ln -s /proc/self/fd "{root}/dev/fd"
        if [ -d "{root}/usr/sbin" ] && [ ! -e "{root}/usr/sbin/policy-rc.d" ]; then
          printf '#!/bin/sh\\nexit 101\\n' > "{root}/usr/sbin/policy-rc.d"; chmod 755 "{root}/usr/sbin/policy-rc.d"
        fi
        exec chroot "{root}" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
          DEBIAN_FRONTEND=noninteractive /bin/sh -c "$0"
        """
    )
    kept = (root / "usr/sbin/policy-rc.d").exists()
    try:
        return subprocess.run(
            [*ISOLATED, "sh", "-c", script, command],
            check=check, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{command}: {error.stdout[-2000:]} {error.stderr[-2000:]}") from error
    finally:
        if not kept:
            (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)


def install_debs(root: Path, debs: Sequence[Path]) -> None:
    """Let the real apt install package files, in its own order, keeping changed configuration files."""
    folder = root / "run" / "debs"
    folder.mkdir(parents=True)
    for deb in debs:
        os.link(deb, folder / f"{deb.name}.deb") if deb.stat().st_dev == folder.stat().st_dev else (
            folder / f"{deb.name}.deb"
        ).write_bytes(deb.read_bytes())
    run_in(root, f"{_APT} -o Dpkg::Options::=--force-unsafe-io install /run/debs/*.deb")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def apt(root: Path, arguments: str) -> str:
    """Run apt-get with the network, and return what it says."""
    resolv = root / "etc/resolv.conf"
    before = resolv.read_bytes() if resolv.exists() else None
    resolv.unlink(missing_ok=True)
    resolv.write_bytes(Path("/etc/resolv.conf").read_bytes())
    try:
        return run_in(root, _APT + arguments).stdout
    finally:
        resolv.unlink()
        if before is not None:
            resolv.write_bytes(before)


def read_tree(root: Path) -> Mapping[str, Node]:
    """Return every path of a directory with what counts about it."""
    nodes: dict[str, Node] = {}
    inodes: dict[tuple[int, int], list[str]] = {}
    for path, info in _walk(root):
        local = root / path
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(local.read_bytes()).hexdigest()
            if info.st_nlink > 1:
                inodes.setdefault((info.st_dev, info.st_ino), []).append(path)
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(local)
        else:
            content = str(info.st_rdev)
        nodes[path] = Node(
            kind=stat.filemode(info.st_mode)[0],
            mode=stat.S_IMODE(info.st_mode),
            owner=(info.st_uid, info.st_gid),
            content=content,
            xattrs={
                n: os.getxattr(local, n, follow_symlinks=False) for n in os.listxattr(local, follow_symlinks=False)
            },
        )
    for names in inodes.values():
        for name in names:
            node = nodes[name]
            nodes[name] = Node(node.kind, node.mode, node.owner, f"{node.content} {sorted(names)}", node.xattrs)
    return nodes


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in sorted(os.scandir(root / folder), key=lambda e: e.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)


def differences(real: Path, ours: Path, *, more: Iterable[str] = ()) -> list[str]:
    """Return how two trees differ, apart from what the written list and `more` patterns allow, as lines."""
    expected, actual = read_tree(real), read_tree(ours)
    return [
        f"{path}: expected {expected.get(path)}, got {actual.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path) and not is_allowed(path, more)
    ]


def is_allowed(path: str, more: Iterable[str] = ()) -> bool:
    """Tell whether the written list has a reason for this path."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in (*(pattern for pattern, _ in DIFFERENCES), *more))
