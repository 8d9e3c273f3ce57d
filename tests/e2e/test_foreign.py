# SPDX-License-Identifier: Apache-2.0
"""A regular root of another architecture: what `copa patch` makes is what dpkg makes, and nothing is emulated."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.deb.debian import layout_of, need
from support.deb.foreign import dpkg_install, foreign_root
from support.deb.oracle import extract, is_allowed, read_tree
from support.image.images import assert_valid_image
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("foreign")]

PACKAGES = ("apt", "openssl", "tzdata", "libsystemd0")


@dataclass(frozen=True, slots=True)
class Patched:
    """One root, upgraded by dpkg and by us."""

    suite: str
    before: Path
    real: Path
    ours: Path
    updates: dict[str, dict[str, Any]]
    debs: dict[str, Path]


PENDING = {"bookworm": (5, 1_000), "trixie": (3, 200)}
"""More updates, and more files in them, than this."""
SUITES = ("bookworm", pytest.param("trixie", marks=pytest.mark.soak))


@pytest.fixture(scope="module", params=SUITES)
def patched(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Patched]:
    need("umoci", "dpkg", root=True)
    work = tmp_path_factory.mktemp("foreign")
    tar = foreign_root(request.param, "arm64", PACKAGES, work / "make")
    layout, cache, outcome = work / "layout", work / "cache", work / "outcome.json"
    image = layout_of([tar], layout, architecture="arm64")
    code = main(["patch", "-i", image, "--to", f"oci:{layout}:patched", "--cache-dir", str(cache), "-o", str(outcome)])
    assert code == 0
    assert assert_valid_image(layout, "patched")["layers"][:-1] == assert_valid_image(layout, "base")["layers"]
    (platform,) = json.loads(outcome.read_text())["platforms"]
    updates = {f"{u['name']}:{u['architecture']}": u for u in section_of(platform["plan"])["updates"]}
    debs = {key: cache / "packages.v1" / update["sha256"] for key, update in updates.items()}
    before, real = extract(tar, work / "before"), extract(tar, work / "real")
    dpkg_install(real, list(debs.values()), work / "stripped")
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:patched", work / "ours"], check=True, capture_output=True)
    yield Patched(request.param, before, real, work / "ours/rootfs", updates, debs)
    shutil.rmtree(work, ignore_errors=True)  # gigabytes


def test_nothing_of_the_architecture_runs_here_and_updates_are_pending(patched: Patched) -> None:
    ran = subprocess.run(["chroot", patched.before, "/bin/true"], check=False, capture_output=True)

    if ran.returncode == 0:
        pytest.skip("this machine runs the architecture, so it can't show that nothing needs to")
    assert len(patched.updates) > PENDING[patched.suite][0]
    assert {update["architecture"] for update in patched.updates.values()} <= {"arm64", "all"}


def test_the_tree_equals_the_one_that_dpkg_makes(patched: Patched) -> None:
    real, ours = read_tree(patched.real), read_tree(patched.ours)

    assert [
        f"{path}: expected {real.get(path)}, got {ours.get(path)}"
        for path in sorted(real.keys() | ours.keys())
        if real.get(path) != ours.get(path) and not is_allowed(path)
    ] == []


def test_every_file_of_an_updated_package_is_the_one_it_ships(patched: Patched, tmp_path: Path) -> None:
    actual = read_tree(patched.ours)
    compared = 0
    for key, deb in patched.debs.items():
        shipped = tmp_path / key
        subprocess.run(["dpkg-deb", "--extract", deb, shipped], check=True)
        for path, node in read_tree(shipped).items():
            if node.kind == "-":
                compared += 1
                canonical = f"usr/{path}" if path.startswith(("bin/", "sbin/", "lib/")) else path
                assert actual[canonical].content.split()[0] == node.content.split()[0], path
                assert (actual[canonical].mode, actual[canonical].owner) == (node.mode, node.owner), path
    assert compared > PENDING[patched.suite][1]


def test_dpkg_finds_the_new_versions_and_nothing_wrong(patched: Patched) -> None:
    for root in (patched.ours, patched.real):
        (root / "var/lib/dpkg/arch").write_text("amd64\narm64\n")  # this dpkg is another architecture's

    def dpkg(program: str, *arguments: str, root: Path = patched.ours) -> str:
        return subprocess.run(
            [program, f"--root={root}", *arguments], check=False, capture_output=True, text=True
        ).stdout

    rows = dict(
        line.split(" ")
        for line in dpkg("dpkg-query", "--show", "--showformat", "${Package}:${Architecture} ${Version}\n").splitlines()
    )
    assert {key: rows[key] for key in patched.updates} == {k: u["version"] for k, u in patched.updates.items()}
    assert dpkg("dpkg", "--audit") == ""
    assert dpkg("dpkg", "--verify") == dpkg("dpkg", "--verify", root=patched.real)
