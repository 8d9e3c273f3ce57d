# SPDX-License-Identifier: Apache-2.0
"""
Stacked layer indexes as one filesystem, as a container would see it.

A layer's whiteouts act on what is below it, through the links that are there unless the layer has replaced them. An
entry whose parent is a link goes where the link leads, inside the root; one whose parent is a directory entry of its
own layer replaces the link. Both are what extracting the layers one after the other into one tree gives, which is how
containerd and umoci do it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from copacetic.errors import CorruptLayerError, HostileLayerError, ImageError
from copacetic.oci.filesystem import TAR_TYPES, Entry, ImageFilesystem, LayeredView
from copacetic.oci.layerindex import LayerIndex, Row, unpack_text
from copacetic.oci.links import resolve_from

_STEPS, _STEPS_PER_ROW = 2_000_000, 32
"""Parts of paths that are looked at one by one, in all: links can make thousands of a short name, again and again."""
_IMPLIED, _IMPLIED_PER_ROW, _IMPLIED_COST = 32 * 1024**2, 512, 256
"""Bytes of the paths of folders that no layer lists: one entry behind a link can ask for hundreds."""


class LayerContents(Protocol):
    """What the files of one layer have in them."""

    def kept(self, row: Row) -> bytes | None:
        """Return a file's content where it is at hand."""
        ...

    def load(self, rows: Mapping[str, Row]) -> Iterator[tuple[str, Iterable[bytes | memoryview]]]:
        """Go over the layer once: yield the path of each file with its content, to be taken before the next."""
        ...


class IndexedLayer(Struct, frozen=True):
    """One layer of a view."""

    index: LayerIndex
    contents: LayerContents


_IMPLICIT = Row(
    path="",
    type="5",
    mode=0o755,
    uid=0,
    gid=0,
    size=0,
    mtime=0,
    target="",
    device=(0, 0),
    xattrs=None,
    sha256=b"",
    offset=0,
)


class _Node:
    """What is seen at a path."""

    __slots__ = ("entry", "group", "layer", "origin", "row")

    def __init__(self, row: Row, layer: int | None, origin: tuple[int, str], group: str = "") -> None:
        self.row = row
        self.layer = layer
        self.origin = origin
        """The layer that has the content, and its path there."""
        self.group = group
        self.entry: Entry | None = None


