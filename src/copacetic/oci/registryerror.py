# SPDX-License-Identifier: Apache-2.0
"""
What a registry's refusal means: from a status and the error document of the distribution specification to an error.

The registry's own words are shown, shortened, and never instead of ours.
"""

from __future__ import annotations

import json

from copacetic.errors import (
    AuthenticationError,
    IntegrityError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    UnreachableError,
)
from copacetic.http import Response

_BODY_LIMIT = 64 * 1024
_WORDS_LIMIT = 300
_ERRORS_SHOWN = 2


def explain_answer(response: Response, what: str) -> RegistryError:
    """Return the error for an answer that is none of the expected ones, and be done with the answer."""
    words = _read_words(response)
    said = f" ({words})" if words else ""
    status = response.status
    if status == 401:
        return AuthenticationError(f"{what}: the login is refused{said}")
    if status == 403:
        return AuthenticationError(f"{what}: access is denied{said}")
    if status == 404:
        return NotFoundError(f"{what}: not found{said}")
    if status == 429:
        pause = response.headers.get("Retry-After", "")[:40]
        later = f", it says to come back after {pause}{' s' if pause.isdigit() else ''}" if pause else ""
        return RateLimitedError(f"{what}: too many requests{later}{said}")
    hint = "try again later; the registry has a problem" if status >= 500 else None
    return RegistryError(f"{what}: the registry answers with status {status}{said}", hint=hint)


def _read_words(response: Response) -> str:
    """Return the codes and messages of the error document, or what else the registry says in text."""
    try:
        with response:
            body = response.read_all(_BODY_LIMIT)
    except (UnreachableError, IntegrityError):
        return ""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "")
        return _shorten(body.decode("utf-8", "replace")) if kind.startswith("text/plain") else ""
    errors = document.get("errors") if isinstance(document, dict) else None
    if isinstance(errors, list):
        return "; ".join(filter(None, map(_describe, errors[:_ERRORS_SHOWN])))
    return _describe(document)


def _describe(error: object) -> str:
    """Understand the distribution's errors, and the token servers' `details` and OAuth's `error_description`."""
    if not isinstance(error, dict):
        return ""
    code = error.get("code") or error.get("error")
    message = error.get("message") or error.get("details") or error.get("error_description")
    return _shorten(": ".join(str(part) for part in (code, message) if isinstance(part, str | int) and part))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WORDS_LIMIT else text[: _WORDS_LIMIT - 1] + "…"
