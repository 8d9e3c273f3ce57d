# SPDX-License-Identifier: Apache-2.0
"""
Real images, upgraded by their own apt in the worker and in BuildKit: the same layer, and the tree that apt leaves.

Where no script decides anything, it is the very layer that the embedded engine composes.
"""

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
from support.builder.running import open_builder
from support.deb.debian import build_root, layout_of, need, sources
from support.deb.distroless import KEYRING, distroless_layout
from support.deb.oracle import apt, differences, extract, install_debs, run_in
from support.image.images import assert_valid_image
from support.image.trees import differences_of_layers, layer_paths
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole]

SUITES = {"bullseye": [], "bookworm": [pytest.mark.soak], "trixie": []}
"""With bookworm, and more packages, it is `test_like_apt` every time."""
KINDS = ("worker", "buildkit")


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its updates known."""

    folder: Path
    layout: Path
    real: Path

    def patch(self, kind: str) -> dict[str, Any]:
        """Patch by exec, once for each kind, and return the platform's outcome; the tag is the kind."""
        outcome = self.folder / f"{kind}.json"
        if not outcome.exists():
            self._patch(kind, outcome)
        platform: dict[str, Any] = json.loads(outcome.read_text())["platforms"][0]
        return platform

    def _patch(self, kind: str, outcome: Path) -> None:
        with open_builder(kind) as address:
            code = main(
                ["patch", "-i", f"oci:{self.layout}:base", "--to", f"oci:{self.layout}:{kind}", "-q",
                 "--strategy", "exec", "--addr", address, "-o", str(outcome), "--cache-dir", self._cache(kind)]
            )  # fmt: skip
        assert code == 0

    def _cache(self, kind: str) -> str:
        """A cache of its own, so that no layer is known; packages needn't be fetched again."""
        cache = self.folder / f"cache-{kind}"
        if not cache.exists():
            cache.mkdir()
            for bucket in (self.folder / "cache").iterdir():
                if not bucket.name.startswith("patch"):
                    shutil.copytree(bucket, cache / bucket.name, copy_function=_link)
        return str(cache)

    def unpacked(self, tag: str) -> Path:
        root = self.folder / f"root-{tag}"
        if not root.exists():
            command = ["umoci", "unpack", "--image", f"{self.layout}:{tag}", str(root)]
            subprocess.run(command, check=True, capture_output=True)
        return root / "rootfs"


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(suite, marks=[pytest.mark.xdist_group(f"exec-{suite}"), *more]) for suite, more in SUITES.items()
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    need("umoci", "unshare", "chroot", root=True)
    root = build_root(request.param)
    folder = tmp_path_factory.mktemp(f"exec-{request.param}")
    image = layout_of([root], folder / "layout")
    plan = folder / "plan.json"
    arguments = ["plan", "-i", image, "--strategy", "exec", "--format", "json", "-o", str(plan), "-q"]
    assert main([*arguments, "--cache-dir", str(folder / "cache")]) == 0
    updates = section_of(json.loads(plan.read_text())["plans"][0])["updates"]
    assert updates, "an aged root without updates proves nothing"
    real = extract(root, folder / "real")
    install_debs(real, [folder / "cache/packages.v1" / update["sha256"] for update in updates])
    yield Case(folder, folder / "layout", real)
    shutil.rmtree(folder, ignore_errors=True)  # gigabytes


def test_the_tree_is_the_one_that_apt_leaves(case: Case) -> None:
    case.patch("worker")

    assert differences(case.real, case.unpacked("worker")) == []


def test_every_update_is_in_and_nothing_is_left(case: Case) -> None:
    platform = case.patch("worker")

    assert platform["plan"]["strategy"] == "exec"
    assert section_of(platform["plan"])["skipped"] == []
    assert platform["verified"]
    root = case.unpacked("worker")
    assert run_in(root, "dpkg -C").stdout == ""
    assert run_in(root, "dpkg --verify", check=False).stdout == run_in(case.real, "dpkg --verify", check=False).stdout
    apt(root, "update")
    apt(root, "check")
    assert re.findall(r"^Inst (\S+)", apt(root, "--simulate upgrade --with-new-pkgs"), re.MULTILINE) == []


