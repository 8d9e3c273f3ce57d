# SPDX-License-Identifier: Apache-2.0
"""
Changes to an image's tree, on their way to becoming one layer.

`TreeBuilder` knows the rules that hold for every package format: a path goes through the directory links of the
image and of the changes themselves, inside the root; a file that is identical below is left out; a parent appears
with the attributes that it has in the image; and a removal is a whiteout only where something would be seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from copacetic.errors import ConflictError, ImageError, PackageError
from copacetic.oci.change import Change, Changes, NamedEffect, Spooled, is_reserved
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem, is_equal
from copacetic.oci.layerwriter import read_content
from copacetic.oci.links import resolve, resolve_from

__all__ = ["TreeBuilder"]

_DIRECTORY = FileType.DIRECTORY


@dataclass(slots=True, eq=False)
class _Inode:
    """What one or more paths name."""

    entry: Entry
    content: bytes | Spooled | None
    dated: bool = False
    """Another time of modification makes it another file."""
    paths: set[str] = field(default_factory=set)


class TreeBuilder:
    """Collects changes over an image, and shows the result on the way: what is asked is answered with them."""

    def __init__(self, fs: ImageFilesystem) -> None:
        self._fs = fs
        self._nodes: dict[str, _Inode | None] = {}
        self._names: dict[str, set[str]] = {}
        self._lower: dict[str, Entry | None] = {}
        self._directories: dict[str, tuple[str, int]] = {}
        self._name = ""
        self._effects: dict[str, str] = {}

    # -- looking ---------------------------------------------------------------------------------------------

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        """Return what is at a path when the changes are applied."""
        return self._at(self.resolve(path, follow=follow))

    def type_of(self, path: str, *, follow: bool = True) -> FileType | None:
        """Return what kind of thing is at a path; None where nothing is."""
        entry = self.lookup(path, follow=follow)
        return None if entry is None else entry.type

    def target_of(self, path: str) -> str | None:
        """Return where a symbolic link leads, as it says; None for anything else."""
        entry = self.lookup(path, follow=False)
        return entry.target if entry is not None and entry.type is FileType.SYMLINK else None

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """
        Return the canonical path after following links, as far as it exists; see `ImageFilesystem.resolve`.

        Raises `ImageError` on a loop of links.
        """
        parent, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            return resolve(path, self._target, follow=follow)
        reached = self._directories.get(parent)
        if reached is None:
            reached = self._directories[parent] = resolve_from("", 0, parent, self._target)
        directory, links = reached
        canonical = f"{directory}/{name}" if directory else name
        if not follow:
            return canonical
        entry = self._at(canonical)
        if entry is None or entry.type is not FileType.SYMLINK:
            return canonical
        return resolve_from(directory, links, name, self._target)[0]

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a file's bytes; see `ImageFilesystem.read`."""
        canonical = self.resolve(path)
        if canonical not in self._nodes:
            if self.below(canonical) is None:
                raise FileNotFoundError(path)
            return self._fs.read(canonical, limit=limit)
        inode = self._nodes[canonical]
        if inode is None or inode.content is None:
            raise FileNotFoundError(path)
        if inode.entry.size > limit:
            raise ImageError(f"{path}: has {inode.entry.size} bytes, more than {limit}")
        return inode.content if isinstance(inode.content, bytes) else read_content(inode.content)

    def find(self, path: str, *, limit: int) -> bytes | None:
        """Return a file's bytes, or None where there is none to be read."""
        try:
            return self.read(path, limit=limit)
        except FileNotFoundError:
            return None

    def read_window(self, path: str, offset: int, size: int, *, limit: int) -> bytes:
        """Return some of a file's bytes; `limit` is the size of a file that may be read for it as a whole."""
        inode = self._nodes.get(self.resolve(path))
        if inode is not None and isinstance(inode.content, Spooled):
            start = min(offset, inode.content.size)
            within = min(size, inode.content.size - start)
            return read_content(Spooled(inode.content.path, inode.content.offset + start, within))
        return self.read(path, limit=limit)[offset : offset + size]

    def iterdir(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted, following links; empty when it isn't one."""
        canonical = self.resolve(path)
        entry = self._at(canonical)
        if entry is None or entry.type is not _DIRECTORY:
            return ()
        lower = self.below(canonical)
        names = set(self._fs.iterdir(canonical)) if lower is not None and lower.type is _DIRECTORY else set()
        prefix = f"{canonical}/" if canonical else ""
        for name in self._names.get(canonical, ()):
            if self._nodes.get(prefix + name) is None:
                names.discard(name)
            else:
                names.add(name)
        return tuple(sorted(names))

    def below(self, canonical: str) -> Entry | None:
        """Return what the image itself has at a canonical path."""
        if canonical in self._lower:
            return self._lower[canonical]
        parent = canonical.rpartition("/")[0]
        entry = None
        if canonical == "" or self._is_real_directory(parent):
            entry = self._fs.lookup(canonical, follow=False)
        self._lower[canonical] = entry
        return entry

    # -- changing --------------------------------------------------------------------------------------------

    @contextmanager
    def in_name_of(self, name: str) -> Iterator[None]:
        """Have what is changed meanwhile bear a name: no package ships it, and the proof asks who wanted it."""
        before, self._name = self._name, name
        try:
            yield
        finally:
            self._name = before

    def put(self, path: str, entry: Entry, content: bytes | Spooled | None = None, *, dated: bool = False) -> str:
        """
        Put an entry at a path whose last component isn't followed; returns the canonical path. What is `dated` is left
        out only where the image's has the same time of modification.

        A directory that is already there keeps what is in it. Raises `ConflictError` when a parent is not a
        directory.
        """
        if isinstance(content, bytes) and not entry.sha256:
            entry = replace(entry, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        canonical = self._place(path, entry)
        self._set(canonical, _Inode(entry, content, dated))
        return canonical

    def write(self, path: str, content: bytes, *, mtime: int) -> str:
        """
        Write a generated file of root's, following links. What is there keeps its mode and owner, and keeps
        everything when it has the same bytes.
        """
        canonical = self.resolve(path)
        entry = Entry(type=FileType.FILE, mode=0o644, mtime=mtime)
        present = self._at(canonical)
        if present is not None and present.type is FileType.FILE:
            entry = replace(entry, mode=present.mode, uid=present.uid, gid=present.gid)
        return self.put(canonical, entry, content)

    def symlink(self, path: str, target: str, *, mtime: int) -> str:
        """Put a symbolic link of root's."""
        return self.put(path, Entry(type=FileType.SYMLINK, mode=0o777, target=target, mtime=mtime))

    def link(self, path: str, target: str) -> str:
        """
        Make a path another name of a file among the changes.

        Raises `PackageError` when there is no such file.
        """
        inode = self._nodes.get(self.resolve(target, follow=False))
        if inode is None or inode.entry.type is _DIRECTORY:
            raise PackageError(f"{path}: its hard link's target {target} is not in the package")
        canonical = self._place(path, inode.entry)
        if self._nodes.get(canonical) is not inode:
            self._set(canonical, inode)
        return canonical

    def holds(self, canonical: str) -> bool:
        """Tell whether what is at a canonical path was put there, whether or not the image has the same."""
        return self._nodes.get(canonical) is not None

    def date(self, path: str) -> None:
        """Have something among the changes be `dated`, as `put` does it."""
        inode = self._nodes.get(self.resolve(path, follow=False))
        if inode is not None:
            inode.dated = True

    def change(self, path: str, entry: Entry) -> None:
        """Give other attributes to something among the changes, under all its names."""
        inode = self._nodes.get(self.resolve(path, follow=False))
        if inode is not None:
            inode.entry = entry
            if self._name:
                self._effects.update(dict.fromkeys(inode.paths, self._name))

    def remove(self, path: str) -> bool:
        """Remove what is at a path, its last component not followed; a directory only when it is empty."""
        canonical = self.resolve(path, follow=False)
        entry = self._at(canonical)
        if entry is None or (entry.type is _DIRECTORY and self.iterdir(canonical)):
            return False
        if entry.type in (_DIRECTORY, FileType.SYMLINK):
            self._directories.clear()
        self._set(canonical, None)
        return True

    def remove_all(self, path: str) -> None:
        """Remove what is at a path, its last component not followed, with everything below."""
        self.empty(path)
        self.remove(path)

    def restore(self, path: str) -> None:
        """Have what was removed at a path, its last component not followed, stay as the image has it."""
        canonical = self.resolve(path, follow=False)
        parent, _, name = canonical.rpartition("/")
        if self._nodes.get(canonical, canonical) is None and self._is_directory(parent):
            del self._nodes[canonical]
            self._names[parent].discard(name)
            self._effects.pop(canonical, None)
            self._directories.clear()

    def empty(self, path: str) -> None:
        """Remove everything in a directory; without one at the path, its last component not followed, do nothing."""
        canonical = self.resolve(path, follow=False)
        entry = self._at(canonical)
        if entry is not None and entry.type is _DIRECTORY:
            self._clear(canonical)
            self._directories.clear()

    def changed_paths(self, ending: str | tuple[str, ...] = "") -> tuple[str, ...]:
        """Return the paths that differ from the image so far, removed ones among them, sorted; those that end so."""
        return tuple(
            path
            for path in sorted(path for path in self._nodes if path.endswith(ending))
            if ((inode := self._nodes[path]) is None and self.below(path) is not None)
            or (inode is not None and not self._is_unchanged(inode))
        )

    # -- finishing -------------------------------------------------------------------------------------------

    def finish(self) -> Changes:
        """Return what a layer must hold."""
        changed: dict[str, _Inode | None] = {}
        for path in sorted(self._nodes):
            inode = self._nodes[path]
            if inode is None:
                if self.below(path) is not None and self._is_directory(path.rpartition("/")[0]):
                    changed[path] = None
            elif not self._is_unchanged(inode) or (inode.dated and not self._has_time(inode)):
                changed[path] = inode
        entries = {path: self._change(path, inode) for path, inode in changed.items()}
        for path in changed:
            for parent in _parents(path):
                if parent in entries or parent == "":
                    break
                entry = self._at(parent)
                if entry is not None and not entry.implicit:
                    entries[parent] = Change(path=parent, entry=entry)
        ordered = tuple(entries[path] for path in sorted(entries))
        unchanged = {
            path: inode.content
            for path, inode in self._nodes.items()
            if inode is not None and inode.content is not None and path not in changed
        }
        effects = {
            path: NamedEffect(name, inode.entry if (inode := self._nodes[path]) is not None else None)
            for path, name in self._effects.items()
        }
        return Changes(entries=ordered, unchanged=unchanged, effects=effects)

    def _change(self, path: str, inode: _Inode | None) -> Change:
        if inode is None:
            return Change(path=path, entry=None)
        first = min(inode.paths)
        if path != first:
            return Change(path=path, entry=inode.entry, hardlink=first)
        return Change(path=path, entry=inode.entry, content=inode.content)

    def _is_unchanged(self, inode: _Inode) -> bool:
        """Tell whether the image has the same under all names; names of one file count together."""
        groups: set[str] = set()
        for path in inode.paths:
            lower = self.below(path)
            if lower is None or not is_equal(lower, inode.entry):
                return False
            groups.add(lower.link_group)
        # A file that shares nothing any more is another one than the lower layers' with several names.
        return groups == {""} if len(inode.paths) == 1 else len(groups) == 1 and "" not in groups

    def _has_time(self, inode: _Inode) -> bool:
        lower = map(self.below, inode.paths)
        return all(entry is not None and entry.mtime == inode.entry.mtime for entry in lower)

    # -- inside ----------------------------------------------------------------------------------------------

    def _at(self, canonical: str) -> Entry | None:
        if canonical in self._nodes:
            inode = self._nodes[canonical]
            return None if inode is None else inode.entry
        return self.below(canonical)

    def _set(self, canonical: str, inode: _Inode | None) -> None:
        previous = self._nodes.get(canonical)
        if previous is not None:
            previous.paths.discard(canonical)
        if inode is not None:
            inode.paths.add(canonical)
        if self._name:
            self._effects[canonical] = self._name
        else:
            self._effects.pop(canonical, None)
        self._nodes[canonical] = inode
        parent, _, name = canonical.rpartition("/")
        self._names.setdefault(parent, set()).add(name)

    def _place(self, path: str, entry: Entry) -> str:
        """Make room for an entry: its parents are there, and nothing in its way."""
        canonical = self.resolve(path, follow=False)
        if is_reserved(canonical):
            raise PackageError(f"{canonical!r} is a name that image layers keep for whiteouts")
        self._require_parents(canonical, entry.mtime)
        present = self._at(canonical)
        if present is not None and present.type is _DIRECTORY and entry.type is not _DIRECTORY:
            self._clear(canonical)
            self._directories.clear()
        elif FileType.SYMLINK in (entry.type, present.type if present is not None else None):
            self._directories.clear()
        return canonical

    def _require_parents(self, canonical: str, mtime: int) -> None:
        missing: list[str] = []
        for parent in _parents(canonical):
            entry = self._at(parent)
            if entry is not None and entry.type is _DIRECTORY:
                break
            if entry is not None or parent == "":
                raise ConflictError(f"{canonical}: {parent or '/'} is not a directory in the image")
            missing.append(parent)
        for parent in reversed(missing):
            self._set(parent, _Inode(Entry(type=_DIRECTORY, mode=0o755, mtime=mtime), None))

    def _clear(self, canonical: str) -> None:
        """Hide everything in a directory, name by name: whatever takes its place may be a directory again."""
        for name in self.iterdir(canonical):
            child = f"{canonical}/{name}"
            entry = self._at(child)
            if entry is not None and entry.type is _DIRECTORY:
                self._clear(child)
            self._set(child, None)

    def _target(self, canonical: str) -> str | None:
        entry = self._at(canonical)
        return entry.target if entry is not None and entry.type is FileType.SYMLINK else None

    def _is_directory(self, canonical: str) -> bool:
        entry = self._at(canonical)
        return canonical == "" or (entry is not None and entry.type is _DIRECTORY)

    def _is_real_directory(self, canonical: str) -> bool:
        """Tell whether the image has a directory here and no link above it; what is behind a link has another path."""
        if canonical == "":
            return True
        entry = self.below(canonical)
        return entry is not None and entry.type is _DIRECTORY


def _parents(path: str) -> Iterator[str]:
    """Yield the directories above, nearest first, and the root last."""
    while path:
        path = path.rpartition("/")[0]
        yield path
