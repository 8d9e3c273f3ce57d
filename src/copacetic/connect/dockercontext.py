# SPDX-License-Identifier: Apache-2.0
"""
Which Docker engine is meant: DOCKER_HOST, DOCKER_CONTEXT and the contexts of `docker context`, read from their files.

The order is docker's own: an address, DOCKER_HOST, DOCKER_CONTEXT, the context that `docker context use` chose, the
default socket.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from copacetic.connect.address import DockerAddress, EngineHost, UnixAddress, parse_engine_host
from copacetic.connect.settings import EngineSettings
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError, InvalidAddressError

__all__ = ["EngineKind", "EnginePlace", "current_endpoint", "find_engine", "find_place", "find_podman", "read_json"]

EngineKind: TypeAlias = Literal["docker", "podman"]

_LIMIT = 1024 * 1024
_DEFAULT = "default"


class EnginePlace(Struct, frozen=True, kw_only=True):
    """Where an engine is, and why there."""

    host: EngineHost
    tls: TlsFiles = field(default_factory=TlsFiles)
    why: str = ""
    """As in `DOCKER_HOST` or `context desktop-linux`; empty when the address itself says where."""

    def __str__(self) -> str:
        return f"{self.host} ({self.why})" if self.why else str(self.host)


def find_engine(address: DockerAddress, settings: EngineSettings) -> EnginePlace:
    """
    Tell where the engine of a `docker://` address is.

    Raises `DaemonUnreachableError` when a context is missing or of no use, and `InvalidAddressError` for a
    DOCKER_HOST that isn't one.
    """
    if address.host is not None:
        return EnginePlace(host=address.host, tls=settings.tls or settings.docker_tls)
    if address.context:
        return _find_context(address.context, settings, "address")
    if settings.docker_host:
        try:
            host = parse_engine_host(settings.docker_host)
        except InvalidAddressError as error:
            raise InvalidAddressError(f"DOCKER_HOST: {error}", hint=error.hint) from error
        return EnginePlace(host=host, tls=settings.docker_tls, why="DOCKER_HOST")
    if settings.docker_context:
        return _find_context(settings.docker_context, settings, "DOCKER_CONTEXT")
    current = _current_context(settings)
    if current:
        return _find_context(current, settings, "docker context use")
    return _default_engine(settings)


def find_podman(settings: EngineSettings) -> EnginePlace:
    """Tell where podman's service is. Raises `InvalidAddressError` for a CONTAINER_HOST that isn't an address."""
    if settings.container_host:
        try:
            host = parse_engine_host(settings.container_host)
        except InvalidAddressError as error:
            raise InvalidAddressError(f"CONTAINER_HOST: {error}", hint=error.hint) from error
        return EnginePlace(host=host, why="CONTAINER_HOST")
    own = settings.runtime_dir / "podman" / "podman.sock" if settings.runtime_dir is not None else None
    found = own if own is not None and _exists(own) else settings.podman_socket
    return EnginePlace(host=UnixAddress(path=str(found)), why="default socket")


def find_place(kind: EngineKind, settings: EngineSettings) -> EnginePlace:
    """Tell where the engine is that its own program would use."""
    return find_engine(DockerAddress(), settings) if kind == "docker" else find_podman(settings)


def current_endpoint(settings: EngineSettings) -> str:
    """Return what buildx calls the current endpoint: a context's name, or else the engine's address."""
    if settings.docker_host:
        return settings.docker_host
    context = settings.docker_context or _current_context(settings)
    return f"unix://{settings.engine_socket}" if context in {"", _DEFAULT} else context


def read_json(path: Path) -> Mapping[str, Any] | None:
    """
    Read a file that docker or buildx wrote; None when there is none.

    Raises `DaemonUnreachableError` when it can't be read, or isn't a JSON object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DaemonUnreachableError(f"can't read {path}: {error.strerror}") from error
    try:
        document = json.loads(data) if len(data) <= _LIMIT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DaemonUnreachableError(f"{path} is not a JSON object", hint="mend it, or move it away")
    return document


def _current_context(settings: EngineSettings) -> str:
    if settings.docker_config is None:
        return ""
    document = read_json(settings.docker_config / "config.json") or {}
    name = document.get("currentContext", "")
    return name if isinstance(name, str) and name != _DEFAULT else ""


def _default_engine(settings: EngineSettings) -> EnginePlace:
    """Docker's socket; where it is missing, those of an engine without root and of Docker Desktop."""
    usual = settings.engine_socket
    candidates = [usual]
    if settings.runtime_dir is not None:
        candidates.append(settings.runtime_dir / "docker.sock")
    if settings.docker_config is not None:
        candidates.append(settings.docker_config / "run" / "docker.sock")
    found = next((path for path in candidates if _exists(path)), usual)
    why = "default socket" if found == usual else "default socket of an engine without root"
    return EnginePlace(host=UnixAddress(path=str(found)), tls=TlsFiles(), why=why)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no permission to look; connecting will say so
        return True


def _find_context(name: str, settings: EngineSettings, origin: str) -> EnginePlace:
    if name == _DEFAULT:
        if settings.docker_host:
            return find_engine(DockerAddress(), settings)
        return _default_engine(settings)
    folder = None if settings.docker_config is None else settings.docker_config / "contexts"
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    document = None if folder is None else read_json(folder / "meta" / key / "meta.json")
    if folder is None or document is None:
        known = ", ".join(_context_names(folder)) or "none but default"
        raise DaemonUnreachableError(
            f"there is no docker context {name[:120]!r} ({origin})", hint=f"see `docker context ls`; known: {known}"
        )
    endpoint = _get(_get(document, "Endpoints"), "docker")
    host_text, skip = _get(endpoint, "Host"), _get(endpoint, "SkipTLSVerify")
    if not isinstance(host_text, str) or not host_text:
        raise DaemonUnreachableError(f"the docker context {name!r} has no docker endpoint", hint="choose another one")
    try:
        host = parse_engine_host(host_text)
    except InvalidAddressError as error:
        raise DaemonUnreachableError(f"docker context {name!r}: {error}", hint=error.hint) from error
    tls = _context_tls(folder / "tls" / key / "docker", verify=skip is not True)
    return EnginePlace(host=host, tls=tls, why=f"context {name}")


def _context_tls(folder: Path, *, verify: bool) -> TlsFiles:
    ca, cert, key = (
        path if path.is_file() else None for path in map(folder.__truediv__, ("ca.pem", "cert.pem", "key.pem"))
    )
    return TlsFiles(ca=ca, cert=cert, key=key, verify=verify)


def _context_names(folder: Path | None) -> list[str]:
    names = []
    for path in sorted((folder / "meta").glob("*/meta.json"))[:50] if folder is not None else ():
        try:
            name = _get(read_json(path), "Name")
        except DaemonUnreachableError:
            continue
        if isinstance(name, str) and name:
            names.append(name[:80])
    return sorted(names)


def _get(document: Any, name: str) -> Any:
    """Return a field as Go reads it: its case doesn't count."""
    if not isinstance(document, dict):
        return None
    if name in document:
        return document[name]
    return next((value for key, value in document.items() if key.lower() == name.lower()), None)
