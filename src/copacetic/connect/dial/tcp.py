# SPDX-License-Identifier: Apache-2.0
"""`tcp://HOST:PORT`, plain or with TLS."""

from __future__ import annotations

import socket

from copacetic.connect.address import TcpAddress
from copacetic.connect.dial.tls import TlsStream, make_context
from copacetic.connect.stream import SocketStream, Stream
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError

__all__ = ["connect_tcp"]


def connect_tcp(address: TcpAddress, tls: TlsFiles, *, protocol: str, name: str, seconds: float) -> Stream:
    """
    Connect, and speak TLS when any of its files is given; `protocol` is what is to be spoken inside (RFC 7301).

    Raises `DaemonUnreachableError`, or `UsageError` for the files.
    """
    context = make_context(tls, protocol=protocol) if tls else None
    try:
        connected = socket.create_connection((address.host, address.port), timeout=seconds)
    except socket.gaierror as error:
        message = f"{name}: the host {address.host} is unknown: {error.strerror}"
        raise DaemonUnreachableError(message, hint="check the name and the resolver") from error
    except TimeoutError as error:
        message = f"{name}: no connection within {seconds:g} s"
        raise DaemonUnreachableError(message, hint="check the address, and the firewalls between") from error
    except ConnectionRefusedError as error:
        raise DaemonUnreachableError(
            f"{name}: nobody listens there", hint="check the port; is the daemon running?"
        ) from error
    except OSError as error:
        raise DaemonUnreachableError(f"{name}: {error.strerror or error}") from error
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream = SocketStream(connected)
    if context is None:
        return stream
    server_name = tls.server_name or address.host
    return TlsStream(stream, context, server_name=server_name, seconds=seconds, name=name)
