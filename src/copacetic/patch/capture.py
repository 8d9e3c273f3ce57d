# SPDX-License-Identifier: Apache-2.0
"""
What a builder's layers change in an image, without what running anything leaves behind.

A layer comes as a plain tar from a program that ran an image's code: it is input like any other. What is the same
below is left out, times after the epoch are set to it, and the rest becomes the same kind of changes as those that
the embedded engine composes; the bytes stay where they are, in the builder's tar.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from copacetic.errors import CopaError, SolverError, StorageError
from copacetic.llb.solver import ExportedLayer
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.tarstream import TarEntry, TarError, TarReader
from copacetic.pkgmgr import Leftover, Recipe, is_leftover
from copacetic.unpack.tree import Changes, TreeBuilder

__all__ = ["RUNTIME", "capture_changes", "newest_mtime"]

RUNTIME: tuple[Leftover, ...] = (
    Leftover(pattern="run/*", reason="run-time state"),
    Leftover(pattern="tmp/*", reason="temporary files"),
    Leftover(pattern="var/tmp/*", reason="temporary files"),
    Leftover(pattern="dev/*", reason="the sandbox's devices"),
    Leftover(pattern="proc/*", reason="what the sandbox mounts"),
    Leftover(pattern="sys/*", reason="what the sandbox mounts"),
    Leftover(pattern="etc/hostname", reason="what the sandbox mounts"),
    Leftover(pattern="etc/hosts", reason="what the sandbox mounts"),
    Leftover(pattern="etc/resolv.conf", reason="what the sandbox mounts"),
)
"""What every sandbox leaves behind, whatever runs in it."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_ATTRIBUTES_OF_THE_MACHINE = ("trusted.overlay.", "user.overlay.", "security.selinux")
_TYPES = {
    "0": FileType.FILE,
    "2": FileType.SYMLINK,
    "3": FileType.CHARACTER_DEVICE,
    "4": FileType.BLOCK_DEVICE,
    "5": FileType.DIRECTORY,
    "6": FileType.FIFO,
}


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of a layer; a further name of a file has the first one's entry and content."""

    path: str
    entry: Entry
    content: Spooled | None = None
    first: str = ""


@dataclass(frozen=True, slots=True)
class _Layer:
    members: list[_Member]
    whiteouts: list[str]
    opaques: list[str]


def capture_changes(layers: Sequence[ExportedLayer], fs: ImageFilesystem, recipe: Recipe, *, epoch: int) -> Changes:
    """
    Return what the layers of a solved recipe change in `fs`. `epoch` is in seconds.

    The changes refer to the layers' files. Raises `SolverError` for a layer that can't be one.
    """
    rules = (*RUNTIME, *recipe.leftovers)
    tree = TreeBuilder(fs)
    for layer in layers:
        _apply(_read(layer.path, epoch), tree, rules, recipe.generated, epoch)
    for path, content in recipe.records.items():
        if content is None:
            tree.remove(path)
        else:
            tree.put(path, Entry(type=FileType.FILE, mode=0o644, mtime=epoch), content)
    return tree.finish()


def newest_mtime(layers: Sequence[ExportedLayer], *, before: int) -> int:
    """
    Return when the newest file of the layers was modified that is older than a time, in seconds: what comes from a
    package is, what the run itself has written isn't. Without any, the time itself.
    """
    times = (m.entry.mtime for layer in layers for m in _read(layer.path, 1 << 40).members if m.content is not None)
    return max((time for time in times if time < before), default=before)


def _read(path: Path, epoch: int) -> _Layer:
    layer = _Layer([], [], [])
    known: dict[str, _Member] = {}
    try:
        with path.open("rb") as file:
            reader = TarReader(file)
            for entry in reader:
                folder, _, name = entry.path.rpartition("/")
                if name == _OPAQUE:
                    layer.opaques.append(folder)
                elif name.startswith(_WHITEOUT):
                    hidden = name.removeprefix(_WHITEOUT)
                    layer.whiteouts.append(f"{folder}/{hidden}" if folder else hidden)
                elif entry.path:
                    member = known[entry.path] = _member(entry, reader, path, known, epoch)
                    layer.members.append(member)
    except TarError as error:
        raise SolverError(f"the builder's layer is unusable: {error}") from error
    except OSError as error:
        raise StorageError(f"can't read the builder's layer {path}: {error.strerror or error}") from error
    return layer


def _member(entry: TarEntry, reader: TarReader, path: Path, known: Mapping[str, _Member], epoch: int) -> _Member:
    if entry.type == "1":
        first = known.get(entry.linkname)
        if first is None or first.entry.type is FileType.DIRECTORY:
            raise SolverError(f"the builder's layer links {entry.path} to {entry.linkname}, which is not in it")
        return _Member(entry.path, first.entry, first.content, first.first or first.path)
    type_ = _TYPES[entry.type]
    digest = ""
    if type_ is FileType.FILE:
        hasher = hashlib.sha256()
        for piece in reader.content():
            hasher.update(piece)
        digest = hasher.hexdigest()
    described = Entry(
        type=type_,
        mode=0o777 if type_ is FileType.SYMLINK else entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime=min(entry.mtime, epoch),
        target=entry.linkname if type_ is FileType.SYMLINK else "",
        device=entry.device,
        xattrs={k: v for k, v in entry.xattrs.items() if not k.startswith(_ATTRIBUTES_OF_THE_MACHINE)},
        sha256=digest,
    )
    content = Spooled(path, entry.offset, entry.size) if type_ is FileType.FILE else None
    return _Member(entry.path, described, content)


def _apply(layer: _Layer, tree: TreeBuilder, rules: Sequence[Leftover], generated: Sequence[str], epoch: int) -> None:
    """Do what an extractor of the layer would: first what it takes away, then what it brings."""
    try:
        for path in layer.opaques:
            if path and not is_leftover(rules, path, None):
                tree.empty(path)
        for path in layer.whiteouts:
            if not is_leftover(rules, path, None):
                tree.remove_all(path)
        names: dict[str, str] = {}
        for member in layer.members:
            if is_leftover(rules, member.path, member.entry.type) or _is_same_directory(tree, member):
                continue
            first = names.setdefault(member.first or member.path, member.path)
            if first != member.path:
                tree.link(member.path, first)
                continue
            entry = member.entry
            if any(fnmatch.fnmatchcase(member.path, pattern) for pattern in generated):
                entry = replace(entry, mtime=epoch)
            tree.put(member.path, entry, member.content)
    except CopaError as error:
        raise SolverError(f"the builder's layer does not fit the image: {error}") from error


def _is_same_directory(tree: TreeBuilder, member: _Member) -> bool:
    """Every directory above a change is in a builder's layer; one that only got a new time stays as it is."""
    entry = member.entry
    if entry.type is not FileType.DIRECTORY:
        return False
    present = tree.lookup(member.path, follow=False)
    return (
        present is not None
        and present.type is FileType.DIRECTORY
        and not present.implicit
        and (present.mode, present.uid, present.gid) == (entry.mode, entry.uid, entry.gid)
        and dict(present.xattrs) == dict(entry.xattrs)
    )
