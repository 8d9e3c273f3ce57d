# SPDX-License-Identifier: Apache-2.0
"""
busybox's links: one for each applet, which `busybox --install -s` makes and its package's scripts keep in order.

Which applets there are, and where their links go, stands in `etc/busybox-paths.d`. Older packages have no such list;
there the binary itself is read: the names are a sorted table of strings, and the folders a table of half bytes that is
found by the links that the image has already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from copacetic.lines import split_lines
from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["BINARY", "applet_paths", "install_links", "prune_links"]

BINARY = "bin/busybox"
LISTS = "etc/busybox-paths.d"
FOLDERS = ("bin", "sbin", "usr/bin", "usr/sbin")
MAX_LIST = 1024 * 1024
MAX_BINARY = 64 * 1024 * 1024
_PLACES = ("", *FOLDERS)
_FIRST_NAMES = b"[\0[[\0"


def applet_paths(tree: TreeBuilder, binary: str = BINARY) -> tuple[str, ...] | None:
    """Return where the links of a busybox go, in its own order, without the leading slash; None when that is hidden."""
    name = binary.rpartition("/")[2]
    listed = tree.find(f"{LISTS}/{name}", limit=MAX_LIST)
    if listed is not None:
        lines = split_lines(listed.decode("utf-8", "surrogateescape"))
        return tuple(line.split()[0].lstrip("/") for line in lines if line.strip())
    data = tree.find(binary, limit=MAX_BINARY)
    if data is None:
        return None
    places: dict[str, set[int]] = {}
    for applet, number in _known_places(tree, f"/{binary}"):
        places.setdefault(applet, set()).add(number)
    # A name that has several links says nothing.
    return read_applets(data, {applet: min(numbers) for applet, numbers in places.items() if len(numbers) == 1})


def install_links(tree: TreeBuilder, paths: Sequence[str], binary: str, *, mtime: int) -> bool:
    """
    Make the links that are missing, as `busybox --install -s`; returns whether there were any.

    They lead to the path that is compiled in, also where `bin` is a link to `usr/bin`.
    """
    target = f"/{binary}"
    made = False
    for path in paths:
        folder = tree.type_of(path.rpartition("/")[0])
        if folder is FileType.DIRECTORY and tree.lookup(path, follow=False) is None:
            tree.symlink(path, target, mtime=mtime)
            made = True
    return made


def prune_links(tree: TreeBuilder, paths: Sequence[str]) -> bool:
    """Remove the links to busybox that stand for no applet; returns whether there were any."""
    wanted = frozenset(paths)
    removed = False
    for folder in FOLDERS:
        if tree.type_of(folder, follow=False) is FileType.DIRECTORY:
            paths_there = (f"{folder}/{name}" for name in tree.iterdir(folder))
            for path in paths_there:
                if tree.target_of(path) == f"/{BINARY}" and path not in wanted:
                    removed |= tree.remove(path)
    return removed


def read_applets(binary: bytes, known: Mapping[str, int]) -> tuple[str, ...] | None:
    """
    Read the applets' paths out of a binary; `known` are the places of some, as numbers of `_PLACES`.

    The table of places is looked for by the longest run of applets of which they are known, and then has to agree
    with all that are.
    """
    start = binary.find(_FIRST_NAMES)
    end = binary.find(b"\0\0", start)
    if start < 0 or end < 0:
        return None
    names = [name.decode("latin-1") for name in binary[start:end].split(b"\0")]
    places = [known.get(name) for name in names]
    places += [None] * (len(places) % 2)
    pairs = [
        None if low is None or high is None else low | high << 4
        for low, high in zip(places[::2], places[1::2], strict=True)
    ]
    at, needle = _longest_run(pairs)
    found = binary.find(needle) if needle else -1
    while found >= 0:
        table = binary[found - at : found - at + len(pairs)] if found >= at else b""
        got = [nibble for byte in table for nibble in (byte & 15, byte >> 4)][: len(names)]
        if len(got) == len(names) and _agrees(got, places):
            return tuple(f"{_PLACES[place]}/{name}".lstrip("/") for place, name in zip(got, names, strict=True))
        found = binary.find(needle, found + 1)
    return None


def _agrees(got: Sequence[int], places: Sequence[int | None]) -> bool:
    return max(got) < len(_PLACES) and all(
        wanted is None or wanted == place for wanted, place in zip(places, got, strict=False)
    )


def _longest_run(pairs: Sequence[int | None]) -> tuple[int, bytes]:
    """Return where the longest run of known bytes starts, and the run."""
    best, start = (0, b""), 0
    run = bytearray()
    for index, pair in enumerate((*pairs, None)):
        if pair is None:
            if len(run) > len(best[1]):
                best = (start, bytes(run))
            run, start = bytearray(), index + 1
        else:
            run.append(pair)
    return best


def _known_places(tree: TreeBuilder, target: str) -> Iterator[tuple[str, int]]:
    for number, folder in enumerate(_PLACES):
        if folder and tree.type_of(folder, follow=False) is FileType.DIRECTORY:
            for name in tree.iterdir(folder):
                if tree.target_of(f"{folder}/{name}") == target:
                    yield name, number
