# SPDX-License-Identifier: Apache-2.0
"""
apk-tools 3's indexes and packages, in the terms of the second format: rows of one-letter fields, and `ApkFile`.

Experimental: no distribution that images are made of publishes them yet. An identity is the SHA-256 of a package's
ADB block, and every checksum is a SHA-256; the database has the first 20 bytes of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from copacetic.apk import SCRIPTS
from copacetic.apk.stanza import checksum_of
from copacetic.errors import PackageError
from copacetic.repository.apk.adb import INDEX_SCHEMA, PACKAGE_SCHEMA, Adb, AdbError, Value
from copacetic.repository.apk.package import ApkEntry, ApkFile, PackageInfo

__all__ = ["IndexV3", "PackageV3", "open_index", "read_index"]

FILE_LIMIT = 1024 * 1024 * 1024
LATEST_TIME = 2**62
INDEX_LIMIT = 256 * 1024 * 1024
"""It has to be unpacked before its signature can be checked."""
_INFO = (
    "name", "version", "hashes", "description", "arch", "license", "origin", "maintainer", "url", "commit",
    "build-time", "installed-size", "file-size", "provider-priority", "depends", "provides", "replaces",
    "install-if", "recommends", "layer", "tags",
)  # fmt: skip
_KEYS = {
    "name": "pkgname", "version": "pkgver", "description": "pkgdesc", "url": "url", "license": "license",
    "origin": "origin", "maintainer": "maintainer", "arch": "arch",
}  # fmt: skip
_NUMBERS = {"build-time": "builddate", "installed-size": "size", "provider-priority": "provider_priority"}
_LISTS = {"depends": "depend", "provides": "provides", "replaces": "replaces", "install-if": "install_if"}
_OPERATORS = {1: "=", 2: "<", 3: "<=", 4: ">", 5: ">=", 6: "><", 8: "~", 9: "~", 10: "<~", 11: "<~", 12: ">~", 13: ">~"}
_CONFLICT = 16
_EQUAL = 1
_SCRIPT_SLOTS = (
    "trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade",
)  # fmt: skip
_TYPES = {0o120000: "2", 0o100000: "1", 0o020000: "3", 0o060000: "4", 0o010000: "6"}
_NOBODY = 65534
"""Owners are names only; one that the image doesn't know is this."""
_DIGESTS = {20: "sha1", 32: "sha256", 64: "sha512"}


class IndexV3(Struct, frozen=True):
    """An index, rewritten as the text of a v2 one."""

    text: bytes
    description: str
    name_pattern: str
    """How a package's path is made (`${name}-${version}.apk`); empty for the usual way."""


def open_index(data: bytes) -> Adb:
    """Open `Packages.adb`, of which nothing may be used before its signature is checked. Raises `AdbError`."""
    return Adb(data, schema=INDEX_SCHEMA, limit=INDEX_LIMIT)


def read_index(adb: Adb) -> IndexV3:
    """Read all rows. Raises `AdbError`."""
    root = adb.root.slots(("description", "packages", "pkgname-spec"))
    rows: list[str] = []
    for package in root["packages"].items():
        slots = package.slots(_INFO)
        identity = checksum_of(slots["hashes"].blob())
        row = _info(slots).row(identity=identity, size=slots["file-size"].number(), architecture="")
        rows.append("".join(f"{letter}:{value}\n" for letter, value in row.items() if value) + "\n")
    return IndexV3(
        text="".join(rows).encode("utf-8", "surrogateescape"),
        description=root["description"].text(),
        name_pattern=root["pkgname-spec"].text(),
    )


def _info(slots: Mapping[str, Value], **more: tuple[str, ...]) -> PackageInfo:
    values: dict[str, tuple[str, ...]] = {}
    for name, key in _KEYS.items():
        if slots[name].present:
            values[key] = (slots[name].text(),)
    for name, key in _NUMBERS.items():
        if slots[name].present:
            values[key] = (str(slots[name].number()),)
    for name, key in _LISTS.items():
        if words := tuple(_dependency(item) for item in slots[name].items()):
            values[key] = words
    if slots["commit"].present:
        values["commit"] = (slots["commit"].blob().hex(),)
    return PackageInfo(values | {key: value for key, value in more.items() if value})


def _dependency(value: Value) -> str:
    slots = value.slots(("name", "version", "match"))
    match = slots["match"].number() if slots["match"].present else _EQUAL
    operator = ""
    if slots["version"].present:
        operator = _OPERATORS.get(match & ~_CONFLICT, "")
        if not operator:
            raise AdbError(f"a dependency on {slots['name'].text()[:80]!r} of an unknown kind {match}")
    return f"{'!' * bool(match & _CONFLICT)}{slots['name'].text()}{operator}{slots['version'].text()}"


