# SPDX-License-Identifier: Apache-2.0
"""
One process of a graph: what the helper is asked, what it says, and when enough is enough.

The request: `root` and each bind have their layer directories, the lowest first, and an empty `upper` directory where
they are an output; `overlay` are mount options, "" for copies; `valid` are exit codes; the program's output comes
through the one open file.
"""

from __future__ import annotations

import base64
import codecs
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

from copacetic.errors import ExecutionError, SolverError, StorageError, UnsupportedBuilderError
from copacetic.llb.graph import Bind, ExecOp, Network, Secret, State, Tmpfs
from copacetic.llb.lastwords import LINE, LastWords
from copacetic.llb.solver import Inputs
from copacetic.llb.walk import sorted_mounts
from copacetic.worker.agent import Agent, AgentJob, JobRefusedError
from copacetic.worker.store import Run, Store

__all__ = ["Execution", "Limits"]

_HOST = "sandbox"
_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLV_LIMIT = 64 * 1024
_PIECE = 1 << 16
_TURN = 250
"""In milliseconds."""
_SPACE = 16 * 1024 * 1024
_FULL = "free space on the disk of the cache folder (`copa cache prune`), or name another folder with --cache-dir"
_NOT_PERMITTED = "Operation not permitted"
_NO_PROCESS = "Resource temporarily unavailable"
"""What shells say where the kernel's own bound, a little above ours, was reached before anybody had looked."""
_LIMITS = "allow it more, as in --addr 'worker://?memory=16G&disk=50G&processes=9000&time=2h', if you trust it"
_REFUSED = (
    "the sandbox refuses device nodes, mounts and what else an installation seldom needs; a builder may allow it "
    "(--addr), and --strategy unpack runs nothing"
)
Layers = tuple[str, ...]


class Limits(Struct, frozen=True, kw_only=True):
    """Of one process."""

    seconds: float = 3_600.0
    output: int = 64 * 1024 * 1024
    """In bytes; a process that says more is ended."""
    processes: int = 4_096
    """With their threads."""
    memory: int = 8 << 30
    """In bytes, and never more than three quarters of the machine's, or of what the container around it may have."""
    disk: int = 16 << 30
    """In bytes, of what is written anew."""
    files: int = 1_000_000


