# SPDX-License-Identifier: Apache-2.0
"""
From an address to something that connects: what it stands for on this machine, and how to get there.

Nothing is connected here. A builder of buildx may have several nodes; each of them is a route of its own.
"""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from copacetic.connect.address import (
    Address,
    BuildxAddress,
    ContainerAddress,
    DockerAddress,
    KubePodAddress,
    SshAddress,
    TcpAddress,
    UnixAddress,
)
from copacetic.connect.dial.container import connect_container
from copacetic.connect.dial.docker import DockerDial
from copacetic.connect.dial.dockerexec import connect_exec
from copacetic.connect.dial.greeting import GreetedStream
from copacetic.connect.dial.kubectl import connect_pod
from copacetic.connect.dial.ssh import connect_buildctl
from copacetic.connect.dial.tcp import connect_tcp
from copacetic.connect.dial.unix import connect_unix
from copacetic.connect.dockercontext import EnginePlace, find_engine
from copacetic.connect.engine import open_engine
from copacetic.connect.settings import BuilderSettings
from copacetic.connect.stream import Dial, Stream
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import UsageError

__all__ = ["Route", "engine_route", "exec_route", "find_routes", "plain_route"]

_MERGE_DIFF_HINT = (
    'turn on the containerd image store: {"features": {"containerd-snapshotter": true}} in the engine\'s daemon.json '
    "(Docker Desktop: Settings, General), and restart it; or create a builder: `docker buildx create --use`"
)


class Route(Struct, frozen=True, kw_only=True):
    """One way to a builder."""

    address: str
    place: str = ""
    """What the address stands for here, as in `unix:///var/run/docker.sock (default socket)`; empty if just that."""
    dial: Dial
    seconds: float
    silent_hint: str | None = None
    """What may be wrong when the other side says nothing, or goes away."""
    merge_diff_hint: str | None = None
    """How to get merge and diff there, if it lacks them."""

    def connect(self) -> Stream:
        """Connect; the first `recv` makes sure that a builder is there. Raises `DaemonUnreachableError`."""
        return GreetedStream(self.dial(), seconds=self.seconds, name=self.address, hint=self.silent_hint)


def find_routes(address: Address, settings: BuilderSettings, *, start: bool = True) -> tuple[Route, ...]:
    """
    Return the ways to what an address means, the best first.

    With `start`, connecting may start a container of buildx that is stopped. Raises `DaemonUnreachableError` when
    the address means nothing here, and `UsageError` for flags that don't fit it.
    """
    if settings.tls and not _takes_tls(address):
        raise UsageError(
            f"TLS doesn't apply to {address}", hint="--cacert, --cert, --key and --tls-server-name are for tcp:// only"
        )
    if isinstance(address, BuildxAddress):
        from copacetic.connect.buildxroute import find_buildx_routes

        return find_buildx_routes(address, settings, start=start)
    if isinstance(address, DockerAddress):
        return (engine_route(find_engine(address, settings), settings, name=str(address)),)
    if isinstance(address, ContainerAddress) and address.engine == "docker":
        engine = find_engine(DockerAddress(context=address.context), settings)
        hint = f"look with `docker ps -a`; start it with `docker start {address.name}`"
        return (exec_route(engine, address.name, settings, name=str(address), start=False, start_hint=hint),)
    return (plain_route(address, settings, settings.tls, name=str(address)),)


def _takes_tls(address: Address) -> bool:
    host = address.host if isinstance(address, DockerAddress) else address
    return isinstance(host, TcpAddress)


def plain_route(address: Address, settings: BuilderSettings, tls: TlsFiles, *, name: str) -> Route:
    """Return the way to an address behind which there is buildkitd itself; docker's and buildx' are none."""
    seconds = settings.timeout
    match address:
        case UnixAddress():
            dial: Dial = partial(connect_unix, address, name=name, seconds=seconds)
            hint = None
        case TcpAddress():
            dial = partial(connect_tcp, address, tls, protocol="h2", name=name, seconds=seconds)
            hint = None if tls else "is it a builder? if it uses TLS, give --cacert (and --cert and --key)"
        case SshAddress():
            dial = partial(connect_buildctl, address, name=name, seconds=seconds)
            hint = f"buildctl is needed there: try `ssh {address.host} buildctl debug workers`"
        case KubePodAddress():
            dial = partial(connect_pod, address, name=name)
            hint = "look with `kubectl get pods`; the container needs buildctl in it"
        case ContainerAddress():
            dial = partial(connect_container, address, name=name)
            hint = f"look with `{address.engine} ps`; the container needs buildctl in it"
        case _:
            raise AssertionError(address)
    return Route(address=name, dial=dial, seconds=seconds, silent_hint=hint)


def engine_route(place: EnginePlace, settings: BuilderSettings, *, name: str) -> Route:
    """Return the way to the BuildKit in an engine."""
    return Route(
        address=name,
        place=str(place),
        dial=DockerDial(open_engine(place, settings.timeout, name=name)),
        seconds=settings.timeout,
        merge_diff_hint=_MERGE_DIFF_HINT,
    )


def exec_route(
    place: EnginePlace, container: str, settings: BuilderSettings, *, name: str, start: bool, start_hint: str
) -> Route:
    """Return the way to the buildkitd in a container of an engine."""
    engine = open_engine(place, settings.timeout, name=name)
    return Route(
        address=name,
        place=f"container {container}, {place}",
        dial=partial(connect_exec, engine, container, start=start, start_hint=start_hint),
        seconds=settings.timeout,
        silent_hint=f"see `docker logs {container}`; the container needs buildctl in it",
    )
