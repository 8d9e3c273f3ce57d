# SPDX-License-Identifier: Apache-2.0
"""
Configuration files: what happens to one that a package ships and somebody may have changed.

The table is dpkg's (deb-conffiles(5), dpkg(1)) when it runs without a terminal and with `--force-confdef
--force-confold`: nothing that was changed in the image is lost.
"""

from __future__ import annotations

from enum import Enum

from copacetic.lines import split_lines

__all__ = ["ConffileFate", "parse_conffile_list", "select_fate"]

NEW = "newconffile"
"""dpkg's mark, instead of a checksum, for a file that the package has not shipped before."""
UNREADABLE = "-"
"""Its mark for what is to be removed, and no file in the image."""


class ConffileFate(Enum):
    """What to do with the new version of a configuration file."""

    INSTALL = "install"
    """It takes the place of the present file, and that one's owner and mode."""
    KEEP = "keep"
    """The present file stays, or stays away."""
    OFFER = "offer"
    """Likewise, and the new version is put beside it under `.dpkg-dist`."""


def select_fate(*, shipped: str, present: str | None, new: str) -> ConffileFate:
    """
    Decide by checksums: `shipped` is the old version's (or `NEW`), `present` the one in the image (None when there
    is no file), `new` the one in the package.
    """
    if present == new:
        return ConffileFate.KEEP
    if present is None and shipped == NEW:
        return ConffileFate.INSTALL
    if shipped == NEW:
        return ConffileFate.OFFER
    if shipped == new:
        return ConffileFate.KEEP
    return ConffileFate.INSTALL if present == shipped else ConffileFate.OFFER


def parse_conffile_list(text: str) -> dict[str, bool]:
    """
    Read a package's `conffiles`: path without leading slash → whether it is only listed to be removed.

    Raises `ValueError` for what is no such list.
    """
    found: dict[str, bool] = {}
    for line in split_lines(text):
        words = line.rstrip()
        if not words:
            continue
        removed = words.startswith("remove-on-upgrade ")
        path = words.removeprefix("remove-on-upgrade ").lstrip(" ")
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError(f"not a configuration file: {line[:200]!r}")
        found["/".join(part for part in path.split("/") if part not in ("", "."))] = removed
    return found
