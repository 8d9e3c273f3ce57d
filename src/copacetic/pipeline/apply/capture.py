# SPDX-License-Identifier: Apache-2.0
"""
What a builder's layers change in an image, without what running anything leaves behind.

A layer comes as a plain tar from a program that ran an image's code: it is input like any other. What is the same
below is left out, and the rest becomes the same kind of changes as those that the embedded engine composes; the bytes
stay where they are, in the builder's tar. A path that a package owns is never left behind, and has the package's time;
of the rest, times after the epoch are set to it. So what the run has compiled from Python's modules is no part of it:
that holds for the time that their sources had meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from copacetic.errors import RAN_HINT, CopaError, SolverError, StorageError, VerificationError
from copacetic.llb.solver import ExportedLayer
from copacetic.oci.change import RESERVED_PREFIX, Spooled, is_reserved
from copacetic.oci.filesystem import TAR_TYPES, Entry, FileType, ImageFilesystem
from copacetic.oci.tarstream import TarEntry, TarError, TarReader
from copacetic.oci.tree import TreeBuilder
from copacetic.pipeline.apply.owned import Owned, Patterns, Shipped, concealed_by
from copacetic.pkgmgr import Leftover, Recipe, is_leftover
from copacetic.scripts.handlers.bytecode import STALE, remove_bytecode, renew_sources, source_of

__all__ = ["capture_changes", "newest_mtime"]

_RUNTIME: tuple[Leftover, ...] = (
    Leftover(pattern="run/*", reason="run-time state"),
    Leftover(pattern="tmp/*", reason="temporary files"),
    Leftover(pattern="var/tmp/*", reason="temporary files"),
    Leftover(pattern="etc/hostname", reason="the sandbox's name"),
    Leftover(pattern="etc/machine-id", reason="an identity that each start makes anew where an image leaves it empty"),
)
"""What every sandbox leaves behind, whatever runs in it."""

_OPAQUE = f"{RESERVED_PREFIX}{RESERVED_PREFIX}.opq"
_ATTRIBUTES_OF_THE_MACHINE = ("trusted.overlay.", "user.overlay.", "security.selinux")


class _Member(Struct, frozen=True):
    """One entry of a layer; a further name of a file has the first one's entry and content."""

    path: str
    entry: Entry
    content: Spooled | None = None
    first: str = ""


class _Layer(Struct, frozen=True):
    members: list[_Member]
    whiteouts: list[str]
    opaques: list[str]


def capture_changes(layers: Sequence[ExportedLayer], recipe: Recipe, shipped: Shipped, *, epoch: int) -> TreeBuilder:
    """
    Return the image of `shipped` with what the layers of a solved recipe change in it. `epoch` is in seconds.

    The changes refer to the layers' files. Raises `SolverError` for a layer that can't be one.
    """
    capture = _Capture([_read(layer.path) for layer in layers], shipped.fs, recipe, epoch)
    tree = capture.build(Owned())
    owned = shipped.owned(tree)
    if any(path in owned for path in capture.left):
        tree = capture.build(owned)
    shipped.reveal(tree, owned, capture.concealed, capture.beside)
    capture.date(tree, owned, shipped)
    if recipe.drops_bytecode:
        with tree.in_name_of(STALE):
            remove_bytecode(tree)
    renew_sources(tree)
    return tree


def newest_mtime(layers: Sequence[ExportedLayer], *, before: int) -> int:
    """
    Return when the newest file of the layers was modified that is older than a time, in seconds: what comes from a
    package is, what the run itself has written isn't. Without any, the time itself.
    """
    times = (m.entry.mtime for layer in layers for m in _read(layer.path).members if m.content is not None)
    return max((time for time in times if time < before), default=before)


