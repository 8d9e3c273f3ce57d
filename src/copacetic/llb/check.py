# SPDX-License-Identifier: Apache-2.0
"""
What makes a graph one that a solver can take. Found out before anything is sent, with the place in the graph.

Names and paths in a graph may come from an image or a report, so nothing here is only a programmer's mistake.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from copacetic.errors import SolverError
from copacetic.llb.graph import (
    Bind,
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    MergeOp,
    Mount,
    Secret,
    SourceOp,
    Vertex,
)

__all__ = ["MAX_FILE", "check"]

MAX_FILE = 1 << 20
"""Bytes of one file in a graph; builders take messages of a few megabytes."""
_MAX_TEXT = 128 * 1024
"""Linux takes no longer argument."""
_SOURCE = re.compile(r"(docker-image|oci-layout|local)://\S+")
_ENV_NAME = re.compile(r"[^=\0]+")


def check(vertex: Vertex) -> None:
    """Raises `SolverError` that says what is wrong with which vertex."""
    for problem in _problems(vertex):
        raise SolverError(f"{_title(vertex)[:200]}: {problem}")


def _title(vertex: Vertex) -> str:
    match vertex:
        case SourceOp():
            what = f"source {vertex.identifier}"
        case ExecOp():
            what = f"exec {vertex.args[0] if vertex.args else ''}"
        case FileOp():
            what = "file operation"
        case MergeOp():
            what = "merge"
        case DiffOp():
            what = "diff"
    return f"{what} ({vertex.name})" if vertex.name else what


def _problems(vertex: Vertex) -> Iterator[str]:
    if problem := _text("its name", vertex.name):
        yield problem
    match vertex:
        case SourceOp():
            if not _SOURCE.fullmatch(vertex.identifier):
                yield "its identifier has no scheme that is known, or blanks in it"
            for key, value in vertex.attributes:
                yield from _texts(("an attribute's name", key), (f"its attribute {key}", value))
        case ExecOp():
            yield from _exec(vertex)
        case FileOp():
            if not vertex.actions:
                yield "it has no action"
            for action in vertex.actions:
                yield from _action(action)
        case MergeOp():
            if len(vertex.inputs) < 2:
                yield "it needs two filesystems or more"
        case DiffOp():
            pass


def _exec(op: ExecOp) -> Iterator[str]:
    if not op.args or not op.args[0]:
        yield "it has no program"
    for position, argument in enumerate(op.args):
        yield from _texts((f"its argument {position}", argument))
    for name, value in op.env:
        if not _ENV_NAME.fullmatch(name):
            yield f"{name!r} is no name for an environment variable"
        yield from _texts((f"its environment variable {name!r}", name + value))
    if len({name for name, _ in op.env}) != len(op.env):
        yield "an environment variable is set twice"
    yield from _texts(("its user", op.user), ("its host name", op.hostname))
    yield from _path("its working directory", op.cwd)
    if not all(0 <= code <= 255 for code in op.valid_exit_codes):
        yield "an exit code is not between 0 and 255"
    seen = {"/"}
    for mount in op.mounts:
        yield from _mount(mount)
        if mount.dest in seen:
            yield f"two filesystems are mounted at {mount.dest}"
        seen.add(mount.dest)


def _mount(mount: Mount) -> Iterator[str]:
    yield from _path("a mount's place", mount.dest)
    match mount:
        case Bind():
            if mount.selector:
                yield from _path(f"the path inside the filesystem for {mount.dest}", mount.selector)
            if mount.source is None and mount.readonly:
                yield f"an empty filesystem at {mount.dest} is of no use when it is read-only"
        case Secret():
            if not mount.id:
                yield f"the mount at {mount.dest} has no id"
            yield from _texts((f"the id of the mount at {mount.dest}", mount.id))
        case _:
            if mount.size < 0:
                yield f"the size of the tmpfs at {mount.dest} is negative"


def _action(action: FileAction) -> Iterator[str]:
    match action:
        case MakeDirectory() | MakeFile():
            yield from _path("a path", action.path)
            if not 0 <= action.mode <= 0o777:
                yield f"the mode of {action.path} is not one of permission bits only: {action.mode:o}"
            if isinstance(action, MakeFile) and len(action.data) > MAX_FILE:
                yield f"{action.path} has {len(action.data)} bytes; a graph carries at most {MAX_FILE} of a file"
        case Copy():
            yield from _path("a path to copy", action.path)
            yield from _path("a path to copy to", action.dest, slash=True)


def _path(what: str, path: str, *, slash: bool = False) -> Iterator[str]:
    """Only a path that means the same everywhere: absolute and normalised."""
    normal = path.rstrip("/") or "/" if slash else path
    if not path.startswith("/") or normal.startswith("//") or posixpath.normpath(normal) != normal:
        yield f"{what} must be absolute, without '.', '..' or '//': {path!r}"
    yield from _texts((what, path))


def _texts(*texts: tuple[str, str]) -> Iterator[str]:
    for what, text in texts:
        if problem := _text(what, text):
            yield problem


def _text(what: str, text: str) -> str:
    if "\0" in text:
        return f"{what} has a NUL character"
    if len(text) > _MAX_TEXT:
        return f"{what} has {len(text)} characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{what} is not UTF-8, which a graph can't carry: {text[:80]!r}"
    return ""
