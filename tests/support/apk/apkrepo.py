# SPDX-License-Identifier: Apache-2.0
"""
A small signed apk repository on loopback, and images that have it among theirs.

    with serve_apks([Apk(name="foo", version="2-r0")]) as repository:
        fs = tree(apk_image(repository, [Apk(name="foo", version="1-r0")], world="foo"))
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from support.apk.apks import ARCHITECTURE, Apk, Item, member, q1
from support.deb.debs import MTIME, Member
from support.server.served import Served, serve

OS_RELEASE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n'
KEY_NAME = "tests@example.com-0a1b2c3d.rsa.pub"
_HASHES = {"RSA": hashes.SHA1(), "RSA256": hashes.SHA256(), "RSA512": hashes.SHA512()}
_LETTERS = "CPVASITULomtckDpi"


@lru_cache(maxsize=4)
def make_key(name: str = "tests", bits: int = 2048) -> RSAPrivateKey:
    """Return one key for each name."""
    return generate_private_key(65537, bits)


def public_pem(key: RSAPrivateKey) -> bytes:
    encoding, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, kind)


def sign(data: bytes, key: RSAPrivateKey, *, algorithm: str = "RSA", name: str = KEY_NAME) -> bytes:
    """Return the gzip member that goes in front of what it signs."""
    signature = key.sign(data, PKCS1v15(), _HASHES[algorithm])
    return member([(f".SIGN.{algorithm}.{name}", Member(content=signature), {})], last=False)


def format_rows(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Write an index's text."""
    return "".join(
        "".join(f"{letter}:{row[letter]}\n" for letter in _LETTERS if letter in row) + "\n" for row in rows
    ).encode()


@dataclass(slots=True)
class ApkRepository(Served):
    """One repository, of Alpine's 3.19 by its address."""

    folder: str = "alpine/v3.19/main"
    key: RSAPrivateKey = field(default_factory=make_key)
    key_name: str = KEY_NAME

    @property
    def url(self) -> str:
        return f"{self.address}/{self.folder}"

    @property
    def index_path(self) -> str:
        return f"{self.folder}/{ARCHITECTURE}/APKINDEX.tar.gz"

    def publish(
        self,
        apks: Sequence[Apk],
        *,
        rows: Sequence[Mapping[str, str]] = (),
        algorithm: str = "RSA",
        signed: bool = True,
        alter: Callable[[bytes], bytes] = lambda data: data,
        text: bytes | None = None,
        built: int = MTIME,
    ) -> None:
        """Write the index anew, with further `rows` or another `text`; `alter` changes it after it was signed."""
        for apk in apks:
            self.files[f"{self.folder}/{apk.architecture}/{apk.file_name}"] = apk.to_bytes()
        body = format_rows([*(apk.row() for apk in apks), *rows]) if text is None else text
        items: list[Item] = [
            ("DESCRIPTION", Member(content=b"v3.19.1-99-gabcdef"), {}),
            ("APKINDEX", Member(content=body, mtime=built), {}),
        ]
        index = member(items, last=True)
        signature = sign(index, self.key, algorithm=algorithm, name=self.key_name) if signed else b""
        self.files[self.index_path] = alter(signature + index)


@contextmanager
def serve_apks(apks: Sequence[Apk] = ()) -> Iterator[ApkRepository]:
    """Publish packages on loopback, until the context ends."""
    repository = ApkRepository()
    with serve(repository):
        repository.publish(apks)
        yield repository


def installed_text(apk: Apk) -> str:
    """Write a package's record as apk itself does."""
    row = {"S": "0", "I": "0", "T": "", "U": "", "L": "", **apk.row()}
    lines = [f"{letter}:{row[letter]}" for letter in _LETTERS if letter in row]
    lines += [f"r:{' '.join(apk.replaces)}"] * bool(apk.replaces)
    for path, item, _ in apk.entries():
        if item.type == tarfile.DIRTYPE:
            lines.append(f"F:{path}")
            if item.mode != 0o755:
                lines.append(f"M:0:0:{item.mode:o}")
            lines += [line for name, other, _ in apk.entries() for line in _file_lines(path, name, other)]
    return "\n".join(lines) + "\n"


def _file_lines(folder: str, path: str, item: Member) -> list[str]:
    above, _, name = path.rpartition("/")
    if above != folder or item.type == tarfile.DIRTYPE:
        return []
    lines = [f"R:{name}"]
    mode = 0o777 if item.type == tarfile.SYMTYPE else item.mode
    lines += [f"a:0:0:{mode:o}"] * (mode != 0o644)
    content = item.target.encode() if item.type == tarfile.SYMTYPE else item.content
    return [*lines, f"Z:{q1(content)}"]


def apk_image(
    repository: ApkRepository | None,
    apks: Sequence[Apk],
    *,
    world: str = "",
    more: Mapping[str, bytes | str] | None = None,
) -> dict[str, bytes | str]:
    """Return the files of an image in which packages are installed, with apk's database."""
    files: dict[str, bytes | str] = {
        "etc/os-release": OS_RELEASE,
        "etc/apk/arch": f"{ARCHITECTURE}\n",
        "etc/apk/world": world or "".join(f"{apk.name}\n" for apk in apks),
        "lib/apk/db/installed": "".join(f"{installed_text(apk)}\n" for apk in apks),
        "lib/apk/db/triggers": "",
    }
    if repository is not None:
        files["etc/apk/repositories"] = f"{repository.url}\n"
        files[f"etc/apk/keys/{repository.key_name}"] = public_pem(repository.key)
    for apk in apks:
        files.update({path: item.content for path, item in apk.files.items() if item.type == tarfile.REGTYPE})
    return {**files, **(more or {})}
