# SPDX-License-Identifier: Apache-2.0
"""Slices of real packages, and real packages whose records dpkg didn't write, brought to the real suite's versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.deb.chisel import MANIFEST, STATUS, unwall, wall
from support.deb.debian import need, sources
from support.deb.distroless import KEYRING, Chdist
from support.deb.oracle import read_tree
from support.image.images import assert_valid_image, make_image, make_layer, write_layout
from support.value.plandocuments import notes_of, section_of

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("sliced")]

PACKAGES = ("base-files", "libc6", "libssl3", "openssl", "tzdata", "zlib1g")
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/lintian",
    "usr/share/man",
    "usr/sbin",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/engines-3",
    "var",
    "home",
)
"""Of the packages' files; the rest is the slices."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What the forms of records share: the suite's packages, and what `copa` knows of it."""

    apt: Chdist
    folder: Path
    old: Sequence[Path]
    cache: Path

    def fetch(self, versions: Mapping[str, str]) -> dict[str, Path]:
        self.apt.download(versions)
        return {
            name: next(self.folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
            for name, version in versions.items()
        }


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    need("umoci", "dpkg-deb", root=True)
    folder = tmp_path_factory.mktemp("debs")
    apt = Chdist(folder, "bookworm", "amd64")
    return Suite(apt, folder, apt.download_oldest(PACKAGES), tmp_path_factory.mktemp("cache"))


def package_of(deb: Path) -> dict[str, str]:
    fields = ("Package", "Version", "Architecture")
    text = subprocess.run(["dpkg-deb", "--field", deb, *fields], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in text.splitlines())


def control_of(deb: Path) -> str:
    return subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout


def extract(deb: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "--extract", deb, target], check=True)
    return target


def write_control_status(root: Path, debs: Sequence[Path], _trees: Path) -> None:
    write(root / STATUS, "".join(f"{control_of(deb)}\n" for deb in debs).encode())


def write_stripped_status(root: Path, debs: Sequence[Path], _trees: Path) -> None:
    parts = []
    for deb in debs:
        first, *rest = control_of(deb).splitlines()
        parts.append("\n".join([first, "Status: install ok installed", *(line.strip() for line in rest)]) + "\n\n")
    write(root / STATUS, "".join(parts).encode())


def write_manifest(root: Path, debs: Sequence[Path], trees: Path) -> None:
    rows: list[dict[str, Any]] = []
    for deb in debs:
        package = package_of(deb)
        name = f"{package['Package']}_all"
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        rows.append({"kind": "slice", "name": name})
        rows.append(
            {"kind": "package", "name": package["Package"], "version": package["Version"], "sha256": sha256,
             "arch": package["Architecture"]}
        )  # fmt: skip
        tree = extract(deb, trees / package["Package"])
        for path in sorted(tree.rglob("*")):
            relative = f"/{path.relative_to(tree)}"
            if not os.path.lexists(f"{root}{relative}") or (path.is_dir() and not path.is_symlink()):
                continue
            rows.append({"kind": "content", "slice": name, "path": relative})
            row = {"kind": "path", "path": relative, "mode": f"0{path.lstat().st_mode & 0o7777:o}", "slices": [name]}
            if path.is_symlink():
                rows.append({**row, "link": os.readlink(path)})
            else:
                data = path.read_bytes()
                rows.append({**row, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
    write(root / MANIFEST, wall(rows))


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write_record", "form"),
    [
        (write_control_status, "chisel status"),
        (write_manifest, "chisel manifest.wall"),
        (write_stripped_status, "dpkg status without info"),
    ],
)
def test_the_tree_is_that_of_the_new_packages_at_the_paths_that_were_there(
    write_record: Callable[[Path, Sequence[Path], Path], None], form: str, suite: Suite, tmp_path: Path
) -> None:
    root = tmp_path / "old"
    for deb in suite.old:
        extract(deb, root)
    for folder in LEFT_OUT:
        shutil.rmtree(root / folder)
    write_record(root, suite.old, tmp_path / "trees")
    before = read_tree(root)
    tar = tmp_path / "root.tar"
    subprocess.run(["tar", "--create", "--file", tar, "--directory", root, "--numeric-owner", "."], check=True)
    layout = tmp_path / "layout"
    write_layout(layout, {"base": make_image([make_layer(tar.read_bytes())])})
    definitions = [part for line in sources("bookworm").splitlines() for part in ("--repository", line)]

    code = main(
        ["patch", "-i", f"oci:{layout}:base", "--to", f"oci:{layout}:patched", "--cache-dir", str(suite.cache),
         "-o", str(tmp_path / "outcome.json"), "--keyring", str(KEYRING), *definitions]
    )  # fmt: skip

    assert code == 0
    assert_valid_image(layout, "patched")
    (platform,) = json.loads((tmp_path / "outcome.json").read_text())["platforms"]
    updates = {u["name"]: u["version"] for u in section_of(platform["plan"])["updates"]}
    assert len(updates) > 2, "the oldest versions of these packages have updates"
    assert notes_of(platform["plan"])[0].startswith(form)
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:patched", tmp_path / "new"], check=True, capture_output=True
    )
    actual = read_tree(tmp_path / "new/rootfs")
    expected = dict(before)
    fresh = suite.fetch(updates)
    for name in updates:
        shipped = read_tree(extract(fresh[name], tmp_path / "fresh" / name))
        expected |= {
            path: node
            for path, node in shipped.items()
            if node.kind != "d" and (path in before or not form.startswith("chisel"))
        }
    records = (STATUS, MANIFEST)
    added = {path for path in actual if path not in expected and actual[path].kind == "d"}
    documents = ("usr/share/doc/", "usr/share/man/", "usr/share/lintian/")
    expected = {path: node for path, node in expected.items() if path in before or not path.startswith(documents)}
    assert not (added if form.startswith("chisel") else ())
    assert {p: n for p, n in actual.items() if p not in records and p not in added} == {
        path: node for path, node in expected.items() if path not in records
    }
    if form == "chisel manifest.wall":
        again = tmp_path / "again"
        shutil.copytree(tmp_path / "new/rootfs", again, symlinks=True)
        write_manifest(
            again, [*fresh.values(), *(d for d in suite.old if d.name.partition("_")[0] not in fresh)], tmp_path / "t2"
        )
        assert unwall((tmp_path / "new/rootfs" / MANIFEST).read_bytes()) == unwall((again / MANIFEST).read_bytes())