@dataclass(slots=True, kw_only=True)
class Execution:
    """A process that is about to run. `find` returns the layers of a filesystem of the graph."""

    op: ExecOp
    title: str
    architecture: str
    agent: Agent
    store: Store
    run: Run
    inputs: Inputs
    limits: Limits
    find: Callable[[State], Layers]
    say: Callable[[str], None]
    remove: Callable[[Sequence[str]], None]
    """Removes trees of the helper's."""
    _uppers: list[str] = field(default_factory=list)

    def start(self) -> tuple[Layers, ...]:
        """
        Run it to its end, and return the layers of its outputs, the root's first.

        Raises `ExecutionError` when it fails, `SolverError` for everything else.
        """
        folder = self.run.new_folder()
        try:
            request, outputs = self._request(folder)
            self._run(request)
        except SolverError:
            self.remove([str(folder), *self._uppers])
            raise
        except JobRefusedError as error:
            self.remove([str(folder), *self._uppers])
            raise self._translate(error) from error
        self.remove([str(folder)])
        return outputs

    def _run(self, request: Mapping[str, Any]) -> None:
        reader, writer = os.pipe()
        try:
            with self.agent.job("run", request, [writer]) as job:
                os.close(writer)
                writer = -1
                self._watch(job, reader)
        finally:
            for handle in (reader, writer):
                if handle >= 0:
                    os.close(handle)

    def _request(self, folder: Path) -> tuple[Mapping[str, Any], tuple[Layers, ...]]:
        root = self.find(self.op.root)
        upper = self._new_upper()
        uppers: dict[int, Layers] = {}
        request = {
            "folder": str(folder),
            "overlay": self.agent.facts["overlay"],
            "xattr": self.agent.facts["xattr"],
            "isolated": self.agent.mode.isolated,
            "single": self.agent.mode.single,
            "architecture": self.architecture,
            "root": {"layers": root, "upper": upper},
            "mounts": [one for mount in sorted_mounts(self.op) for one in self._mount(mount, uppers)],
            "process": {
                "args": self.op.args,
                "env": _environment(self.op),
                "cwd": self.op.cwd,
                "user": self.op.user,
                "hostname": self.op.hostname or _HOST,
            },
            "network": self.op.network != Network.NONE,
            "resolv": _name_servers() if self.op.network != Network.NONE else "",
            "valid": self.op.valid_exit_codes or (0,),
            "limits": {name: getattr(self.limits, name) for name in ("processes", "memory", "disk", "files")},
        }
        writable = [mount for mount in self.op.mounts if isinstance(mount, Bind) and not mount.readonly]
        return request, ((*root, upper), *(uppers[id(mount)] for mount in writable))

    def _new_upper(self) -> str:
        self._uppers.append(str(self.run.new_folder()))
        return self._uppers[-1]

    def _mount(self, mount: object, uppers: dict[int, Layers]) -> list[Mapping[str, Any]]:
        match mount:
            case Bind():
                layers = () if mount.source is None else self.find(mount.source)
                upper = None if mount.readonly else self._new_upper()
                if upper is not None:
                    uppers[id(mount)] = (*layers, upper)
                one = {"kind": "bind", "layers": layers, "upper": upper, "selector": mount.selector}
                return [{**one, "dest": mount.dest}]
            case Tmpfs():
                return [{"kind": "tmpfs", "dest": mount.dest, "size": mount.size}]
            case Secret():
                return self._secret(mount)
        raise AssertionError(mount)

    def _secret(self, mount: Secret) -> list[Mapping[str, Any]]:
        data = self.inputs.secrets.get(mount.id)
        if data is None:
            if mount.optional:
                return []
            raise SolverError(f"{self.title}: nobody has the secret {mount.id!r}")
        text = base64.b64encode(data).decode("ascii")
        return [{"kind": "secret", "dest": mount.dest, "data": text, "mode": mount.mode}]

    def _watch(self, job: AgentJob, reader: int) -> None:
        """Pass on what the process says until it has ended. Raises `ExecutionError` unless it ended well."""
        output = _Output(self.say)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(job.channel.socket.fileno(), select.POLLIN)
        deadline = time.monotonic() + self.limits.seconds
        why = ""
        result: Mapping[str, Any] | None = None
        listening = True
        while result is None or listening:
            left = deadline - time.monotonic()
            if not why and left <= 0:
                why = f"did not end within {self.limits.seconds:g} seconds"
                job.ask({"kill": True})
            # Short turns: a signal that another thread got is noticed in between only.
            for handle, _ in poll.poll(_TURN if why else max(1, min(_TURN, left * 1_000))):
                if handle != reader:
                    poll.unregister(handle)
                    result = job.result()
                elif data := os.read(reader, _PIECE):
                    if not why and not output.add(data, self.limits.output):
                        why = f"said more than {self.limits.output} bytes"
                        job.ask({"kill": True})
                else:
                    poll.unregister(reader)
                    listening = False
        output.finish()
        self._judge(result, why, output)

    def _judge(self, result: Mapping[str, Any], why: str, output: _Output) -> None:
        words = output.words
        why = why or result.get("exceeded", "")
        full = _free_space(self.store.root) < _SPACE
        if why and result.get("killed"):
            more = _FULL if full or "disk is full" in why else _LIMITS
            raise ExecutionError(f"{self.title}: {why}, and was ended{_last(words)}", hint=more)
        if "signal" in result:
            reason = f"was killed by signal {result['signal']}"
        elif result["exit"] in (self.op.valid_exit_codes or (0,)):
            return
        else:
            reason = f"failed with exit code {result['exit']}"
        lines = words.lines()
        if full or any("No space left on device" in line for line in lines):
            where = "the disk is full" if full else "a disk is full"
            raise ExecutionError(f"{self.title}: {reason}: {where}{_last(words)}", hint=_FULL)
        shown = _last(words)
        refusal = output.refusal if output.refusal not in shown else ""
        said = f"{refusal and f'; it said: {refusal}'}{shown}"
        hint = _REFUSED if output.refusal else _LIMITS if any(_NO_PROCESS in line for line in lines) else None
        raise ExecutionError(f"{self.title}: {reason}{said or ', without a word'}", hint=hint)

    def _translate(self, error: JobRefusedError) -> SolverError:
        text = f"{self.title}: {error}"
        if error.kind == "process":
            return ExecutionError(text)
        if error.kind == "unsupported":
            return UnsupportedBuilderError(f"{text} ({self.agent.mode.title})")
        return SolverError(text, hint=StorageError.hint if error.kind == "storage" else None)


class _Output:
    """What a process says: counted, decoded, and its last lines remembered."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._count = 0
        self.words = LastWords()
        self._line = ""
        self.refusal = ""
        """The first line in which something complains that it may not; package managers say much more after it."""

    def add(self, data: bytes, limit: int) -> bool:
        """False when it was too much."""
        self._count += len(data)
        if self._count > limit:
            return False
        self._take(self._decode(data))
        return True

    def finish(self) -> None:
        self._take(self._decode(b"", True))

    def _take(self, text: str) -> None:
        if not text:
            return
        self._say(text)
        self.words.add(text)
        if not self.refusal:
            text = self._line + text
            if _NOT_PERMITTED in text:
                self.refusal = next(line.strip() for line in text.split("\n") if _NOT_PERMITTED in line)[:LINE]
            self._line = text.rpartition("\n")[2][-LINE:]


def _last(words: LastWords) -> str:
    shown = words.show()
    return f"; its last lines: {shown}" if shown else ""


def _free_space(path: Path) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize


def _name_servers() -> str:
    try:
        with _RESOLV_CONF.open("rb") as file:
            return file.read(_RESOLV_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""


def _environment(op: ExecOp) -> dict[str, str]:
    """Return the variables; proxies in both spellings, as builders set them."""
    proxies: dict[str, str] = {}
    if op.proxy is not None:
        named = {"HTTP_PROXY": op.proxy.http, "HTTPS_PROXY": op.proxy.https, "NO_PROXY": op.proxy.no}
        for name, value in named.items():
            if value:
                proxies[name] = proxies[name.lower()] = value
    return {**proxies, **dict(op.env)}
