# SPDX-License-Identifier: Apache-2.0
"""
Requests to registries, as the OCI distribution specification has them: where to, with which login.

Thread-safe; one for a whole run, so that connections, tokens and answers about plain HTTP are shared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from threading import Lock

from copacetic.errors import CopaError, UnreachableError
from copacetic.http import HttpClient, Response
from copacetic.http.address import find_origin
from copacetic.oci.auth import Access, Authorizer
from copacetic.oci.challenge import PULL, make_scope
from copacetic.oci.credentials import Keychain
from copacetic.oci.registryconfig import Endpoint, RegistryConfig

_HIDDEN = frozenset({403, 404})
_logger = logging.getLogger(__name__)


class RegistryClient:
    """Sends requests; what an answer means is for the caller to say."""

    def __init__(self, http: HttpClient, config: RegistryConfig, keychain: Keychain) -> None:
        self.http = http
        self.config = config
        self._authorizer = Authorizer(http, keychain)
        self._lock = Lock()
        self._bases: dict[tuple[str, tuple[str, ...]], str] = {}
        self._refusals: dict[str, Mapping[str, str]] = {}

    def send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        what: str,
        actions: str = PULL,
        also_pull: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        redirect: bool = True,
        retry: bool = True,
    ) -> Response:
        """
        Send a request, log in if the registry asks for it, and return the answer, whatever its status.

        `path` is below the repository, or a whole address that the registry gave. `also_pull` names a second
        repository that the request reads from. A body that is an iterable is sent once: then a refused login is an
        answer like any other; otherwise it is an `AuthenticationError`. Messages of errors begin with `what`.
        """
        try:
            base = self.find_base(endpoint)
        except UnreachableError as error:
            raise error.reworded(f"{what}: {error}") from error
        url = path if "://" in path else f"{base}/v2/{endpoint.repository}/{path}"
        scopes = (make_scope(endpoint.repository, actions), *((make_scope(also_pull, PULL),) if also_pull else ()))
        access = Access(endpoint=endpoint, scopes=scopes, plain=base.startswith("http:"), what=what)

        def send_once(authorization: str) -> Response:
            known = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            try:
                return self.http.open(
                    method, url, headers=known, body=body, tls=endpoint.tls, redirect=redirect, retry=retry
                )
            except UnreachableError as error:
                raise error.reworded(f"{what}: {error}") from error

        if find_origin(url) != find_origin(base):
            return send_once("")
        return self._log_in(access, send_once, base, repeatable=body is None or isinstance(body, bytes))

    def _log_in(self, access: Access, send: Callable[[str], Response], base: str, *, repeatable: bool) -> Response:
        """Send with what is known; when that is refused, send again with what the registry asks for."""
        authorization = self._authorizer.authorize(access)
        response = send(authorization)
        # After a redirect it is a storage host that refuses, and our login is not for it.
        if find_origin(response.url) != find_origin(base):
            return response
        if response.status in _HIDDEN and repeatable and not authorization:
            return self._introduce(access, response, send, base)
        if response.status != 401:
            return response
        try:
            renewed = self._authorizer.reauthorize(access, response.headers, refused=authorization)
        except CopaError:
            response.close()
            raise
        if not repeatable:
            return response
        if renewed:
            response.discard()
            response = send(renewed)
        if response.status == 401:
            raise self._authorizer.explain(access, response, tried=bool(renewed or authorization))
        return response

    def _introduce(self, access: Access, response: Response, send: Callable[[str], Response], base: str) -> Response:
        """
        Send again with a login where a registry hides from strangers what it has, instead of asking who they are.

        Its base address says how to log in; that is asked once, and only when there is something to log in with.
        """
        if not self._authorizer.has_password(access):
            return response
        try:
            renewed = self._authorizer.reauthorize(access, self._ask_challenge(access.endpoint, base), refused="")
        except CopaError as error:
            _logger.debug("%s: no login: %s", access.where, error)
            return response
        if not renewed:
            return response
        response.discard()
        return send(renewed)

    def _ask_challenge(self, endpoint: Endpoint, base: str) -> Mapping[str, str]:
        """Return the headers of a refusal, or some that ask for nothing that is known."""
        with self._lock:
            if base not in self._refusals:
                response = self.http.open("GET", f"{base}/v2/", tls=endpoint.tls, retry=False, redirect=False)
                response.discard()
                refused = response.status == 401
                self._refusals[base] = response.headers if refused else {"WWW-Authenticate": "none"}
            return self._refusals[base]

    def find_base(self, endpoint: Endpoint) -> str:
        """
        Return the beginning of a registry's addresses, `scheme://host`.

        Where more than one scheme is permitted, the registry is asked once, without a login.
        """
        if len(endpoint.schemes) == 1:
            return f"{endpoint.schemes[0]}://{endpoint.host}"
        key = (endpoint.host, endpoint.schemes)
        with self._lock:
            if key not in self._bases:
                self._bases[key] = self._probe(endpoint)
            return self._bases[key]

    def _probe(self, endpoint: Endpoint) -> str:
        failures: list[UnreachableError] = []
        for scheme in endpoint.schemes:
            base = f"{scheme}://{endpoint.host}"
            try:
                response = self.http.open("GET", f"{base}/v2/", tls=endpoint.tls, retry=False, redirect=False)
            except UnreachableError as error:
                failures.append(error)
                continue
            response.discard()
            # Servers with TLS answer a plain request with 400, and nothing else does here.
            if scheme == "http" and response.status == 400 and len(endpoint.schemes) > len(failures) + 1:
                failures.append(UnreachableError(f"{base}/v2/: it wants TLS"))
                continue
            _logger.debug("%s speaks %s", endpoint.host, scheme)
            return base
        telling = [error for error in failures if "TLS" in str(error) or "certificate" in str(error)]
        if endpoint.schemes[0] == "http":  # what went wrong without TLS says more than that there is none
            telling = [error for error in telling if "doesn't speak TLS" not in str(error)]
        raise telling[-1] if telling else failures[0]
