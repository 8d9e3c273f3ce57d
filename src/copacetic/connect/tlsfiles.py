# SPDX-License-Identifier: Apache-2.0
"""The files that a connection with TLS needs, apart from TLS itself: that is a lot to load for a default."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

__all__ = ["TlsFiles"]


class TlsFiles(Struct, frozen=True, kw_only=True):
    """What a connection with TLS needs. Files are PEM; without `ca` the authorities of this machine count."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""
    """The name that the certificate has to have, when it isn't the host's."""
    verify: bool = True

    def __bool__(self) -> bool:
        """Whether TLS was asked for at all."""
        return bool(self.ca or self.cert or self.key or self.server_name or not self.verify)
