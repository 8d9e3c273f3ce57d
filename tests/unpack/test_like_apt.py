# SPDX-License-Identifier: Apache-2.0
"""
A real root with packages whose scripts derive something, upgraded by apt and composed by us.

What the minimal roots of every suite come to is compared end to end, through images; here it is certificates, byte
code, alternatives, capabilities and groups, and rules of dpkg's that only show in a chroot.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.updates import ScriptClass
from support.deb.composed import compose_onto, copy_root, open_unpacker, plan_debs
from support.deb.debian import build_root, layout_of, need
from support.deb.debs import Deb, file
from support.deb.oracle import apt, differences, extract, install_debs, run_in
from support.image.images import umoci
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("like-apt")]

PACKAGES = (
    *("ca-certificates", "curl", "git", "man-db", "nginx-light", "openssh-client", "openssl", "php-cli"),
    *("python3", "python3-certifi", "redis-server", "vim-tiny"),
)


@dataclass(frozen=True, slots=True)
class Upgraded:
    """One root, upgraded by the real tools and by us."""

    before: Path
    real: Path
    ours: Path
    debs: list[Path]


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    need("chroot", "unshare", root=True)
    work = tmp_path_factory.mktemp("apt")
    before = extract(build_root("bookworm", packages=PACKAGES, name="bookworm-scripts"), work / "before")
    fetcher = copy_root(before, work / "fetcher")
    apt(fetcher, "update")
    apt(fetcher, "--download-only upgrade --with-new-pkgs")
    debs = sorted((fetcher / "var/cache/apt/archives").glob("*.deb"))
    real, ours = copy_root(before, work / "real"), copy_root(before, work / "ours")
    install_debs(real, debs)
    compose_onto(ours, debs, work / "scratch")
    shutil.rmtree(work / "scratch")
    yield Upgraded(before, real, ours, debs)
    shutil.rmtree(work, ignore_errors=True)  # gigabytes


def test_updates_with_scripts_are_pending(upgraded: Upgraded) -> None:
    fs = DirectoryFilesystem(upgraded.before)
    verdicts = open_unpacker(fs).classify(plan_debs(fs, upgraded.debs))
    kinds = {verdict.verdict for scripts in verdicts.values() for verdict in scripts}

    assert kinds == {ScriptClass.HARMLESS, ScriptClass.REPRODUCED}


def test_the_tree_is_the_one_that_apt_leaves(upgraded: Upgraded) -> None:
    assert differences(upgraded.real, upgraded.ours) == []


def test_the_tree_is_the_one_that_running_apt_in_the_worker_leaves(upgraded: Upgraded, tmp_path: Path) -> None:
    """Certificates, byte code, alternatives, users, services: whatever packages derive by their scripts."""
    need("umoci")
    image = layout_of([build_root("bookworm", packages=PACKAGES, name="bookworm-scripts")], tmp_path / "layout")
    outcome = tmp_path / "outcome.json"
    code = main(
        ["patch", "-i", image, "--to", f"oci:{tmp_path / 'layout'}:exec", "--strategy", "exec", "-q",
         "--addr", "worker://", "-o", str(outcome), "--cache-dir", str(tmp_path / "cache")]
    )  # fmt: skip
    assert code == 0
    umoci("unpack", "--image", f"{tmp_path / 'layout'}:exec", tmp_path / "ours")

    updates = section_of(json.loads(outcome.read_text())["platforms"][0]["plan"])["updates"]
    assert len(updates) > 30
    assert {update["sha256"] for update in updates} == {sha256(deb.read_bytes()).hexdigest() for deb in upgraded.debs}
    assert differences(upgraded.real, tmp_path / "ours/rootfs") == []
    assert untrue_byte_code(tmp_path / "ours/rootfs") == []


def untrue_byte_code(root: Path) -> list[str]:
    """Return what Python would compile again: byte code begins with the time and the size of what it is made from."""
    found = []
    for path in root.glob("usr/**/__pycache__/*.pyc"):
        source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
        flags, time, size = struct.unpack("<4xIII", path.read_bytes()[:16])
        if not source.is_file() or source.is_symlink():  # which would lead to this machine's own
            continue
        if not flags and (time, size) != (int(source.stat().st_mtime), source.stat().st_size):
            found.append(str(path.relative_to(root)))
    return found


def test_stale_byte_code_is_gone_and_the_rest_is_untouched(upgraded: Upgraded) -> None:
    def compiled(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("usr/lib/python3*/**/*.pyc")}

    before, ours = compiled(upgraded.before), compiled(upgraded.ours)
    sources = {path: path.partition("__pycache__/") for path in before.keys() - ours.keys()}

    assert before
    assert untrue_byte_code(upgraded.ours) == []
    assert ours.items() <= before.items()
    for folder, _, name in sources.values():
        source = f"{folder}{name.partition('.')[0]}.py"
        present = upgraded.ours / source
        assert not present.exists() or present.read_bytes() != (upgraded.before / source).read_bytes()


def test_the_tools_find_nothing_wrong(upgraded: Upgraded) -> None:
    assert run_in(upgraded.ours, "dpkg -C").stdout == ""
    assert (
        run_in(upgraded.ours, "dpkg --verify", check=False).stdout
        == run_in(upgraded.real, "dpkg --verify", check=False).stdout
    )
    assert run_in(upgraded.ours, "python3 -c 'import ssl, certifi, email, json'").returncode == 0
    assert run_in(upgraded.ours, "ldconfig -p").stdout == run_in(upgraded.real, "ldconfig -p").stdout


SYNTHETIC = Deb(
    name="synthetic",
    version="1.0",
    files={
        "etc/synthetic/linked": file("1"),
        "etc/synthetic/far": file("1"),
        "usr/share/synthetic/mine": file("1", uname="www-data", gname="mail", uid=7, gid=7),
        "usr/share/synthetic/yours": file("1", uname="no-such-user", gname="no-such-group", uid=12, gid=13),
        "lib/synthetic/behind": file("1"),
    },
    conffiles=["/etc/synthetic/linked", "/etc/synthetic/far"],
)


def install_with_dpkg(root: Path, deb: Path) -> None:
    (root / "run/package.deb").write_bytes(deb.read_bytes())
    run_in(root, "dpkg --force-confold --force-confdef --log=/dev/null --install /run/package.deb </dev/null")
    (root / "run/package.deb").unlink()
