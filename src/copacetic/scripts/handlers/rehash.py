# SPDX-License-Identifier: Apache-2.0
"""
Links to certificates by the hash of their subjects, by which OpenSSL finds them.

Follows openssl-rehash(1), which Debian's update-ca-certificates calls, and Alpine's c_rehash: a file counts when it has
exactly one certificate, the same certificate counts once, and links whose numbers are low enough stay.
"""

from __future__ import annotations

import re

from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.x509 import Certificate, read_certificates

__all__ = ["rehash"]

MAX_FILE = 64 * 1024 * 1024
_HASH_LINK = re.compile(r"([0-9a-f]{8})\.(\d+)")
_CERTIFICATE = re.compile(r".+\.(?:pem|crt|cer)", re.IGNORECASE)


def rehash(tree: TreeBuilder, folder: str, *, mtime: int) -> None:
    """Make the links by hash agree with the certificates; a link whose number is low enough keeps it."""
    present: dict[str, dict[int, str]] = {}
    wanted: dict[str, dict[str, str]] = {}
    for name in sorted(tree.iterdir(folder), key=lambda name: name.encode("utf-8", "surrogateescape")):
        path = f"{folder}/{name}"
        target, match = tree.target_of(path), _HASH_LINK.fullmatch(name)
        if match is not None and target is not None:
            present.setdefault(match[1], {})[int(match[2])] = target
            continue
        certificate = _only_certificate(tree, path) if _CERTIFICATE.fullmatch(name) else None
        if certificate is not None:
            wanted.setdefault(certificate.subject_hash, {}).setdefault(certificate.fingerprint, name)
    for number in sorted(present.keys() | wanted.keys()):
        names = list(wanted.get(number, {}).values())
        _settle_hash(tree, f"{folder}/{number}", present.get(number, {}), names, mtime)


def _settle_hash(tree: TreeBuilder, stem: str, present: dict[int, str], names: list[str], mtime: int) -> None:
    kept = {index: target for index, target in present.items() if index < len(names) and target in names}
    missing = [name for name in names if name not in kept.values()]
    free = [index for index in range(len(names)) if index not in kept]
    for index, target in present.items():
        if kept.get(index) != target:
            tree.remove(f"{stem}.{index}")
    for index, name in zip(free, missing, strict=False):
        tree.symlink(f"{stem}.{index}", name, mtime=mtime)


def _only_certificate(tree: TreeBuilder, path: str) -> Certificate | None:
    try:
        found = read_certificates(tree.find(path, limit=MAX_FILE) or b"")
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None
