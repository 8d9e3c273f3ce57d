# SPDX-License-Identifier: Apache-2.0
"""
From a builder's error to one that a person understands: which process failed, how, and its last lines.

Nearly all of BuildKit's errors have the code UNKNOWN; what happened is in details of its own kinds, and in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, RpcError
from copacetic.buildkit.progress import BuildLog
from copacetic.buildkit.session import parse
from copacetic.errors import BuilderUnreachableError, ExecutionError, SolverError, UnsupportedBuilderError

__all__ = ["explain"]

_EXIT = re.compile(r"did not complete successfully: (?:.*: )?exit code: (\d+)")
_DETAILS_LIMIT = 1 << 20
_FULL_DISK = "free space on the builder: `docker builder prune`, or `buildctl prune`"
_OTHER_PROCESSOR = "the builder can't run programs of this platform: install QEMU's user emulation on it (binfmt)"
_CAUSES: tuple[tuple[str, type[SolverError], str], ...] = (
    ("no space left on device", SolverError, _FULL_DISK),
    (
        'exporter "oci" could not be found',
        UnsupportedBuilderError,
        "use a builder with the containerd image store, or BuildKit itself: `copa builders` shows what each can do",
    ),
    ("unknown API capability", UnsupportedBuilderError, "use a newer builder: BuildKit 0.13 or Docker 26, or later"),
    ("requested operation has been disabled", UnsupportedBuilderError, ""),
    ("only enabled with containerd image store", UnsupportedBuilderError, ""),
    ("no match for platform", UnsupportedBuilderError, "the image has no such platform; see `copa inspect IMAGE`"),
    ("exec format error", UnsupportedBuilderError, _OTHER_PROCESSOR),
    ("pull access denied", SolverError, "log in to the registry, or check the image's name"),
    ("401 Unauthorized", SolverError, "log in to the registry with `docker login`"),
    ("failed to resolve source metadata", SolverError, "check that the builder reaches the registry, and the name"),
)


def explain(error: RpcError, log: BuildLog, builder: str) -> SolverError:
    """Return the error to raise for a call of a solve that failed."""
    details = _details(error.details)
    vertex = str(details.get("Vertex", {}).get("digest", "")) or log.failed()
    exit_code = _exit_code(error, details)
    if exit_code is not None:
        return _failed_process(error, exit_code, vertex, log)
    text = _shorten(error.message)
    for words, kind, hint in _CAUSES:
        if words in error.message:
            return kind(f"{builder}: {text}", hint=hint or None)
    if error.code == Code.UNAVAILABLE:
        return BuilderUnreachableError(f"{builder}: {text}")
    if error.code == Code.CANCELLED or text.endswith("context canceled"):
        return SolverError(f"{builder} has cancelled the solve: {text}")
    name = log.name(vertex)
    return SolverError(f"{builder}: {name}: {text}" if name and name not in text else f"{builder}: {text}")


def _exit_code(error: RpcError, details: Mapping[str, Any]) -> int | None:
    code = details.get("ExitMessage", {}).get("Code")
    if isinstance(code, int) and code:
        return code
    found = _EXIT.search(error.message)
    return int(found[1]) if found else None


def _failed_process(error: RpcError, exit_code: int, vertex: str, log: BuildLog) -> SolverError:
    name = log.name(vertex) or "a process in the image"
    what = f"{name}: {_meaning(exit_code)}"
    said = "\n".join((error.message, *log.lines(vertex))).lower()
    if "no space left on device" in said:
        return ExecutionError(f"{what}: the builder's disk is full", hint=_FULL_DISK)
    if "exec format error" in said:
        return UnsupportedBuilderError(f"{what}: exec format error", hint=_OTHER_PROCESSOR)
    last = log.last(vertex)
    return ExecutionError(f"{what}; its last lines: {last}" if last else f"{what}, without a word")


def _meaning(code: int) -> str:
    """Shells say 128 and the signal's number for a killed process; 4294967295 is a process that never began."""
    if code == 137:
        return "killed (exit code 137): out of memory, or the builder was stopped"
    if code in {126, 127}:
        return f"the program can't be run (exit code {code})"
    if code > 255:
        return "the process could not be started"
    return f"failed with exit code {code}"


def _details(data: bytes) -> dict[str, dict[str, Any]]:
    """Return BuildKit's own details by the names of their kinds."""
    found: dict[str, dict[str, Any]] = {}
    if not data or len(data) > _DETAILS_LIMIT:
        return found
    try:
        status = parse(schema.types().Status, data)
    except RpcError:
        return found
    for detail in status.details:
        kind = detail.type_url.rpartition("/")[2].partition("+")[0].rpartition(".")[2]
        try:
            value = json.loads(detail.value)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.setdefault(kind, value)
    return found


def _shorten(message: str) -> str:
    """Leave out what wraps every error of the builder."""
    return re.sub(
        r"^(?:rpc error: code = \w+ desc = |failed to solve: |process \".*?\" did not complete successfully: )+",
        "",
        message,
    )
