# SPDX-License-Identifier: Apache-2.0
"""
Images that are small and cost a lot, made by name, for `BoundedChild`.

Each comes in a size: 1 is enough to tell a reader that counts from one that doesn't, at little cost; 10 is what an
attacker would send, with at most 10 MB stored.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from support.image.images import Image, Layer, describe, make_image, make_layer, open_layers, write_layout
from support.image.rawtar import END, header, long_name, member, padded, pax, record

SMALL, MEDIUM, LARGE = 1, 4, 10
"""Documents of the medium size are as large as documents may be."""
SLOW = frozenset(
    {
        "image-many-layers-of-zeros",
        "image-many-small-layers",
        "tar-many-records",
        "tar-one-record-again",
        "tar-zeros",
        "tar-zeros-after-the-end",
    }
)
"""What takes seconds even when it is small."""
STORED_LIMIT = 10_000_000
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LAYOUT, _ARCHIVE = "layout", "archive.tar"

Tar = Iterator[bytes]
_TARS: dict[str, Callable[[int], Tar]] = {}
_STREAMS: dict[str, Callable[[int], tuple[bytes, bytes]]] = {}
_DOCUMENTS: dict[str, Callable[[int], dict[str, Any]]] = {}
_IMAGES: dict[str, Callable[[int], Image]] = {}
_ARCHIVES: dict[str, Callable[[int], bytes]] = {}


def names() -> list[str]:
    return sorted([*_TARS, *_STREAMS, *_DOCUMENTS, *_IMAGES, *_ARCHIVES])


def make(folder: Path, name: str, size: int) -> str:
    """Write it into a folder, and tell how many bytes it has."""
    if name in _ARCHIVES:
        data = _ARCHIVES[name](size)
        (folder / _ARCHIVE).write_bytes(data)
        return str(len(data))
    image = _image(name, size)
    write_layout(folder / _LAYOUT, {"1": image})
    return str(sum(len(blob) for blob in image.blobs.values()))


def use(folder: Path, name: str, _size: int) -> str:
    """Look at all of it as `copa inspect` does."""
    location = f"oci:{folder / _LAYOUT}:1"
    if name.startswith("docker-archive"):
        location = f"docker-archive:{folder / _ARCHIVE}"
    elif name.startswith("oci-archive"):
        location = f"oci-archive:{folder / _ARCHIVE}:1"
    seen = 0
    for fs in open_layers(location, folder / "cache"):
        for path, _ in fs.walk():
            seen += fs.resolve(path) is not None
    return f"{seen} paths"


def _image(name: str, size: int) -> Image:
    if name in _IMAGES:
        return _IMAGES[name](size)
    if name in _TARS:
        return make_image([_packed(_TARS[name](size))])
    if name in _STREAMS:
        blob, plain = _STREAMS[name](size)
        return make_image([Layer(describe(blob, _media_type(blob)), blob, plain)])
    return make_image([make_layer({"a": "1"})], **_DOCUMENTS[name](size))


def _media_type(blob: bytes) -> str:
    return _LAYER + {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}.get(blob[:2], "")


def _packed(pieces: Tar) -> Layer:
    """Compress without holding it all; only the digest of the plain bytes is needed."""
    squeezer = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
    state = hashlib.sha256()
    blob = bytearray()
    for piece in pieces:
        state.update(piece)
        blob += squeezer.compress(piece)
    blob += squeezer.flush()
    return _Made(describe(bytes(blob), f"{_LAYER}+zstd"), bytes(blob), state.hexdigest().encode())


class _Made(Layer):
    """`plain` is the hexadecimal digest instead of the bytes."""

    @property
    def diff_id(self) -> Any:
        return f"sha256:{self.plain.decode()}"


def _tar(name: str) -> Callable[[Callable[[int], Tar]], Callable[[int], Tar]]:
    def register(make_tar: Callable[[int], Tar]) -> Callable[[int], Tar]:
        _TARS[f"tar-{name}"] = make_tar
        return make_tar

    return register


for _kind in "LKxg":
    _TARS[f"tar-negative-{_kind}"] = lambda _size, kind=_kind: iter(  # type: ignore[misc]
        [header("x", kind.encode(), size=-512), bytes(512), END]
    )


@_tar("global-records")
def _(size: int) -> Tar:
    yield pax([(f"{n:x}", "") for n in range(9_000 * size)], b"g")
    yield from (header(f"f{n}") for n in range(1_000 * size))
    yield END


@_tar("global-attributes")
def _(size: int) -> Tar:
    yield pax([(f"SCHILY.xattr.user.{n:x}", "") for n in range(3_000 * size)], b"g")
    yield from (header(f"f{n}") for n in range(1_000 * size))
    yield END


@_tar("many-global-headers")
def _(size: int) -> Tar:
    yield from (pax({}, b"g") for _ in range(30_000 * size))
    yield header("a") + END


@_tar("many-records")
def _(size: int) -> Tar:
    block = padded(b"".join(record(f"{n:x}", "") for n in range(90_000)))
    head = header("x", b"x", size=len(b"".join(record(f"{n:x}", "") for n in range(90_000))))
    yield from (head + block for _ in range(10 * size))
    yield header("a") + END


@_tar("one-record-again")
def _(size: int) -> Tar:
    data = record("a", "") * 150_000
    yield from (header("x", b"x", size=len(data)) + padded(data) for _ in range(10 * size))
    yield header("a") + END


@_tar("many-long-names")
def _(size: int) -> Tar:
    yield from (long_name("n" * 200) + long_name("n" * 200, b"K") for _ in range(50_000 * size))
    yield header("a") + END


@_tar("long-names-of-a-megabyte")
def _(size: int) -> Tar:
    yield from (long_name("n" * 1_000_000) for _ in range(20 * size))
    yield header("a") + END


@_tar("attributes")
def _(size: int) -> Tar:
    records = [(f"SCHILY.xattr.user.{n}", "") for n in range(2_000)]
    yield from (pax(records) + header(f"f{n}") for n in range(100 * size))
    yield END


@_tar("deep-paths")
def _(size: int) -> Tar:
    yield from (pax({"path": f"{n}/" + "a/" * 19_000 + "f"}) + header("x") for n in range(8 * size))
    yield END


@_tar("implied-folders")
def _(size: int) -> Tar:
    yield from (pax({"path": f"{n}/" + "abcdefghijklmno/" * 254 + "f"}) + header("x") for n in range(500 * size))
    yield END


@_tar("implied-folders-behind-links")
def _(size: int) -> Tar:
    for n in range(3_000 * size):
        yield pax({"linkpath": f"/{n}/" + "a/" * 2_000}) + header(f"l{n}", b"2") + header(f"l{n}/f")
    yield END


@_tar("long-chains-of-links")
def _(size: int) -> Tar:
    yield header("d", b"5")
    yield from (pax({"linkpath": "d/../" * 800 + f"l{n + 1}"}) + header(f"l{n}", b"2") for n in range(38))
    yield header("l38", b"2", link="d")
    yield from (header(f"l0/f{n}") for n in range(5_000 * size))
    yield END


@_tar("links-of-depth")
def _(size: int) -> Tar:
    deep = "/".join(["abcdefghijklmno"] * 250)
    yield pax({"path": deep}) + header("x", b"5") + header("l", b"2", link="abcdefghijklmno")
    beyond = "l/" + "/".join(["abcdefghijklmno"] * 249)
    yield from (pax({"path": f"{beyond}/{n}"}) + header("x") for n in range(2_000 * size))
    yield END


@_tar("hard-links")
def _(size: int) -> Tar:
    yield header("0")
    yield from (header(f"{n + 1}", b"1", link=f"{n}") for n in range(30_000 * size))
    yield END


@_tar("whiteouts")
def _(size: int) -> Tar:
    yield from (header(".wh.a") for _ in range(30_000 * size))
    yield END


@_tar("opaque-folders")
def _(size: int) -> Tar:
    yield from (header("a/.wh..wh..opq") for _ in range(30_000 * size))
    yield END


@_tar("one-entry-again")
def _(size: int) -> Tar:
    yield from (header("a") for _ in range(30_000 * size))
    yield END


@_tar("many-entries")
def _(size: int) -> Tar:
    yield from (header(f"{n:x}") for n in range(30_000 * size))
    yield END


@_tar("entries-that-compress-badly")
def _(size: int) -> Tar:
    random_ = random.Random(1)
    yield from (header(random_.randbytes(20).hex(), mtime=random_.getrandbits(31)) for _ in range(25_000 * size))
    yield END


@_tar("times-that-compress-badly")
def _(size: int) -> Tar:
    random_ = random.Random(1)
    for _ in range(15_000 * size):
        times = {key: f"{random_.getrandbits(31)}.{random_.getrandbits(30)}" for key in ("mtime", "atime", "ctime")}
        yield pax(times) + header(f"{random_.getrandbits(60):x}")
    yield END


@_tar("paths-that-compress-badly")
def _(size: int) -> Tar:
    random_ = random.Random(1)
    for _ in range(1_500 * size):
        folders = random_.randbytes(240).hex("/")
        yield pax({"path": folders, "linkpath": random_.randbytes(10).hex() * 100}) + header("x", b"2")
    yield END


@_tar("zeros")
def _(size: int) -> Tar:
    yield header("a", size=size << 30)
    yield from (bytes(1 << 20) for _ in range(size << 10))
    yield END


@_tar("zeros-after-the-end")
def _(size: int) -> Tar:
    yield header("a") + END
    yield from (bytes(1 << 20) for _ in range(size << 10))


@_tar("kept-files")
def _(size: int) -> Tar:
    for n in range(4 * size):
        yield header(f"etc/{n}", size=1 << 24)
        yield from (bytes(1 << 20) for _ in range(16))
    yield END


@_tar("sizes-beyond-the-end")
def _(_size: int) -> Tar:
    yield header("a", size=(1 << 40) - 1)
    yield END


def _streams() -> None:
    empty: dict[str, tuple[Callable[[bytes], bytes], bytes | None]] = {
        "gzip": (gzip.compress, None),
        "zstd": (zstandard.compress, None),
        "zstd-skippable": (zstandard.compress, b"\x50\x2a\x4d\x18\0\0\0\0"),
        "xz": (lzma.compress, None),
        "bzip2": (bz2.compress, None),
    }
    plain = member("a", b"x") + END
    for name, (pack, item) in empty.items():
        for content in (b"", b"\0"):
            unit = item or pack(content)

            def stream(
                size: int, pack: Any = pack, unit: bytes = unit, content: bytes = content
            ) -> tuple[bytes, bytes]:
                count = STORED_LIMIT * 95 // 100 * size // LARGE // len(unit)
                return pack(plain) + unit * count, plain + content * count

            _STREAMS[f"{name}-{'empty' if item or not content else 'tiny'}-members"] = stream
    zeros: dict[str, Any] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}
    for name, squeeze in zeros.items():

        def bomb(size: int, pack: Any = squeeze) -> tuple[bytes, bytes]:
            part = pack(b"abcdefg\n" * (1 << 19))
            return pack(header("a", size=(64 * size) << 22)) + part * (64 * size), b""

        _STREAMS[f"{name}-bomb"] = bomb
    _STREAMS["zstd-window"] = lambda _size: (bytes.fromhex("28b52ffd") + b"\x00\xb8" + b"\x01\x00\x00" * 99, b"")


_streams()


def _filled(item: bytes, size: int) -> Any:
    """As many of one thing as fit into the size."""
    return json.loads(b"[" + item + (b"," + item) * (STORED_LIMIT * 9 // 10 * size // LARGE // (len(item) + 1)) + b"]")


def _nested(size: int) -> Any:
    value: Any = []
    for _ in range(90 * size):
        value = [value]
    return value


_ROW = {"mediaType": "a", "digest": "sha256:" + "0" * 64, "size": 1}
for _name, _item in {
    "lists": b"[]",
    "objects": b"{}",
    "fields": b'{"":0}',
    "texts": b'"ab"',
    "numbers": b"1.5",
}.items():
    _DOCUMENTS[f"manifest-layers-{_name}"] = lambda size, item=_item: {"manifest": {"layers": _filled(item, size)}}  # type: ignore[misc]
    _DOCUMENTS[f"manifest-unknown-{_name}"] = lambda size, item=_item: {"manifest": {"x": _filled(item, size)}}  # type: ignore[misc]
    _DOCUMENTS[f"config-unknown-{_name}"] = lambda size, item=_item: {"config": {"x": _filled(item, size)}}  # type: ignore[misc]
    _DOCUMENTS[f"config-history-{_name}"] = lambda size, item=_item: {"config": {"history": _filled(item, size)}}  # type: ignore[misc]
_DOCUMENTS |= {
    "manifest-layers": lambda size: {"manifest": {"layers": [_ROW] * (80_000 * size // LARGE)}},
    "manifest-annotations": lambda size: {"annotations": {f"{n}": "" for n in range(60_000 * size)}},
    "manifest-nested": lambda size: {"manifest": {"annotations": {"a": _nested(size)}}},
    "manifest-sizes": lambda size: {"manifest": {"config": {**_ROW, "size": int("9" * 300 * size)}}},
    "config-diff-ids": lambda size: {"config": {"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * (12_000 * size)}}},
    "config-labels": lambda size: {"labels": {f"{n}": "" for n in range(60_000 * size)}},
    "config-nested": lambda size: {"config": {"os": _nested(size), "config": {"Labels": {"a": _nested(size)}}}},
}


def _image_of(name: str) -> Callable[[Callable[[int], Image]], Callable[[int], Image]]:
    def register(make_it: Callable[[int], Image]) -> Callable[[int], Image]:
        _IMAGES[f"image-{name}"] = make_it
        return make_it

    return register


@_image_of("many-small-layers")
def _(size: int) -> Image:
    return make_image([_packed(iter([header(f"{n}-{k}") for k in range(20_000)] + [END])) for n in range(10 * size)])


@_image_of("many-layers-of-zeros")
def _(size: int) -> Image:
    def zeros(n: int) -> Tar:
        yield header(f"{n}", size=1 << 28)
        yield from (bytes(1 << 20) for _ in range(1 << 8))
        yield END

    return make_image([_packed(zeros(n)) for n in range(4 * size)])


@_image_of("one-layer-again")
def _(size: int) -> Image:
    layer = _packed(iter([header(f"{k:x}") for k in range(50_000)] + [END]))
    return make_image([layer] * (50 * size))


@_image_of("whiteouts-over-a-big-layer")
def _(size: int) -> Image:
    count = 5_000 * size
    below = _packed(iter([header(f"d/{n:x}") for n in range(count)] + [END]))
    above = [
        _packed(iter([header("d/.wh..wh..opq") + header(f"d/.wh.{k:x}") for k in range(count // 10)] + [END]))
        for n in range(5)
    ]
    return make_image([below, *above] * 3)


@_image_of("a-small-index-of-many")
def _(size: int) -> Image:
    from support.image.images import make_index

    image = make_image([make_layer({"a": "1"})], config={"x": "y" * 400_000 * size})
    entry = image.descriptor.to_json()
    rows = [{**entry, "platform": {"os": "linux", "architecture": f"a{n}"}} for n in range(99 * size)]
    return make_index([image], entries=rows)


def _archive(members: dict[str, bytes]) -> bytes:
    return b"".join(member(name, data) for name, data in members.items()) + END


_CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()


def _saved(row: Any, **members: bytes) -> bytes:
    return _archive({"manifest.json": json.dumps(row).encode(), "c.json": _CONFIG, **members})


def _one_member_again(size: int) -> bytes:
    layer = gzip.compress(bytes(range(256)) * 4_000 * size, 0)
    count = 100 * size
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["sha256:" + "0" * 64] * count}}
    )
    row = {"Config": "c.json", "RepoTags": None, "Layers": ["l"] * count}
    return _archive({"manifest.json": json.dumps([row]).encode(), "c.json": config.encode(), "l": layer})


_ARCHIVES |= {
    "docker-archive-rows": lambda size: _saved([{"Config": "c.json", "RepoTags": [], "Layers": []}] * 8_000 * size),
    "docker-archive-names": lambda size: _saved([{"Config": "c.json", "RepoTags": ["a:b"] * 80_000 * size}]),
    "docker-archive-layers": lambda size: _saved([{"Config": "c.json", "Layers": ["c.json"] * 80_000 * size}]),
    "docker-archive-one-member-again": _one_member_again,
    "docker-archive-negative-size": lambda _size: header("x", b"L", size=-512) + bytes(512) + END,
    "docker-archive-entries": lambda size: b"".join(header(f"{n}") for n in range(1_900 * size)) + END,
    "docker-archive-gzip": lambda size: gzip.compress(b"".join(header(f"{n}") for n in range(20_000 * size)) + END, 1),
    "docker-archive-zeros": lambda size: (
        gzip.compress(member("a") + END, 1) + gzip.compress(bytes(1 << 27), 1) * (4 * size)
    ),
    "docker-archive-links": lambda size: (
        b"".join(header(f"l{n}", b"2", link=f"l{n + 1}") for n in range(1_900 * size)) + END
    ),
    "oci-archive-index": lambda size: _archive(
        {
            "oci-layout": b"{}",
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [_ROW] * 8_000 * size}).encode(),
        }
    ),
    "oci-archive-entries-of-it": lambda size: _archive(
        {"oci-layout": b"{}", "index.json": b'{"manifests":[' + b"{}," * (300_000 * size) + b"{}]}"}
    ),
}
