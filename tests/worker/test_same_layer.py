# SPDX-License-Identifier: Apache-2.0
"""A layer is the same, byte for byte, whoever's worker made it; and it is what the run did."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builder.confined import ROOT, run_as_user, run_in_pod
from support.deb.debian import build_root
from support.deb.debs import Deb, directory, file, hardlink, symlink
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("same layer")]
_PROGRAM = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT)!r}]
from pathlib import Path
from support.image.samelayer import main
main(*map(Path, sys.argv[1:]))
"""
COMMAND = ("-c", _PROGRAM)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Path, Path]]:
    """A root's tar, and a folder that everybody may write to."""
    tar = build_root("bookworm")
    with tempfile.TemporaryDirectory(prefix="copa-same-") as text:
        folder = Path(text)
        folder.chmod(0o1777)
        (folder / "debs").mkdir()
        Deb(
            name="owned",
            files={
                "usr/bin/owned": file("#!/bin/sh\n", 0o4755, uid=0, gid=42, uname="root", gname="shadow"),
                "usr/bin/again": replace(hardlink("./usr/bin/owned"), mode=0o4755, gid=42, gname="shadow"),
                "var/lib/owned": directory(0o2770, uid=33, gid=33, uname="www-data", gname="www-data"),
                "var/lib/owned/data": file("data", 0o640, uid=33, gid=33, uname="www-data", gname="www-data"),
                "usr/lib/owned": symlink("../bin/owned"),
            },
            scripts={"postinst": "#!/bin/sh\nset -e\nchown mail:mail /var/lib/owned/data\nsync\n"},
        ).write(folder / "debs")
        shutil.copy(tar, folder / "image.tar")
        yield folder / "image.tar", folder


@pytest.fixture(scope="module")
def expected(place: tuple[Path, Path]) -> bytes:
    """Root's."""
    tar, folder = place
    arguments = [tar, folder / "debs", folder / "root.tar"]
    result = subprocess.run(
        [sys.executable, *COMMAND, folder / "root-cache", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    if os.geteuid() == 0:
        assert json.loads(result.stdout) == {"mode": "root", "filesystems": "overlayfs"}
    return (folder / "root.tar").read_bytes()


def test_the_layer_is_what_the_run_did(expected: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(expected)) as archive:
        members = {member.name: member for member in archive}

    def owner(path: str) -> tuple[int, int, str]:
        return members[path].uid, members[path].gid, f"{members[path].mode:o}"

    assert owner("var/lib/service/data") == (432, 33, "2750")
    assert owner("srv/own") == (1, 3, "4711")
    assert owner("etc/debian_version") == (8, 12, "600")
    assert owner("usr/bin/owned") == (0, 42, "4755")
    assert owner("var/lib/owned/data") == (8, 8, "640")
    assert {members["usr/bin/again"].type, members["usr/bin/owned"].type} == {tarfile.LNKTYPE, tarfile.REGTYPE}
    assert {"usr/share/doc/.wh.gzip", "usr/share/doc/.wh.dpkg", "usr/share/doc/dpkg-moved/copyright"} <= members.keys()
    assert {name for name in members if name.startswith("usr/share/doc/apt/")} >= {"usr/share/doc/apt/new"}
    assert "usr/share/doc/apt/.wh.copyright" in members
    assert not [name for name in members if name.endswith(".wh..wh..opq")]
    assert members["usr/share/doc/tar"].isreg()
    assert not [name for name in members if name.startswith("usr/share/doc/tar/")]
    assert (members["etc/issue"].isdir(), members["etc/issue/file"].isreg()) == (True, True)
    assert members["srv/pipe"].isfifo()
    assert "srv/odd\udcffname" in members
    assert members["srv/sparse"].size == 5_000_001
    assert (members["usr/local/bin/id-too"].type, members["usr/local/bin/id-too"].linkname) == (
        tarfile.LNKTYPE,
        "usr/bin/id",
    )
    assert "etc/.pwd.lock" not in members, "a file that was opened is no change"
    assert not [name for name in members if name.split("/")[0] in {"proc", "dev", "debs"}]
    assert {name for name in members if name.startswith("etc/")} & {"etc/hosts", "etc/resolv.conf"} == set()


@pytest.mark.parametrize("subordinate_ids", [True, False], ids=["subordinate ids", "one id"])
def test_a_user_s_worker_makes_the_same_layer(place: tuple[Path, Path], expected: bytes, subordinate_ids: bool) -> None:
    tar, folder = place
    out = folder / f"user-{subordinate_ids}.tar"
    result = run_as_user(
        [*COMMAND, folder / f"cache-{subordinate_ids}", tar, folder / "debs", out], subordinate_ids=subordinate_ids
    )

    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout) == {
        "mode": "ids" if subordinate_ids else "single", "filesystems": "overlayfs"
    }  # fmt: skip
    _assert_same(expected, out.read_bytes())


def test_a_pod_s_worker_makes_the_same_layer(place: tuple[Path, Path], expected: bytes) -> None:
    tar, folder = place
    result = run_in_pod([*COMMAND, folder / "cache-pod", tar, folder / "debs", folder / "pod.tar"])

    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout)["mode"] == "chroot"
    _assert_same(expected, (folder / "pod.tar").read_bytes())


def _assert_same(expected: bytes, actual: bytes) -> None:
    """Names first: two tars of megabytes say nothing when they differ."""
    described = []
    for data in (expected, actual):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            described.append({m.name: (m.type, m.mode, m.uid, m.gid, m.size, m.mtime, m.linkname) for m in archive})
    before, after = described
    assert {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)} == {}  # fmt: skip
    assert actual == expected
