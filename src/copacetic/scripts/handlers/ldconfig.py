# SPDX-License-Identifier: Apache-2.0
"""
ldconfig: the links that libraries are found by, and the dynamic linker's cache.

Follows ldconfig(8). The present cache says which libraries there were; what changed in the linker's directories is
looked at, and the cache is written anew only when a name appears or goes, or another libc writes it. An image without
a cache gets none: the linker then searches its directories itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.libcache import CacheEntry, LibraryCache
from copacetic.scripts.handlers.soname import SharedObject, read_shared_object

__all__ = ["update_library_cache"]

CACHE = "etc/ld.so.cache"
CONFIGURATION = "etc/ld.so.conf"
MAX_CACHE = 16 * 1024 * 1024
MAX_CONFIGURATION = 1024 * 1024
MAX_INCLUDED = 1_000
MAX_LIBRARY = 512 * 1024 * 1024
_FLAGS: Mapping[tuple[int, int], int] = {
    (64, 62): 0x0303,  # x86-64
    (32, 62): 0x0803,  # x32
    (32, 3): 0x0003,  # i386
    (64, 183): 0x0A03,  # aarch64
    (64, 21): 0x0503,  # ppc64
    (64, 22): 0x0403,  # s390x
    (64, 243): 0x1003,  # riscv64, double floats
}


def update_library_cache(
    tree: TreeBuilder, *, mtime: int, libc: tuple[str, str] | None = None, links: bool = True
) -> None:
    """Do what ldconfig would; `libc` is the old and the new version of the package that ldconfig belongs to."""
    try:
        data = tree.read(CACHE, limit=MAX_CACHE)
        cache = LibraryCache.parse(data)
    except (FileNotFoundError, ValueError):
        return
    folders = _search_path(tree, cache)
    changed = _changed_libraries(tree, folders)
    entries = [entry for entry in cache.entries if _remains(tree, entry, changed)]
    known = {(entry.name, entry.path) for entry in entries}
    flags = Counter(entry.flags for entry in cache.entries).most_common(1)
    for folder, names in changed.items():
        for name in names:
            found = _identify(tree, f"{folder}/{name}", name)
            if found is None:
                continue
            key, library = found
            if links:
                _link_by_name(tree, folder, key, name, mtime)
            path = f"{folders[folder]}/{key}"
            if (key, path) not in known:
                known.add((key, path))
                kind = _FLAGS.get((library.bits, library.machine), flags[0][0] if flags else 3)
                entries.append(CacheEntry(key, path, kind))
    written = cache.with_entries(entries)
    if libc is not None and written.generator is not None:
        written = replace(written, generator=written.generator.replace(*libc))
    if written != cache:
        tree.write(CACHE, written.serialize(), mtime=mtime)


def _search_path(tree: TreeBuilder, cache: LibraryCache) -> dict[str, str]:
    """Return the linker's directories: canonical path → the first name under which ldconfig finds it."""
    spelled = _configured(tree, CONFIGURATION)
    spelled += [entry.path.rpartition("/")[0] for entry in cache.entries]
    spelled += ["/lib", "/usr/lib"]
    folders: dict[str, str] = {}
    for name in spelled:
        folders.setdefault(tree.resolve(name), name.rstrip("/"))
    return folders


def _configured(tree: TreeBuilder, path: str, depth: int = 0, read: list[str] | None = None) -> list[str]:
    """Return the configured directories. Raises `ImageError` for files that include each other without end."""
    read = [] if read is None else read
    read.append(path)
    if len(read) > MAX_INCLUDED:
        raise ImageError(f"{CONFIGURATION} includes more than {MAX_INCLUDED} files")
    folders: list[str] = []
    for line in split_lines((tree.find(path, limit=MAX_CONFIGURATION) or b"").decode("utf-8", "surrogateescape")):
        words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
        if words[:1] == ["include"] and depth < 4:
            for pattern in words[1:]:
                folder, _, name = pattern.strip("/").rpartition("/")
                found = [entry for entry in tree.iterdir(folder) if matches_glob(entry, name)]
                for entry in found:
                    folders += _configured(tree, f"{folder}/{entry}", depth + 1, read)
        elif words[:1] != ["hwcap"]:
            folders += [word for word in words if word.startswith("/")]
    return folders


def _changed_libraries(tree: TreeBuilder, folders: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names in the linker's directories that may be libraries and aren't what they were."""
    found: dict[str, list[str]] = {}
    for path in tree.changed_paths():
        folder, _, name = path.rpartition("/")
        if folder in folders and name.startswith(("lib", "ld-")) and ".so" in name:
            found.setdefault(folder, []).append(name)
    return found


def _remains(tree: TreeBuilder, entry: CacheEntry, changed: Mapping[str, list[str]]) -> bool:
    folder = tree.resolve(entry.path.rpartition("/")[0])
    return folder not in changed or tree.lookup(entry.path) is not None


def _identify(tree: TreeBuilder, path: str, name: str) -> tuple[str, SharedObject] | None:
    """Return the name under which a library goes into the cache; None for what is none, or is gone."""
    if tree.type_of(path) is not FileType.FILE:
        return None
    library = read_shared_object(lambda offset, size: tree.read_window(path, offset, size, limit=MAX_LIBRARY))
    if library is None:
        return None
    soname = library.soname or name
    real_name = tree.resolve(path).rpartition("/")[2]
    if tree.target_of(path) is not None and (real_name == soname or name.endswith(".so")):
        return name, library
    return soname, library


def _link_by_name(tree: TreeBuilder, folder: str, key: str, name: str, mtime: int) -> None:
    """Make the link that a library is looked for by, where the package doesn't have it."""
    link = f"{folder}/{key}"
    if "/" not in key and tree.lookup(link) is None:
        tree.symlink(link, name, mtime=mtime)
