# SPDX-License-Identifier: Apache-2.0
"""Links lead where the kernel of this machine leads a process whose root is that tree, for all who follow them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copacetic.buildkit.filesystem import BuilderFilesystem
from copacetic.errors import ImageError
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.links import resolve
from copacetic.oci.tree import TreeBuilder
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack
from support.image.trees import directory, symlink, tree

Tree = Mapping[str, Entry]
Resolve = Callable[..., str]

CHAIN = {"n": directory(), "n/0": symlink(".."), **{f"n/{k}": symlink(f"{k - 1}") for k in range(1, 42)}}
"""`n/39` leads to the root by forty links."""
FILE = Entry(type=FileType.FILE, mode=0o644)
LOOP = "too many levels"
_KERNEL = """
import json, os, sys
handles = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
os.chroot(sys.argv[1])
os.chdir("/")
for line in sys.stdin:
    path, follow = json.loads(line)
    answer = {"errno": 0, "lexical": os.path.realpath("/" + path)[1:]}
    try:
        handle = os.open("/" + path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        answer["errno"] = error.errno
    else:
        answer["path"] = os.readlink(str(handle), dir_fd=handles)[1:]
        os.close(handle)
    print(json.dumps(answer), flush=True)
"""


def resolver(content: Tree) -> Resolve:
    def target_of(path: str) -> str | None:
        return content[path].target if path in content and content[path].type is FileType.SYMLINK else None

    return lambda path, *, follow=True: resolve(path, target_of, follow=follow)


def show(root: Path, content: Tree) -> None:
    """Have a folder hold this, and the chain."""
    for old in root.iterdir():
        if old.name == "n":
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    for path, entry in content.items():
        place = root / path
        if entry.type is FileType.DIRECTORY:
            place.mkdir(exist_ok=True)
        elif entry.type is FileType.FILE:
            place.touch()
        elif not place.is_symlink():
            place.symlink_to(entry.target)


class _Builder:
    """Lists a tree as BuildKit's gateway does."""

    def __init__(self, content: Tree) -> None:
        self._content = content

    def list(self, path: bytes) -> Sequence[Any]:
        folder = path.decode()[1:]
        bits = {FileType.DIRECTORY: 1 << 31, FileType.SYMLINK: 1 << 27, FileType.FILE: 0}
        return [
            SimpleNamespace(
                path=name.encode(), mode=bits[entry.type] | 0o644, linkname=entry.target.encode(),
                size=0, uid=0, gid=0, mtime=0, devmajor=0, devminor=0, xattrs={},
            )
            for name, entry in self._content.items()
            if name.rpartition("/")[0] == folder
        ]  # fmt: skip

    def read(self, path: bytes, size: int) -> bytes:
        raise NotImplementedError


def builder(lower: Tree, upper: Tree) -> TreeBuilder:
    changes = TreeBuilder(tree(lower))
    for path, entry in upper.items():
        changes.put(path, entry, b"" if entry.type is FileType.FILE else None)
    return changes


@contextmanager
def followers(root: Path, content: Tree, split: int = 3) -> Iterator[dict[str, Resolve]]:
    """Give all that follow links, each with the same tree: in a folder, and where it goes cut in two."""
    lower, upper = dict([*content.items()][:split]), dict([*content.items()][split:])
    show(root, content)
    handle = os.open(root, os.O_PATH)
    try:
        yield {
            "the function": resolver(content),
            "layers": tree(lower, upper).resolve,
            "a directory": DirectoryFilesystem(root).resolve,
            "changes": builder(lower, upper).resolve,
            "a builder's result": BuilderFilesystem(_Builder(content)).resolve,
            "the worker": Stack((handle,)).resolve,
        }
    finally:
        os.close(handle)


def answer(follow_links: Resolve, path: str, *, follow: bool) -> str:
    try:
        return follow_links(path, follow=follow)
    except (ImageError, RefusalError) as error:
        assert LOOP in str(error)
        return LOOP


# -- examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "follow", "canonical"),
    [
        ("", True, ""),
        ("/../..//a/./d", True, "a/d"),
        ("a/d/..", True, "a"),
        ("a/d/.", False, "a/d"),
        ("a/none", True, "a/none"),
        ("/none", True, "none"),
        ("up/a", True, "a"),
        ("abs", True, "a/d"),
        ("abs", False, "abs"),
        ("abs/", False, "a/d"),
        ("abs/.", False, "a/d"),
        ("abs/../x", False, "a/x"),
        ("none/../a", True, "a"),
        ("dangling", True, "nowhere/at/all"),
        ("n/39/a", True, "a"),
        ("loop", True, LOOP),
        ("loop", False, "loop"),
        ("a/turn/x", True, LOOP),
        ("n/40", True, LOOP),
        ("n/20/n/20", True, LOOP),
        ("long", True, LOOP),
    ],
)
def test_a_path_becomes_canonical_in_the_same_way_everywhere(
    tmp_path: Path, path: str, follow: bool, canonical: str
) -> None:
    content = {
        **CHAIN,
        "a": directory(),
        "a/d": directory(),
        "up": symlink("../../.."),
        "abs": symlink("/a/d"),
        "dangling": symlink("nowhere/at/all"),
        "loop": symlink("./loop"),
        "a/turn": symlink("../a/turn"),
        **{f"long{k}": symlink("./" * 2_000 + f"long{k + 1}") for k in range(6)},
        "long": symlink("long0"),
    }

    with followers(tmp_path, content, split=len(CHAIN) + 3) as everybody:
        answers = {name: answer(one, path, follow=follow) for name, one in everybody.items()}

    assert answers == dict.fromkeys(answers, canonical)


