# SPDX-License-Identifier: Apache-2.0
"""
Where a builder or an engine is, as values: the addresses of buildctl and docker, read by one strict grammar.

Parsing opens nothing and looks at nothing of this machine. What a value holds is safe as an argument of a program:
no part of it begins with a hyphen, and none holds a blank, a control character or, where a remote shell will see it,
anything that a shell would read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

from msgspec import Struct

from copacetic.errors import InvalidAddressError

__all__ = [
    "Address",
    "BuildxAddress",
    "ContainerAddress",
    "DockerAddress",
    "EngineHost",
    "KubePodAddress",
    "SshAddress",
    "TcpAddress",
    "UnixAddress",
    "parse_address",
    "parse_engine_host",
]

MAX_SOCKET_PATH = 107
"""Bytes of a socket's path that Linux takes."""
_MAX_ADDRESS = 2_000
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}")
_REMOTE_PATH = re.compile(r"/[A-Za-z0-9._/+-]{1,250}")
_CONTEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,75}")
_KUBE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_KUBE_CONTEXT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/@+-]{0,251}")
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")


class UnixAddress(Struct, frozen=True, kw_only=True):
    """A socket on this machine; `path` is absolute."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


class TcpAddress(Struct, frozen=True, kw_only=True):
    """A host and a port; an IPv6 address stands without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{_bracketed(self.host)}:{self.port}"


class SshAddress(Struct, frozen=True, kw_only=True):
    """A host that the ssh program reaches; empty parts are left to its configuration, and to the program there."""

    host: str
    user: str = ""
    port: int | None = None
    socket: str = ""

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"ssh://{user}{_bracketed(self.host)}{port}{self.socket}"


EngineHost: TypeAlias = UnixAddress | TcpAddress | SshAddress
"""Where a Docker engine is, as DOCKER_HOST has it."""


class DockerAddress(Struct, frozen=True, kw_only=True):
    """The BuildKit inside a Docker engine: at a host, in a context, or (both empty) wherever docker itself would go."""

    host: EngineHost | None = None
    context: str = ""

    def __str__(self) -> str:
        return f"docker://{self.host or self.context}"


class BuildxAddress(Struct, frozen=True, kw_only=True):
    """A builder that `docker buildx` made; an empty name is the one selected there."""

    name: str = ""

    def __str__(self) -> str:
        return f"buildx://{self.name}"


class ContainerAddress(Struct, frozen=True, kw_only=True):
    """A running container that has buildkitd and buildctl in it."""

    engine: Literal["docker", "podman", "nerdctl"]
    name: str
    context: str = ""
    """Of docker only."""
    namespace: str = ""
    """Of nerdctl only."""

    def __str__(self) -> str:
        return f"{self.engine}-container://{self.name}" + _query(context=self.context, namespace=self.namespace)


class KubePodAddress(Struct, frozen=True, kw_only=True):
    """A running pod that has buildkitd and buildctl in it; empty parts are left to kubectl's configuration."""

    pod: str
    context: str = ""
    namespace: str = ""
    container: str = ""

    def __str__(self) -> str:
        query = _query(context=self.context, namespace=self.namespace, container=self.container)
        return f"kube-pod://{self.pod}{query}"


Address: TypeAlias = (
    UnixAddress | TcpAddress | SshAddress | DockerAddress | BuildxAddress | ContainerAddress | KubePodAddress
)