def test_the_result_is_a_valid_image_with_one_layer_more(case: Case) -> None:
    case.patch("worker")
    before = assert_valid_image(case.layout, "base")
    after = assert_valid_image(case.layout, "worker")

    assert after["layers"][:-1] == before["layers"]
    assert len(after["layers"]) == len(before["layers"]) + 1


def test_nothing_that_only_the_run_needed_is_in_the_layer(case: Case) -> None:
    case.patch("worker")
    paths = layer_paths(case.layout, "worker")

    assert not [p for p in paths if re.match(r"(run|tmp|proc|sys|dev)/.|var/(log|cache/apt|lib/apt)/.", p)]
    assert "usr/sbin/policy-rc.d" not in paths


def test_all_ways_give_the_same_layer(case: Case) -> None:
    """So what is true of one of them is true of all."""
    digests = {kind: case.patch(kind)["layer"]["digest"] for kind in KINDS}
    outcome = case.folder / "auto.json"
    code = main(
        ["patch", "-i", f"oci:{case.layout}:base", "--to", f"oci:{case.layout}:auto", "-q", "--addr", "worker://",
         "-o", str(outcome), "--cache-dir", str(case.folder / "cache")]
    )  # fmt: skip
    assert code == 0
    platform = json.loads(outcome.read_text())["platforms"][0]

    if "trixie" in str(case.folder):
        digests["docker"] = case.patch("docker")["layer"]["digest"]
    assert len(set(digests.values())) == 1, digests
    assert platform["layer"]["digest"] == digests["worker"]
    if "bullseye" in str(case.folder):
        assert platform["plan"]["strategy"] == "exec"
        assert platform["plan"]["strategyReason"].startswith("tzdata: postinst: line ")
    else:
        assert platform["plan"]["strategy"] == "unpack"


@pytest.mark.parametrize(
    ("kind", "suite", "ssl"),
    [
        ("worker", "bookworm", "libssl3"),
        pytest.param("buildkit", "bullseye", "libssl1.1", marks=pytest.mark.soak),
    ],
)
def test_a_distroless_image_gets_from_anothers_dpkg_what_unpacking_gives_it(
    tmp_path: Path, kind: str, suite: str, ssl: str
) -> None:
    need("umoci", "dpkg-deb", root=True)
    packages = ("base-files", "netbase", "tzdata", "ca-certificates", "libc6", ssl, "openssl")
    image, _ = distroless_layout(tmp_path / "layout", tmp_path / "apt", suite, "amd64", packages)
    tooling = layout_of([build_root(suite)], tmp_path / "tooling")
    definitions = [part for line in sources(suite).splitlines() for part in ("--repository", line)]
    layers = {}
    with open_builder(kind) as address:
        for strategy in ("exec", "unpack"):
            outcome = tmp_path / f"{strategy}.json"
            code = main(
                ["patch", "-i", image, "--to", f"oci:{tmp_path / 'layout'}:{strategy}", "--strategy", strategy, "-q",
                 "--cache-dir", str(tmp_path / "cache"), "-o", str(outcome), "--keyring", str(KEYRING), *definitions,
                 "--tooling-image", tooling, "--addr", address]
            )  # fmt: skip
            assert code == 0
            (platform,) = json.loads(outcome.read_text())["platforms"]
            assert platform["plan"]["strategy"] == strategy
            assert section_of(platform["plan"])["updates"]
            layers[strategy] = platform["layer"]["digest"]

    assert differences_of_layers(tmp_path / "layout", "exec", "unpack") == []
    assert layers["exec"] == layers["unpack"]