class LayeredFilesystem:
    """`ImageFilesystem` over layer indexes, the lowest first."""

    def __init__(self, layers: Sequence[IndexedLayer], *, below: LayeredFilesystem | None = None) -> None:
        """`below` is the view of the first layers, where there is one already."""
        self._layers = tuple(layers)
        self._loaded: dict[tuple[int, str], bytes] = {}
        """What was read of layers: rare, so it is remembered."""
        rows = sum(len(layer.index.rows) for layer in self._layers)
        self._steps = _STEPS + _STEPS_PER_ROW * rows
        self._implied = _IMPLIED + _IMPLIED_PER_ROW * rows
        self._nodes: dict[str, _Node] = {"": _Node(_IMPLICIT, None, (0, ""))}
        self._children: dict[str, set[str]] | None = None
        known = 0
        if below is not None:
            self._nodes = dict(below._nodes)  # noqa: SLF001 - nodes are shared, so they are replaced and never changed
            known = len(below._layers)  # noqa: SLF001
        for position, layer in enumerate(self._layers[known:], known):
            self._stack(position, layer.index)

    @property
    def identity(self) -> str:
        """The same for views in which everything is the same: what their layers unpack to."""
        diff_ids = "\n".join(layer.index.diff_id for layer in self._layers)
        return hashlib.sha256(diff_ids.encode()).hexdigest()

    def stacked_with(self, layer: IndexedLayer) -> LayeredFilesystem:
        """Return this view with one layer more."""
        return LayeredFilesystem((*self._layers, layer), below=self)

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        node = self._find(path, follow=follow)
        if node is None:
            return None
        if node.entry is None:
            node.entry = _entry(node)
        return node.entry

    def resolve(self, path: str, *, follow: bool = True) -> str:
        nodes = self._nodes
        node = nodes.get(path)
        if node is not None and (not follow or node.row.type != "2"):
            return path
        folder, _, name = path.rpartition("/")
        above = nodes.get(folder) if folder else None
        if above is None or above.row.type != "5" or name in {"", ".", ".."}:
            folder, name = "", path
        elif node is None:
            return path
        self._spend(name.count("/") + 1, len(path))
        return resolve_from(folder, 0, name, self._target, follow=follow)[0]

    def _target(self, path: str) -> str | None:
        node = self._nodes.get(path)
        if node is None or node.row.type != "2":
            return None
        target = unpack_text(node.row.target)
        self._spend(target.count("/") + 1, len(path) + len(target))
        return target

    def _spend(self, steps: int, length: int) -> None:
        self._steps -= steps * (1 + length // _IMPLIED_COST)
        if self._steps < 0:
            raise HostileLayerError("the image's symbolic links lead too far, or too often")

    def read(self, path: str, *, limit: int) -> bytes:
        node = self._find(path, follow=True)
        if node is None or node.row.type != "0":
            raise FileNotFoundError(path)
        if node.row.size > limit:
            raise ImageError(f"{path} has {node.row.size} bytes, the limit is {limit}")
        layer, origin = node.origin
        return self._content(layer, origin, node.row)

    def digest(self, paths: Iterable[str], algorithm: str) -> Mapping[str, str]:
        """
        Return the digests of regular files by their canonical paths, in hexadecimal; every layer is read at most once.

        `algorithm` is one of `hashlib`'s.
        """
        wanted: dict[int, dict[str, Row]] = {}
        names: dict[tuple[int, str], list[str]] = {}
        for path in paths:
            node = self._nodes[path]
            layer, origin = node.origin
            wanted.setdefault(layer, {})[origin] = node.row
            names.setdefault((layer, origin), []).append(path)
        found: dict[str, str] = {}
        for layer, rows in wanted.items():
            for origin, pieces in self._layers[layer].contents.load(rows):
                hasher = hashlib.new(algorithm, usedforsecurity=False)
                for piece in pieces:
                    hasher.update(piece)
                found.update(dict.fromkeys(names[layer, origin], hasher.hexdigest()))
        return found

    def iterdir(self, path: str) -> tuple[str, ...]:
        canonical = self.resolve(path)
        node = self._nodes.get(canonical)
        if node is None or node.row.type != "5":
            return ()
        return tuple(sorted(self._index_children().get(canonical, ())))

    def walk(self, path: str = "") -> Iterator[tuple[str, Entry]]:
        start = self.resolve(path)
        pending = [f"{start}/{name}" if start else name for name in reversed(self.iterdir(start))]
        children = self._index_children()
        while pending:
            current = pending.pop()
            entry = self.lookup(current, follow=False)
            assert entry is not None
            yield current, entry
            pending.extend(f"{current}/{name}" for name in sorted(children.get(current, ()), reverse=True))

    def layer_of(self, path: str) -> int | None:
        node = self._nodes.get(path)
        return None if node is None else node.layer

    def hidden_versions(self, path: str, *, limit: int) -> tuple[bytes, ...]:
        """See `LayeredView.hidden_versions`."""
        top = self.layer_of(self.resolve(path))
        found = []
        for position, layer in enumerate(self._layers[:top]):
            row = next((row for row in layer.index.rows if row.path == path and row.type == "0"), None)
            if row is None:
                continue
            if row.size > limit:
                raise ImageError(f"{path} of layer {position} has {row.size} bytes, the limit is {limit}")
            found.append(self._content(position, path, row))
        return tuple(found)

    def _content(self, layer: int, path: str, row: Row) -> bytes:
        if not row.size:
            return b""
        contents = self._layers[layer].contents
        found = self._loaded.get((layer, path))
        if found is None:
            found = contents.kept(row)
        if found is None:
            for _, pieces in contents.load({path: row}):
                found = self._loaded[layer, path] = b"".join(pieces)
        assert found is not None
        return found

    def _find(self, path: str, *, follow: bool) -> _Node | None:
        node = self._nodes.get(path)
        if node is not None and (not follow or node.row.type != "2"):
            return node
        return self._nodes.get(self.resolve(path, follow=follow))

    def _stack(self, position: int, index: LayerIndex) -> None:
        directories: dict[str, int] | None = None
        for path, offset, opaque in sorted(index.whiteouts, key=lambda whiteout: not whiteout[2]):
            hidden = unpack_text(path)
            folder, _, name = (hidden, "", "") if opaque else hidden.rpartition("/")
            if self.resolve(folder) != folder:
                if directories is None:
                    directories = {unpack_text(row.path): row.offset for row in index.rows if row.type == "5"}
                found = self._folder_below(folder, offset, directories)
                if found is None:
                    continue
                folder = found
            if opaque:
                self._remove_below(folder)
            else:
                self._remove(f"{folder}/{name}" if folder else name)
        nodes = self._nodes
        for row in index.rows:
            stored = unpack_text(row.path)
            path = stored
            parent = path.rpartition("/")[0]
            above = nodes.get(parent)
            if above is None or above.row.type != "5":
                parent = self._make_directory(parent)
                path = f"{parent}/{path.rpartition('/')[2]}" if parent else path.rpartition("/")[2]
            self._put(path, self._node(row, position, stored))

    def _folder_below(self, path: str, offset: int, directories: Mapping[str, int]) -> str | None:
        """
        Return where a whiteout's folder is in the layers below, through their links.

        None when its layer, up to there, has put a directory in the place of a link: what is in that is new.
        """
        named = at = ""
        for part in path.split("/"):
            named = f"{named}/{part}" if named else part
            at = f"{at}/{part}" if at else part
            node = self._nodes.get(at)
            if node is not None and node.row.type == "2":
                if directories.get(named, offset) < offset:
                    return None
                at = self.resolve(at)
        return at

    def _node(self, row: Row, position: int, stored: str) -> _Node:
        if row.type != "1":
            return _Node(row, position, (position, stored))
        target = self.resolve(unpack_text(row.target), follow=False)
        node = self._nodes.get(target)
        if node is None or node.row.type == "5":
            raise CorruptLayerError(f"{stored[:200]!r} is a hard link to {target[:200]!r}, which is not there")
        if not node.group:  # another node, as a view of the layers below may have this one
            node = self._nodes[target] = _Node(node.row, node.layer, node.origin, target)
        return _Node(node.row, position, node.origin, node.group)

    def _put(self, path: str, node: _Node) -> None:
        old = self._nodes.get(path)
        if old is not None and old.row.type == "5" and node.row.type != "5":
            if not path:
                raise HostileLayerError("the root is not a directory")
            self._remove(path)
        self._nodes[path] = node
        if self._children is not None and path:
            folder, _, name = path.rpartition("/")
            self._children.setdefault(folder, set()).add(name)

    def _make_directory(self, path: str) -> str:
        """Return where a path's directory really is, making what is missing and replacing what is no directory."""
        canonical = self.resolve(path)
        missing, at = [], canonical
        while (node := self._nodes.get(at)) is None or node.row.type != "5":
            missing.append(at)
            at = at.rpartition("/")[0]
        for at in reversed(missing):
            self._implied -= _IMPLIED_COST + len(at)
            if self._implied < 0:
                raise HostileLayerError("the image's layers lie in too many folders that none of them lists")
            self._put(at, _Node(_IMPLICIT, None, (0, "")))
        return canonical

    def _index_children(self) -> dict[str, set[str]]:
        if self._children is None:
            children: dict[str, set[str]] = {}
            for path in self._nodes:
                if path:
                    folder, _, name = path.rpartition("/")
                    children.setdefault(folder, set()).add(name)
            self._children = children
        return self._children

    def _remove_below(self, path: str) -> None:
        children = self._index_children()
        pending = [path]
        while pending:
            folder = pending.pop()
            for name in children.pop(folder, ()):
                child = f"{folder}/{name}" if folder else name
                self._nodes.pop(child, None)
                pending.append(child)

    def _remove(self, path: str) -> None:
        if not path or path not in self._nodes:
            return
        self._remove_below(path)
        del self._nodes[path]
        folder, _, name = path.rpartition("/")
        self._index_children().get(folder, set()).discard(name)


def _entry(node: _Node) -> Entry:
    row = node.row
    return Entry(
        type=TAR_TYPES[row.type],
        mode=row.mode,
        uid=row.uid,
        gid=row.gid,
        size=row.size,
        mtime=row.mtime,
        target=unpack_text(row.target) if row.type == "2" else "",
        device=row.device,
        xattrs=row.xattrs or {},
        sha256=row.sha256.hex(),
        link_group=node.group,
        implicit=node.layer is None,
    )


_: type[ImageFilesystem] = LayeredFilesystem
_view: type[LayeredView] = LayeredFilesystem
