# SPDX-License-Identifier: Apache-2.0
"""
`docker://`: the BuildKit inside a Docker engine.

An engine of API 1.53 or later takes gRPC on its own socket, without further ado; older ones want the connection
upgraded by `POST /grpc`, which newer ones are about to lose. The engine's version tells which way is tried first.
"""

from __future__ import annotations

from copacetic.connect.dial.greeting import is_settings_frame
from copacetic.connect.engine import EngineAnswer, EngineClient, EngineVersion
from copacetic.connect.stream import Stream, read_exactly
from copacetic.errors import DaemonUnreachableError

__all__ = ["DockerDial"]

_NATIVE_SINCE = (1, 53)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What an HTTP/2 client begins with (RFC 9113, 3.4), and SETTINGS without any."""
_NATIVE_LIMIT = 3.0
_PODMAN_HINT = (
    "podman has no BuildKit: start one with `podman run -d --name buildkitd --privileged moby/buildkit`, "
    "and use --addr podman-container://buildkitd"
)


class DockerDial:
    """Connects to an engine's BuildKit; the first call finds out how, the next ones know."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._native: bool | None = None
        self.version: EngineVersion | None = None
        """Of the engine, once it was asked."""

    def __call__(self) -> Stream:
        """Raises `DaemonUnreachableError`."""
        if self._native is None:
            return self._find_out()
        if self._native:
            return self._engine.open_stream("h2")
        upgraded = self._upgrade()
        if isinstance(upgraded, EngineAnswer):
            raise self._no_buildkit(upgraded)
        return upgraded

    def _find_out(self) -> Stream:
        version = self.version = self._engine.version()
        if version.name == "Podman":
            raise DaemonUnreachableError(f"{self._engine.name}: this is {version}, not Docker", hint=_PODMAN_HINT)
        if version.api >= _NATIVE_SINCE and self._speaks_http2():
            self._native = True
            return self._engine.open_stream("h2")
        upgraded = self._upgrade()
        if not isinstance(upgraded, EngineAnswer):
            self._native = False
            return upgraded
        if version.api < _NATIVE_SINCE and self._speaks_http2():
            self._native = True
            return self._engine.open_stream("h2")
        raise self._no_buildkit(upgraded)

    def _upgrade(self) -> Stream | EngineAnswer:
        return self._engine.upgrade("/grpc", protocol="h2c")

    def _speaks_http2(self) -> bool:
        """Try it on a connection of its own: after a refusal this one is of no use."""
        try:
            stream = self._engine.open_stream("h2")
        except DaemonUnreachableError:
            return False
        seconds = min(self._engine.seconds, _NATIVE_LIMIT)
        try:
            stream.sendall(_PREFACE)
            return is_settings_frame(read_exactly(stream, 9, seconds=seconds, name=self._engine.name))
        except (OSError, DaemonUnreachableError):
            return False
        finally:
            stream.close()

    def _no_buildkit(self, answer: EngineAnswer) -> DaemonUnreachableError:
        return DaemonUnreachableError(
            f"{self._engine.name}: {self.version} offers no BuildKit: {answer.message}",
            hint="use an engine of version 23 or later, or create a builder with `docker buildx create --use`",
        )
