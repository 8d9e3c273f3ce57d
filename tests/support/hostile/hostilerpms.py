# SPDX-License-Identifier: Apache-2.0
"""rpm's databases that are small and cost a lot, made by name, for `BoundedChild`; 1 is a megabyte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from copacetic.errors import InventoryError
from copacetic.inventory.rpm import RpmDatabase
from copacetic.inventory.rpm.sqlitepages import frame_sums
from copacetic.rpm import RpmHeader, tags
from copacetic.rpm.header import number_entry, text_entry, texts_entry
from support.image.memoryfs import MemoryFilesystem
from support.rpm.rpmdbs import FOLDER, KINDS, make_files, make_header

MIB = 1_000_000
FILES = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages", "bdb-big": "Packages"}


def _tiny(number: int) -> RpmHeader:
    rows = ((tags.NAME, f"p{number}"), (tags.VERSION, "1"), (tags.RELEASE, "1"))
    return RpmHeader.build([text_entry(tag, text) for tag, text in rows], region=0)


def _packages(size: int) -> list[RpmHeader]:
    return [_tiny(number) for number in range(size * MIB // 150)]


def _same(tag: int, each: int, text: str) -> Callable[[int], list[RpmHeader]]:
    """Headers that have one text very many times."""

    def make(size: int) -> list[RpmHeader]:
        count = size * MIB // (len(text) + 1)
        return [make_header(f"p{n}", "1-1", "x86_64", texts_entry(tag, [text] * each)) for n in range(count // each)]

    return make


def _files(size: int) -> list[RpmHeader]:
    found = []
    for number in range(size):
        count = 140_000
        rows = [
            texts_entry(tags.BASE_NAMES, ["a"] * count),
            texts_entry(tags.DIRECTORY_NAMES, ["/"]),
            number_entry(tags.DIRECTORY_INDEXES, [0] * count),
        ]
        found.append(make_header(f"p{number}", "1-1", "x86_64", *rows))
    return found


def _entries(size: int) -> list[RpmHeader]:
    rows = [text_entry(tag, "") for tag in range(6_000, 60_000)]
    return [make_header(f"p{number}", "1-1", "x86_64", *rows) for number in range(size)]


def _rich(size: int) -> list[RpmHeader]:
    text = "(" * 400 + "a" + " if b else c)" * 400
    return [make_header("p", "1-1", "x86_64", texts_entry(tags.REQUIRE_NAMES, [text] * (size * MIB // len(text))))]


def _pairs(size: int) -> list[RpmHeader]:
    """Whatever is asked for is provided by all, and by none in that version."""
    headers = []
    for number in range(size * 20):
        count = 1_500
        rows = [
            texts_entry(tags.PROVIDE_NAMES, ["same"] * count),
            number_entry(tags.PROVIDE_FLAGS, [8] * count),
            texts_entry(tags.PROVIDE_VERSIONS, [f"{n}-1" for n in range(count)]),
            texts_entry(tags.REQUIRE_NAMES, ["same"] * count),
            number_entry(tags.REQUIRE_FLAGS, [8] * count),
            texts_entry(tags.REQUIRE_VERSIONS, [f"9{n}-1" for n in range(count)]),
        ]
        headers.append(make_header(f"p{number}", "1-1", "x86_64", *rows))
    return headers


_CASES: dict[str, Callable[[int], list[RpmHeader]]] = {
    "packages": _packages,
    "provides": _same(tags.PROVIDE_NAMES, 50_000, "a"),
    "long-provides": _same(tags.PROVIDE_NAMES, 1_000, "a" * 40),
    "triggers": _same(tags.TRIGGER_NAMES, 10_000, "b" * 30),
    "folders": _same(tags.DIRECTORY_NAMES, 10_000, "/" + "b/" * 20),
    "files": _files,
    "entries": _entries,
    "rich": _rich,
    "pairs": _pairs,
}


def names() -> list[str]:
    others = [f"{kind} {name}" for kind in KINDS[1:3] for name in ("long-provides", "packages", "provides")]
    return [*(f"sqlite {name}" for name in sorted(_CASES)), *others, "sqlite log"]


def make(folder: Path, name: str, size: int) -> str:
    kind, _, case = name.partition(" ")
    files = {f"{FOLDER}/rpmdb.sqlite-wal": _log(size)} if case == "log" else {}
    files |= make_files(kind, [make_header("a")] if case == "log" else _CASES[case](size))
    for path, data in files.items():
        (folder / path.rpartition("/")[2]).write_bytes(data)
    return str(sum(map(len, files.values())))


def _log(size: int) -> bytes:
    """A log whose every frame has to be summed up, before the last one turns out to be none."""
    head = struct.pack(">6I", 0x377F0682, 3_007_000, 4096, 0, 1, 2)
    sums = frame_sums(head, "<", (0, 0))
    parts = [head, struct.pack(">2I", *sums)]
    for number in range(size * MIB // 4120):
        start, page = struct.pack(">2I", number % 50 + 100, 0), bytes(4096)
        sums = frame_sums(page, "<", frame_sums(start, "<", sums))
        parts += [start, struct.pack(">4I", 1, 2, *sums), page]
    return b"".join(parts)


def use(folder: Path, name: str, size: int) -> str:
    """Ask everything of it, and write it."""
    files = {f"{FOLDER}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    database = RpmDatabase.detect(MemoryFilesystem(files))
    if database is None:
        raise InventoryError("there is none")
    for package in database.packages():
        database.files(package)
        database.checksums(package)
        database.bare_paths(package)
    with suppress(InventoryError):
        database.broken_dependencies()
    database.rewrite((), ())
    return ""
