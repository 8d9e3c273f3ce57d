# SPDX-License-Identifier: Apache-2.0
"""
Packages, indexes, databases and documents that are small and cost a lot, made by name, for `BoundedChild`.

Each comes in a size: 1 is enough to tell a reader that counts from one that doesn't, at little cost; 10 is what an
attacker would send, with at most 10 MB stored.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import zstandard

from copacetic.cache import Cache
from copacetic.deb.relation import Relation, provides
from copacetic.http import HttpClient, HttpSettings
from copacetic.progress import Silent
from copacetic.repository.apt.index import INDEX_VERSION, AptIndexStore, IndexTable, PackagesIndex
from copacetic.repository.apt.release import IndexFile
from copacetic.repository.apt.resolver import sort_candidates
from support.apk import adbs
from support.apk.apks import member
from support.deb.debs import ar, file, tar
from support.hostile.parsers import PARSERS, STATUS, a_release
from support.hostile.rpmmd import RPM_COSTS
from support.image.rawtar import END, header

SMALL, LARGE = 1, 10
STORED_LIMIT = 10_000_000
SHA256 = "0" * 64
_MIB = 1 << 20
_CASES: dict[str, tuple[str, Callable[[int], bytes]]] = {}


def names() -> list[str]:
    return sorted(_CASES)


def make(folder: Path, name: str, size: int) -> str:
    """Write it into a folder, and tell how many bytes it has."""
    data = _CASES[name][1](size)
    (folder / "input").write_bytes(data)
    return str(len(data))


def use(folder: Path, name: str, _size: int) -> str:
    """Read all of it, as far as a run could."""
    data = (folder / "input").read_bytes()
    parser = _CASES[name][0]
    if parser == "Packages.xz":
        _read_packages(folder, data)
    else:
        PARSERS[parser](data)
    return ""


def _read_packages(folder: Path, data: bytes) -> None:
    """Keep it as an index that came over the network is kept, and ask for all that it has of two names."""
    cache, digest = Cache(folder / "cache"), hashlib.sha256(data).hexdigest()
    listed = IndexFile(path="main/binary-amd64/Packages.xz", size=len(data), sha256=digest)
    store = AptIndexStore(cache, HttpClient(HttpSettings()), Silent())
    store.keep(io.BytesIO(data), listed, "index", lambda _: None)
    path = cache.bucket("packages-indexes", version=INDEX_VERSION).path(digest)
    table = cache.bucket("packages-tables", version=INDEX_VERSION).read(digest)
    assert path is not None
    assert table is not None
    index = PackagesIndex(a_release(), "main", path, msgspec.msgpack.decode(table, type=IndexTable))
    for name in ("foo", "a"):
        sort_candidates(index.find(name))
    for candidate in index.providers("virtual"):
        provides(candidate, Relation("virtual"))


def _case(name: str, parser: str, build: Callable[[int], bytes]) -> None:
    _CASES[name] = (parser, build)


def _zstd(parts: Iterable[bytes]) -> bytes:
    stream = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def _xz(parts: Iterable[bytes]) -> bytes:
    stream = lzma.LZMACompressor(preset=1)
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


def _gz(parts: Iterable[bytes]) -> bytes:
    stream = zlib.compressobj(6, wbits=31)
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])


# -- .deb ------------------------------------------------------------------------------------------------------------

_CONTROL = "Package: foo\nVersion: 2\nArchitecture: amd64\nInstalled-Size: 99999999999\n"


def _deb(data: bytes, suffix: str, control: bytes = b"", more: Iterable[tuple[str, bytes]] = ()) -> bytes:
    control = control or tar([("./control", file(_CONTROL))])
    return ar([("debian-binary", b"2.0\n"), *more, ("control.tar", control), (f"data.tar{suffix}", data)])


def _zeros(size: int) -> Iterable[bytes]:
    yield header("./big", size=size * 100 * _MIB)
    for _ in range(size * 100):
        yield bytes(_MIB)
    yield END


def _many(count: int, prefix: str = "./") -> Iterable[bytes]:
    for number in range(count):
        yield header(f"{prefix}{number}")
    yield END


def _noise(size: int) -> bytes:
    from random import Random

    return Random(1).randbytes(size)


_case("deb: zeros in zstd", "deb", lambda size: _deb(_zstd(_zeros(size)), ".zst"))
_case("deb: zeros in xz", "deb", lambda size: _deb(_xz(_zeros(size)), ".xz"))
_case("deb: zeros in gzip", "deb", lambda size: _deb(_gz(_zeros(size)), ".gz"))
_case(
    "deb: noise and zeros",
    "deb",
    lambda size: _deb(_zstd([header("./a", size=size * 900 * 1024), _noise(size * 900 * 1024), *_zeros(size)]), ".zst"),
)
_case("deb: very many files", "deb", lambda size: _deb(_zstd(_many(size * size * 2_500)), ".zst"))
_case(
    "deb: very many deep files", "deb", lambda size: _deb(_zstd(_many(size * size * 2_500, "./" + "d/" * 40)), ".zst")
)
_case(
    "deb: very many members",
    "deb",
    lambda size: _deb(tar([]), "", more=[(f"_{number}", b"") for number in range(size * 15_000)]),
)
_case(
    "deb: a control file of very many lines",
    "deb",
    lambda size: _deb(
        tar([]), "", tar([("./control", file(_CONTROL + "Description: x\n" + " y\n" * (size * size * 30_000)))])
    ),
)


# -- .apk ------------------------------------------------------------------------------------------------------------


def _apk(data: Iterable[bytes], info: str = "") -> bytes:
    payload = _gz(data)
    text = f"pkgname = foo\npkgver = 1-r0\n{info}datahash = {hashlib.sha256(payload).hexdigest()}\n"
    return member([(".PKGINFO", file(text), {})], last=False) + payload


def _plain_many(count: int) -> Iterable[bytes]:
    for number in range(count):
        yield header(f"f{number}")
    yield END


def _plain_zeros(size: int, name: str) -> Iterable[bytes]:
    yield header(name, size=size * 100 * _MIB)
    for _ in range(size * 100):
        yield bytes(_MIB)
    yield END


_case("apk: zeros", "apk", lambda size: _apk(_plain_zeros(size, "big")))
_case("apk: zeros in a file that is passed over", "apk", lambda size: _apk(_plain_zeros(size, ".big")))
_case("apk: very many files", "apk", lambda size: _apk(_plain_many(size * size * 2_500)))
_case("apk: a key of very many values", "apk", lambda size: _apk([END], "depend = a\n" * (size * 100_000)))
_case("apk v3: zeros", "apk v3", lambda size: _deflated(b"ADB.pckg" + bytes(size * 100 * _MIB)))
_case("apk v3: very many blocks", "apk v3", lambda size: _deflated(_blocks(size * size * 30_000)))
_case("apk v3: one list of files for very many folders", "apk v3", lambda size: _deflated(_shared_lists(size * 1_000)))


def _deflated(plain: bytes) -> bytes:
    return adbs.compressed(plain, "ADBd")


def _blocks(count: int) -> bytes:
    return adbs.container(b"pckg", adbs.payload([None]), data=[adbs.block(2, bytes(8))] * count)


def _heap_list(body: bytearray, words: list[int]) -> int:
    at = len(body)
    body += b"".join(word.to_bytes(4, "little") for word in (len(words) + 1, *words))
    return 14 << 28 | at


def _shared_lists(count: int) -> bytes:
    """Every folder has the same files, and every file the same name."""
    body = bytearray(8)
    at = len(body)
    body += b"\x01a\0\0"
    name = 8 << 28 | at
    files = _heap_list(body, [_heap_list(body, [name])] * count)
    folders = _heap_list(body, [_heap_list(body, [name, 0, files])] * count)
    body[4:8] = _heap_list(body, [0, folders]).to_bytes(4, "little")
    return adbs.container(b"pckg", bytes(body))


def _shared_texts(count: int) -> bytes:
    """Every package has the same long description."""
    body = bytearray(8)
    body += (count * 100).to_bytes(4, "little") + b"x" * (count * 100)
    body += bytes(-len(body) % 4)
    row = _heap_list(body, [10 << 28 | 8, 10 << 28 | 8, 0, 10 << 28 | 8])
    rows = _heap_list(body, [row] * count)
    body[4:8] = _heap_list(body, [0, rows]).to_bytes(4, "little")
    return adbs.container(b"indx", bytes(body))


# -- indexes ---------------------------------------------------------------------------------------------------------


def _row(name: str, version: str, more: str = "") -> str:
    return f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nSize: 1\nSHA256: {SHA256}\nFilename: a{more}\n\n"


def _text(lines: Iterable[str]) -> bytes:
    return _xz([("".join(lines)).encode()])


_case("Packages: nothing but names", "Packages.xz", lambda size: _xz([b"Package: a\n\n" * 100_000] * (size * 3)))
_case("Packages: zeros", "Packages.xz", lambda size: _xz([bytes(_MIB)] * (size * 20)))
_case("Packages: blanks", "Packages.xz", lambda size: _xz([b"\n" * _MIB] * (size * 20)))
_case(
    "Packages: very many versions",
    "Packages.xz",
    lambda size: _text(_row("a", f"{number}.{number * 7919 % 1000}") for number in range(size * 1_100)),
)
_case(
    "Packages: distinct versions with digests",
    "Packages.xz",
    lambda size: _text(
        _row(f"p{n}", "1", f"\nX: {hashlib.sha256(b'%d' % n).hexdigest()}") for n in range(size * 20_000)
    ),
)
_case(
    "Packages: very long versions",
    "Packages.xz",
    lambda size: _text(_row("a", str(number), "\nX: " + "x" * 500_000) for number in range(size * 30)),
)
_case(
    "Packages: one name provided very many times",
    "Packages.xz",
    lambda size: _text(_row(f"p{number}", "1", "\nProvides: virtual") for number in range(size * 900)),
)
_case(
    "Packages: one line of very many provided names",
    "Packages.xz",
    lambda size: _text(_row(f"p{number}", "1", "\nProvides: " + "xvirtual, " * 90_000) for number in range(size * 10)),
)


def _apkindex(text: bytes) -> bytes:
    return member([("APKINDEX", file(text), {})], last=True)


_case("APKINDEX: empty rows", "APKINDEX", lambda size: _apkindex(b"P:a\n\n" * (size * 1_000_000)))
_case(
    "APKINDEX: very many names",
    "APKINDEX",
    lambda size: _apkindex(b"P:a\np:" + b" ".join(b"%x" % number for number in range(size * size * 30_000)) + b"\n\n"),
)
_case(
    "APKINDEX: one name in very many rows",
    "APKINDEX",
    lambda size: _apkindex(
        b"".join(
            b"P:a\nV:%d\nS:1\nI:1\nC:Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=\nx:%s\n\n"
            % (n, hashlib.sha256(b"%d" % n).hexdigest().encode())
            for n in range(size * 20_000)
        )
    ),
)
_case("APKINDEX: zeros", "APKINDEX", lambda size: _apkindex(bytes(size * 100 * _MIB)))
_case("Packages.adb: one text for very many rows", "Packages.adb", lambda size: _shared_texts(size * 10_000))
_case("Packages.adb: zeros", "Packages.adb", lambda size: _deflated(b"ADB.indx" + bytes(size * 100 * _MIB)))


# -- databases and documents -----------------------------------------------------------------------------------------


def _status(count: int, more: str = "") -> bytes:
    return "".join(
        f"Package: p{n}\nStatus: install ok installed\nVersion: {n}\n{more.format(n=n)}\n" for n in range(count)
    ).encode()


_case("status: very many packages", "status", lambda size: _status(size * 15_000))
_case(
    "status: very many fields", "status", lambda size: STATUS + b"".join(b"F%d: x\n" % n for n in range(size * 90_000))
)
_case(
    "status: one field of very many lines", "status", lambda size: STATUS + b"X: x\n" + b" y\n" * (size * size * 30_000)
)
_case(
    "status: everybody provides what everybody lacks",
    "status",
    lambda size: _status(size * 1_100, "Provides: x (= 1)\nDepends: x (>= 2{n})\n"),
)
_case("status: very many conffiles", "status", lambda size: STATUS[:-1] + b"\n /x obsolete" * (size * 60_000) + b"\n")
_case(
    "status of others: one field of very many lines without a blank",
    "status of others",
    lambda size: STATUS + b"Description: x\n" + b"y\n" * (size * size * 30_000),
)
_case(
    "manifest: very many slices of very many paths",
    "manifest.wall",
    lambda size: (
        b'{"kind":"package","name":"a","version":"1","arch":"all"}\n'
        + b'{"kind":"path","path":"/a","slices":[%s]}\n' % b",".join([b'"a_b"'] * 10_000) * (size * 40)
    ),
)
_case("dpkg list: very many files", "dpkg list", lambda size: b"/a\n" * (size * size * 30_000))
_case("dpkg md5sums: very many files", "dpkg md5sums", lambda size: b"0" * 32 + b"  a\n" * (size * 200_000))
_case("dpkg diversions: very many", "dpkg diversions", lambda size: b"/a\n/b\nc\n" * (size * 100_000))
_case("dpkg triggers: very many", "dpkg triggers/File", lambda size: b"/a b\n" * (size * 150_000))
_case("installed: very many files", "installed", lambda size: b"P:a\nV:1\nF:\n" + b"R:a\n" * (size * 200_000))
_case(
    "installed: very many packages",
    "installed",
    lambda size: b"".join(b"P:p%d\nV:1\n\n" % n for n in range(size * size * 6_000)),
)
_case(
    "installed: everybody provides what everybody lacks",
    "installed",
    lambda size: b"".join(b"P:p%d\nV:1\np:x=1\nD:x>2%d\n\n" % (n, n) for n in range(size * 1_100)),
)
_case(
    "world: very many words", "apk world", lambda size: b" ".join(b"w%d" % number for number in range(size * 100_000))
)
_case("os-release: one long line", "os-release", lambda size: b"ID=" + b"a" * 60_000 + b'"' * (size * 500))
_case("report: very many lists", "report", lambda size: gzip.compress(b"[" + b"[],[]," * (size * 2_000_000) + b"0]", 1))
_case(
    "report: very many findings",
    "report",
    lambda size: json.dumps(
        {
            "SchemaVersion": 2,
            "Results": [
                {
                    "Class": "os-pkgs",
                    "Type": "debian",
                    "Vulnerabilities": [{"VulnerabilityID": f"C{n}", "PkgName": "b"} for n in range(size * 22_000)],
                }
            ],
        }
    ).encode(),
)
_case(
    "plan: very many notes",
    "plan",
    lambda size: b'{"schemaVersion":1,"kind":"copacetic.plan","plans":[' + b"{}," * (size * size * 30_000) + b"{}]}",
)
_case("manifest: very many lists", "manifest", lambda size: b'{"layers":[' + b"[],{}," * (size * 100_000) + b"0]}")
_case("relations: very many", "relations", lambda size: b"a|b," * (size * size * 20_000))
_case("sources: very many lines", "sources.list", lambda size: b"deb http://e s c\n" * (size * 50_000))
_case(
    "Release: very many rows",
    "Release",
    lambda size: b"SHA256:\n" + b"".join(b" %064x 1 a%d\n" % (n, n) for n in range(size * 12_000)),
)
_case(
    "preferences: very many pins",
    "preferences",
    lambda size: b"Package: a*b*c\nPin: version 1*2*3\nPin-Priority: 1\n\n" * (size * 18_000),
)
for _name, (_parser, _build) in RPM_COSTS.items():
    _case(_name, _parser, _build)