def _read(path: Path) -> _Layer:
    layer = _Layer([], [], [])
    known: dict[str, _Member] = {}
    try:
        with path.open("rb") as file:
            reader = TarReader(file)
            for entry in reader:
                folder, _, name = entry.path.rpartition("/")
                if is_reserved(entry.path) and not _takes_away(entry):
                    raise VerificationError(
                        f"the run left {entry.path!r}, a name that image layers keep for whiteouts", hint=RAN_HINT
                    )
                if name == _OPAQUE:
                    layer.opaques.append(folder)
                elif name.startswith(RESERVED_PREFIX):
                    hidden = name.removeprefix(RESERVED_PREFIX)
                    layer.whiteouts.append(f"{folder}/{hidden}" if folder else hidden)
                elif entry.path:
                    member = known[entry.path] = _member(entry, reader, path, known)
                    layer.members.append(member)
    except TarError as error:
        raise SolverError(f"the builder's layer is unusable: {error}") from error
    except OSError as error:
        raise StorageError(f"can't read the builder's layer {path}: {error.strerror or error}") from error
    return layer


def _takes_away(entry: TarEntry) -> bool:
    """
    Tell whether an entry with a reserved name is what a builder writes for something that is gone: an empty file.

    A script can make that, too, when a builder (BuildKit does) writes names as they are. Then it has removed something.
    """
    folder, _, name = entry.path.rpartition("/")
    hidden = name.removeprefix(RESERVED_PREFIX)
    is_name = name == _OPAQUE or not (hidden in {"", ".", ".."} or is_reserved(hidden))
    return entry.type == "0" and entry.size == 0 and is_name and not is_reserved(folder)


def _member(entry: TarEntry, reader: TarReader, path: Path, known: Mapping[str, _Member]) -> _Member:
    if entry.type == "1":
        first = known.get(entry.linkname)
        if first is None or first.entry.type is FileType.DIRECTORY:
            raise SolverError(f"the builder's layer links {entry.path} to {entry.linkname}, which is not in it")
        return _Member(entry.path, first.entry, first.content, first.first or first.path)
    type_ = TAR_TYPES[entry.type]
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
        mtime=entry.mtime,
        target=entry.linkname if type_ is FileType.SYMLINK else "",
        device=entry.device,
        xattrs={k: v for k, v in entry.xattrs.items() if not k.startswith(_ATTRIBUTES_OF_THE_MACHINE)},
        sha256=digest,
    )
    content = Spooled(path, entry.offset, entry.size) if type_ is FileType.FILE else None
    return _Member(entry.path, described, content)


