# SPDX-License-Identifier: Apache-2.0
"""
Which proxy serves an address.

There is no standard for NO_PROXY; this follows Go's net/http, which users of docker, podman and crane know:
entries are `host`, `.domain`, `*.domain` and addresses, each with an optional port, networks in CIDR
notation, or `*`. A name also covers everything below it, `.domain` only that. Loopback is never proxied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from copacetic.errors import UsageError
from copacetic.http.address import find_origin, show_address

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


def select_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """
    Return the proxy for an address, or None for a direct connection.

    Raises `UsageError` for a proxy of a kind that can't be used.
    """
    if not proxies:
        return None
    origin = find_origin(url)
    proxy = proxies.get(origin.scheme, "")
    if not proxy or is_exempt(origin.host, origin.port, proxies.get("no", "")):
        return None
    if "://" not in proxy:
        proxy = "http://" + proxy
    if not proxy.startswith(("http://", "https://")):
        raise UsageError(
            f"the proxy {show_address(proxy)} is not an http or https one",
            hint="set HTTP_PROXY and HTTPS_PROXY to http://HOST:PORT, or unset them",
        )
    return proxy


def is_exempt(host: str, port: int, exemptions: str) -> bool:
    """Tell whether a NO_PROXY list names this host."""
    host = host.lower().rstrip(".")
    address = _parse_ip(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in exemptions.split(","))
    return any(_matches(entry, host, address, port) for entry in entries if entry)


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, wanted_port = _split_port(entry)
    if wanted_port and wanted_port != str(port):
        return False
    if (wanted := _parse_ip(name)) is not None:
        return wanted == address
    name = name.removeprefix("*").rstrip(".")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith("." + name)


def _in_network(address: IPv4Address | IPv6Address, entry: str) -> bool:
    from ipaddress import ip_network

    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") > 1:  # a bare IPv6 address
        return entry, ""
    name, _, port = entry.partition(":")
    return name, port


def _parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import ip_address

    try:
        return ip_address(text)
    except ValueError:
        return None
