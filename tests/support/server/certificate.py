# SPDX-License-Identifier: Apache-2.0
"""Certificates for servers on loopback, made by the openssl program and thrown away."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, its key, and the authority that signed it."""

    file: Path
    key: Path
    authority: Path
    authority_key: Path

    def server_context(self, *, client_authority: Path | None = None) -> ssl.SSLContext:
        """Return what a server needs; with a `client_authority` clients need a certificate of theirs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        if client_authority is not None:
            context.load_verify_locations(client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificate(
    folder: Path,
    *,
    names: tuple[str, ...] = ("DNS:localhost", "IP:127.0.0.1"),
    days: int = 2,
    key: tuple[str, ...] = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
) -> Certificate:
    """
    Make an authority and a certificate signed by it, in files of the folder.

    A negative number of days makes one that has expired. Skips the test where there is no openssl.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(
        file=folder / "server.crt",
        key=folder / "server.key",
        authority=folder / "ca.crt",
        authority_key=folder / "ca.key",
    )
    _openssl(
        "req", "-x509", *key, "-keyout", made.authority_key, "-out", made.authority,
        "-subj", "/CN=an authority for tests", "-days", "30",
    )  # fmt: skip
    request, extensions = folder / "server.csr", folder / "server.ext"
    extensions.write_text("subjectAltName=" + ",".join(names) + "\n")
    _openssl("req", *key, "-keyout", made.key, "-out", request, "-subj", "/CN=a server for tests")
    _openssl(
        "x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", made.authority_key,
        "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", made.file,
    )  # fmt: skip
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
