# SPDX-License-Identifier: Apache-2.0
"""
Connections, kept open and shared: one pool per TLS settings, proxy and reach.

urllib3 only moves bytes here: it follows no redirect, retries nothing and decodes nothing.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from copacetic.errors import UsageError
from copacetic.http.address import find_origin, split_credentials
from copacetic.http.proxy import select_proxy
from copacetic.http.reach import Reach
from copacetic.http.settings import HttpSettings, TlsSettings

if TYPE_CHECKING:
    import ssl

    from urllib3 import PoolManager

    from copacetic.http.streamed import WaitableStream

_CONNECTIONS = 64
"""Per host; more can be open at once, and are not kept."""
# Where distributions keep their bundle, for an OpenSSL that was built with other paths.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Pools:
    """Thread-safe; made on first use, closed together."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._pools: dict[tuple[TlsSettings | None, str | None, Reach | None], PoolManager] = {}

    def select(self, url: str, tls: TlsSettings, reach: Reach | None = None) -> PoolManager:
        """Return the pool through which an address is reached. Raises `RefusedAddressError` for one out of reach."""
        if reach is not None:
            reach.check(url)
        proxy = select_proxy(url, self._settings.proxies)
        key = (tls if find_origin(url).scheme == "https" else None, proxy, reach if proxy is None else None)
        with self._lock:
            if (pool := self._pools.get(key)) is None:
                self._pools[key] = pool = self._make(*key)
        return pool

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def _make(self, tls: TlsSettings | None, proxy: str | None, reach: Reach | None) -> PoolManager:
        import urllib3

        from copacetic.http.connection import make_pool_classes

        context = None if tls is None else make_context(tls, self._settings.ca_files)
        if proxy is None:
            pool = urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context)
        else:
            address, credentials = split_credentials(proxy)
            pool = urllib3.ProxyManager(
                address,
                maxsize=_CONNECTIONS,
                ssl_context=context,
                proxy_headers=urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None,
                proxy_ssl_context=self._proxy_context(address),
            )
        verified = tls is None or tls.verify
        pool.pool_classes_by_scheme = make_pool_classes(
            reach, patience_given=self._settings.patience, verified=verified
        )
        return pool

    def _proxy_context(self, address: str) -> ssl.SSLContext | None:
        return make_context(TlsSettings(), self._settings.ca_files) if address.startswith("https:") else None


class StreamPools(Pools):
    """
    Leads every address into one stream, be it a socket, a program's pipes or what else carries bytes.

    A `lent` one is read no further than an answer goes, and is closed by its owner: for a connection that goes on in
    another protocol.
    """

    def __init__(self, settings: HttpSettings, stream: WaitableStream, *, lent: bool = False) -> None:
        super().__init__(settings)
        self._stream = stream
        self._lent = lent

    def _make(self, tls: TlsSettings | None, proxy: str | None, reach: Reach | None) -> PoolManager:
        import urllib3

        from copacetic.http.streamed import make_pool_class

        pool = urllib3.PoolManager()
        made = make_pool_class(self._stream, patience_given=self._settings.patience, lent=self._lent)
        pool.pool_classes_by_scheme = {"http": made}
        return pool


def make_context(tls: TlsSettings, more_ca_files: tuple[Path, ...]) -> ssl.SSLContext:
    """
    Return the TLS settings as the ssl module takes them.

    Python 3.13's strictness is off: many a private authority's certificate lacks the fields it wants.

    Raises `UsageError` for a file that can't be read as a certificate or key.
    """
    import ssl

    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_bundle(context)
    for file in (*more_ca_files, *tls.ca_files):
        try:
            context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as error:
            message = f"{file}: can't be read as CA certificates in PEM form"
            raise UsageError(message, hint=_reason(error)) from error
    if tls.client_cert is not None:
        try:
            context.load_cert_chain(tls.client_cert, tls.client_key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            message = f"{tls.client_cert}: can't be used as a client certificate with its key"
            raise UsageError(message, hint=_reason(error)) from error
    return context


def _load_bundle(context: ssl.SSLContext) -> None:
    """Find the system's authorities where neither OpenSSL nor SSL_CERT_FILE and SSL_CERT_DIR know of any."""
    import ssl

    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return
    bundle = next((path for path in map(Path, _BUNDLES) if path.is_file()), None)
    if bundle is not None:
        context.load_verify_locations(cafile=bundle)


def _no_password() -> str:
    """Keep OpenSSL from asking at the terminal."""
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    if type(error).__module__ == "ssl":  # also an OSError, with OpenSSL's internals as text
        return "it holds no certificate, or not the one that its key is for"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
