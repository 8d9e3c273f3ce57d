# SPDX-License-Identifier: Apache-2.0
"""A layer's changes, made to be what no plan says: one edit for each way to be wrong."""

from __future__ import annotations

from collections.abc import Callable

from copacetic.oci.change import Change
from copacetic.oci.filesystem import Entry, FileType
from support.deb.composed import read_content
from support.value.replacing import replace

Entries = tuple[Change, ...]
Edit = Callable[[Entries], Entries]

CAPABLE = {"security.capability": b"\x01\x00\x00\x02" + bytes(16)}


def add(path: str, type_: FileType = FileType.FILE, mode: int = 0o644, **more: object) -> Edit:
    """Bring something to a path, whatever was there."""
    content = b"evil" if type_ is FileType.FILE else None
    entry = Entry(type=type_, mode=mode, size=len(content or b""), **more)  # type: ignore[arg-type]
    return lambda entries: _sorted(*_others(entries, path), Change(path=path, entry=entry, content=content))


def put(path: str, text: str) -> Edit:
    """Bring a plain file to a path, whatever was there."""
    content = text.encode()
    entry = Entry(type=FileType.FILE, mode=0o644, size=len(content))
    return lambda entries: _sorted(*_others(entries, path), Change(path=path, entry=entry, content=content))


def take(path: str) -> Edit:
    """Take away what the image has at a path."""
    return lambda entries: _sorted(*_others(entries, path), Change(path=path, entry=None))


def drop(*paths: str) -> Edit:
    """Leave the image as it is at some paths."""
    return lambda entries: tuple(change for change in entries if change.path not in paths)


def alter(path: str, **more: object) -> Edit:
    """Change what the layer says of a path."""

    def edit(entries: Entries) -> Entries:
        (found,) = (change for change in entries if change.path == path)
        assert found.entry is not None
        changed = replace(found, entry=replace(found.entry, **more))
        if "type" in more:
            changed = replace(changed, content=None)
        return _sorted(*_others(entries, path), changed)

    return edit


def write(path: str, content: bytes) -> Edit:
    """Give a file another content."""
    return _rewritten(path, lambda _: content)


def rewrite(path: str, old: str, new: str) -> Edit:
    """Change a piece of a file's text, which has to be there."""

    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    return _rewritten(path, change)


def _rewritten(path: str, change: Callable[[bytes], bytes]) -> Edit:
    def edit(entries: Entries) -> Entries:
        (found,) = (one for one in entries if one.path == path)
        assert found.entry is not None
        content = change(read_content(found))
        changed = replace(found, content=content, entry=replace(found.entry, size=len(content)))
        return _sorted(*_others(entries, path), changed)

    return edit


def _others(entries: Entries, path: str) -> Entries:
    return tuple(change for change in entries if change.path != path)


def _sorted(*changes: Change) -> Entries:
    return tuple(sorted(changes, key=lambda change: change.path))
