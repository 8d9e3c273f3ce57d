# SPDX-License-Identifier: Apache-2.0
"""Packages and indexes of apk-tools 3, written by hand from the format's description."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence

import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.apk.apks import Apk
from support.deb.debs import MTIME, Member

Tree = int | str | bytes | None | list["Tree"]
"""A number, text, bytes, nothing, or the slots of an object or array."""

_OPERATORS = {"=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5, "~": 8}
_KINDS = {tarfile.SYMTYPE: 0o120000, tarfile.LNKTYPE: 0o100000, tarfile.CHRTYPE: 0o020000}


class _Heap:
    """The ADB block while it is written."""

    def __init__(self) -> None:
        self.data = bytearray(8)

    def put(self, data: bytes, align: int) -> int:
        self.data += bytes(-len(self.data) % align)
        at = len(self.data)
        self.data += data
        return at

    def value(self, tree: Tree) -> int:
        if tree is None:
            return 0
        if isinstance(tree, int):
            if tree < 1 << 28:
                return 1 << 28 | tree
            wide = tree >= 1 << 32
            return (3 if wide else 2) << 28 | self.put(tree.to_bytes(8 if wide else 4, "little"), 8 if wide else 4)
        if isinstance(tree, str | bytes):
            data = tree.encode() if isinstance(tree, str) else tree
            size = 1 if len(data) < 1 << 8 else 2 if len(data) < 1 << 16 else 4
            kind = {1: 8, 2: 9, 4: 10}[size]
            return kind << 28 | self.put(len(data).to_bytes(size, "little") + data, size)
        words = [self.value(item) for item in tree]
        return 14 << 28 | self.put(struct.pack(f"<{len(words) + 1}I", len(words) + 1, *words), 4)


def block(kind: int, body: bytes) -> bytes:
    head = struct.pack("<I", kind << 30 | (len(body) + 4))
    return head + body + bytes(-(len(body) + 4) % 8)


def payload(tree: Tree) -> bytes:
    """Return an ADB block's content."""
    heap = _Heap()
    root = heap.value(tree)
    heap.data[4:8] = struct.pack("<I", root)
    return bytes(heap.data)


def container(schema: bytes, body: bytes, *, key: RSAPrivateKey | None = None, data: Sequence[bytes] = ()) -> bytes:
    """Put blocks together; `data` are finished DATA blocks."""
    parts = [b"ADB." + schema, block(0, body)]
    if key is not None:
        bare = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        head = b"\0\4" + hashlib.sha512(bare).digest()[:16]
        message = schema + head + hashlib.sha512(body).digest()
        parts.append(block(1, head + key.sign(message, PKCS1v15(), hashes.SHA512())))
    return b"".join([*parts, *data])


def compressed(plain: bytes, way: str) -> bytes:
    """Put a compression head in front."""
    deflate = zlib.compressobj(wbits=-15)
    deflated = deflate.compress(plain) + deflate.flush()
    zstd = zstandard.compress(plain)
    return {
        "none": plain,
        "ADBd": b"ADBd" + deflated,
        "ADBc none": b"ADBc\0\0" + plain,
        "ADBc deflate": b"ADBc\1\6" + deflated,
        "ADBc zstd": b"ADBc\2\3" + zstd,
    }[way]


def _dependency(word: str) -> Tree:
    conflict = 16 * word.startswith("!")
    bare = word.removeprefix("!")
    at = next((n for n, char in enumerate(bare) if char in "<>=~"), None)
    if at is None:
        return [bare, None, (conflict | 1) if conflict else None]
    end = at + 1 + (bare[at + 1] in "<>=~")
    return [bare[:at], bare[end:], conflict | _OPERATORS[bare[at:end]]]


def _info(apk: Apk, identity: bytes | None, size: int) -> list[Tree]:
    lists: list[Tree] = [
        [_dependency(word) for word in words] or None
        for words in (apk.depends, apk.provides, apk.replaces, apk.install_if)
    ]
    return [
        apk.name, apk.version, identity, "a package for tests", apk.architecture, "MIT", apk.origin or apk.name, None,
        "", None, MTIME, apk.installed_size, size or None, None, *lists,
    ]  # fmt: skip


def _acl(item: Member, xattrs: Mapping[str, str]) -> Tree:
    return [item.mode, item.uname, item.gname, [f"{name}\0{value}" for name, value in xattrs.items()] or None]


def package_parts(apk: Apk) -> tuple[bytes, list[bytes]]:
    """Return the ADB block of a package, and its DATA blocks."""
    folders: dict[str, tuple[Tree, list[Tree]]] = {"": (None, [])}
    data: list[bytes] = []
    for path, item, _ in apk.entries():
        above, _, name = path.rpartition("/")
        if item.type == tarfile.DIRTYPE:
            folders[path] = (_acl(item, apk.xattrs.get(path, {})), [])
            continue
        files = folders[above][1]
        acl = _acl(item, apk.xattrs.get(path, {}))
        if item.type in _KINDS:
            target = _KINDS[item.type].to_bytes(2, "little")
            target += (
                item.target.encode() if item.target else (item.device[0] << 8 | item.device[1]).to_bytes(8, "little")
            )
            files.append([name, acl, None, item.mtime, None, target])
            continue
        digest = hashlib.sha256(item.content).digest()
        files.append([name, acl, len(item.content) or None, item.mtime, digest])
        if item.content:
            number = list(folders).index(above) + 1
            data.append(block(2, struct.pack("<II", number, len(files)) + item.content))
    scripts: list[Tree] = [
        apk.scripts.get(name)
        for name in (
            "trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade",
        )
    ]  # fmt: skip
    paths: list[Tree] = [[name or None, acl, files or None] for name, (acl, files) in folders.items()]
    tree: Tree = [_info(apk, None, 0), paths, scripts, list(apk.triggers) or None, apk.replaces_priority or None]
    return payload(tree), data


def package(apk: Apk, way: str = "none", key: RSAPrivateKey | None = None) -> bytes:
    body, data = package_parts(apk)
    return compressed(container(b"pckg", body, key=key, data=data), way)


def index(
    apks: Sequence[Apk], *, way: str = "none", key: RSAPrivateKey | None = None, pattern: str | None = None
) -> bytes:
    rows: list[Tree] = []
    for apk in apks:
        body, _ = package_parts(apk)
        rows.append(_info(apk, hashlib.sha256(body).digest(), len(package(apk, way, key))))
    return compressed(container(b"indx", payload(["tests", rows, pattern]), key=key), way)
