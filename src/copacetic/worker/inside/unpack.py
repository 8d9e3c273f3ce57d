# SPDX-License-Identifier: Apache-2.0
"""
Unpacks a layer's plain tar into a layer directory, confined to it.

The result is what extracting the layer onto those below would give, as `oci.layered` defines it. Device nodes are
left out: nothing in the sandbox could open them, and 0:0 would be a whiteout.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from copacetic.oci.tarstream import HostileTarError, TarEntry, TarError, TarReader
from copacetic.worker.inside.channel import Channel, Message
from copacetic.worker.inside.confine import forbid_imports
from copacetic.worker.inside.layerbuilder import LayerBuilder
from copacetic.worker.inside.linux import FILE_CAPABILITIES, limit_capabilities
from copacetic.worker.inside.metadata import Metadata, Owners, is_portable
from copacetic.worker.inside.refusal import RefusalError
from copacetic.worker.inside.stack import Stack, join, open_layers, split_path

__all__ = ["run"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class _Pipe:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self, size: int, /) -> bytes:
        return os.read(self._handle, size)


def run(_channel: Channel, request: Message, fds: Sequence[int]) -> Message:
    """
    `target` is an empty directory, `below` the layer directories that the layer belongs onto, the lowest first; the
    tar comes through the one open file.
    """
    below = Stack(open_layers(request["below"]))
    forbid_imports()
    os.chroot(request["target"])
    os.chdir("/")
    limit_capabilities(FILE_CAPABILITIES)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    builder = LayerBuilder(root, below, Owners(single=request["single"]))
    reader = TarReader(_Pipe(fds[0]))
    count = 0
    try:
        for entry in reader:
            _add(builder, entry, reader)
            count += 1
        reader.drain()
    except TarError as error:
        raise RefusalError("hostile" if isinstance(error, HostileTarError) else "corrupt", str(error)) from error
    builder.finish()
    return {"entries": count}


def _add(builder: LayerBuilder, entry: TarEntry, reader: TarReader) -> None:
    folder, name = split_path(entry.path)
    if name.startswith(_WHITEOUT):
        _hide(builder, folder, name)
        return
    if not entry.path:
        if entry.type != "5":
            raise RefusalError("hostile", "the root is not a directory")
        builder.make_directory("", _metadata(entry))
        return
    path = join(builder.directory(folder), name)
    if entry.type == "0":
        builder.make_file(path, _metadata(entry), reader.content())
    elif entry.type == "5":
        builder.make_directory(path, _metadata(entry))
    elif entry.type == "2":
        if not entry.linkname:
            raise RefusalError("corrupt", f"the symbolic link {path[:200]!r} has no target")
        builder.make_link(path, _metadata(entry), entry.linkname)
    elif entry.type == "1":
        builder.make_hard_link(path, entry.linkname)
    elif entry.type == "6":
        builder.make_pipe(path, _metadata(entry))


def _hide(builder: LayerBuilder, folder: str, name: str) -> None:
    if name == _OPAQUE:
        builder.clear(folder)
        return
    if name.startswith(_WHITEOUT * 2):
        return  # aufs' own
    hidden = name[len(_WHITEOUT) :]
    if hidden in {"", ".", ".."}:
        raise RefusalError("hostile", f"a whiteout of no name: {name!r}")
    builder.whiteout(join(folder, hidden))


def _metadata(entry: TarEntry) -> Metadata:
    xattrs = {name: value for name, value in entry.xattrs.items() if is_portable(name)} if entry.xattrs else {}
    return Metadata(entry.mode, entry.uid, entry.gid, entry.mtime * 1_000_000_000, xattrs)
