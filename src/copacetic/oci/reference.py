# SPDX-License-Identifier: Apache-2.0
"""
Image references, by the grammar of the OCI distribution specification and docker's rules for short names.

`Reference.parse(str(reference)) == reference` for every reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from copacetic.errors import CopaError, InvalidReferenceError
from copacetic.oci.descriptor import Digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_MAX_NAME = 255
_MAX_TEXT = 1_024
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_PRIVATE_DOMAINS = (".local", ".internal", ".localhost", ".localdomain", ".lan", ".intranet", ".private", ".corp",
                    ".home", ".home.arpa", ".svc", ".test", ".invalid")  # fmt: skip
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`registry/repository[:tag][@digest]`, complete."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """
        Read a reference; `nginx` is `docker.io/library/nginx:latest`, and a digest makes a tag unnecessary.

        Raises `InvalidReferenceError`, saying which part is wrong.
        """
        shown = repr(text[:200])
        if len(text) > _MAX_TEXT:
            raise InvalidReferenceError(f"{shown}… is longer than any reference ({_MAX_TEXT} characters)")
        if _IMAGE_ID.fullmatch(text):
            raise InvalidReferenceError(f"{shown} is an image ID; name the image by its repository")
        name, digest = text, None
        if "@" in text:
            name, _, digest_text = text.partition("@")
            try:
                digest = Digest.parse(digest_text)
            except CopaError:
                raise InvalidReferenceError(f"{shown}: the part after @ is not a digest") from None
        registry, rest = _split_registry(name, shown)
        repository, tag = _split_tag(rest, shown)
        if registry == DEFAULT_REGISTRY and repository and "/" not in repository:
            repository = f"library/{repository}"
        _check_repository(repository, registry, shown)
        if not tag and digest is None:
            tag = DEFAULT_TAG
        return cls(registry=registry, repository=repository, tag=tag, digest=digest)

    @classmethod
    def parse_tag(cls, text: str) -> str:
        """Check a tag alone. Raises `InvalidReferenceError`."""
        if not _TAG.fullmatch(text):
            raise InvalidReferenceError(f"{text[:200]!r} is not a tag: letters, digits, _, . and -, at most 128")
        return text

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def public_name(self) -> str:
        """
        The repository, with the registry where strangers could reach it.

        Left out is a host without a dot, an IP address, and one under a name that isn't the public DNS's. The same
        image has the same name whatever tag or digest it was called by.
        """
        host = self.registry
        bare = host if host.startswith("[") else host.rpartition(":")[0] or host
        is_private = "." not in bare or bare.startswith("[") or bare.replace(".", "").isdigit()
        is_private = is_private or bare.lower().endswith(_PRIVATE_DOMAINS)
        return self.repository if is_private else self.name

    @property
    def familiar(self) -> str:
        """As docker shows it: without the default registry and its library."""
        if self.registry != DEFAULT_REGISTRY:
            return str(self)
        library, slash, name = self.repository.partition("/")
        short = replace(self, repository=name) if (library, slash) == ("library", "/") and "/" not in name else self
        text = str(short).removeprefix(f"{DEFAULT_REGISTRY}/")
        # A first part such as `a.b` or an ID would be taken for something else without the registry before it.
        return text if means(text, self) else str(self)

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository with another tag and no digest."""
        return replace(self, tag=Reference.parse_tag(tag), digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same name pinned to a digest; the tag stays, for people."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def means(text: str, reference: Reference) -> bool:
    """Tell whether a text is another way to write a reference."""
    try:
        return Reference.parse(text) == reference
    except InvalidReferenceError:
        return False


def _split_registry(name: str, shown: str) -> tuple[str, str]:
    """The first component is a registry when it looks like a host: a dot, a port, `localhost`, or capitals."""
    first, slash, rest = name.partition("/")
    if not slash or not (
        "." in first or ":" in first or first == "localhost" or first.startswith("[") or first.lower() != first
    ):
        return DEFAULT_REGISTRY, name
    if not _HOST.fullmatch(first):
        raise InvalidReferenceError(f"{shown}: {first[:100]!r} is not a registry host")
    _, colon, port = first.rpartition(":")
    if colon and port.isdigit() and int(port) > 65_535:
        raise InvalidReferenceError(f"{shown}: there is no port {port}")
    return (DEFAULT_REGISTRY if first == f"index.{DEFAULT_REGISTRY}" else first), rest


def _split_tag(rest: str, shown: str) -> tuple[str, str]:
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{shown}: {tag[:140]!r} is not a tag")
    return repository, tag


def _check_repository(repository: str, registry: str, shown: str) -> None:
    if not repository:
        raise InvalidReferenceError(f"{shown} names no repository")
    if repository.lower() != repository:
        raise InvalidReferenceError(f"{shown}: a repository's name is lower case")
    for component in repository.split("/"):
        if not _COMPONENT.fullmatch(component):
            what = "an empty part" if not component else repr(component[:100])
            raise InvalidReferenceError(f"{shown}: the repository has {what} in its name")
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise InvalidReferenceError(f"{shown}: the name is longer than {_MAX_NAME} characters")