# -- against the kernel ----------------------------------------------------------------------------------------------


class Kernel:
    """A child whose root is a folder, and which tells what its kernel finds there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        command = [sys.executable, "-IS", "-c", _KERNEL, str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def find(self, path: str, *, follow: bool) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([path, follow]) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    asked = Kernel(tmp_path_factory.mktemp("root"))
    with asked.process:
        yield asked


_part = st.sampled_from(["a", "b", "c", "a", "b", "a", "..", "..", ".", "", "n/15", "n/24", "n/39"])
_text = st.builds("{}{}".format, st.sampled_from(["", "", "/"]), st.lists(_part, min_size=1, max_size=5).map("/".join))
_name = st.sampled_from("abc")
_entry = st.one_of(st.just(directory()), st.just(directory()), st.just(FILE), _text.filter(bool).map(symlink))
_rows = st.lists(st.tuples(st.lists(_name, min_size=1, max_size=3).map("/".join), _entry), max_size=12)


@st.composite
def _trees(draw: st.DrawFn) -> tuple[dict[str, Entry], int]:
    """A tree in the order in which it can be made, and where to cut it in two."""
    content = {**CHAIN, "a": draw(_entry), "a/b": draw(_entry)}
    if content["a"] != directory():
        del content["a/b"]
    for path, entry in draw(_rows):
        parent = path.rpartition("/")[0]
        if path not in content and (not parent or content.get(parent) == directory()):
            content[path] = entry
    return content, draw(st.integers(0, len(content)))


@pytest.mark.system
@settings(deadline=None, max_examples=200)
@given(_trees(), st.lists(st.tuples(_text, st.booleans()), min_size=1, max_size=8))
def test_everybody_follows_links_as_the_kernel_does(
    kernel: Kernel, trees: tuple[dict[str, Entry], int], paths: list[tuple[str, bool]]
) -> None:
    content, split = trees
    with followers(kernel.root, content, split) as everybody:
        for path, follow in paths:
            found = kernel.find(path, follow=follow)
            answers = {name: answer(one, path, follow=follow) for name, one in everybody.items()}
            if found["errno"] == 0:
                expected = found["path"]
            elif found["errno"] == errno.ELOOP:
                expected = LOOP
            else:
                # Nothing is there. Where `..` takes away what isn't, there still is a path, and links that the kernel
                # doesn't come to; it is held against one that follows links without asking what else is there.
                assert found["errno"] in {errno.ENOENT, errno.ENOTDIR}
                expected = answers["the function"]
                assert expected not in content or ".." in path or has_dots(content) or content[expected] == FILE
                assert not follow or expected in {found["lexical"], LOOP}
            assert answers == dict.fromkeys(answers, expected), (path, follow)


def has_dots(content: Tree) -> bool:
    return any(".." in entry.target for path, entry in content.items() if path not in CHAIN)
