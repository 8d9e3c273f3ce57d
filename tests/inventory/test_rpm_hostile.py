# SPDX-License-Identifier: Apache-2.0
"""Databases that somebody made to do harm, or that are damaged: each is read, or refused with a line, and soon."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from collections.abc import Callable

import pytest

from copacetic.errors import InventoryError
from copacetic.inventory.rpm import RpmDatabase
from copacetic.rpm import tags
from copacetic.rpm.header import texts_entry
from support.image.memoryfs import MemoryFilesystem
from support.rpm.rpmdbs import FOLDER, KINDS, make_files, make_header

HEADERS = [
    make_header(
        "a", "1-1", "x86_64", texts_entry(tags.PROVIDE_NAMES, ["a", "b(c)"]), files=["/usr/bin/a", "/etc/a.conf"]
    ),
    make_header("big", "2:1-1", "noarch", files=[f"/usr/share/big/{number}" for number in range(150)]),
    make_header("gpg-pubkey", "b86b3716-61e69f29", ""),
    make_header("gpg-pubkey", "8483c65d-5ccc5b19", ""),
]
SEEDS = {kind: make_files(kind, HEADERS) for kind in KINDS}
MAIN = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages", "bdb-big": "Packages"}


def use(files: dict[str, bytes]) -> None:
    """Ask everything that anybody asks of a database."""
    database = RpmDatabase.detect(MemoryFilesystem(files))
    if database is None:
        raise InventoryError("there is none")
    for package in database.packages():
        database.files(package), database.checksums(package), database.bare_paths(package)
        database.own_files(package), database.is_configuration("etc/a.conf", package)
    database.broken_dependencies(), database.notes(), database.rpm_release, database.color
    database.native_architecture, database.checksum_algorithm, database.grants("usr/bin", (0, 0, 0o755))
    written = database.rewrite(HEADERS[:1], database.packages()[:1])
    RpmDatabase.detect(MemoryFilesystem({path: data for path, data in written.items() if data is not None}))


def mutate(data: bytes, source: random.Random, kind: str) -> bytes:
    """Another number where numbers stand, mostly; what has a checksum gets it again."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 3))):
        order = ">" if kind in {"sqlite", "bdb-big"} else "<"
        form, size = source.choice((("B", 1), ("H", 2), ("I", 4)))
        at = source.choice((source.randrange(0, 120), source.randrange(len(data)), source.randrange(0, 4096)))
        at = min(at // size * size, len(data) - size)
        old = struct.unpack_from(order + form, changed, at)[0]
        new = source.choice(
            (0, 1, old + 1, old - 1, 1 << 8 * size - 1, (1 << 8 * size) - 1, old ^ 1, source.randrange(50))
        )
        struct.pack_into(order + form, changed, at, new % (1 << 8 * size))
    return mend(bytes(changed)) if kind == "ndb" else bytes(changed)


def mend(data: bytes) -> bytes:
    """Put the checksums of ndb's blobs right."""
    changed = bytearray(data)
    for at in range(32, 4096, 16):
        _, _, block, count = struct.unpack_from("<4sIII", data, at)
        end = (block + count) * 16
        if block and count > 1 and end <= len(data):
            struct.pack_into("<I", changed, end - 12, zlib.adler32(changed[block * 16 : end - 12]))
    return bytes(changed)


def fuzz(kind: str, name: str, count: int, first: int = 0) -> int:
    """Try so many mutations of one file; return how many were accepted. A failure names the number that it comes from."""
    path, accepted = f"{FOLDER}/{name}", 0
    for number in range(first, first + count):
        source = random.Random(f"{kind} {name} {number}")
        data = mutate(SEEDS[kind][path], source, kind if name == MAIN[kind] else "index")
        started = time.process_time()
        try:
            use({**SEEDS[kind], path: data})
            accepted += 1
        except InventoryError:
            pass
        except Exception as error:
            raise AssertionError(f"{kind} {name} {number}: {error!r}") from error
        took = time.process_time() - started
        assert took < 1, f"{kind} {name} {number}: {took:.1f} s"
    return accepted


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", KINDS)
def test_any_mutation_is_read_or_refused(kind: str) -> None:
    assert 10 < fuzz(kind, MAIN[kind], 100) < 95


@pytest.mark.no_cover
def test_any_index_of_ndb_is_only_asked_what_it_indexes() -> None:
    assert fuzz("ndb", "Index.db", 50) == 50


@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_mutations_are_read_or_refused(kind: str) -> None:
    assert fuzz(kind, MAIN[kind], int(os.environ.get("COPA_FUZZ", "100000")), 100) > 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_database_is_refused(kind: str) -> None:
    for data in (b"x", b"\0" * 100, b"\xff" * 5000, SEEDS[kind][f"{FOLDER}/{MAIN[kind]}"][:512]):
        with pytest.raises(InventoryError, match=MAIN[kind]):
            use({f"{FOLDER}/{MAIN[kind]}": data})


def chained_bdb() -> bytes:
    """Very many pages of a hash that say the same, with one and the same value behind them."""
    data = bytearray(
        make_files("bdb", [make_header("x", files=[f"/usr/{n}" for n in range(3000)])])[f"{FOLDER}/Packages"]
    )
    pages = [data[at : at + 4096] for at in range(4096, len(data), 4096)]
    bucket = next(page for page in pages if page[25] == 13 and page[-17] == 3)
    for _ in range(2000):
        data += bucket
    struct.pack_into("<I", data, 32, len(data) // 4096 - 1)
    return bytes(data)


def wide_ndb() -> bytes:
    """Slots by the thousand for one and the same blob."""
    data = make_files("ndb", HEADERS[:1])[f"{FOLDER}/Packages.db"]
    _, _, block, count = struct.unpack_from("<4sIII", data, 32)
    slots = b"".join(struct.pack("<4sIII", b"Slot", number + 1, block, count) for number in range(254))
    return data[:32] + slots + data[4096:]


def wide_sqlite() -> bytes:
    """A page of the tree that has one and the same child very many times."""
    data = bytearray(
        make_files("sqlite", [make_header(f"p{n}", files=[f"/usr/{n}" for n in range(60)]) for n in range(60)])[
            f"{FOLDER}/rpmdb.sqlite"
        ]
    )
    start = 4096
    assert data[start] == 5
    count = struct.unpack_from(">H", data, start + 3)[0]
    first = struct.unpack_from(">H", data, start + 12)[0]
    for number in range(count):
        struct.pack_into(">H", data, start + 12 + 2 * number, first)
    return bytes(data)


@pytest.mark.parametrize(("kind", "make"), [("bdb", chained_bdb), ("ndb", wide_ndb), ("sqlite", wide_sqlite)])
def test_no_byte_counts_twice(kind: str, make: Callable[[], bytes]) -> None:
    with pytest.raises(InventoryError, match="used twice|over each other|damaged"):
        use({f"{FOLDER}/{MAIN[kind]}": make()})


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_of_many_names_takes_time_by_its_length(kind: str) -> None:
    """A megabyte of names that are in several indexes."""
    names = [f"({'a' * (number % 7)} if b{number})" for number in range(20_000)]
    rows = [texts_entry(tags.REQUIRE_NAMES, names), texts_entry(tags.TRIGGER_NAMES, names)]
    rows.append(texts_entry(tags.PROVIDE_NAMES, ["same"] * 20_000))
    started = time.process_time()

    use(make_files(kind, [make_header("many", "1-1", "x86_64", *rows)]))

    assert time.process_time() - started < 5


def test_too_many_that_provide_the_same_are_refused() -> None:
    provides = texts_entry(tags.PROVIDE_NAMES, ["same"] * 2_000)
    requires = texts_entry(tags.REQUIRE_NAMES, ["same", *(f"(same and x{n})" for n in range(2_000))])
    database = RpmDatabase.detect(
        MemoryFilesystem(make_files("sqlite", [make_header("x", "1-1", "x86_64", provides, requires)]))
    )

    assert database is not None
    with pytest.raises(InventoryError, match="too many packages provide same"):
        database.broken_dependencies()
