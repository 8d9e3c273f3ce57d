# SPDX-License-Identifier: Apache-2.0
"""Archives of odd pieces, read by our reader and by Go's, with which containerd unpacks layers."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest

from copacetic.oci.tarstream import TarError, TarReader
from support.image.gotar import read_with_go
from support.image.rawtar import BLOCK, END, GNU, USTAR, V7, header, long_name, member, pax

_NAMES = ["a", "b/c", "d/", "./e", "/f", ".//g//h", "n" * 100, "", ".", "\udcff", "é"]
_NUMBERS: list[int | bytes] = [
    0,
    1,
    7,
    512,
    8**7,
    2**31,
    b"1_0",
    b"+1",
    b"-1",
    b" 7 ",
    b"7\0x",
    b"0o7",
    b"8",
    b"\0 7",
    b"",
]
_SIZES: list[int | bytes] = [
    0,
    0,
    0,
    3,
    512,
    513,
    -1,
    b"1_0",
    b" 3",
    b"3 \0",
    b"\x80" + bytes(10) + b"\x03",
    b"\x81" + bytes(11),
]
_TIMES: list[int | bytes] = [0, 7, 2**33, -5, b"1_0", b"7 "]
_VALUES = ["", "0", "3", "7", "-7", "+7", "1_0", "9" * 30, "7.5", "-7.5", "-7.0", "7.", ".7", "x", "long/name", "0x7"]
_KEYS = ["path", "linkpath", "size", "uid", "gid", "mtime", "comment", "SCHILY.xattr.user.a", "uname", ""]
_TOLERATED = ("sparse", "impossible", "climbs", "unknown type", "says that it has", "a path", "a name of")


def _archive(random_: random.Random) -> bytes:
    pieces = [_piece(random_) for _ in range(random_.randrange(1, 6))]
    return b"".join(pieces) + random_.choice([END, END, END, bytes(BLOCK), b"", bytes(BLOCK) + header("z") + END])


def _piece(random_: random.Random) -> bytes:
    choose = random_.choice
    kind = choose("eeeeeexxxgLKs")
    if kind in "xg":
        records = [(choose(_KEYS), choose(_VALUES)) for _ in range(random_.randrange(4))]
        return pax(records, kind.encode())
    if kind in "LK":
        return long_name(choose([b"", b"long", b"long/gnu", b"a\0b", b"d/"]), kind.encode())
    if kind == "s":
        return member(choose(_NAMES), bytes(random_.randrange(600)))
    block = header(
        choose(_NAMES),
        choose([b"0", b"0", b"\0", b"1", b"2", b"5", b"6", b"3"]),
        size=choose(_SIZES),
        mode=choose(_NUMBERS),
        uid=choose(_NUMBERS),
        gid=choose(_NUMBERS),
        mtime=choose(_TIMES),
        link=choose(["", "a", "b/c", "../x"]),
        magic=choose([USTAR, USTAR, GNU, V7]),
        prefix=choose([b"", b"", b"p/q"]),
    )
    return block + choose([b"", bytes(BLOCK), bytes(2 * BLOCK)])


def _ours(data: bytes) -> list[list[Any]] | str:
    reader = TarReader(io.BytesIO(data))
    found = []
    try:
        for entry in reader:
            content = b"".join(bytes(piece) for piece in reader.content())
            found.append(
                [
                    *(entry.path, entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.linkname),
                    content.hex(),
                    {name: list(value) for name, value in entry.xattrs.items()},
                ]
            )
    except TarError as error:
        return str(error)
    return found


def _clean(row: list[Any]) -> list[Any]:
    """Go gives names as they stand; ours are relative and plain, as containerd makes them."""
    name, link = (bytes.fromhex(row[at]).decode("utf-8", "surrogateescape") for at in (0, 6))
    plain = ["/".join(part for part in text.split("/") if part not in {"", "."}) for text in (name, link)]
    return [plain[0], *row[1:6], plain[1] if row[1] == "1" else link, *row[7:]]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 100))])
def test_our_reader_sees_what_go_sees_or_refuses_what_no_layer_may_have(seed: int) -> None:
    random_ = random.Random(seed)
    archives = [_archive(random_) for _ in range(1_000)]
    read = refused = 0

    for data, theirs in zip(archives, read_with_go(archives), strict=True):
        ours = _ours(data)
        if isinstance(ours, str):
            refused += 1
            assert theirs is None or any(word in ours for word in _TOLERATED), (ours, theirs, data)
        else:
            read += 1
            assert theirs is not None, (ours, data)
            assert ours == [_clean(row) for row in theirs], data
    assert min(read, refused) > 150
