# SPDX-License-Identifier: Apache-2.0
"""
OpenPGP: which keys a source trusts, and whether one of them signed.

The data that is used is what the signature covers, never the file around it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from copacetic.errors import ExpiredRepositoryError, RepositoryError, SignatureError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.apt.sources import AptSource

KEYRING_LIMIT = 16 * 1024 * 1024
_CLEARTEXT = b"-----BEGIN PGP SIGNED MESSAGE-----"
_TRUSTED_NAME = re.compile(r"[A-Za-z0-9._-]+\.(?:gpg|asc)")
_DEFAULT_FOLDER = "etc/apt/trusted.gpg.d"
HOST_FOLDERS = ("usr/share/keyrings", "etc/apt/keyrings", _DEFAULT_FOLDER)
"""Where this machine's keys are looked for that a definition names: what it spells out elsewhere is no key."""
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,100}\.(?:gpg|asc|pgp)")
_OUTDATED = "outdated"
_ALLOWED = "allowed by --allow-expired-repository"
_NEWER_KEY = "name a newer copy of the key with --keyring, if you trust it"


class Signed(Struct, frozen=True):
    """Text that a trusted key has signed."""

    data: bytes
    fingerprint: str
    """Upper case, of the certificate (not of the subkey); empty for what nobody trusted has signed."""
    not_verified: str = ""
    """What is wrong with it all the same, and who allowed that."""
    trusted: frozenset[str] = frozenset()
    """All keys whose signature would have counted."""


@lru_cache(maxsize=256)
def _split(data: bytes) -> tuple[Any, ...]:
    from pysequoia import Cert

    return tuple(Cert.split_bytes(data))


class AptKeyring:
    """The keys of an image, and those that the user or this machine adds."""

    def __init__(self, fs: ImageFilesystem, *, extra: Sequence[Path], host: ImageFilesystem | None) -> None:
        """`host` is this machine, when it is of the image's distribution."""
        self._fs = fs
        self._extra = tuple(extra)
        self._host = host
        self._lock = threading.Lock()
        self._unreadable: list[str] = []
        self._borrowed: set[str] = set()

    def notes(self) -> tuple[str, ...]:
        """Say which keys weren't the image's."""
        files = ", ".join(f"/{path}" for path in sorted(self._borrowed))
        return (f"the image lacks keys for its repositories; this machine's are trusted: {files}",) if files else ()

    def verify(
        self, source: AptSource, data: bytes, signature: bytes | None, *, now: datetime, allow_expired: bool = False
    ) -> Signed:
        """
        Return what a key trusted for this source has signed: all of `data` (`signature` is detached), or its signed
        part (`signature` is None: InRelease).

        Raises `SignatureError`, or `ExpiredRepositoryError` when the key is past its date, as apt does: also for a
        signature from better days, which OpenPGP calls valid, unless `allow_expired`.
        """
        from pysequoia import Sig, verify

        given = [cert for path in self._extra for cert in self._user_file(path)]
        certs = given + self._trusted(source)
        wanted: list[str] = []

        def store(key_ids: Any) -> list[Any]:
            wanted.extend(str(key_id) for key_id in key_ids)
            return certs

        where = f"{source.shown_uri} {source.suite}"
        if signature is None and not data.startswith(_CLEARTEXT):
            # Other messages of OpenPGP may be compressed, without any limit, and no archive writes them.
            raise SignatureError(f"{where}: InRelease is not a signed text")
        try:
            if signature is None:
                result = verify(bytes=data, store=store)
                signed = bytes(result.bytes or b"")
            else:
                result = verify(bytes=data, store=store, signature=Sig.from_bytes(signature))
                signed = data
        except Exception as error:
            raise self._refusal(where, certs, wanted, error, now) from error
        if not result.valid_sigs:
            raise SignatureError(f"{where} carries no valid signature")
        refusals = []
        for valid in result.valid_sigs:
            if not _is_named(source, valid) and not any(_same(cert, valid) for cert in given):
                refusals.append(("unnamed", f"Signed-By does not name the key {str(valid.certificate).upper()}"))
                continue
            copies = [cert for cert in certs if _same(cert, valid)]
            problems = [_objection(cert, str(valid.signing_key), now) for cert in copies]
            if None in problems or (allow_expired and _OUTDATED in {kind for kind, _ in filter(None, problems)}):
                outdated = "" if None in problems else f"{where}: its key has expired: {_ALLOWED}"
                trusted = frozenset(str(cert.fingerprint).upper() for cert in certs)
                return Signed(signed, str(valid.certificate).upper(), outdated, trusted)
            refusals += filter(None, problems)
        kind, words = refusals[0]
        raise (ExpiredRepositoryError if kind == _OUTDATED else SignatureError)(f"{where}: {words}")

    def _refusal(
        self, where: str, certs: Sequence[Any], wanted: Sequence[str], error: Exception, now: datetime
    ) -> RepositoryError:
        named = ", ".join(sorted({key_id.upper()[-16:] for key_id in wanted})) or "nobody"
        if not certs:
            return SignatureError(f"{where} is signed by {named}, and the image trusts no key for it")
        for key_id in wanted:
            for problem in (_objection(cert, key_id, now) for cert in certs if _owns(cert, key_id)):
                if problem is not None and problem[0] == _OUTDATED:
                    return ExpiredRepositoryError(f"{where}: {problem[1]}", hint=_NEWER_KEY)
        reason = str(error).partition("\n")[0][:200]
        unreadable = f"; unreadable keys: {', '.join(self._unreadable[:5])}" if self._unreadable else ""
        return SignatureError(
            f"{where} is signed by {named}, not by a key that is trusted for it ({reason}){unreadable}"
        )

    def _trusted(self, source: AptSource) -> list[Any]:
        """Return what the image has of the keys that may sign for a source; fingerprints then restrict who may."""
        files = [word for word in source.signed_by if word.startswith("/")]
        blocks = [word for word in source.signed_by if "BEGIN PGP" in word]
        if not files and not blocks:
            return self._default()
        certs = [cert for path in files for cert in self._named_file(path)]
        for block in blocks:
            certs += self._read(block.encode(), f"{source.defined_in} (Signed-By)")
        return certs

    def _default(self) -> list[Any]:
        names = [n for n in self._fs.iterdir(_DEFAULT_FOLDER) if _TRUSTED_NAME.fullmatch(n)]
        paths = ["etc/apt/trusted.gpg", *(f"{_DEFAULT_FOLDER}/{name}" for name in names)]
        certs = [cert for path in paths for cert in self._file(self._fs, path)]
        if not certs and self._host is not None:
            names = [n for n in self._host.iterdir(_DEFAULT_FOLDER) if _TRUSTED_NAME.fullmatch(n)]
            certs = [cert for name in names for cert in self._host_file(f"{_DEFAULT_FOLDER}/{name}")]
        return certs

    def _named_file(self, path: str) -> list[Any]:
        """A file is looked for in the image; this machine has it where distributions keep keys, or not at all."""
        try:
            return self._read(self._fs.read(path, limit=KEYRING_LIMIT), path)
        except FileNotFoundError:
            return self._host_file(path.lstrip("/"))

    def _host_file(self, path: str) -> list[Any]:
        if self._host is None or not _is_host_key(path) or not _is_host_key(self._host.resolve(path)):
            return []
        certs = self._file(self._host, path)
        if certs:
            with self._lock:
                self._borrowed.add(path)
        return certs

    def _file(self, fs: ImageFilesystem, path: str) -> list[Any]:
        try:
            return self._read(fs.read(path, limit=KEYRING_LIMIT), path)
        except FileNotFoundError:
            return []

    def _user_file(self, path: Path) -> list[Any]:
        try:
            with path.open("rb") as file:
                data = file.read(KEYRING_LIMIT + 1)
        except OSError as error:
            raise RepositoryError(f"can't read the keyring {path}: {error.strerror}", hint="check --keyring") from error
        if len(data) > KEYRING_LIMIT:
            raise RepositoryError(f"the keyring {path} has more than {KEYRING_LIMIT} bytes", hint="check --keyring")
        return self._read(data, str(path))

    def _read(self, data: bytes, where: str) -> list[Any]:
        try:
            return list(_split(data))
        except Exception:  # noqa: BLE001 - a key that can't be read is a key that nobody has
            with self._lock:
                self._unreadable.append(where)
            return []


