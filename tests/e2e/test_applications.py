# SPDX-License-Identifier: Apache-2.0
"""
Images as people make them: what `copa patch` makes of them, unpacking and running, is what their own apt and dpkg make.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.deb.debian import need
from support.deb.differences import OF_ONE
from support.deb.oracle import apt, differences, install_debs, run_in
from support.image.application import APPLICATIONS, Application
from support.image.images import assert_valid_image, umoci
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.soak]


@dataclass(frozen=True, slots=True)
class Case:
    """One image, patched in both ways."""

    name: str
    application: Application
    folder: Path
    outcomes: dict[str, dict[str, Any]]

    def unpacked(self, tag: str) -> Path:
        root = self.folder / f"root-{tag}"
        if not root.exists():
            umoci("unpack", "--image", f"{self.folder / 'layout'}:{tag}", root)
        return root / "rootfs"

    def real(self, strategy: str) -> Path:
        """Let the image's own apt install what was planned."""
        updates = section_of(self.outcomes[strategy]["plan"])["updates"]
        if strategy == "exec" and len(updates) == len(section_of(self.outcomes["unpack"]["plan"])["updates"]):
            strategy = "unpack"
        root = self.folder / f"real-{strategy}"
        if not root.exists():
            umoci("unpack", "--image", f"{self.folder / 'layout'}:base", root)
            packages = self.folder / "cache/packages.v1"
            install_debs(root / "rootfs", [packages / update["sha256"] for update in updates])
        return root / "rootfs"


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in APPLICATIONS]
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    need("umoci", "unshare", "chroot", "tar", root=True)
    application, folder = APPLICATIONS[request.param], tmp_path_factory.mktemp(request.param)
    image = application.build(request.param, folder)
    outcomes = {}
    for strategy, flags in (("unpack", ["--ignore-errors"]), ("exec", ["--addr", "worker://"])):
        file = folder / f"{strategy}.json"
        code = main(
            ["patch", "-i", image, "--to", f"oci:{folder / 'layout'}:{strategy}", "--strategy", strategy, "-q",
             "--cache-dir", str(folder / "cache"), "-o", str(file), *flags]
        )  # fmt: skip
        assert code == 0
        [outcomes[strategy]] = json.loads(file.read_text())["platforms"]
    yield Case(request.param, application, folder, outcomes)
    shutil.rmtree(folder, ignore_errors=True)  # gigabytes


@pytest.mark.parametrize("strategy", ["unpack", "exec"])
def test_the_tree_is_the_one_that_apt_leaves(case: Case, strategy: str) -> None:
    more = [pattern for pattern, _ in OF_ONE.get(case.name, ())]

    assert differences(case.real(strategy), case.unpacked(strategy), more=more) == []
    interests = [tree / "var/lib/dpkg/triggers/File" for tree in (case.real(strategy), case.unpacked(strategy))]
    rows = [sorted(path.read_text().split("\n")) if path.exists() else [] for path in interests]
    assert rows[0] == rows[1]


def test_nothing_but_what_is_known_needs_execution(case: Case) -> None:
    skipped = section_of(case.outcomes["unpack"]["plan"])["skipped"]

    assert section_of(case.outcomes["unpack"]["plan"])["updates"], "an aged root without updates proves nothing"
    assert {row["name"] for row in skipped} == case.application.skipped, skipped
    assert {row["reason"] for row in skipped} <= {"needs-execution", "dependency"}


@pytest.mark.parametrize("strategy", ["unpack", "exec"])
def test_the_result_is_a_valid_image_with_one_layer_more(case: Case, strategy: str) -> None:
    layers = assert_valid_image(case.folder / "layout", strategy)["layers"]

    assert layers[:-1] == assert_valid_image(case.folder / "layout", "base")["layers"]


def test_running_changes_nothing_that_unpacking_does_not(case: Case) -> None:
    if not case.application.skipped:
        assert case.outcomes["exec"]["layer"]["digest"] == case.outcomes["unpack"]["layer"]["digest"]


@pytest.mark.parametrize("strategy", ["unpack", "exec"])
def test_dpkg_and_apt_find_nothing_wrong_and_nothing_to_do(case: Case, strategy: str) -> None:
    root, real = case.unpacked(strategy), case.real(strategy)
    assert run_in(root, "dpkg -C").stdout == ""
    verified = [run_in(tree, "dpkg --verify", check=False).stdout for tree in (real, root)]
    assert verified[0] == verified[1]
    apt(root, "update")
    apt(root, "check")
    left = re.findall(r"^Inst (\S+)", apt(root, "--simulate upgrade --with-new-pkgs"), re.MULTILINE)
    assert set(left) <= (case.application.skipped if strategy == "unpack" else set())
