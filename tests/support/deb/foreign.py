# SPDX-License-Identifier: Apache-2.0
"""
A regular Debian root of another architecture, made and upgraded by this machine's dpkg, without emulation.

dpkg unpacks and configures packages of any architecture into a root; only their scripts can't run there. So it gets
the packages without them, and they are put into its database afterwards, as if they had run.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo import roots

from support.deb.debian import need, sources
from support.deb.debs import ar
from support.deb.distroless import Chdist

ESSENTIAL = (
    *("base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils", "diffutils", "dpkg"),
    *("findutils", "grep", "gzip", "hostname", "init-system-helpers", "libc-bin", "login", "mawk", "ncurses-base"),
    *("ncurses-bin", "perl-base", "sed", "sysvinit-utils", "tar", "util-linux"),
)
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_DPKG = ("dpkg", "--force-architecture", "--force-depends", "--force-confold", "--force-unsafe-io")


def foreign_root(suite: str, architecture: str, packages: Sequence[str], work: Path) -> Path:
    """Return the tar of a root with the oldest versions of the essential and these packages; kept for a week."""
    need("dpkg", "apt-get", "tar", root=True)
    target = roots.CACHE / f"{suite}-{architecture}-{time.strftime('%G-%V')}.tar"
    with roots.locked(target):
        if not target.exists():
            chdist = Chdist(work / "apt", suite, architecture)
            root = _make_skeleton(work / "old", suite)
            dpkg_install(root, chdist.download_oldest(chdist.closure((*ESSENTIAL, *packages))), work / "first")
            partial = target.with_suffix(".partial")
            subprocess.run(
                ["tar", "--create", "--file", partial, "--directory", root, "--numeric-owner", "--xattrs", "."],
                check=True,
            )
            partial.rename(target)
    return target


def dpkg_install(root: Path, debs: Sequence[Path], work: Path) -> None:
    """Let the real dpkg install packages, without running their scripts and without losing them."""
    work.mkdir(parents=True)
    info = root / "var/lib/dpkg/info"
    kept = {path.name: path.read_bytes() for path in info.iterdir() if path.suffix[1:] in SCRIPTS}
    for name in kept:
        (info / name).unlink()
    fresh: dict[str, dict[str, bytes]] = {}
    stripped = []
    for deb in debs:
        control, scripts = _split_control(deb)
        name, same = _identity(deb)
        fresh[name + f":{_field(deb, 'Architecture')}" * same] = scripts
        stripped.append(work / deb.name)
        stripped[-1].write_bytes(_with_control(deb, control))
    subprocess.run(
        [*_DPKG, f"--root={root}", f"--log={work}/log", "--install", *stripped],
        check=True, capture_output=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    shutil.rmtree(work)
    for name, data in kept.items():
        if name.rpartition(".")[0] not in fresh:
            _put(info / name, data)
    for stem, scripts in fresh.items():
        for script, data in scripts.items():
            _put(info / f"{stem}.{script}", data)


def _make_skeleton(root: Path, suite: str) -> Path:
    """What debootstrap makes before the first package: links of the merged /usr, and the database's folders."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/apt").mkdir(parents=True)
    (root / "etc/apt/sources.list").write_text(sources(suite))
    return root


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o755)


def _field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True, text=True).stdout.strip()


def _identity(deb: Path) -> tuple[str, bool]:
    return _field(deb, "Package"), _field(deb, "Multi-Arch") == "same"


def _split_control(deb: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the control part without its scripts, as a tar, and the scripts."""
    data = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], check=True, capture_output=True).stdout
    scripts: dict[str, bytes] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=buffer, mode="w") as target:
        for member in source:
            content = source.extractfile(member)
            name = member.name.removeprefix("./")
            if content is not None and name in SCRIPTS:
                scripts[name] = content.read()
            else:
                target.addfile(member, content)
    return buffer.getvalue(), scripts


def _with_control(deb: Path, control: bytes) -> bytes:
    """Return the package with another control part; its payload stays byte for byte."""
    data = deb.read_bytes()
    members = []
    at = 8
    while at + 60 <= len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        content = data[at + 60 : at + 60 + size]
        members.append(("control.tar", control) if name.startswith("control.tar") else (name, content))
        at += 60 + size + size % 2
    return ar(members)
