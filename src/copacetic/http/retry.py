# SPDX-License-Identifier: Apache-2.0
"""
When to ask again, and after how long.

Retry-After (RFC 9110, 10.2.3) is honoured up to a bound; a server that wants a longer pause gets no further
request.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime

LONGEST_PAUSE = 60.0
_FIRST = 0.5
_LONGEST_BACKOFF = 20.0
_TRANSIENT = frozenset({408, 429})
_PERMANENT = frozenset({501, 505})


def is_transient(status: int) -> bool:
    """Tell whether an answer may be another one a little later."""
    return status in _TRANSIENT or (status >= 500 and status not in _PERMANENT)


def backoff(attempt: int) -> float:
    """
    Return the pause in seconds after a failed attempt (0 is the first).

    It is random in part, so that clients that failed together don't come back together.
    """
    full = min(_FIRST * 2.0 ** min(attempt, 16), _LONGEST_BACKOFF)
    return full * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, hides nothing


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Return the pause in seconds that a header asks for, or None when it makes no sense."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def select_pause(headers: Mapping[str, str], attempt: int) -> float | None:
    """Return how long to wait before the next attempt, or None when the server asks for too long."""
    asked = headers.get("Retry-After")
    wanted = parse_retry_after(asked, datetime.now(UTC)) if asked else None
    if wanted is None:
        return backoff(attempt)
    return max(wanted, 0.05) if wanted <= LONGEST_PAUSE else None