class _Capture:
    """The layers of one run over an image."""

    def __init__(self, layers: Sequence[_Layer], fs: ImageFilesystem, recipe: Recipe, epoch: int) -> None:
        self._layers = layers
        self._fs = fs
        self._recipe = recipe
        self._epoch = epoch
        rules = (*_RUNTIME, *recipe.leftovers)
        self._rules = [rule for rule in rules if not rule.unless or not self._is_changed(rule.unless)]
        self.concealed = concealed_by(recipe.mounted)
        self.beside = {m.path: m.entry.sha256 for layer in layers for m in layer.members if m.path in self.concealed}
        self._paths = {member.path for layer in layers for member in layer.members}
        self.left: set[str] = set()
        """What counts for something that the run left behind."""
        self._suspects = Patterns(rule.pattern for rule in self._rules)
        self._generated = Patterns(recipe.generated)
        self._undated: set[str] = set()
        """Canonical paths of what has the time of the run."""

    def build(self, owned: Owned) -> TreeBuilder:
        """Do what an extractor of the layers would; what isn't a package's may have been left behind."""
        tree = TreeBuilder(self._fs)
        self.left.clear()
        self._undated.clear()
        try:
            for layer in self._layers:
                self._apply(layer, tree, owned)
            for path, content in self._recipe.records.items():
                if content is None:
                    tree.remove(path)
                else:
                    tree.put(path, Entry(type=FileType.FILE, mode=0o644, mtime=self._epoch), content)
        except CopaError as error:
            raise SolverError(f"the builder's layer does not fit the image: {error}") from error
        return tree

    def date(self, tree: TreeBuilder, owned: Owned, shipped: Shipped) -> None:
        """Give what packages brought their time, where the run has put its own on it."""
        for path in sorted(self._undated & owned.after):
            entry = tree.lookup(path, follow=False)
            if entry is None or not tree.holds(path) or shipped.placed is None:
                continue
            theirs = shipped.placed.lookup(path, follow=False)
            if theirs is not None and theirs.type is entry.type and shipped.placed.holds(path):
                tree.change(path, replace(entry, mtime=theirs.mtime))

    def _apply(self, layer: _Layer, tree: TreeBuilder, owned: Owned) -> None:
        """First what it takes away, then what it brings."""
        for path in layer.opaques:
            if path and not self._is_left_behind(path, None, owned):
                tree.empty(path)
        for path in layer.whiteouts:
            if not self._is_left_behind(path, None, owned):
                tree.remove_all(path)
        names: dict[str, str] = {}
        for member in layer.members:
            if self._is_left_behind(member.path, member.entry.type, owned) or _is_same_directory(tree, member):
                continue
            if self._was_compiled(member, tree, owned):
                tree.restore(member.path)  # a folder that was made anew hides what was in it
                continue
            first = names.setdefault(member.first or member.path, member.path)
            if first != member.path:
                tree.link(member.path, first)
                continue
            entry, time = member.entry, self._time(tree, member)
            if time != entry.mtime or time > self._epoch:
                entry = replace(entry, mtime=min(time, self._epoch))
            dated = self._recipe.records_times and entry.type is FileType.FILE and time <= self._epoch
            path = tree.put(member.path, entry, member.content, dated=dated)
            if time > self._epoch:
                self._undated.add(path)

    def _is_left_behind(self, path: str, type_: FileType | None, owned: Owned) -> bool:
        if path in self.concealed:
            return True
        left = path in self._suspects and path not in owned and is_leftover(self._rules, path, type_)
        if left:
            self.left.add(path)
        return left

    def _was_compiled(self, member: _Member, tree: TreeBuilder, owned: Owned) -> bool:
        """Tell whether an entry is byte code of a module that is there, and no package's, or a folder for it."""
        path, compiled = member.path, member.path.endswith("/__pycache__")
        if member.entry.type is not FileType.DIRECTORY:
            source = source_of(path)
            compiled = source is not None and (source in self._paths or tree.lookup(source) is not None)
        if not compiled or path in owned:
            return False
        self.left.add(path)
        return True

    def _time(self, tree: TreeBuilder, member: _Member) -> int:
        """Return the time of an entry; one after the epoch is the run's. A directory that was there keeps its own."""
        present = tree.lookup(member.path, follow=False) if member.entry.type is FileType.DIRECTORY else None
        if present is not None and present.type is FileType.DIRECTORY and not present.implicit:
            return present.mtime
        if member.path in self._generated:
            return self._epoch + 1
        return member.entry.mtime

    def _is_changed(self, path: str) -> bool:
        present = self._fs.lookup(path)
        before = present.sha256 if present is not None else ""
        found = [m.entry.sha256 for layer in self._layers for m in layer.members if m.path == path]
        return any(digest != before for digest in found) or any(path in layer.whiteouts for layer in self._layers)


def _is_same_directory(tree: TreeBuilder, member: _Member) -> bool:
    """Every directory above a change is in a builder's layer; one that only got a new time stays as it is."""
    entry = member.entry
    if entry.type is not FileType.DIRECTORY:
        return False
    present = tree.lookup(member.path, follow=False)
    return (
        present is not None
        and present.type is FileType.DIRECTORY
        and (present.mode, present.uid, present.gid) == (entry.mode, entry.uid, entry.gid)
        and dict(present.xattrs) == dict(entry.xattrs)
    )
