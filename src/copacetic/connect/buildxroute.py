# SPDX-License-Identifier: Apache-2.0
"""
`buildx://NAME`: how the drivers of buildx reach their nodes, done without buildx.

A name that buildx doesn't know may be that of a docker context, whose engine is then the builder, as in buildx.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from msgspec.structs import replace

from copacetic.connect.address import (
    BuildxAddress,
    ContainerAddress,
    DockerAddress,
    parse_address,
    parse_engine_host,
)
from copacetic.connect.buildxstore import BuildxBuilder, BuildxNode, load_builder, selected_builder
from copacetic.connect.dial.kubectl import connect_deployment
from copacetic.connect.dockercontext import EnginePlace, current_endpoint, find_engine
from copacetic.connect.route import Route, engine_route, exec_route, find_routes, plain_route
from copacetic.connect.settings import BuilderSettings
from copacetic.connect.stream import Stream
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError, InvalidAddressError

__all__ = ["find_buildx_routes"]

_KUBE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_FILE = re.compile(r"/[^\x00-\x1f\x7f]{1,1000}")


def find_buildx_routes(address: BuildxAddress, settings: BuilderSettings, *, start: bool) -> tuple[Route, ...]:
    """Return a route for each node. Raises `DaemonUnreachableError` when there is no such builder."""
    name = address.name or selected_builder(settings, current_endpoint(settings))
    if not name:
        raise DaemonUnreachableError(
            "buildx://: no builder is selected", hint="choose one with `docker buildx use NAME`, or name it"
        )
    shown = f"buildx://{name}"
    builder = load_builder(settings, name)
    if builder is None:
        try:
            place = find_engine(DockerAddress(context=name), settings)
        except DaemonUnreachableError as error:
            raise DaemonUnreachableError(
                f"{shown}: there is no such builder", hint="see `docker buildx ls`, and --addr"
            ) from error
        return (engine_route(place, settings, name=shown),)
    return tuple(_node_route_or_reason(builder, node, settings, shown, start=start) for node in builder.nodes)


def _node_route_or_reason(
    builder: BuildxBuilder, node: BuildxNode, settings: BuilderSettings, name: str, *, start: bool
) -> Route:
    """One node of no use doesn't take the others with it: its reason comes when its turn does."""
    try:
        return _node_route(builder, node, settings, name, start=start)
    except (DaemonUnreachableError, InvalidAddressError) as error:
        message = str(error)
        shown = message if message.startswith(name) else f"{name}: node {node.name}: {message}"
        broken = DaemonUnreachableError(shown, hint=error.hint)

        def dial() -> Stream:
            raise broken

        return Route(address=name, place=f"node {node.name}", dial=dial, seconds=settings.timeout)


def _node_route(
    builder: BuildxBuilder, node: BuildxNode, settings: BuilderSettings, name: str, *, start: bool
) -> Route:
    match builder.driver:
        case "docker-container" | "":
            hint = f"create and start it with `docker buildx inspect --bootstrap {builder.name}`"
            place, container = _engine_place(node, settings), f"buildx_buildkit_{node.name}"
            return exec_route(place, container, settings, name=name, start=start, start_hint=hint)
        case "docker":
            return engine_route(_engine_place(node, settings), settings, name=name)
        case "remote":
            return _remote_route(node, settings, name)
        case "kubernetes":
            return _kubernetes_route(node, settings, name)
        case driver:
            raise DaemonUnreachableError(
                f"{name}: the driver {driver[:40]!r} of buildx isn't supported",
                hint="supported: docker-container, docker, remote and kubernetes",
            )


def _engine_place(node: BuildxNode, settings: BuilderSettings) -> EnginePlace:
    if "://" in node.endpoint:
        return find_engine(DockerAddress(host=parse_engine_host(node.endpoint)), settings)
    return find_engine(DockerAddress(context=node.endpoint), settings)


def _remote_route(node: BuildxNode, settings: BuilderSettings, name: str) -> Route:
    address = parse_address(node.endpoint)
    if isinstance(address, BuildxAddress | DockerAddress):
        raise DaemonUnreachableError(f"{name}: {address} is not a remote builder", hint="create it again")
    if isinstance(address, ContainerAddress) and address.engine == "docker":
        (route,) = find_routes(address, replace(settings, tls=TlsFiles()))
        return replace(route, address=name)
    return plain_route(address, settings, _remote_tls(node), name=name)


def _remote_tls(node: BuildxNode) -> TlsFiles:
    ca, cert, key = (Path(text) if text else None for text in map(node.options.get, ("cacert", "cert", "key")))
    return TlsFiles(ca=ca, cert=cert, key=key, server_name=node.options.get("servername", ""))


def _kubernetes_route(node: BuildxNode, settings: BuilderSettings, name: str) -> Route:
    """The endpoint is `kubernetes:///BUILDER?deployment=NAME&kubeconfig=FILE`; both values may be empty."""
    query = parse_qs(urlsplit(node.endpoint).query)
    deployment = query.get("deployment", [""])[0] or node.name.replace("_", "-")
    namespace, kubeconfig = node.options.get("namespace", ""), query.get("kubeconfig", [""])[0]
    for value, pattern in ((deployment, _KUBE_NAME), (namespace, _KUBE_NAME), (kubeconfig, _FILE)):
        if value and not pattern.fullmatch(value):
            raise DaemonUnreachableError(f"{name}: {value[:120]!r} in the node {node.name} can't be used")
    return Route(
        address=name,
        place=f"deployment {deployment}",
        dial=partial(connect_deployment, deployment, namespace=namespace, kubeconfig=kubeconfig, name=name),
        seconds=settings.timeout,
        silent_hint=f"create and start it with `docker buildx inspect --bootstrap {name.removeprefix('buildx://')}`",
    )
