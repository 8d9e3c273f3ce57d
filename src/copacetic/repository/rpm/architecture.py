# SPDX-License-Identifier: Apache-2.0
"""Which architectures an image can have packages of, and which may be there side by side."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["NOARCH", "are_exclusive", "compatible_architectures", "is_change_allowed"]

NOARCH = "noarch"
_I386 = ("i686", "i586", "i486", "i386")
_COMPATIBLE = {
    "x86_64": ("x86_64", "amd64", "ia32e", "athlon", *_I386),
    "i686": _I386,
    "i586": _I386[1:],
    "i486": _I386[2:],
    "s390x": ("s390x", "s390"),
    "ppc64": ("ppc64", "ppc"),
    "armv7hnl": ("armv7hnl", "armv7hl", "armv6hl"),
    "armv7hl": ("armv7hl", "armv6hl"),
}
"""The best first; any other goes with itself only."""
_LEVELS = ("x86_64_v4", "x86_64_v3", "x86_64_v2")
"""Packages for newer processors, by which whole distributions are built."""


@lru_cache(maxsize=64)
def compatible_architectures(native: str) -> tuple[str, ...]:
    """Return those of packages for an image, the best first; `noarch` is always one, and the last."""
    if native in _LEVELS:
        found = (*_LEVELS[_LEVELS.index(native) :], *_COMPATIBLE["x86_64"])
    else:
        found = _COMPATIBLE.get(native, (native,))
    return (*found, NOARCH)


def is_change_allowed(old: str, new: str) -> bool:
    """Tell whether a package may take the place of one of the same name."""
    return old == new or NOARCH in {old, new}


def are_exclusive(one: str, other: str) -> bool:
    """Tell whether two packages of one name can't be there together, as both are of 32 bits, say."""
    return one == other or NOARCH in {one, other} or _is_wide(one) == _is_wide(other)


def _is_wide(architecture: str) -> bool:
    return architecture in {"s390x", "ia32e"} or "64" in architecture
