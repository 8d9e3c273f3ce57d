# SPDX-License-Identifier: Apache-2.0
"""What the user says about registries, apart from what is done with it: most runs don't get that far."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class RegistrySettings(Struct, frozen=True, kw_only=True):
    """What the user says about registries; paths that don't exist are passed over."""

    plain_http: bool = False
    """Plain HTTP and nothing else, for every registry."""
    tls_verify: bool = True
    """False accepts every certificate, and plain HTTP where there is no TLS."""
    cert_dir: Path | None = None
    """A directory like one of certs.d, for every registry."""
    certs_dirs: tuple[Path, ...] = ()
    """Directories of one directory per `host[:port]`; the first that has one counts."""
    registries_conf: tuple[Path, ...] = ()
    """registries.conf files and drop-in directories, in the order of reading."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """
    Prefixes and mirrors for them, tried before those of registries.conf; a mirror is `host[:port][/path]`, and
    `http://` in front of it permits plain HTTP.
    """
