# SPDX-License-Identifier: Apache-2.0
"""The flags and variables that say where a builder is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from copacetic.cli.options import option
from copacetic.errors import InvalidAddressError, UsageError

if TYPE_CHECKING:
    from copacetic.connect.address import Address
    from copacetic.connect.settings import BuilderSettings, EngineSettings
    from copacetic.connect.tlsfiles import TlsFiles
    from copacetic.worker.execution import Limits

_PATH = click.Path(path_type=Path)

BUILDER = (
    option("-a", "--addr", metavar="ADDRESS", help="A builder, as in docker:// or tcp://HOST:PORT.  [looked for]"),
    option("--cacert", type=_PATH, help="The certificate authority of a builder at tcp://."),
    option("--cert", type=_PATH, help="This client's certificate for it."),
    option("--key", type=_PATH, help="The key of --cert; without --cert a repository's, as --keyring."),
    option("--tls-server-name", metavar="NAME", help="The name in the builder's certificate.  [its host]"),
)


EXECUTION = (
    *BUILDER,
    option(
        "--tooling-image",
        metavar="IMAGE",
        help="Whose package manager acts on an image without one.  "
        "[debian:stable-slim, alpine:latest for apk, almalinux:9 for rpm]",
    ),
)


def select_tooling(values: Mapping[str, Any]) -> str:
    """Return the tooling image's name, empty for one that fits the image. Raises `InvalidReferenceError`."""
    from copacetic.oci.location import Location

    name = values.get("tooling_image")
    return str(Location.parse(name)) if name else ""


def select_worker(values: Mapping[str, Any]) -> Limits | None:
    """
    Return the worker's limits where --addr, else BUILDKIT_HOST, says that this machine is the builder; else None.

    Raises `InvalidAddressError`.
    """
    from copacetic.cli.sandbox import names_worker, worker_limits

    address = values["addr"] or os.environ.get("BUILDKIT_HOST") or ""
    return worker_limits(address, "--addr" if values["addr"] else "BUILDKIT_HOST") if names_worker(address) else None


def make_builder_settings(values: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> BuilderSettings:
    """
    Turn flags and environment into what finding a builder needs; an address comes from --addr, else BUILDKIT_HOST.

    Raises `UsageError` for a malformed address, or for flags of TLS that don't fit together.
    """
    from copacetic.connect.settings import BuilderSettings

    environment = os.environ if environment is None else environment
    address, origin = _address(values["addr"], environment)
    buildx = environment.get("BUILDX_CONFIG", "")
    return BuilderSettings(
        address=address,
        origin=origin,
        tls=_flags_of_tls(values, address),
        buildx_config=Path(buildx) if buildx else None,
        buildx_builder=environment.get("BUILDX_BUILDER", ""),
        **_engine_values(environment),
    )


def make_engine_settings(environment: Mapping[str, str] | None = None) -> EngineSettings:
    """Turn the environment into what finding docker and podman needs."""
    from copacetic.connect.settings import EngineSettings

    return EngineSettings(**_engine_values(os.environ if environment is None else environment))


def _engine_values(environment: Mapping[str, str]) -> dict[str, Any]:
    home, runtime = Path(environment.get("HOME") or "/"), environment.get("XDG_RUNTIME_DIR", "")
    docker_config = Path(environment.get("DOCKER_CONFIG") or home / ".docker")
    return {
        "docker_config": docker_config,
        "docker_host": environment.get("DOCKER_HOST", ""),
        "docker_context": environment.get("DOCKER_CONTEXT", ""),
        "docker_tls": _docker_tls(environment, docker_config),
        "container_host": environment.get("CONTAINER_HOST", ""),
        "runtime_dir": Path(runtime) if runtime.startswith("/") else None,
    }


def _address(flag: str | None, environment: Mapping[str, str]) -> tuple[Address | None, str]:
    text, origin = (flag, "--addr") if flag else (environment.get("BUILDKIT_HOST", ""), "BUILDKIT_HOST")
    if not text:
        return None, "default"
    from copacetic.connect.address import parse_address

    try:
        return parse_address(text), origin
    except InvalidAddressError as error:
        raise InvalidAddressError(f"{origin}: {error}", hint=error.hint) from error


def _flags_of_tls(values: Mapping[str, Any], address: Address | None) -> TlsFiles:
    from copacetic.connect.tlsfiles import TlsFiles

    files = TlsFiles(
        ca=values["cacert"],
        cert=values["cert"],
        key=None if repository_keys(values) else values["key"],
        server_name=values["tls_server_name"] or "",
    )
    if files and address is None:
        raise UsageError(
            "--cacert, --cert, --key and --tls-server-name say nothing without an address",
            hint="add --addr tcp://HOST:PORT",
        )
    if bool(files.cert) != bool(files.key):
        raise UsageError("--cert and --key belong together", hint="give both, or none")
    return files


def _docker_tls(environment: Mapping[str, str], docker_config: Path) -> TlsFiles:
    """Docker's variables: one turns TLS on, the other says where ca.pem, cert.pem and key.pem are."""
    from copacetic.connect.tlsfiles import TlsFiles

    folder = environment.get("DOCKER_CERT_PATH", "")
    if not folder and not environment.get("DOCKER_TLS_VERIFY"):
        return TlsFiles()
    ca, cert, key = (
        path if path.is_file() else None
        for path in (Path(folder or docker_config) / name for name in ("ca.pem", "cert.pem", "key.pem"))
    )
    return TlsFiles(ca=ca or Path(folder or docker_config) / "ca.pem", cert=cert, key=key)


def repository_keys(values: Mapping[str, Any]) -> tuple[Path, ...]:
    """
    Return what `--key` names when it is no key of a client.

    The flag is older than repositories' keys, and means nothing for a builder without `--cert`.
    """
    key = values.get("key")
    return (key,) if key is not None and not values.get("cert") and "keyring" in values else ()
