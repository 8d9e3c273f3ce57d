# SPDX-License-Identifier: Apache-2.0
"""
Why no answer came, in plain words, and whether asking again makes sense.

The libraries' own texts hold object addresses and OpenSSL's internals; only what a user can act on is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import ssl

EVERY = 1_000
"""Retries without a limit of the failure's own."""

_CERTIFICATE_PROBLEMS = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is signed by itself",
    19: "its certificate is signed by an unknown authority",
    20: "its certificate is signed by an unknown authority",
    21: "its certificate is signed by an unknown authority",
    23: "its certificate is revoked",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}
_CA_HINT = "if you trust it, give its authority's certificate (ca.crt in certs.d/HOST)"
_NAME_HINT = "use the name that the certificate is for"
_CERTIFICATE_HINTS = {
    9: "check the clock of this machine",
    10: "the server needs a new certificate; check the clock of this machine, too",
    18: _CA_HINT,
    19: _CA_HINT,
    20: _CA_HINT,
    21: _CA_HINT,
    62: _NAME_HINT,
    64: _NAME_HINT,
}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER")
_CLIENT_REFUSED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE", "UNKNOWN_CA")


class FailedRequest(Struct, frozen=True, kw_only=True):
    """What happened; `retries` is how often it is worth trying again."""

    words: str
    retries: int = EVERY
    hint: str | None = None


def describe_failure(error: BaseException) -> FailedRequest:
    """Look through the chain of causes for the one that says most."""
    chain = list(_causes(error))
    for cause in chain:
        if (found := _describe_system(cause)) is not None:
            return found
    for kind, failure in _protocol_failures():
        if any(isinstance(cause, kind) for cause in chain):
            return failure
    return FailedRequest(words=f"the request failed ({type(error).__name__})", retries=0)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the errors in its arguments and those that led to it, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        near = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
        waiting += [cause for cause in near if isinstance(cause, BaseException)]


def _describe_system(error: BaseException) -> FailedRequest | None:
    """Describe what OpenSSL or the kernel says; ssl's errors are OSErrors, too."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        words = _CERTIFICATE_PROBLEMS.get(code, f"its certificate is not accepted: {error.verify_message}")
        return FailedRequest(words=words, retries=0, hint=_CERTIFICATE_HINTS.get(code))
    if isinstance(error, ssl.SSLError):
        return _describe_tls(error)
    return _describe_socket(error) if isinstance(error, OSError) else None


def _describe_tls(error: ssl.SSLError) -> FailedRequest | None:
    reason = getattr(error, "reason", None) or ""  # absent from those that Python itself makes
    if any(part in reason for part in _NOT_TLS):
        return FailedRequest(words="it doesn't speak TLS on this port", retries=0, hint="does it want plain HTTP?")
    if any(part in reason for part in _CLIENT_REFUSED):
        words = "it refuses the TLS handshake, perhaps for want of a client certificate"
        return FailedRequest(words=words, retries=0)
    shown = reason.lower().replace("_", " ")
    return FailedRequest(words=f"TLS failed: {shown}" if shown else "the connection broke during TLS", retries=2)


def _describe_socket(error: OSError) -> FailedRequest | None:
    import socket

    found: FailedRequest | None = None
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN
        words = "the host name can't be resolved just now" if again else "no such host name"
        found = FailedRequest(words=words, retries=2 if again else 0)
    elif isinstance(error, ConnectionRefusedError):
        found = FailedRequest(words="connection refused", retries=2)
    elif str(error).startswith("Tunnel connection failed"):
        answer = str(error).partition(":")[2].strip()
        hint = "give the proxy as http://USER:PASSWORD@HOST:PORT" if answer.startswith("407") else None
        found = FailedRequest(words=f"the proxy refuses: {answer}", retries=1, hint=hint)
    elif isinstance(error, ConnectionError):
        found = FailedRequest(words="the connection broke")
    elif error.errno and error.strerror:
        found = FailedRequest(words=error.strerror.lower(), retries=2)
    return found


def _protocol_failures() -> tuple[tuple[type[BaseException], FailedRequest], ...]:
    """Return what each kind of exception means; the first that occurs counts, so the most telling come first."""
    from http.client import BadStatusLine, HTTPException

    from urllib3 import exceptions

    from copacetic.http.connection import MAX_INTERIM, SLOWEST, InterimAnswersError, SlowAnswerError

    return (
        (InterimAnswersError, FailedRequest(words=f"it sends more than {MAX_INTERIM} interim answers", retries=0)),
        (SlowAnswerError, FailedRequest(words=f"it sends less than {SLOWEST} bytes in a second", retries=0)),
        (exceptions.NameResolutionError, FailedRequest(words="no such host name", retries=0)),
        (exceptions.ConnectTimeoutError, FailedRequest(words="no connection in time", retries=1)),
        (exceptions.TimeoutError, FailedRequest(words="no answer in time", retries=2)),
        (TimeoutError, FailedRequest(words="no answer in time", retries=2)),
        (exceptions.IncompleteRead, FailedRequest(words="the connection broke in the middle of the answer")),
        (BadStatusLine, FailedRequest(words="it doesn't speak HTTP")),
        (exceptions.ProtocolError, FailedRequest(words="the connection broke, or it speaks broken HTTP")),
        (HTTPException, FailedRequest(words="it speaks broken HTTP")),
        (exceptions.LocationValueError, FailedRequest(words="the address is malformed", retries=0)),
        (ValueError, FailedRequest(words="the request can't be sent as HTTP", retries=0)),
    )