class PackageV3:
    """`ApkFile` of apk v3. Raises `PackageError`."""

    flags = "S"

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        try:
            self.size = path.stat().st_size
            if self.size > FILE_LIMIT:
                raise PackageError(f"{what} has {self.size} bytes, the limit is {FILE_LIMIT}")
            data = path.read_bytes()
        except OSError as error:
            raise PackageError(f"{what}: {error.strerror or error}") from error
        try:
            self._adb = Adb(data, schema=PACKAGE_SCHEMA)
            names = ("info", "paths", "scripts", "triggers", "replaces-priority")
            self._root = self._adb.root.slots(names)
            self.info = _info(
                self._root["info"].slots(_INFO),
                triggers=tuple(item.text() for item in self._root["triggers"].items()),
                replaces_priority=(str(self._root["replaces-priority"].number()),),
            )
            found = self._root["scripts"].slots(_SCRIPT_SLOTS)
            self.scripts: Mapping[str, bytes] = {name: found[name].blob() for name in SCRIPTS if found[name].present}
        except AdbError as error:
            raise PackageError(f"{what}: {error}") from error
        self.identity = checksum_of(self._adb.sha256)

    def verify(self) -> None:
        for _ in self.entries():
            pass

    def entries(self, *, checked: bool = True) -> Iterator[tuple[ApkEntry, Iterator[memoryview]]]:
        contents = iter(self._adb.data)
        try:
            for number, directory in enumerate(self._root["paths"].items(), start=1):
                yield from self._directory(number, directory, contents, checked=checked)
        except AdbError as error:
            raise PackageError(f"{self._what}: {error}") from error
        if next(contents, None) is not None:
            raise PackageError(f"{self._what}: there is content without a file")

    def _directory(
        self, number: int, directory: Value, contents: Iterator[tuple[int, int, memoryview]], *, checked: bool
    ) -> Iterator[tuple[ApkEntry, Iterator[memoryview]]]:
        slots = directory.slots(("name", "acl", "files"))
        folder = slots["name"].text()
        if folder:
            yield self._entry(folder, "5", slots["acl"]), iter(())
        for position, file in enumerate(slots["files"].items(), start=1):
            parts = file.slots(("name", "acl", "size", "mtime", "hashes", "target"))
            path = f"{folder}/{parts['name'].text()}" if folder else parts["name"].text()
            if parts["target"].present:
                yield self._special(path, parts), iter(())
                continue
            content = memoryview(b"")
            if size := parts["size"].number():
                found = next(contents, (0, 0, content))
                if found[:2] != (number, position) or len(found[2]) != size:
                    raise AdbError(f"the content of {path[:200]!r} is not where it should be")
                content = found[2]
            digest = parts["hashes"].blob()
            if checked and not _fits(content, digest):
                raise PackageError(f"{self._what}: {path} is not what its checksum says")
            entry = self._entry(path, "0", parts["acl"], size=size, mtime=parts["mtime"].number(), digest=digest)
            yield entry, iter([content])

    def _special(self, path: str, parts: Mapping[str, Value]) -> ApkEntry:
        target = parts["target"].blob()
        kind = _TYPES.get(int.from_bytes(target[:2], "little"))
        if kind is None:
            raise AdbError(f"{path[:200]!r} is of an unknown type")
        mtime = parts["mtime"].number()
        if kind in "34":
            device = int.from_bytes(target[2:10], "little")
            major = (device >> 8 & 0xFFF) | (device >> 32 & ~0xFFF)
            minor = (device & 0xFF) | (device >> 12 & ~0xFF)
            return self._entry(path, kind, parts["acl"], mtime=mtime, device=(major, minor))
        digest = hashlib.sha256(target[2:]).digest() if kind == "2" else b""
        link = target[2:].decode("utf-8", "surrogateescape")
        return self._entry(path, kind, parts["acl"], mtime=mtime, link=link, digest=digest)

    def _entry(
        self,
        path: str,
        kind: str,
        acl: Value,
        *,
        size: int = 0,
        mtime: int = 0,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        digest: bytes = b"",
    ) -> ApkEntry:
        for name in (path, link if kind == "1" else ""):
            parts = name.split("/") if name else []
            if any(part in {"", ".", ".."} for part in parts) or any(ord(c) < 0x20 or ord(c) == 0x7F for c in name):
                raise AdbError(f"a name that is not relative and plain: {name[:200]!r}")
        if mtime > LATEST_TIME:
            raise AdbError(f"{path[:200]!r} has an impossible time")
        owner = acl.slots(("mode", "user", "group", "xattrs"))
        pairs = [item.blob().partition(b"\0") for item in owner["xattrs"].items()]
        return ApkEntry(
            path=path,
            type=kind,
            mode=owner["mode"].number() & 0o7777,
            uid=_NOBODY,
            gid=_NOBODY,
            user=owner["user"].text(),
            group=owner["group"].text(),
            size=size,
            mtime=mtime,
            link=link,
            device=device,
            xattrs={key.decode("utf-8", "surrogateescape"): value for key, _, value in pairs},
            checksum=checksum_of(digest) if digest else "",
        )


def _fits(content: memoryview, digest: bytes) -> bool:
    algorithm = _DIGESTS.get(len(digest), "")
    return bool(algorithm) and hashlib.new(algorithm, content, usedforsecurity=False).digest() == digest


_: type[ApkFile] = PackageV3
