# SPDX-License-Identifier: Apache-2.0
"""
File operations: directories, files and copies, without running anything.

They mean what BuildKit's mean: links are followed inside the root, an existing directory is no error, a file written
over another keeps its mode. Each action sees what those before it did.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.copying import copy
from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.metadata import Metadata, Owners
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack, open_layers, parent_of

__all__ = ["run"]

Action = Mapping[str, Any]


def run(_channel: Channel, request: Message, _fds: Sequence[int]) -> Message:
    """Do `actions` on `layers`, into the empty directory `target`. Raises `RefusalError` (`missing`) as they say."""
    owners = Owners(single=request["single"])
    below = Stack(open_layers(request["layers"]))
    target = os.open(request["target"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    builder = LayerBuilder(target, below, owners)
    files = _Files(builder, owners)
    for action in request["actions"]:
        files.do[action["do"]](action)
    builder.finish()
    return {}


class _Files:
    def __init__(self, builder: LayerBuilder, owners: Owners) -> None:
        self._builder = builder
        self._owners = owners
        self.do: Mapping[str, Callable[[Action], None]] = {
            "make-directory": self._make_directory,
            "make-file": self._make_file,
            "copy": lambda action: copy(self._builder, self._owners, action),
        }

    def _make_directory(self, action: Action) -> None:
        path = self._builder.view.resolve(action["path"])
        found = self._builder.view.find(path)
        if found is not None:
            if not stat.S_ISDIR(found[1].st_mode):
                raise RefusalError("missing", f"{action['path']} is there, and no directory")
            return
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            at = "/".join(parts[:depth])
            present = self._builder.view.find(at)
            if present is None:
                if depth < len(parts) and not action["parents"]:
                    raise RefusalError("missing", f"{action['path']}: the directory it belongs into is not there")
                self._builder.directory(parent_of(at))
                self._builder.make_directory(at, _metadata(action))
            elif not stat.S_ISDIR(present[1].st_mode):
                raise RefusalError("missing", f"{action['path']}: /{at} is no directory")

    def _make_file(self, action: Action) -> None:
        path = self._parent_checked(action)
        meta = _metadata(action)
        found = self._builder.view.find(path)
        if found is not None:
            if not stat.S_ISREG(found[1].st_mode):
                raise RefusalError("missing", f"{action['path']} is there, and no file")
            present = self._owners.read(found[0], path, found[1])
            meta.mode = present.mode
            meta.xattrs = {k: v for k, v in present.xattrs.items() if k != "security.capability"}
        self._builder.make_file(path, meta, [base64.b64decode(action["data"])])

    def _parent_checked(self, action: Action) -> str:
        """Where a path leads; its directory has to be there, and is one of the layer then."""
        path = self._builder.view.resolve(action["path"])
        parent = self._builder.view.find(parent_of(path))
        if not path or (parent_of(path) and (parent is None or not stat.S_ISDIR(parent[1].st_mode))):
            raise RefusalError("missing", f"{action['path']}: the directory it belongs into is not there")
        self._builder.directory(parent_of(path))
        return path


def _metadata(action: Action) -> Metadata:
    return Metadata(action["mode"], mtime=0)
