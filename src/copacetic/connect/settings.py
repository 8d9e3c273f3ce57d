# SPDX-License-Identifier: Apache-2.0
"""What finding and reaching engines and builders takes; the command line fills it from flags and environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from copacetic.connect.tlsfiles import TlsFiles

if TYPE_CHECKING:
    from copacetic.connect.address import Address

__all__ = ["BuilderSettings", "EngineSettings"]


class EngineSettings(Struct, frozen=True, kw_only=True):
    """Where docker's own client would look for its engine."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    """For what an address at `tcp://` names, an engine's or a builder's."""
    docker_config: Path | None = None
    """Docker's folder with contexts and config.json, `~/.docker`; None looks at no contexts and no buildx builders."""
    docker_host: str = ""
    """DOCKER_HOST."""
    docker_context: str = ""
    """DOCKER_CONTEXT."""
    docker_tls: TlsFiles = field(default_factory=TlsFiles)
    """What DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say."""
    container_host: str = ""
    """CONTAINER_HOST, which is podman's."""
    runtime_dir: Path | None = None
    """XDG_RUNTIME_DIR, where daemons without root have their sockets."""
    engine_socket: Path = Path("/var/run/docker.sock")
    """Where an engine is when nothing else is said."""
    podman_socket: Path = Path("/run/podman/podman.sock")
    """Where podman's service for root is when nothing else is said."""
    timeout: float = 10.0
    """Seconds for each step of reaching a daemon: connecting, shaking hands, a first answer."""


class BuilderSettings(EngineSettings, frozen=True, kw_only=True):
    """Without an address, builders are looked for where docker, buildx and buildkitd have them by default."""

    address: Address | None = None
    origin: str = "--addr"
    """Who named the address."""
    buildx_config: Path | None = None
    """BUILDX_CONFIG, when it isn't `buildx` in docker's folder."""
    buildx_builder: str = ""
    """BUILDX_BUILDER."""
    buildkit_socket: Path = Path("/run/buildkit/buildkitd.sock")
    """Where buildkitd is when nothing else is said."""
