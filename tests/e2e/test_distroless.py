# SPDX-License-Identifier: Apache-2.0
"""Real distroless images, native and of another architecture: no shell, no apt, no emulation."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.deb.deb822 import parse_stanza
from support.deb.debian import need, sources
from support.deb.distroless import KEYRING, distroless_layout
from support.deb.oracle import read_tree
from support.image.images import assert_valid_image
from support.value.plandocuments import section_of

pytestmark = [pytest.mark.system, pytest.mark.whole]


@pytest.mark.parametrize(
    ("suite", "architecture", "packages"),
    [
        ("bookworm", "amd64", ("base-files", "netbase", "tzdata", "ca-certificates", "libc6", "libssl3", "openssl")),
        pytest.param(
            *("bookworm", "arm64", ("base-files", "netbase", "tzdata", "libc6", "libssl3", "liblzma5")),
            marks=pytest.mark.soak,
        ),
        ("bullseye", "amd64", ("base-files", "tzdata", "libc6", "libssl1.1", "openssl", "zlib1g")),
        ("trixie", "arm64", ("base-files", "tzdata", "libc6", "libssl3t64", "libgnutls30t64", "openssl")),
    ],
)
def test_a_distroless_image_holds_what_the_new_packages_ship(
    tmp_path: Path, suite: str, architecture: str, packages: tuple[str, ...]
) -> None:
    need("umoci", "dpkg-deb", root=True)
    layout = tmp_path / "layout"
    image, chdist = distroless_layout(layout, tmp_path / "apt", suite, architecture, packages)
    outcome = tmp_path / "outcome.json"
    definitions = [part for line in sources(suite).splitlines() for part in ("--repository", line)]

    code = main(
        ["patch", "-i", image, "--to", f"oci:{layout}:patched", "--cache-dir", str(tmp_path / "cache"),
         "-o", str(outcome), "--keyring", str(KEYRING), *definitions]
    )  # fmt: skip

    assert code == 0
    assert_valid_image(layout, "patched")
    (platform,) = json.loads(outcome.read_text())["platforms"]
    updates = {u["name"]: u["version"] for u in section_of(platform["plan"])["updates"]}
    assert updates, "the oldest versions of these packages have updates"
    assert all(row["definedIn"] == "--repository:1" for row in section_of(platform["plan"])["repositories"])
    root = _unpack(layout, tmp_path / "root")
    assert not (root / "var/lib/dpkg/status").exists()
    debs = {deb.name.partition("_")[0]: deb for deb in chdist.download(updates)}
    actual = read_tree(root)
    for name, version in updates.items():
        stanza = parse_stanza((root / "var/lib/dpkg/status.d" / name).read_text())
        assert stanza.find("Version") == version
        subprocess.run(["dpkg-deb", "--extract", debs[name], tmp_path / name], check=True)
        shipped = {path: node for path, node in read_tree(tmp_path / name).items() if node.kind != "d"}
        assert {path: actual.get(path) for path in shipped} == shipped


def _unpack(layout: Path, target: Path) -> Path:
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:patched", target], check=True, capture_output=True)
    return target / "rootfs"


def test_a_distroless_image_without_a_repository_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = distroless_layout(tmp_path / "layout", tmp_path / "apt", "bookworm", "amd64", ("base-files", "netbase"))

    code = main(["plan", "-i", image, "--no-cache", "--no-host-repositories"])

    assert code == 1
    assert "names no repository" in capsys.readouterr().err
