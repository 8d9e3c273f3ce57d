# SPDX-License-Identifier: Apache-2.0
"""Package URLs as scanners write them, taken apart; nothing of one is trusted before the grammar has seen it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from msgspec import Struct

__all__ = ["Purl", "read_purl"]

MAX_LENGTH = 2_000
MAX_QUALIFIERS = 20


class Purl(Struct, frozen=True):
    """`pkg:type/namespace/name@version?qualifiers`, decoded."""

    type: str
    namespace: str
    name: str
    version: str
    qualifiers: Mapping[str, str]

    @property
    def package(self) -> str:
        """The name as the ecosystem's own tools write it."""
        if not self.namespace or self.type in {"deb", "apk", "rpm", "alpm"}:
            return self.name
        return f"{self.namespace}{':' if self.type == 'maven' else '/'}{self.name}"

    @property
    def full_version(self) -> str:
        """With the epoch, which may be a qualifier."""
        epoch = self.qualifiers.get("epoch", "")
        return f"{epoch}:{self.version}" if epoch and ":" not in self.version else self.version

    @property
    def architecture(self) -> str:
        """In the words of the package manager; empty when it names none."""
        return self.qualifiers.get("arch", "")


def read_purl(text: object) -> Purl | None:
    """Return the parts of what is a package URL by its form, None for everything else."""
    if not isinstance(text, str) or not text.startswith("pkg:") or len(text) > MAX_LENGTH:
        return None
    rest, _, query = text[4:].partition("#")[0].partition("?")
    path, _, version = rest.strip("/").rpartition("@") if "@" in rest.rpartition("/")[2] else (rest.strip("/"), "", "")
    kind, _, path = path.partition("/")
    namespace, _, name = path.rpartition("/")
    if not kind or not name:
        return None
    pairs = (pair.partition("=") for pair in query.split("&", MAX_QUALIFIERS)[:MAX_QUALIFIERS] if pair)
    return Purl(
        type=kind.lower(),
        namespace=_decode(namespace),
        name=_decode(name),
        version=_decode(version),
        qualifiers={key.lower(): _decode(value) for key, _, value in pairs},
    )


def _decode(text: str) -> str:
    return unquote(text) if "%" in text else text