def _objection(cert: Any, key_id: str, now: datetime) -> tuple[str, str] | None:
    """Return why a certificate's good signature doesn't count today, or None when it does."""
    name = f"the key {str(cert.fingerprint).upper()}"
    try:
        if cert.is_revoked:
            return "revoked", f"{name} is revoked"
        dates = [date for date in (cert.expiration, _subkey_expiration(cert, key_id)) if date is not None]
    except Exception as error:  # noqa: BLE001 - signed with what isn't trusted any more, so it says nothing
        return "unusable", f"{name} can't be used: {str(error).partition(chr(10))[0][:200]}"
    if dates and min(dates) < now:
        return _OUTDATED, f"{name} has expired on {min(dates):%Y-%m-%d}"
    return None


def _packets(cert: Any) -> Iterator[Any]:
    from pysequoia.packet import PacketPile

    yield from PacketPile.from_bytes(bytes(cert))


def _owns(cert: Any, key_id: str) -> bool:
    """Tell whether a key, by its fingerprint or the end of it, is the certificate's own or one of its subkeys."""
    wanted = key_id.lower()
    return any(p.fingerprint is not None and str(p.fingerprint).lower().endswith(wanted) for p in _packets(cert))


def _subkey_expiration(cert: Any, key_id: str) -> datetime | None:
    """Return when the newest binding of a subkey ends; None for no end, or for the primary key."""
    created: datetime | None = None
    newest: Any = None
    for packet in _packets(cert):
        if packet.fingerprint is not None:
            subkey = str(packet.tag).endswith("PublicSubkey")
            mine = subkey and str(packet.fingerprint).lower().endswith(key_id.lower())
            created = packet.key_created if mine else None
        elif created is None or not str(packet.signature_type).endswith("SubkeyBinding"):
            continue
        elif newest is None or packet.signature_created > newest[1].signature_created:
            newest = (created, packet)
    if newest is None or not newest[1].key_validity_period:
        return None
    expiration: datetime = newest[0] + newest[1].key_validity_period
    return expiration


def _is_named(source: AptSource, valid: Any) -> bool:
    """Tell whether a signature is by a key that a definition names, where it names any; with `!` no other subkey is."""
    signing, certificate = str(valid.signing_key).upper(), str(valid.certificate).upper()
    named = [word.upper() for word in source.signed_by if not word.startswith("/") and "BEGIN PGP" not in word]
    return not named or any(w in {signing, f"{signing}!", certificate} for w in named)


def _same(cert: Any, valid: Any) -> bool:
    return str(cert.fingerprint) == str(valid.certificate)


def _is_host_key(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in HOST_FOLDERS and _HOST_NAME.fullmatch(name) is not None