def parse_address(text: str) -> Address:
    """Raises `InvalidAddressError`, with a message that never shows a password."""
    _check_characters(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _without_scheme(text)
    parse = _PARSERS.get(scheme)
    if parse is None:
        raise _unknown_scheme(text, scheme)
    return parse(rest, text)


def parse_engine_host(text: str) -> EngineHost:
    """
    Read what DOCKER_HOST or a docker context says: `unix:///PATH`, `tcp://HOST[:PORT]` or `ssh://[USER@]HOST[:PORT]`.

    Without a port, TCP is on docker's 2375; whoever uses TLS has to write 2376. Raises `InvalidAddressError`.
    """
    _check_characters(text)
    scheme, separator, rest = text.partition("://")
    parse = _ENGINE_PARSERS.get(scheme) if separator else None
    if parse is None:
        raise InvalidAddressError(
            f"{_show(text)} is not the address of a Docker engine that can be used",
            hint="write unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST",
        )
    return parse(rest, text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _query(**values: str) -> str:
    given = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if value)
    return f"?{given}" if given else ""


def _show(text: str) -> str:
    return repr(_PASSWORD.sub("//…@", text[:200]))


def _check_characters(text: str) -> None:
    if not text:
        raise InvalidAddressError("the address is empty")
    if len(text) > _MAX_ADDRESS:
        raise InvalidAddressError(f"{_show(text)}… has more than {_MAX_ADDRESS} characters")
    if _FORBIDDEN.search(text):
        raise InvalidAddressError(f"{_show(text)} has a blank or a control character in it")


def _without_scheme(text: str) -> InvalidAddressError:
    message = f"{_show(text)} doesn't say how to connect"
    if text.startswith("/"):
        return InvalidAddressError(message, hint=f"write unix://{text[:200]}")
    if re.fullmatch(r"[A-Za-z0-9.-]+:\d+", text):
        return InvalidAddressError(message, hint=f"write tcp://{text}")
    if text.rstrip(":/") in _PARSERS:
        return InvalidAddressError(message, hint=f"write {text.rstrip(':/')}://…")
    return InvalidAddressError(message)


def _unknown_scheme(text: str, scheme: str) -> InvalidAddressError:
    if scheme == "npipe":
        return InvalidAddressError(f"{_show(text)}: named pipes are of Windows only")
    if scheme in {"http", "https"}:
        return InvalidAddressError(
            f"{_show(text)}: builders don't speak {scheme}", hint="write tcp://HOST:PORT; TLS needs --cacert"
        )
    close = difflib.get_close_matches(scheme, _PARSERS, n=1)
    hint = f"did you mean {close[0]}://?" if close else None
    return InvalidAddressError(f"{_show(text)}: no such kind of address: {scheme[:40]!r}", hint=hint)


def _parse_unix(path: str, text: str) -> UnixAddress:
    if not path.startswith("/"):
        written = f"unix:///{path}" if path else "unix:///PATH"
        raise InvalidAddressError(f"{_show(text)}: the path must be absolute", hint=f"write {written[:200]}")
    if path.endswith("/"):
        raise InvalidAddressError(f"{_show(text)} names a directory, not a socket")
    if len(path.encode("utf-8", "surrogateescape")) > MAX_SOCKET_PATH:
        raise InvalidAddressError(f"{_show(text)}: a socket's path has no more than {MAX_SOCKET_PATH} bytes")
    return UnixAddress(path=path)


def _parse_tcp(rest: str, text: str) -> TcpAddress:
    host, port, tail = _split_host(rest, text)
    if tail:
        raise InvalidAddressError(f"{_show(text)}: nothing may follow the port", hint="write tcp://HOST:PORT")
    if port is None:
        raise InvalidAddressError(
            f"{_show(text)}: the port is missing", hint=f"write tcp://{_bracketed(host)}:PORT; 1234 is customary"
        )
    return TcpAddress(host=host, port=port)


def _parse_engine_tcp(rest: str, text: str) -> TcpAddress:
    host, port, tail = _split_host(rest, text)
    if tail not in {"", "/"}:
        raise InvalidAddressError(f"{_show(text)}: nothing may follow the port", hint="write tcp://HOST:PORT")
    return TcpAddress(host=host, port=port or 2375)


def _parse_ssh(rest: str, text: str) -> SshAddress:
    authority, slash, path = rest.partition("/")
    user, at, server = authority.rpartition("@")
    if ":" in user:
        raise InvalidAddressError(
            f"{_show(text)}: a password has no place in an address", hint="use a key or an agent of ssh"
        )
    if at and not _USER.fullmatch(user):
        raise InvalidAddressError(f"{_show(text)}: {user[:80]!r} is not the name of a user")
    host, port, _ = _split_host(server, text)
    socket = "" if path == "" else slash + path
    if socket and (not _REMOTE_PATH.fullmatch(socket) or socket.endswith("/")):
        # ssh hands its command to a shell over there, so a path that needs quoting is refused rather than quoted.
        raise InvalidAddressError(
            f"{_show(text)}: {socket[:120]!r} is not the path of a socket", hint="use letters, digits and ._/+- only"
        )
    return SshAddress(host=host, user=user, port=port, socket=socket)


def _split_host(rest: str, text: str) -> tuple[str, int | None, str]:
    """Split `HOST[:PORT]` and what follows it."""
    for mark in "?#":
        if mark in rest:
            raise InvalidAddressError(f"{_show(text)}: {mark!r} has no meaning in this kind of address")
    server, slash, tail = rest.partition("/")
    if "@" in server:
        raise InvalidAddressError(f"{_show(text)}: this kind of address has no user", hint="leave USER@ out")
    bracketed = _IPV6.match(server)
    host, port = (bracketed[1], server[bracketed.end() :]) if bracketed else _split_port(server)
    if not host:
        raise InvalidAddressError(f"{_show(text)}: the host is missing")
    if not bracketed and (":" in host or not _HOST.fullmatch(host)):
        hint = "an IPv6 address stands in brackets, as in [::1]" if host.count(":") > 1 else None
        raise InvalidAddressError(f"{_show(text)}: {host[:120]!r} is not a host's name", hint=hint)
    return host, _parse_port(port, text), slash + tail


def _split_port(server: str) -> tuple[str, str]:
    host, colon, port = server.rpartition(":")
    return (host, colon + port) if colon else (server, "")


def _parse_port(port: str, text: str) -> int | None:
    if not port:
        return None
    digits = port.removeprefix(":")
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65_536:
        raise InvalidAddressError(f"{_show(text)}: {digits[:40]!r} is not a port", hint="a port is 1 to 65535")
    return int(digits)


def _parse_docker(rest: str, text: str) -> DockerAddress:
    if not rest:
        return DockerAddress()
    if rest.startswith("/"):
        return DockerAddress(host=_parse_unix(rest, text))
    if "://" in rest:
        return DockerAddress(host=parse_engine_host(rest))
    if not _CONTEXT.fullmatch(rest):
        raise InvalidAddressError(
            f"{_show(text)}: {rest[:120]!r} is neither a context nor the address of a Docker engine",
            hint="write docker://, docker://CONTEXT, docker:///PATH or docker://tcp://HOST:PORT",
        )
    return DockerAddress(context=rest)


def _parse_buildx(rest: str, text: str) -> BuildxAddress:
    if rest and not _CONTEXT.fullmatch(rest):
        raise InvalidAddressError(
            f"{_show(text)}: {rest[:120]!r} is not the name of a builder", hint="see `docker buildx ls`"
        )
    return BuildxAddress(name=rest)


def _container(
    engine: Literal["docker", "podman", "nerdctl"], known: tuple[str, ...]
) -> Callable[[str, str], ContainerAddress]:
    def parse(rest: str, text: str) -> ContainerAddress:
        name, values = _split_query(rest, text, known)
        if not _CONTAINER.fullmatch(name):
            what = f"{name[:120]!r} is not the name of a container" if name else "the container's name is missing"
            raise InvalidAddressError(f"{_show(text)}: {what}", hint=f"write {engine}-container://NAME")
        context, namespace = values.get("context", ""), values.get("namespace", "")
        _check(context, _CONTEXT, "a context", text)
        _check(namespace, _NAMESPACE, "a namespace", text)
        return ContainerAddress(engine=engine, name=name, context=context, namespace=namespace)

    return parse


def _parse_kube_pod(rest: str, text: str) -> KubePodAddress:
    pod, values = _split_query(rest, text, ("context", "namespace", "container"))
    if not _KUBE_NAME.fullmatch(pod):
        what = f"{pod[:120]!r} is not the name of a pod" if pod else "the pod's name is missing"
        raise InvalidAddressError(f"{_show(text)}: {what}", hint="write kube-pod://POD[?namespace=NAMESPACE]")
    _check(values.get("context", ""), _KUBE_CONTEXT, "a context", text)
    _check(values.get("namespace", ""), _KUBE_NAME, "a namespace", text)
    _check(values.get("container", ""), _KUBE_NAME, "a container", text)
    return KubePodAddress(pod=pod, **values)


def _split_query(rest: str, text: str, known: tuple[str, ...]) -> tuple[str, Mapping[str, str]]:
    if "#" in rest:
        raise InvalidAddressError(f"{_show(text)}: '#' has no meaning in this kind of address")
    name, question, query = rest.partition("?")
    values: dict[str, str] = {}
    for part in query.split("&") if question else ():
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            hint = f"known: {', '.join(known)}" if known else "nothing may follow the name"
            raise InvalidAddressError(f"{_show(text)}: unknown: {part[:80]!r}", hint=hint)
        if key in values or not value:
            raise InvalidAddressError(f"{_show(text)}: {key} needs one value")
        values[key] = unquote(value)
    return name.removesuffix("/"), values


def _check(value: str, pattern: re.Pattern[str], what: str, text: str) -> None:
    if value and not pattern.fullmatch(value):
        raise InvalidAddressError(f"{_show(text)}: {value[:120]!r} is not the name of {what}")


_PARSERS: dict[str, Callable[[str, str], Address]] = {
    "unix": _parse_unix,
    "tcp": _parse_tcp,
    "docker": _parse_docker,
    "buildx": _parse_buildx,
    "docker-container": _container("docker", ("context",)),
    "podman-container": _container("podman", ()),
    "nerdctl-container": _container("nerdctl", ("namespace",)),
    "ssh": _parse_ssh,
    "kube-pod": _parse_kube_pod,
}
_ENGINE_PARSERS: dict[str, Callable[[str, str], EngineHost]] = {
    "unix": _parse_unix,
    "tcp": _parse_engine_tcp,
    "ssh": _parse_ssh,
}
