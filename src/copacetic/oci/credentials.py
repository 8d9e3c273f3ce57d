# SPDX-License-Identifier: Apache-2.0
"""
Who we are to a registry: passwords and tokens from files, helpers and flags.

Files are docker's config.json, containers-auth.json(5) and the old .dockercfg. Nothing here looks for them: paths are
given. Secrets never get into a message, a log line or a repr.
"""

from __future__ import annotations

import binascii
import json
import logging
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import Struct

from copacetic.errors import AuthenticationError
from copacetic.oci.credentialhelper import run_helper
from copacetic.oci.reference import DEFAULT_REGISTRY

FILE_LIMIT = 4 * 1024 * 1024
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers say that the secret is an identity token
_LEGACY_SERVER = f"https://index.{DEFAULT_REGISTRY}/v1/"
_DEFAULT_ALIASES = frozenset({f"index.{DEFAULT_REGISTRY}", f"registry-1.{DEFAULT_REGISTRY}"})
_logger = logging.getLogger(__name__)


class Credentials(Struct, frozen=True, kw_only=True):
    """A user with a password, or one of the two kinds of token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    """To be exchanged for access tokens at the registry's token server."""
    registry_token: str = ""
    """To be sent to the registry as it is."""
    origin: str = ""
    """Where they come from, for messages."""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, origin={self.origin!r})"


class Keychain:
    """
    Finds credentials by registry and repository; thread-safe, and it reads and runs only when asked.

    `given` (from flags) goes first; its keys are registries, or registries with the beginning of a repository. Then
    every file in its order. In a file, a helper of the registry's own decides alone; otherwise an entry that holds
    something goes before the helper for all registries.
    """

    def __init__(self, files: Sequence[Path] = (), *, given: Mapping[str, Credentials] | None = None) -> None:
        self._files = tuple(files)
        self._given = {_normalise(key): value for key, value in (given or {}).items()}
        self._lock = Lock()
        self._loaded: list[_File] | None = None
        self._helped: dict[tuple[str, str], Credentials | None] = {}

    def find(self, registry: str, repository: str) -> Credentials | None:
        """
        Return the most specific credentials for a repository, or None.

        Raises `AuthenticationError` for a file that can't be read and for a helper that fails.
        """
        for key in _keys(registry, repository):
            if key in self._given:
                return self._given[key]
        with self._lock:
            if self._loaded is None:
                self._loaded = [loaded for path in self._files if (loaded := _load(path)) is not None]
            for file in self._loaded:
                if (found := self._find_in(file, registry, repository)) is not None:
                    _logger.debug("credentials for %s from %s", registry, found.origin)
                    return found
        return None

    def _find_in(self, file: _File, registry: str, repository: str) -> Credentials | None:
        if helper := file.helpers.get(_normalise(registry)):
            return self._ask(helper, registry, file.path)
        for key in _keys(registry, repository):
            if key in file.entries and (found := _decode(file.entries[key], key, file.path)) is not None:
                return found
        return self._ask(file.store, registry, file.path) if file.store else None

    def _ask(self, helper: str, registry: str, path: Path) -> Credentials | None:
        server = _LEGACY_SERVER if registry == DEFAULT_REGISTRY else registry
        if (helper, server) not in self._helped:
            found = run_helper(helper, server)
            self._helped[helper, server] = found and _from_helper(*found, f"docker-credential-{helper} ({path})")
        return self._helped[helper, server]


class _File(Struct, frozen=True, kw_only=True):
    path: Path
    entries: Mapping[str, Mapping[str, Any]]
    helpers: Mapping[str, str]
    store: str


def _keys(registry: str, repository: str) -> Iterator[str]:
    """Yield what a file may call a repository, the most specific first."""
    name = f"{_normalise(registry)}/{repository}"
    while name:
        yield name
        name = name.rpartition("/")[0]


def _normalise(key: str) -> str:
    """
    Return a key without what different programs add: a scheme, a slash, the API's version.

    A key with a scheme is about a host, whatever path follows; one without may name a repository.
    """
    scheme, has_scheme, rest = key.partition("://")
    host, _, path = (rest if has_scheme else key).strip("/").partition("/")
    host = host.lower()
    if host in _DEFAULT_ALIASES:
        host = DEFAULT_REGISTRY
    if (has_scheme and scheme in {"http", "https"}) or path in {"", "v1", "v2"}:
        return host
    return f"{host}/{path}"


def _load(path: Path) -> _File | None:
    """Read a file; None when there is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
        document = json.loads(data) if len(data) <= FILE_LIMIT else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AuthenticationError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AuthenticationError(f"{path} is not a JSON object of registries and credentials")
    known = {"auths", "credHelpers", "credsStore"}
    entries = document.get("auths", {} if known & document.keys() else document)
    helpers, store = document.get("credHelpers") or {}, document.get("credsStore") or ""
    entries = {} if entries is None else entries
    if not isinstance(entries, dict) or not isinstance(helpers, dict) or not isinstance(store, str):
        raise AuthenticationError(f"{path}: auths, credHelpers or credsStore has the wrong type")
    return _File(
        path=path,
        entries={_normalise(key): entry for key, entry in entries.items() if isinstance(entry, dict)},
        helpers={_normalise(key): name for key, name in helpers.items() if isinstance(name, str)},
        store=store,
    )


def _decode(entry: Mapping[str, Any], key: str, path: Path) -> Credentials | None:
    """Read one entry; None when it holds nothing, as where a helper keeps the password."""
    where = f"{path}: the entry for {key}"
    values = {
        name: entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken", "registrytoken")
    }
    if not all(isinstance(value, str) for value in values.values()):
        raise AuthenticationError(f"{where} has a value that is not a string")
    user, password = values["username"], values["password"]
    if values["auth"]:
        try:
            encoded = "".join(values["auth"].split())  # `base64` breaks lines
            user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise AuthenticationError(f"{where} is broken: its auth is not base64 of user:password")
    found = Credentials(
        username=user,
        password=password.rstrip("\0"),
        identity_token=values["identitytoken"],
        registry_token=values["registrytoken"],
        origin=str(path),
    )
    return found if user or found.identity_token or found.registry_token else None


def _from_helper(user: str, secret: str, origin: str) -> Credentials:
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret, origin=origin)
    return Credentials(username=user, password=secret, origin=origin)
