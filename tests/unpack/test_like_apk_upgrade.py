# SPDX-License-Identifier: Apache-2.0
"""Real roots and real packages: what is composed is what `apk upgrade` leaves."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from support.apk.apkcomposed import compose_onto
from support.apk.apkoracle import alpine_root, differences, upgrade
from support.apk.apkreversion import repack_all
from support.apk.apks import read_index, write_repository
from support.deb.composed import copy_root
from support.image.images import fixture

pytestmark = pytest.mark.system

PAIRS = {
    "3.10.2 to 3.10.9": ("3.10.2", "repo-3.10.9", ("upgrade",)),
    "3.18.2 to 3.18.9": ("3.18.2", "repo-3.18.9", ("upgrade",)),
    "3.20.3 to 3.20.6": ("3.20.3", "repo-3.20.6", ("upgrade",)),
    "3.22.0 to 3.22.1": ("3.22.0", "repo-3.22.1", ("upgrade",)),
    "3.19.1 to 3.19.4, where a pin holds a library back": ("3.19.1", "repo-3.19.4", ("upgrade",)),
    "3.19.1 with libxml2 of Alpine's own repository": ("3.19.1", "repo-3.19-signed", ("upgrade", "libxml2")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_result_is_apks(name: str, tmp_path: Path) -> None:
    release, folder, arguments = PAIRS[name]
    repository = fixture(f"alpine/{folder}")
    real = alpine_root(release, tmp_path / "real")
    ours = copy_root(real, tmp_path / "ours")
    run = upgrade(real, repository, arguments, own_keys="signed" in folder)
    assert run.code == 0, run.output
    index = read_index(repository)
    names = [name for _, name in run.commits]
    rows = [(index[n], repository / "x86_64" / f"{n}-{index[n]['V']}.apk") for n in names]

    compose_onto(ours, rows, tmp_path / "scratch", epoch=_script_time(real))

    assert names
    assert differences(real, ours) == []


def test_the_result_is_that_of_apk_3(tmp_path: Path) -> None:
    newer = alpine_root("3.23.6", tmp_path / "newer")
    repository = write_repository(tmp_path / "repository", repack_all(newer))
    real = alpine_root("3.23.5", tmp_path / "real")
    ours = copy_root(real, tmp_path / "ours")
    run = upgrade(real, repository, ("--allow-untrusted", "upgrade"))
    assert run.code == 0, run.output
    index = read_index(repository)
    names = [name for _, name in run.commits]
    rows = [(index[n], repository / "x86_64" / f"{n}-{index[n]['V']}.apk") for n in names]

    compose_onto(ours, rows, tmp_path / "scratch")

    assert {"apk-tools", "libapk"} <= set(names)
    assert differences(real, ours) == []


def _script_time(root: Path) -> int:
    """Return the time that an old apk has put on its scripts: that of its run."""
    with tarfile.open(root / "lib/apk/db/scripts.tar") as tar:
        return int(next(iter(tar)).mtime)
