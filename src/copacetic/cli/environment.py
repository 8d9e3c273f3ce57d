# SPDX-License-Identifier: Apache-2.0
"""What the environment and the usual files say; functions of a mapping, so that they can be tested without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from copacetic.errors import UsageError


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or "/")


def _xdg(environment: Mapping[str, str], name: str, default: str) -> Path:
    value = environment.get(name, "")
    # Relative paths in these variables are to be ignored, says the specification.
    return Path(value) if value.startswith("/") else _home(environment) / default


def cache_folder(environment: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/copacetic`."""
    return _xdg(environment, "XDG_CACHE_HOME", ".cache") / "copacetic"


def auth_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """
    Files with logins, by containers-auth.json(5) and docker's rules, the first that knows a registry counts.

    `DOCKER_CONFIG` on its own goes before podman's default places: whoever sets it expects that.
    """
    docker = Path(environment.get("DOCKER_CONFIG") or _home(environment) / ".docker") / "config.json"
    if environment.get("REGISTRY_AUTH_FILE"):
        return (Path(environment["REGISTRY_AUTH_FILE"]),)
    podman = []
    if environment.get("XDG_RUNTIME_DIR"):
        podman.append(Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    podman.append(_xdg(environment, "XDG_CONFIG_HOME", ".config") / "containers" / "auth.json")
    first, second = ([docker], podman) if environment.get("DOCKER_CONFIG") else (podman, [docker])
    return (*first, *second, _home(environment) / ".dockercfg")


def certs_dirs() -> tuple[Path, ...]:
    """Where docker and podman look for registries' certificates."""
    return (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def registries_conf(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """registries.conf of the user, or of the system, with its drop-ins."""
    if environment.get("CONTAINERS_REGISTRIES_CONF"):
        return (Path(environment["CONTAINERS_REGISTRIES_CONF"]),)
    own = _xdg(environment, "XDG_CONFIG_HOME", ".config") / "containers"
    root = own if (own / "registries.conf").exists() else Path("/etc/containers")
    return (root / "registries.conf", root / "registries.conf.d")


def proxies(environment: Mapping[str, str]) -> Mapping[str, str]:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY; lower case goes first, as in curl."""
    found = {}
    for key, name in (("http", "http_proxy"), ("https", "https_proxy"), ("no", "no_proxy")):
        value = environment.get(name) or environment.get(name.upper())
        if value:
            found[key] = value
    return found


def source_date_epoch(environment: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH in seconds. Raises `UsageError` when it isn't a number."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is {text[:40]!r}, not seconds since 1970")
    return int(text)


def configuration(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """
    Read the configuration file: `COPA_CONFIG` (empty: none), else `$XDG_CONFIG_HOME/copacetic/config.toml`.

    A table per command, keys as the flags: `[patch]` `ignore-errors = true`. Raises `UsageError`; the keys are
    checked by the commands.
    """
    named = environment.get("COPA_CONFIG")
    path = (
        _xdg(environment, "XDG_CONFIG_HOME", ".config") / "copacetic" / "config.toml" if named is None else Path(named)
    )
    if named == "" or (named is None and not path.is_file()):
        return {}
    import tomllib

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"can't use the configuration {path}: {error}", hint="mend it, or set COPA_CONFIG= to none"
        ) from error
    return document
