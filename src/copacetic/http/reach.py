# SPDX-License-Identifier: Apache-2.0
"""
Where requests may go whose addresses an image has chosen.

An image names its repositories, so without this it would choose what this machine connects to. What only this machine
and its neighbours can reach, and the addresses at which clouds hand out credentials, are refused unless the user names
them. The address that is judged is the one that is connected to: names are resolved once, by the connection itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import RefusedAddressError
from copacetic.http.address import find_origin

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_METADATA = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # within the shared range of RFC 6598
            "168.63.129.16",  # public by its number, and answered by the hypervisor
            "169.254.169.254",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
        ),
    )
)
_METADATA_NAMES = frozenset({"instance-data", "instance-data.ec2.internal", "metadata", "metadata.google.internal"})
_LOOPBACK_NAMES = frozenset({"ip6-localhost", "ip6-loopback", "localhost", "localhost.localdomain"})
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")


class Reach(Struct, frozen=True, kw_only=True):
    """The default refuses loopback, link-local and metadata addresses; private networks are where mirrors stand."""

    networks: tuple[Network, ...] = ()
    """Permitted whatever they are."""
    named: frozenset[tuple[str, int]] = frozenset()
    """Hosts and ports that the user, or this machine's configuration, names: they may be anywhere."""
    registry: str = ""
    """`host[:port]` of the image's own registry: its repositories may be at the same address."""
    public_only: bool = False
    """Refuse private networks too, and what is at the registry's address."""

    def naming(self, urls: Iterable[str]) -> Reach:
        """Permit these addresses as well."""
        origins = map(find_origin, urls)
        return replace(self, named=self.named | {(origin.host, origin.port) for origin in origins})

    def check(self, url: str) -> None:
        """Raises `RefusedAddressError` for an address that says by itself where it leads: a proxy would go there."""
        host, port = find_origin(url)[1:]
        address = _literal(host)
        if address is not None and (host, port) not in self.named and (reason := self._objection(address)):
            raise _refusal(host, address, reason)

    def select(self, host: str, port: int, addresses: Iterable[str]) -> list[str]:
        """Return those of a host's addresses that may be connected to; raises `RefusedAddressError` when none may."""
        found = list(addresses)
        if (host.lower(), port) in self.named:
            return found
        judged = [(text, self._objection(ip_address(text))) for text in found]
        permitted = [text for text, reason in judged if not reason]
        if judged and not permitted:
            raise _refusal(host, ip_address(judged[0][0]), judged[0][1])
        return permitted

    def _objection(self, address: Address) -> str:
        """Say what is wrong with an address; empty when it is permitted."""
        for meant in _meant(address):
            reason = self._describe(meant)
            if reason and not any(address in network or meant in network for network in self.networks):
                at_registry = self.registry and not self.public_only and meant in _addresses(self.registry)
                return "" if at_registry else reason
        return ""

    def _describe(self, address: Address) -> str:
        if address in _METADATA:
            return "a metadata service"
        if address.is_loopback:
            return "on loopback"
        if address.is_link_local:
            return "link-local"
        if address.is_unspecified or (address.version == 4 and address in _THIS_NETWORK):
            return "this machine itself"
        if address.is_multicast or (address.version == 4 and address.is_reserved):
            return "no host's address"
        return "in a private network" if self.public_only and not address.is_global else ""


def parse_network(text: str) -> Network:
    """Raises `ValueError`; an address alone is a network of one."""
    return ip_network(text, strict=False)


def _refusal(host: str, address: Address, reason: str) -> RefusedAddressError:
    which = "" if host == str(address) else f" ({address})"
    return RefusedAddressError(f"an image's repository may not lead to {host}{which}, which is {reason}")


def _meant(address: Address) -> Iterator[Address]:
    """Yield an address, and the IPv4 address that translators and tunnels read out of it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in (*_NAT64, _COMPATIBLE)) and int(address) > 1:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    yield from filter(None, inner)


def _literal(host: str) -> Address | None:
    """Return the address that a host is by its spelling, in any of the forms that a C library takes."""
    name = host.rstrip(".").lower()
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    if name in _METADATA_NAMES:
        return IPv4Address("169.254.169.254")
    try:
        return ip_address(name)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(name))
    except (OSError, ValueError):
        return None


@cache
def _addresses(registry: str) -> frozenset[Address]:
    host = find_origin(f"https://{registry}").host
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(ip_address(row[4][0]) for row in rows)
