# SPDX-License-Identifier: Apache-2.0
"""`worker://` as an address, with what a program in this machine's sandbox may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from copacetic.cli.options import Duration
from copacetic.errors import InvalidAddressError

if TYPE_CHECKING:
    from copacetic.worker.execution import Limits

WORKER = "worker://"
"""Stands for this machine in place of a builder's address."""
_HINT = "the form is worker://?memory=16G&disk=50G&output=1G&processes=9000&files=5000000&time=2h, with any of these"
_MOST = 1 << 50


def names_worker(address: str) -> bool:
    """Tell whether no builder is to be looked for: this machine is it."""
    return address == WORKER or address.startswith(f"{WORKER}?")


def worker_limits(address: str, origin: str) -> Limits:
    """Return the limits of an address that names the worker. Raises `InvalidAddressError`."""
    from copacetic.cli.cache import Size
    from copacetic.worker.execution import Limits

    kinds = {"memory": Size(), "disk": Size(), "output": Size(), "time": Duration()}
    kinds |= {name: click.IntRange(min=1) for name in ("processes", "files")}
    found: dict[str, float] = {}
    for pair in address.removeprefix(WORKER).removeprefix("?").split("&"):
        name, equals, text = pair.partition("=")
        if not pair:
            continue
        if name not in kinds or name in found or not equals:
            raise InvalidAddressError(f"{origin}: {pair[:40]!r} is no limit of {WORKER}", hint=_HINT)
        try:
            found[name] = kinds[name].convert(text[:20], None, None)
        except click.BadParameter as error:
            raise InvalidAddressError(f"{origin}: {name}: {error.message}", hint=_HINT) from error
        if not 0 < found[name] <= _MOST:
            raise InvalidAddressError(f"{origin}: {name}: {text[:20]!r} is out of range", hint=_HINT)
    if "time" in found:
        found["seconds"] = found.pop("time")
    return Limits(**found)  # type: ignore[arg-type]
