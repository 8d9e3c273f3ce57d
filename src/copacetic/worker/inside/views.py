# SPDX-License-Identifier: Apache-2.0
"""
The filesystems of one run: its root, and what is bound into it.

With overlayfs a view is mounted, and its upper directory is the new layer. Without, a view is a copy of everything,
and the new layer is what differs afterwards. Both get *stubs*: the directories and files that something is mounted
on and that aren't there. Stubs are never part of the result, since they are there before the run.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from copacetic.worker.inside import linux
from copacetic.worker.inside.capture import Snapshot, capture, take_snapshot
from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.metadata import Metadata, Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack, join, open_layers, parent_of
from copacetic.worker.inside.upper import tidy_upper

__all__ = ["CopiedView", "OverlayView", "View", "copy_tree", "open_view"]

_EMPTY: tuple[memoryview, ...] = ()
_TICK = 0.02
"""Seconds after which a file's change time can't be the same any more."""


class View:
    """One filesystem. `folder` is a private place on the disk of the layers."""

    def __init__(self, folder: str, layers: Sequence[str], upper: str | None, owners: Owners, stubs: str) -> None:
        os.makedirs(os.path.join(folder, "view"))
        os.makedirs(stubs, exist_ok=True)
        self.folder = folder
        self.path = os.path.join(folder, "view")
        self.layers = tuple(layers)
        self.stack = Stack(open_layers(layers))
        self.upper = upper
        self.owners = owners
        self._stubs = os.open(stubs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def builder(self) -> LayerBuilder:
        """What writes stubs."""
        raise NotImplementedError

    @property
    def written(self) -> str:
        """The directory in which what the run writes is found."""
        return self.upper or self.folder

    def find(self, path: str) -> os.stat_result | None:
        """Look at a canonical path as the process is going to see it."""
        found = self.builder.view.find(path)
        return None if found is None else found[1]

    def resolve(self, path: str) -> str:
        return self.builder.view.resolve(path)

    def make_stub(self, path: str, *, directory: bool, real: bool = False) -> str:
        """
        Make sure that something can be mounted on a path, and return its canonical form.

        `real` refuses a path that isn't a directory itself but leads to one. Raises `RefusalError` when what is there
        is of the wrong kind.
        """
        canonical = self.resolve(path)
        info = self.find(canonical)
        if real and (canonical != path.strip("/") or (info is not None and not stat.S_ISDIR(info.st_mode))):
            raise RefusalError("image", f"/{path.strip('/')} is no directory of its own in the image")
        if info is None:
            self.builder.directory(parent_of(canonical))
            if directory:
                self.builder.make_directory(canonical, Metadata(0o755))
            else:
                self.builder.make_file(canonical, Metadata(0o644), _EMPTY)
        elif stat.S_ISDIR(info.st_mode) != directory:
            kind = "directory" if directory else "file"
            raise RefusalError("image", f"a {kind} can't be mounted on /{canonical}, which is something else")
        return canonical

    def prepare(self) -> None:
        """Call it when all stubs are made."""
        self.builder.finish()

    def begin(self) -> None:
        """Call it when everything is in its place, right before the run."""

    def mount(self) -> None:
        """Make `path` show the filesystem, in the mount namespace of the process that is going to use it."""
        raise NotImplementedError

    def finish(self, without: Sequence[str]) -> None:
        """Turn what the run did into the new layer; what is below the paths in `without` doesn't belong to it."""
        raise NotImplementedError


