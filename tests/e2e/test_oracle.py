# SPDX-License-Identifier: Apache-2.0
"""Real images: what `copa patch` makes is what the real apt and dpkg make."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.deb.debian import build_root, layout_of, need
from support.deb.oracle import apt, differences, extract, install_debs, run_in
from support.image.images import assert_valid_image
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole]

SUITES = {"bullseye": [], "bookworm": [pytest.mark.soak], "trixie": []}
"""With bookworm, and more packages, it is `test_like_apt` every time."""
REFUSED = {"bullseye": {"tzdata"}}
"""What may need execution: this tzdata's config script converts old names of time zones, and its postinst acts on that."""


@dataclass(frozen=True, slots=True)
class Patched:
    """One image, patched by us and by the real tools."""

    real: Path
    ours: Path
    layout: Path
    plan: dict[str, Any]
    refused: set[str]


@pytest.fixture(
    scope="module",
    params=[pytest.param(suite, marks=[pytest.mark.xdist_group(suite), *more]) for suite, more in SUITES.items()],
)
def patched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patched]:
    need("umoci", "skopeo", root=True)
    suite: str = request.param
    root = build_root(suite)
    work = tmp_path_factory.mktemp(suite)
    layout = work / "layout"
    image = layout_of([root], layout)
    cache = work / "cache"
    plan_file = work / "plan.json"
    assert (
        main(
            [
                "plan",
                "-i",
                image,
                "--strategy",
                "unpack",
                "--format",
                "json",
                "-o",
                str(plan_file),
                "--cache-dir",
                str(cache),
            ]
        )
        == 0
    )
    plan = json.loads(plan_file.read_text())["plans"][0]
    arguments = [
        "patch",
        "-i",
        image,
        "--strategy",
        "unpack",
        "--to",
        f"oci:{layout}:patched",
        "--cache-dir",
        str(cache),
        "--ignore-errors",
    ]
    assert main(arguments) == 0
    real = extract(root, work / "real")
    install_debs(real, [cache / "packages.v1" / update["sha256"] for update in section_of(plan)["updates"]])
    ours = work / "ours"
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:patched", str(ours)], check=True, capture_output=True)
    yield Patched(real=real, ours=ours / "rootfs", layout=layout, plan=plan, refused=REFUSED.get(suite, set()))
    shutil.rmtree(work, ignore_errors=True)  # gigabytes


def test_updates_are_pending(patched: Patched) -> None:
    assert section_of(patched.plan)["updates"], "an aged root without updates proves nothing"


def test_the_tree_equals_the_one_that_dpkg_makes(patched: Patched) -> None:
    assert differences(patched.real, patched.ours) == []


def test_nothing_but_what_is_known_needs_execution(patched: Patched) -> None:
    assert {row["name"] for row in section_of(patched.plan)["skipped"]} <= patched.refused
    assert all(row["reason"] == "needs-execution" for row in section_of(patched.plan)["skipped"])


def test_the_result_is_a_valid_image_with_one_layer_more(patched: Patched) -> None:
    before = assert_valid_image(patched.layout, "base")
    after = assert_valid_image(patched.layout, "patched")

    assert after["layers"][:-1] == before["layers"]


def test_dpkg_and_apt_find_nothing_wrong_and_nothing_to_do(patched: Patched) -> None:
    assert run_in(patched.ours, "dpkg -C").stdout == ""
    assert (
        run_in(patched.ours, "dpkg --verify", check=False).stdout
        == run_in(patched.real, "dpkg --verify", check=False).stdout
    )
    apt(patched.ours, "update")
    apt(patched.ours, "check")
    left = re.findall(r"^Inst (\S+)", apt(patched.ours, "--simulate upgrade --with-new-pkgs"), re.MULTILINE)
    assert set(left) <= patched.refused
