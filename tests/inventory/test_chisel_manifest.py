# SPDX-License-Identifier: Apache-2.0
"""chisel's manifest: read strictly, within limits, and written as chisel does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
import zstandard

from copacetic.deb.deb822 import parse_stanza
from copacetic.errors import InventoryError
from copacetic.inventory.dpkg import DebRecord, DpkgDatabase
from copacetic.oci.filesystem import Entry, FileType
from support.deb.chisel import MANIFEST, STATUS, unwall, wall
from support.image.trees import tree

SUM, OTHER_SUM = "a" * 64, "b" * 64
PACKAGE = {"kind": "package", "name": "libdemo1", "version": "1:1.0-1", "sha256": SUM, "arch": "amd64"}
SLICE = {"kind": "slice", "name": "libdemo1_libs"}
PATH = {
    "kind": "path", "path": "/usr/lib/<é>&.so", "mode": "0644", "slices": ["libdemo1_libs", "other_x"], "sha256": SUM, "size": 3,
}  # fmt: skip
CONTENT = {"kind": "content", "slice": "libdemo1_libs", "path": "/usr/lib/<é>&.so"}
FOLDER = {"kind": "path", "path": "/var/tmp/", "mode": "01777", "slices": ["libdemo1_libs"]}
_ESCAPED = (
    '{"kind":"path","path":"/usr/lib/\\u003cé\\u003e\\u0026.so","mode":"0755","slices":["libdemo1_libs","other_x"],'
    f'"sha256":"{OTHER_SUM}","size":5}}'
)
ROWS: list[dict[str, Any]] = [PACKAGE, SLICE, PATH, CONTENT, FOLDER]


def database(data: bytes, more: Mapping[str, str] | None = None) -> DpkgDatabase:
    found = DpkgDatabase.detect(tree({MANIFEST: data, **(more or {})}))
    assert found is not None
    return found


def compressed(text: str) -> bytes:
    return zstandard.ZstdCompressor().compress(text.encode())


def test_a_manifest_is_a_database_of_packages_and_of_their_paths() -> None:
    found = database(wall(ROWS))
    (package,) = found.packages()

    assert (package.name, package.version, package.architecture, package.partial) == (
        "libdemo1",
        "1:1.0-1",
        "amd64",
        True,
    )
    assert found.files(package) == ("usr/lib/<é>&.so", "var/tmp")
    assert found.checksums(package) == {"usr/lib/<é>&.so": ("sha256", SUM)}
    assert found.bare_paths(package) == ("var/tmp",)


def test_only_the_lines_that_change_are_written_anew_in_chisel_s_own_spelling_and_order() -> None:
    odd = '{"kind":"slice", "name":"other_x", "later":[1,{"a":2}]}'
    lines = [odd, *(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in ROWS)]
    head = '{"jsonwall":"1.0","schema":"1.0","count":7}\n'
    found = database(compressed(head + "".join(f"{line}\n" for line in sorted(lines))))
    (package,) = found.packages()
    record = DebRecord(
        control=parse_stanza("Package: libdemo1\nVersion: 1:1.0-2\nArchitecture: amd64\n"),
        control_files={},
        files=(),
        replaces=package,
        sha256=OTHER_SUM,
        placed={"usr/lib/<é>&.so": Entry(type=FileType.FILE, mode=0o755, size=5, sha256=OTHER_SUM)},
    )

    changes = found.rewrite([record])

    assert changes.keys() == {MANIFEST}
    text = zstandard.ZstdDecompressor().stream_reader(changes[MANIFEST] or b"").read().decode()
    expected = [json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in (SLICE, CONTENT, FOLDER)]
    expected += [
        odd,
        f'{{"kind":"package","name":"libdemo1","version":"1:1.0-2","sha256":"{OTHER_SUM}","arch":"amd64"}}',
        _ESCAPED,
    ]
    assert text == head + "".join(f"{line}\n" for line in sorted(expected))
    assert database(changes[MANIFEST] or b"").packages()[0].version == "1:1.0-2"
    assert unwall(changes[MANIFEST] or b"")[0]["count"] == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zstd", "manifest.wall: "),
        (wall(ROWS)[:-9], "manifest.wall: "),
        (compressed(""), "line 1: "),
        (wall(ROWS, header={"count": 3}), "6 lines, where the header says 3"),
        (wall(ROWS, header={"schema": "2.0"}), "schema '2.0'; known is 1.0"),
        (wall(ROWS, header={"jsonwall": "9"}), "jsonwall '9'"),
        (wall([*ROWS, {"kind": "other"}]), "line 3: "),
        (wall([*ROWS, {**PACKAGE, "version": "2"}]), "a second libdemo1"),
        (wall([{**PACKAGE, "name": "../x"}]), "not a package: '../x'"),
        (wall([{**PACKAGE, "version": "1 0"}]), "not a package"),
        (wall([{**PATH, "path": "/usr/../etc"}]), "not a plain path"),
        (wall([{**PATH, "path": "etc"}]), "not a plain path"),
        (wall([{**PATH, "sha256": "A" * 64}]), "not a SHA-256"),
        (wall([{**PATH, "slices": ["no-slice"]}]), "not a slice: 'no-slice'"),
        (wall([{**PATH, "slices": 7}]), "line 2: "),
        (compressed('{"jsonwall":"1.0","schema":"1.0","count":2}\n' + '{"kind":"slice","x":' + "[" * 60_000 + "\n"), "line 2: "),
        (compressed('{"jsonwall":"1.0","schema":"1.0","count":1}' + " " * 70_000), "one of more than 65536 bytes"),
        (compressed("\n" * 200_000), "more than 100000 lines"),
        (compressed("x" * (17 * 1024 * 1024)), "manifest.wall: "),
        (wall({**PACKAGE, "name": f"p{number}"} for number in range(30_001)), "more than 30000 packages"),
    ],
    ids=range(20),
)  # fmt: skip
def test_what_is_no_manifest_is_refused_with_the_line(data: bytes, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        database(data)


def test_a_manifest_and_a_status_that_contradict_each_other_are_refused() -> None:
    status = {STATUS: "Package: libdemo1\nVersion: 2\nArchitecture: amd64\n"}

    with pytest.raises(InventoryError, match=r"has libdemo1 1:1.0-1, another record 2"):
        database(wall(ROWS), status)


@pytest.mark.no_cover
def test_the_largest_manifest_takes_a_moment() -> None:
    slices = [f"p{number}_x" for number in range(5_000)]
    rows = [{**PATH, "path": f"/{number}", "slices": slices} for number in range(300)]
    data = wall(rows)

    before = time.process_time()
    assert DpkgDatabase.detect(tree({MANIFEST: data})) is None
    assert time.process_time() - before < 10
