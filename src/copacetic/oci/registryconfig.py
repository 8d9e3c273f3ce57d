# SPDX-License-Identifier: Apache-2.0
"""
Where a reference's bytes are, and how to get there: mirrors, plain HTTP, certificates.

Follows registries.conf (see `registriesconf`) and the `certs.d` directories of docker and podman. A mirror is only
ever read from, and its endpoint carries its own host's name, so it never gets what belongs to the origin.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from copacetic.errors import InvalidReferenceError, RegistryError, UsageError
from copacetic.http import TlsSettings
from copacetic.oci.reference import DEFAULT_REGISTRY, Reference
from copacetic.oci.registriesconf import Mirror, Rule, load_rules, select_rule
from copacetic.oci.registrysettings import RegistrySettings

_logger = logging.getLogger(__name__)


class Endpoint(Struct, frozen=True, kw_only=True):
    """One repository at one registry."""

    registry: str
    """`host[:port]` as in references: what credentials are kept for."""
    repository: str
    schemes: tuple[str, ...]
    """To be tried in this order, until the registry answers."""
    tls: TlsSettings
    is_mirror: bool = False

    @property
    def host(self) -> str:
        """Whom to connect to: the default registry's API has a host of its own."""
        return f"registry-1.{DEFAULT_REGISTRY}" if self.registry == DEFAULT_REGISTRY else self.registry

    @property
    def hostname(self) -> str:
        """The host without its port."""
        name, colon, port = self.host.rpartition(":")
        return (name if colon and port.isdigit() else self.host).strip("[]").lower()

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"


class RegistryConfig:
    """The settings with what the files say; it is read once, when it is made."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._rules = load_rules(settings.registries_conf)

    def select_pull(self, reference: Reference) -> tuple[Endpoint, ...]:
        """
        Return where to read from, in the order of trying; the last one is the origin.

        Raises `RegistryError` when the registry is blocked.
        """
        rule = self._select_rule(reference)
        endpoints = []
        for prefix, location in self._settings.mirrors:
            given = Rule(prefix=prefix.rstrip("/"))
            if covered := given.match(reference):
                endpoints.append(self._make_mirror(_parse_mirror(location), reference, covered))
        if rule is not None:
            covered = rule.match(reference)
            endpoints += [
                self._make_mirror(mirror, reference, covered)
                for mirror in rule.mirrors
                if (mirror.digests if reference.digest else mirror.tags)
            ]
            if rule.location and rule.location != rule.prefix:
                reference = _relocate(reference, rule.location, covered)
        endpoints.append(self._make_endpoint(reference, insecure=rule is not None and rule.insecure))
        return tuple(endpoints)

    def select_push(self, reference: Reference) -> Endpoint:
        """Return where to write to: always where the name says. Raises `RegistryError` when that is blocked."""
        rule = self._select_rule(reference)
        return self._make_endpoint(reference, insecure=rule is not None and rule.insecure)

    def _select_rule(self, reference: Reference) -> Rule | None:
        rule = select_rule(self._rules, reference)
        if rule is not None and rule.blocked:
            message = f"{reference}: {rule.prefix} is blocked by {rule.origin}"
            raise RegistryError(message, hint="name an image of another registry, or change that file")
        return rule

    def _make_mirror(self, mirror: Mirror, reference: Reference, covered: int) -> Endpoint:
        moved = _relocate(reference, mirror.location, covered)
        return self._make_endpoint(moved, insecure=mirror.insecure, plain=mirror.plain, is_mirror=True)

    def _make_endpoint(
        self, reference: Reference, *, insecure: bool, plain: bool = False, is_mirror: bool = False
    ) -> Endpoint:
        insecure = insecure or not self._settings.tls_verify
        if plain or self._settings.plain_http:
            schemes: tuple[str, ...] = ("http",)
        elif is_loopback(reference.registry):
            # TLS may be spoken there, too. Plain HTTP goes first: a server that waits for a line of text would
            # wait for a long time for the end of a TLS greeting, while one with TLS refuses text at once.
            schemes = ("http", "https")
        else:
            schemes = ("https", "http") if insecure else ("https",)
        return Endpoint(
            registry=reference.registry,
            repository=reference.repository,
            schemes=schemes,
            tls=self._load_tls(reference.registry, verify=not insecure),
            is_mirror=is_mirror,
        )

    def _load_tls(self, registry: str, *, verify: bool) -> TlsSettings:
        folders = [folder / registry for folder in self._settings.certs_dirs]
        if self._settings.cert_dir is not None:
            folders.insert(0, self._settings.cert_dir)
        for folder in folders:
            try:
                files = sorted(folder.iterdir())
            except OSError:  # not there, or not for us to see
                continue
            _logger.debug("%s: certificates from %s", registry, folder)
            return _read_certs(files, verify=verify)
        return TlsSettings(verify=verify)


def is_loopback(host: str) -> bool:
    """Tell whether `host[:port]` is this machine, without asking a name server."""
    from ipaddress import ip_address

    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdigit() else host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _read_certs(files: Sequence[Path], *, verify: bool) -> TlsSettings:
    certificate = next((file for file in files if file.suffix == ".cert"), None)
    key = certificate and certificate.with_suffix(".key")
    if key is not None and key not in files:
        raise UsageError(f"{certificate} has no {key.name} beside it", hint="add the key, or remove the certificate")
    return TlsSettings(
        verify=verify,
        ca_files=tuple(file for file in files if file.suffix == ".crt"),
        client_cert=certificate,
        client_key=key,
    )


def _parse_mirror(text: str) -> Mirror:
    scheme, has_scheme, rest = text.partition("://")
    if has_scheme and scheme not in {"http", "https"}:
        raise UsageError(f"{text[:100]!r} is not a mirror", hint="write host[:port][/path], or http:// before it")
    return Mirror(location=(rest if has_scheme else text).rstrip("/"), plain=has_scheme != "" and scheme == "http")


def _relocate(reference: Reference, location: str, covered: int) -> Reference:
    """Put a location in the place of the part of the name that a prefix covers."""
    text = location + reference.name[covered:]
    try:
        moved = Reference.parse(f"{text}:{reference.tag}" if reference.tag else text)
    except InvalidReferenceError as error:
        raise UsageError(f"{reference}: {location[:100]!r} is no place for it: {error}") from error
    if moved.registry.lower() != location.partition("/")[0].lower():
        message = f"{reference}: the location {location[:100]!r} has no host"
        raise UsageError(message, hint="a host has a dot or a port, or is localhost")
    return moved.with_digest(reference.digest) if reference.digest else moved
