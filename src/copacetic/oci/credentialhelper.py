# SPDX-License-Identifier: Apache-2.0
"""
Credential helpers: programs named `docker-credential-NAME` that keep passwords for docker, podman and crane.

The protocol is docker-credential-helpers': the registry on stdin, a JSON object on stdout. A helper is run without
a shell, for a limited time, and no more than a limited output of it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import time

from copacetic.errors import AuthenticationError

TIME_LIMIT = 30.0
OUTPUT_LIMIT = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_FOUND = ("credentials not found", "no credentials server url", "no credentials username")
_HINT = "install the helper, or log in again without it: `podman login` writes the password to a file"


def run_helper(name: str, server: str, *, time_limit: float = TIME_LIMIT) -> tuple[str, str] | None:
    """
    Ask a helper for the user and the secret of a registry; None when it knows none.

    Raises `AuthenticationError` when the helper is missing, fails, or answers nonsense.
    """
    if not _NAME.fullmatch(name):
        raise AuthenticationError(f"{name[:80]!r} is not the name of a credential helper", hint=_HINT)
    program = f"docker-credential-{name}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the name is checked, and there is no shell
            [program, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise AuthenticationError(f"{server}: {program} is not installed", hint=_HINT) from error
    except OSError as error:
        raise AuthenticationError(f"{server}: {program} can't be run: {error.strerror}", hint=_HINT) from error
    output = _exchange(process, server, time_limit)
    if output is None:
        raise AuthenticationError(f"{server}: {program} gives no answer within {time_limit:.0f} s", hint=_HINT)
    if len(output) > OUTPUT_LIMIT:
        raise AuthenticationError(f"{server}: {program} writes more than {OUTPUT_LIMIT} bytes", hint=_HINT)
    if process.returncode:
        said = output[:200].decode("utf-8", "replace").strip()
        if said.lower().startswith(_NOT_FOUND):
            return None
        message = f"{server}: {program} failed with status {process.returncode}: {said or 'it says nothing'}"
        raise AuthenticationError(message, hint=_HINT)
    return _parse(output, f"{server}: {program}")


def _exchange(process: subprocess.Popen[bytes], server: str, time_limit: float) -> bytes | None:
    """Return what the process writes, up to the limit; None when it takes too long, and is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + time_limit
    try:
        with contextlib.suppress(BrokenPipeError):  # it didn't want to know; its answer tells
            process.stdin.write(server.encode())
            process.stdin.close()
        output = _read(process.stdout.fileno(), deadline)
        if output is not None and len(output) <= OUTPUT_LIMIT:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()
        # A grandchild may hold the other end open; ours is closed in any case.
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return output


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Read to the end, or a little more than the limit; None when the time is over first."""
    output = bytearray()
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while len(output) <= OUTPUT_LIMIT:
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1_000):
            return None
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        output += data
    return bytes(output)


def _parse(output: bytes, where: str) -> tuple[str, str] | None:
    try:
        document = json.loads(output)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AuthenticationError(f"{where} answers something that is not a JSON object", hint=_HINT)
    user, secret = document.get("Username", ""), document.get("Secret", "")
    if not isinstance(user, str) or not isinstance(secret, str):
        raise AuthenticationError(f"{where} answers without a usable Username and Secret", hint=_HINT)
    return (user, secret) if user or secret else None
