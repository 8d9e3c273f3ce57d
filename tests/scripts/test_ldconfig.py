# SPDX-License-Identifier: Apache-2.0
"""The linker's cache, byte for byte against the real ldconfig."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import ImageError
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.ldconfig import update_library_cache
from copacetic.scripts.handlers.libcache import CacheEntry, LibraryCache
from copacetic.scripts.handlers.soname import read_shared_object
from support.deb.composed import apply_changes, copy_root
from support.deb.debian import need
from support.deb.oracle import differences
from support.floors import accepting, refusal
from support.image.elf import AARCH64, shared_object

FILE = Entry(type=FileType.FILE, mode=0o644)
LIB = "usr/lib/x86_64-linux-gnu"


def put_library(tree: TreeBuilder, name: str, soname: str, *links: str) -> TreeBuilder:
    tree.put(f"{LIB}/{name}", FILE, shared_object(soname))
    for link in links:
        tree.symlink(f"{LIB}/{link}", name, mtime=0)
    return tree


CHANGES: Mapping[str, Callable[[TreeBuilder], object]] = {
    "nothing": lambda tree: tree.put("usr/share/x", FILE, b"x"),
    "a new build of a library": lambda tree: tree.put(f"{LIB}/libz.so.1.2.13", FILE, shared_object("libz.so.1", filler=b"x")),
    "a new version of a library": lambda tree: (
        tree.remove(f"{LIB}/libz.so.1.2.13"),
        put_library(tree, "libz.so.1.3", "libz.so.1", "libz.so.1"),
    ),
    "a library with a new name": lambda tree: put_library(tree, "libnew.so.10.1", "libnew.so.10", "libnew.so.10"),
    "a library without its link": lambda tree: put_library(tree, "libbare.so.3.1", "libbare.so.3"),
    "a library's link for development": lambda tree: tree.symlink(f"{LIB}/libz.so", "libz.so.1.2.13", mtime=0),
    "a library with no name of its own": lambda tree: put_library(tree, "libplain.so", ""),
    "a library that is gone": lambda tree: (tree.remove(f"{LIB}/libgone.so.1"), tree.remove(f"{LIB}/libgone.so.1.0")),
    "names with the version inside": lambda tree: (
        tree.remove(f"{LIB}/libdns-9.18.so"),
        put_library(tree, "libdns-9.19.so", "libdns-9.19.so"),
    ),
    "a library elsewhere": lambda tree: tree.put("usr/local/lib/liblocal.so.2", FILE, shared_object("liblocal.so.2")),
    "a library where nobody looks": lambda tree: tree.put("opt/lib/libopt.so.2", FILE, shared_object("libopt.so.2")),
    "no library under a library's name": lambda tree: tree.put(f"{LIB}/libfake.so.1", FILE, b"INPUT(-lz)"),
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A merged root with some libraries, and the cache that the real ldconfig makes of them."""
    need("ldconfig")
    root = tmp_path / "root"
    (root / LIB).mkdir(parents=True)
    (root / "usr/local/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (root / "etc/ld.so.conf.d/libc.conf").write_text("# libc default configuration\n/usr/local/lib\n")
    (root / "etc/ld.so.conf.d/x86_64-linux-gnu.conf").write_text("/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n")
    for name, soname in (
        ("libz.so.1.2.13", "libz.so.1"),
        ("libgone.so.1.0", "libgone.so.1"),
        ("libc.so.6", "libc.so.6"),
        ("libdns-9.18.so", "libdns-9.18.so"),
        ("libdns-9.2.so", "libdns-9.2.so"),
        ("libstdc++.so.6.0.30", "libstdc++.so.6"),
    ):
        (root / LIB / name).write_bytes(shared_object(soname))
    run_ldconfig(root)
    return root


def run_ldconfig(root: Path) -> None:
    subprocess.run(["ldconfig", "-r", root, "-C", "/etc/ld.so.cache"], check=True, capture_output=True)
    (root / "var/cache/ldconfig/aux-cache").unlink(missing_ok=True)


@pytest.mark.system
@pytest.mark.parametrize("name", CHANGES)
def test_the_result_is_ldconfigs(name: str, root: Path, tmp_path: Path) -> None:
    real = copy_root(root, tmp_path / "real")
    before = TreeBuilder(DirectoryFilesystem(real))
    CHANGES[name](before)
    apply_changes(before.finish(), real)
    run_ldconfig(real)

    tree = TreeBuilder(DirectoryFilesystem(root))
    CHANGES[name](tree)
    update_library_cache(tree, mtime=0)
    apply_changes(tree.finish(), root)

    assert differences(real, root) == []


@pytest.mark.system
def test_the_cache_is_left_alone_when_no_name_changes(root: Path) -> None:
    tree = TreeBuilder(DirectoryFilesystem(root))
    CHANGES["a new version of a library"](tree)
    update_library_cache(tree, mtime=0)

    assert "etc/ld.so.cache" not in tree.changed_paths()


@pytest.mark.system
def test_another_libc_signs_the_cache(root: Path) -> None:
    tree = TreeBuilder(DirectoryFilesystem(root))
    before = LibraryCache.parse((root / "etc/ld.so.cache").read_bytes())
    assert before.generator is not None
    version = before.generator.partition("GLIBC ")[2].partition(")")[0]

    update_library_cache(tree, mtime=0, libc=(version, "2.99-9"))

    after = LibraryCache.parse(tree.read("etc/ld.so.cache", limit=1 << 20))
    assert after.generator == before.generator.replace(version, "2.99-9")
    assert after.entries == before.entries


@pytest.mark.system
def test_the_machines_own_cache_is_written_as_it_was_read() -> None:
    need("ldconfig")
    data = Path("/etc/ld.so.cache").read_bytes()
    try:
        cache = LibraryCache.parse(data)
    except ValueError as error:
        pytest.skip(str(error))

    assert cache.serialize() == data
    assert cache.with_entries(reversed(cache.entries)).serialize() == data


NAMES = st.from_regex(r"lib[a-z+]{1,6}(-[0-9.]{1,4})?\.so(\.[0-9]{1,2}){0,2}", fullmatch=True)
ENTRIES = st.lists(
    st.builds(CacheEntry, NAMES, NAMES.map(lambda name: f"/lib/x86_64-linux-gnu/{name}"), st.just(0x303)), max_size=8
)


@given(ENTRIES, st.sampled_from([None, "ldconfig (GNU libc) stable release version 2.36"]))
def test_a_cache_survives_writing_and_reading(entries: list[CacheEntry], generator: str | None) -> None:
    cache = LibraryCache((), generator).with_entries(entries)

    assert LibraryCache.parse(cache.serialize()) == cache


@pytest.mark.parametrize("data", [b"", b"ld.so-1.7.0\0" + bytes(100), b"glibc-ld.so.cache1.1", bytes(100)])
def test_another_format_is_not_touched(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ld\.so\.cache"):
        LibraryCache.parse(data)


def test_a_shared_objects_name_and_machine_are_read() -> None:
    data = shared_object("libx.so.1", machine=AARCH64)
    found = read_shared_object(lambda offset, size: data[offset : offset + size])

    assert found is not None
    assert (found.bits, found.machine, found.soname) == (64, AARCH64, "libx.so.1")


@accepting(0.1)
@given(st.data())
def test_a_damaged_shared_object_is_none_or_a_name(data: st.DataObject) -> None:
    content = bytearray(shared_object("libx.so.1"))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])

    with refusal(LookupError):
        if read_shared_object(lambda offset, size: cut[offset : offset + size]) is None:
            raise LookupError


@pytest.mark.system
def test_files_that_include_each_other_come_to_an_end(root: Path) -> None:
    (root / "etc/ld.so.conf.d/again.conf").write_text("include /etc/ld.so.conf.d/*.conf\n" * 100)

    with pytest.raises(ImageError, match=r"etc/ld\.so\.conf includes more than 1000 files"):
        update_library_cache(TreeBuilder(DirectoryFilesystem(root)), mtime=0)
