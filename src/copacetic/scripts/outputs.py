# SPDX-License-Identifier: Apache-2.0
"""What commands print that only ask, without the last newline; None for what isn't modelled."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence

from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.reading import only_reads
from copacetic.scripts.settled import find_diversion

__all__ = ["OUTPUTS", "Output"]

MAX_TEXT = 4096
Output = Callable[[TreeBuilder, Sequence[str]], str | None]


def _basename(_tree: TreeBuilder, words: Sequence[str]) -> str | None:
    if len(words) not in (1, 2) or words[0].startswith("-") or not words[0].strip("/"):
        return None
    name = words[0].rstrip("/").rpartition("/")[2]
    suffix = words[1] if len(words) == 2 else ""
    return name.removesuffix(suffix) if name != suffix else name


def _cat(tree: TreeBuilder, words: Sequence[str]) -> str | None:
    if len(words) != 1 or not words[0].startswith("/") or tree.lookup(words[0][1:]) is None:
        return None
    text = tree.read(words[0][1:], limit=MAX_TEXT).decode("ascii")
    plain = text.rstrip("\n")
    return plain if (plain or not text) and "\0" not in plain else None


def _dirname(_tree: TreeBuilder, words: Sequence[str]) -> str | None:
    if len(words) != 1 or words[0].startswith("-"):
        return None
    return posixpath.dirname(words[0].rstrip("/")) or ("/" if words[0].startswith("/") else ".")


def _mktemp(_tree: TreeBuilder, words: Sequence[str]) -> str | None:
    """The name isn't known, but it is one of a temporary file."""
    return "/tmp/tmp.XXXXXXXXXX" if only_reads("mktemp", ("mktemp", *words)) and "-u" not in words else None


def _readlink(tree: TreeBuilder, words: Sequence[str]) -> str | None:
    if len(words) != 1 or not words[0].startswith("/"):
        return None
    return tree.target_of(words[0][1:]) or ""


def _stat(tree: TreeBuilder, words: Sequence[str]) -> str | None:
    """Mode and owner of a path, as `stat -c` prints them."""
    rest = list(words)
    follow = "-L" in rest
    if follow:
        rest.remove("-L")
    if rest[:1] == ["-c"]:
        rest[:2] = [f"--format={rest[1]}"]
    if len(rest) != 2 or not rest[0].startswith("--format=") or not rest[1].startswith("/"):
        return None
    entry = tree.lookup(rest[1][1:], follow=follow)
    if entry is None:
        return None
    known = {"%a": f"{entry.mode:o}", "%u": str(entry.uid), "%g": str(entry.gid)}
    return known.get(rest[0].removeprefix("--format="))


def _print_diversion(tree: TreeBuilder, words: Sequence[str]) -> str | None:
    """`dpkg-divert --listpackage` and `--truename`."""
    if len(words) != 2 or not words[1].startswith("/"):
        return None
    found = find_diversion(tree, words[1])
    if words[0] == "--truename":
        return words[1] if found is None else f"/{found.to}"
    if words[0] == "--list":
        return None if found is not None or "*" in words[1] else ""
    if words[0] != "--listpackage":
        return None
    return "" if found is None else found.package or "LOCAL"


OUTPUTS: Mapping[str, Output] = {
    "basename": _basename,
    "cat": _cat,
    "dirname": _dirname,
    "dpkg-divert": _print_diversion,
    "mktemp": _mktemp,
    "readlink": _readlink,
    "stat": _stat,
}
