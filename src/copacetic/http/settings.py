# SPDX-License-Identifier: Apache-2.0
"""What a client is told once: values only, so that importing them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class TlsSettings(Struct, frozen=True, kw_only=True):
    """TLS for one host; the defaults are the system's."""

    verify: bool = True
    ca_files: tuple[Path, ...] = ()
    """Certificates of authorities to trust besides the system's."""
    client_cert: Path | None = None
    client_key: Path | None = None


class HttpSettings(Struct, frozen=True, kw_only=True):
    """The same for every request of one run."""

    proxies: Mapping[str, str] = {}
    """By scheme (`http`, `https`), plus `no`: a comma-separated list as in NO_PROXY."""
    ca_files: tuple[Path, ...] = ()
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    patience: float = 120.0
    """Seconds to wait, in all, for an answer that comes more slowly than 1,000 bytes in a second."""
    retries: int = 4
    user_agent: str = "copacetic"
