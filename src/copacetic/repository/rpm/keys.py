# SPDX-License-Identifier: Apache-2.0
"""
Which keys are trusted for a repository: those that its definition names, those in the image's package database, and
the user's.

A definition without keys has all that the image's distribution has put into its folder of keys.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from copacetic.errors import RepositoryError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.rpm.installed import header_of
from copacetic.repository.rpm.sources import RpmSource
from copacetic.rpm import tags
from copacetic.rpm.signature import RpmKeys
from copacetic.updates import InstalledPackage

__all__ = ["RpmKeyring"]

KEY_LIMIT = 1024 * 1024
_FOLDER = "etc/pki/rpm-gpg"
_FOLDERS = (_FOLDER, "usr/lib/rpm/gnupg/keys", "etc/pki/rpm-keys")
_DATABASE_NAME = "gpg-pubkey"
_MAX_FILES = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,199}")
_FILE = re.compile(r"file:/{1,3}(?=[^/])")


class RpmKeyring:
    """The keys of an image, and those that the user or this machine adds."""

    def __init__(
        self,
        fs: ImageFilesystem,
        installed: Sequence[InstalledPackage],
        *,
        extra: Sequence[Path],
        host: ImageFilesystem | None,
    ) -> None:
        """`host` is this machine, when it is of the image's distribution."""
        self._fs = fs
        self._host = host
        self._always = [*(_user_file(path) for path in extra), *_database_keys(installed)]
        self._made: dict[tuple[str, ...], RpmKeys] = {}
        self._borrowed: set[str] = set()
        self._remote: dict[str, None] = {}

    def of(self, source: RpmSource) -> RpmKeys:
        """Return the keys that a repository's metadata and packages may be signed with."""
        if source.keys not in self._made:
            named = self._named(source) if source.keys else self._folders()
            self._made[source.keys] = RpmKeys([*self._always, *named])
        return self._made[source.keys]

    def notes(self) -> Iterator[str]:
        """Say which keys weren't the image's, and which of those it names are nowhere."""
        if self._borrowed:
            files = ", ".join(f"/{path}" for path in sorted(self._borrowed))
            yield f"the image lacks keys for its repositories; this machine's are trusted: {files}"
        if self._remote:
            places = ", ".join(list(self._remote)[:5])
            yield f"keys are only read from files: fetch {places} yourself, and name it with --keyring, if you trust it"

    def _named(self, source: RpmSource) -> Iterator[tuple[str, bytes]]:
        for address in source.keys[:_MAX_FILES]:
            match = _FILE.match(address)
            if match is None and not address.startswith("/"):
                self._remote[address.partition("?")[0][:200]] = None
                continue
            path = address[match.end() :] if match is not None else address.lstrip("/")
            try:
                yield path, self._fs.read(path, limit=KEY_LIMIT)
            except FileNotFoundError:
                yield from self._host_file(path)

    def _host_file(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield a key that the image lacks from where distributions keep them: a link must not lead elsewhere."""
        host = self._host
        if host is None or not _is_key(path) or not _is_key(host.resolve(path)):
            return
        try:
            yield f"this machine's {path}", host.read(path, limit=KEY_LIMIT)
        except FileNotFoundError:
            return
        self._borrowed.add(path)

    def _folders(self) -> list[tuple[str, bytes]]:
        found = [one for folder in _FOLDERS for one in _files(self._fs, folder)]
        if not found and not self._always and self._host is not None:
            for name in self._host.iterdir(_FOLDER)[:_MAX_FILES]:
                found += self._host_file(f"{_FOLDER}/{name}")
        return found


def _is_key(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder == _FOLDER and _NAME.fullmatch(name) is not None


def _files(fs: ImageFilesystem, folder: str) -> Iterator[tuple[str, bytes]]:
    for name in fs.iterdir(folder)[:_MAX_FILES]:
        if _NAME.fullmatch(name):
            try:
                yield f"{folder}/{name}", fs.read(f"{folder}/{name}", limit=KEY_LIMIT)
            except FileNotFoundError:
                continue


def _database_keys(installed: Iterable[InstalledPackage]) -> Iterator[tuple[str, bytes]]:
    """Rpm keeps the keys that it trusts as packages without files."""
    for package in installed:
        header = header_of(package) if package.name == _DATABASE_NAME else None
        if header is None:
            continue
        for text in header.texts(tags.PUBLIC_KEYS):
            try:
                yield f"the key {package.version} of the package database", base64.b64decode(text)
            except binascii.Error:
                continue


def _user_file(path: Path) -> tuple[str, bytes]:
    try:
        with path.open("rb") as file:
            data = file.read(KEY_LIMIT + 1)
    except OSError as error:
        raise RepositoryError(f"can't read the keyring {path}: {error.strerror}", hint="check --keyring") from error
    if len(data) > KEY_LIMIT:
        raise RepositoryError(f"the keyring {path} has more than {KEY_LIMIT} bytes", hint="check --keyring")
    return str(path), data
