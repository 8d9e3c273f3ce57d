# SPDX-License-Identifier: Apache-2.0
"""
TLS on top of any stream, with or without a certificate of the client.

One thread may read while another writes, which OpenSSL's sockets don't allow: here OpenSSL only ever sees memory,
under a lock, and the waiting is done outside of it.
"""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path

from copacetic.connect.stream import Stream
from copacetic.connect.tlsfiles import TlsFiles
from copacetic.errors import DaemonUnreachableError, UsageError

__all__ = ["TlsStream", "make_context"]

_CHUNK = 65_536


def make_context(files: TlsFiles, *, protocol: str) -> ssl.SSLContext:
    """Read the files; `protocol` is the one to agree on (RFC 7301). Raises `UsageError` when one can't be used."""
    if bool(files.cert) != bool(files.key):
        given, lacking = (files.cert, "key") if files.cert else (files.key, "certificate")
        raise UsageError(f"{given} comes without a {lacking}", hint="give --cert and --key together")
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if files.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(files.ca, lambda: context.load_verify_locations(files.ca), "certificates of authorities")
    if files.cert is not None and files.key is not None:
        cert, key, locked = files.cert, files.key, []

        def password() -> str:
            locked.append(True)
            return ""

        try:
            _load(key, lambda: context.load_cert_chain(cert, key, password), f"the key of {cert}")
        except UsageError as error:
            if locked:
                raise UsageError(f"the key {key} is encrypted", hint="give a key without a passphrase") from error
            raise
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def _load(path: Path, load: object, what: str) -> None:
    assert callable(load)
    try:
        load()
    except ssl.SSLError as error:
        hint = "take the key of that certificate" if "MISMATCH" in (error.reason or "") else "write it as PEM"
        raise UsageError(f"{path} doesn't hold {what}: {_reason(error)}", hint=hint) from error
    except OSError as error:
        shown = error.filename or path
        raise UsageError(f"can't read {shown}: {error.strerror}", hint="check the files for TLS") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or error.strerror or "unreadable").lower().replace("_", " ")


class TlsStream:
    """A connection after its handshake."""

    def __init__(self, inner: Stream, context: ssl.SSLContext, *, server_name: str, seconds: float, name: str) -> None:
        """Shake hands; raises `DaemonUnreachableError` with the reason why that failed, and closes `inner` then."""
        self._inner = inner
        self._name = name
        self._server_name = server_name
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._ready = b""
        self._closed = False
        try:
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
            self._shake_hands(time.monotonic() + seconds, seconds)
        except BaseException:
            inner.close()
            raise

    @property
    def protocol(self) -> str:
        """What both sides agreed on; empty when the server doesn't take part in that."""
        return self._object.selected_alpn_protocol() or ""

    def _shake_hands(self, deadline: float, seconds: float) -> None:
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLError as error:
                self._flush()  # the alert, so that the other side knows, too
                raise self._explain(error) from error
            else:
                self._flush()
                return
            if not self._inner.wait(deadline - time.monotonic()):
                raise DaemonUnreachableError(
                    f"{self._name}: no TLS handshake within {seconds:g} s",
                    hint="is it the right port, and does it use TLS? without --cacert the connection is plain",
                )
            try:
                self._feed()
            except OSError as error:
                raise DaemonUnreachableError(f"{self._name}: {error.strerror or error} in the handshake") from error

    def recv(self, size: int, /) -> bytes:
        while True:
            data = self._read(size)
            if data is not None:
                return data
            self._feed()

    def sendall(self, data: bytes, /) -> None:
        with self._write_lock:
            with self._lock:
                try:
                    self._object.write(data)
                except ssl.SSLError as error:
                    raise self._explain(error) from error
                waiting = self._outgoing.read()
            self._inner.sendall(waiting)

    def wait(self, seconds: float, /) -> bool:
        deadline = time.monotonic() + seconds
        while not self._ready:
            data = self._read(_CHUNK)
            if data is not None:
                self._ready = data
                return True
            if not self._inner.wait(deadline - time.monotonic()):
                return False
            self._feed()
        return True

    def close(self) -> None:
        self._closed = True
        self._inner.close()

    def last_words(self) -> str:
        return self._inner.last_words()

    def _read(self, size: int) -> bytes | None:
        """Return what is decrypted; none at the end, None when more has to come in first."""
        data: bytes | None
        if self._ready:
            data, self._ready = self._ready[:size], self._ready[size:]
            return data
        with self._lock:
            try:
                data = self._object.read(size)
            except ssl.SSLWantReadError:
                data = None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                if self._closed:
                    return b""
                raise self._explain(error) from error
        # Reading may want to send, a change of keys for example; a writer that is at it takes that along.
        if self._outgoing.pending and self._write_lock.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._write_lock.release()
        return data

    def _feed(self) -> None:
        data = self._inner.recv(_CHUNK)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        with self._lock:
            waiting = self._outgoing.read()
        if waiting:
            self._inner.sendall(waiting)

    def _explain(self, error: ssl.SSLError) -> DaemonUnreachableError:
        what, hint = _diagnose(error, self._server_name)
        return DaemonUnreachableError(f"{self._name}: {what}", hint=hint)


def _diagnose(error: ssl.SSLError, server_name: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _diagnose_certificate(error, server_name)
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return "it closed the connection during the TLS handshake", "is it the right port, and does it use TLS?"
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}:
        return "it doesn't use TLS", "leave out --cacert, --cert, --key and --tls-server-name"
    if "CERTIFICATE_REQUIRED" in reason or "ALERT_HANDSHAKE_FAILURE" in reason:
        return "it wants a certificate of the client", "give --cert and --key"
    if "ALERT_UNKNOWN_CA" in reason or "ALERT_BAD_CERTIFICATE" in reason or "ALERT_CERTIFICATE" in reason:
        said = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        return f"it refuses the client's certificate: {said}", "give a --cert that an authority of the daemon signed"
    return f"TLS failed: {_reason(error)}", "check the certificates of both sides"


_EXPIRED, _NOT_YET_VALID = 10, 9
_NAME_MISMATCHES = {62, 64}


def _diagnose_certificate(error: ssl.SSLCertVerificationError, server_name: str) -> tuple[str, str]:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired", "renew it there, and look at the clocks"
    if code == _NOT_YET_VALID:
        return "its certificate isn't valid yet", "look at the clocks of both sides"
    if code in _NAME_MISMATCHES:
        return f"its certificate isn't for {server_name!r}", "give a name that it is for with --tls-server-name"
    said = error.verify_message or "unknown authority"
    return f"its certificate isn't trusted: {said}", "give the authority's certificate with --cacert"
