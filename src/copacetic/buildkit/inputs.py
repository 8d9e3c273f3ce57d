# SPDX-License-Identifier: Apache-2.0
"""
What a builder may ask the client for while it solves: secrets, logins, folders, images; one handler for each method.

A builder gets what the caller put into `Inputs`, by its name, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from copacetic.buildkit import schema
from copacetic.buildkit.filesync import serve_directories
from copacetic.buildkit.grpc import Code, Handler, RpcError, ServerCall
from copacetic.buildkit.imagestore import ImageStore
from copacetic.buildkit.session import parse
from copacetic.errors import CopaError
from copacetic.llb.solver import Inputs
from copacetic.oci.credentials import Credentials
from copacetic.oci.reference import DEFAULT_REGISTRY

__all__ = ["InputServer"]

_HUB_HOSTS = {f"registry-1.{DEFAULT_REGISTRY}", f"index.{DEFAULT_REGISTRY}"}
_logger = logging.getLogger(__name__)


class InputServer:
    """The methods of a session over the caller's inputs; closed when the session has ended."""

    def __init__(self, inputs: Inputs) -> None:
        self._images = ImageStore(inputs.images)
        self.methods: dict[str, Handler] = {
            "/moby.filesync.v1.Auth/Credentials": _credentials(inputs.credentials),
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": _secret(inputs.secrets),
            "/moby.filesync.v1.FileSync/DiffCopy": serve_directories(inputs.directories),
            **self._images.methods(),
        }

    def close(self) -> None:
        """Close what a builder has left half read."""
        self._images.close()


def _unary(request_name: str, answer: Callable[[Any], Any]) -> Handler:
    def handle(call: ServerCall) -> None:
        request = parse(getattr(schema.session(), request_name), call.receive())
        call.send(answer(request).SerializeToString())

    return handle


def _credentials(find: Callable[[str], Credentials | None]) -> Handler:
    """The builder exchanges what it gets for a token itself; an identity token goes without a name."""

    def answer(request: Any) -> Any:
        host = DEFAULT_REGISTRY if request.host in _HUB_HOSTS else request.host
        try:
            found = find(host)
        except CopaError as error:
            raise RpcError(Code.UNAUTHENTICATED, str(error)) from error
        response = schema.session().CredentialsResponse()
        if found is None:
            return response
        _logger.debug("the builder gets the login for %s from %s", host, found.origin)
        if found.identity_token:
            response.secret = found.identity_token
        else:
            response.username, response.secret = found.username, found.password
        return response

    return _unary("CredentialsRequest", answer)


def _secret(known: Mapping[str, bytes]) -> Handler:
    def answer(request: Any) -> Any:
        if request.id not in known:
            raise RpcError(Code.NOT_FOUND, f"secret {request.id}: not found")
        return schema.session().GetSecretResponse(data=known[request.id])

    return _unary("GetSecretRequest", answer)