class OverlayView(View):
    """Mounted; layers get short names, since the kernel takes only a page of them."""

    def __init__(
        self, folder: str, layers: Sequence[str], upper: str | None, owners: Owners, *, options: str, attribute: str
    ) -> None:
        super().__init__(folder, layers, upper, owners, os.path.join(folder, "l", "s"))
        self._options = options
        self._attribute = attribute
        self._builder = LayerBuilder(self._stubs, self.stack, owners)

    @property
    def builder(self) -> LayerBuilder:
        return self._builder

    def prepare(self) -> None:
        super().prepare()
        links = os.path.join(self.folder, "l")
        for position, layer in enumerate(self.layers):
            os.symlink(layer, os.path.join(links, str(position)))
        if self.upper is None:
            return
        os.makedirs(os.path.join(links, "w"))
        os.symlink(self.upper, os.path.join(links, "u"))
        handle = os.open(self.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.owners.write(handle, self.owners.read(self._stubs, "", os.fstat(self._stubs)))
        os.close(handle)

    def mount(self) -> None:
        names = ":".join(["s", *(str(position) for position in reversed(range(len(self.layers))))])
        options = f"lowerdir={names}"
        if self.upper is not None:
            options += f",upperdir=u,workdir=w,{self._options}"
        else:
            # An empty directory more, for one alone would not do.
            kept = [option for option in self._options.split(",") if option not in {"volatile", ""}]
            os.makedirs(os.path.join(self.folder, "l", "e"), exist_ok=True)
            options = ",".join([f"{options}:e", *kept])
        os.chdir(os.path.join(self.folder, "l"))
        linux.mount("overlay", "../view", "overlay", linux.MS_NODEV | linux.MS_NOSUID, options)

    def finish(self, without: Sequence[str]) -> None:
        del without  # nothing of what is mounted is in the upper directory
        if self.upper is not None:
            tidy_upper(self.upper, below=self.stack, stubs=self._stubs, attribute=self._attribute, owners=self.owners)


class CopiedView(View):
    """A copy of everything, compared with itself afterwards."""

    def __init__(self, folder: str, layers: Sequence[str], upper: str | None, owners: Owners) -> None:
        super().__init__(folder, layers, upper, owners, os.path.join(folder, "view"))
        self._builder = LayerBuilder(self._stubs, Stack(()), owners)
        copy_tree(self._builder, "", self.stack, "")
        self._snapshot: Snapshot = {}

    @property
    def builder(self) -> LayerBuilder:
        return self._builder

    @property
    def written(self) -> str:
        return self.path

    def begin(self) -> None:
        if self.upper is not None:
            self._snapshot = take_snapshot(self._stubs)
            time.sleep(_TICK)

    def mount(self) -> None:
        linux.mount(self.path, self.path, None, linux.MS_BIND)
        linux.mount(None, self.path, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_NODEV | linux.MS_NOSUID)

    def finish(self, without: Sequence[str]) -> None:
        if self.upper is None:
            return
        upper = os.open(self.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        builder = LayerBuilder(upper, self.stack, self.owners)
        builder.make_directory("", self.owners.read(self._stubs, "", os.fstat(self._stubs)))
        capture(self._stubs, self._snapshot, builder, self.stack, without=without)
        builder.finish()
        os.close(upper)


def open_view(request: Mapping[str, Any], folder: str, layers: Sequence[str], upper: str | None) -> View:
    """Choose the kind of view that works here."""
    owners = Owners(single=request["single"])
    if request["overlay"]:
        return OverlayView(
            folder, layers, upper, owners, options=request["overlay"], attribute=f"{request['xattr']}.overlay.opaque"
        )
    return CopiedView(folder, layers, upper, owners)


def copy_tree(builder: LayerBuilder, target: str, stack: Stack, source: str) -> None:
    """Copy what is at a canonical path of a stack, with everything below, keeping its hard links together."""
    names: dict[tuple[int, int], str] = {}
    for path, layer, info in _tree(stack, source):
        below = path[len(source) :].strip("/")
        place = join(target, below) if below else target
        if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
            first = names.setdefault((info.st_dev, info.st_ino), place)
            if first != place:
                builder.make_hard_link(place, first)
                continue
        builder.copy(place, layer, info, source=path)


def _tree(stack: Stack, source: str) -> Iterator[tuple[str, int, os.stat_result]]:
    found = stack.find(source)
    if found is not None:
        yield source, *found
        if stat.S_ISDIR(found[1].st_mode):
            yield from stack.walk(source)
