# SPDX-License-Identifier: Apache-2.0
"""What can really run an image's programs, as the command line names it, and how often it did."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from copacetic.llb.solver import Event, EventKind
from copacetic.pipeline.apply.solvelog import KNOWN
from support.builder.buildkitd import buildkitd
from support.builder.dockerd import dockerd
from support.image.images import umoci
from support.image.trees import layer_files


@dataclass(frozen=True, slots=True)
class Run:
    """One call of `copa`, quiet but for its events."""

    code: int
    out: str
    err: str
    events: tuple[dict[str, Any], ...] = field(default=())

    def ran(self) -> list[str]:
        """Return what was run in an image, without what a builder knew from before."""
        ran: list[str] = []
        running: set[str] = set()
        for event in self.events:
            label = event.get("text", "")
            plain = label.removesuffix(KNOWN)
            if not label.startswith(("apt-get ", "dpkg ", "apk ", "rpm ")):
                continue
            if event["event"] == "done":
                running.discard(label)
            elif label == plain:
                running.add(label)
                ran.append(label)
            elif plain in running:  # it said that it starts before it knew
                ran.remove(plain)
        return ran

    @property
    def error(self) -> str:
        """The lines that are no events."""
        return "\n".join(line for line in self.err.splitlines() if not line.startswith("{"))


def count_runs(events: Iterable[Event], name: str) -> int:
    """How often a vertex was run: a busy builder says that it starts what it then finds to be known."""
    kinds = [event.kind for event in events if event.name == name and event.kind != EventKind.LOG]
    return sum(kind == EventKind.STARTED and after != EventKind.CACHED for kind, after in pairwise((*kinds, "")))


@contextmanager
def open_builder(kind: str) -> Iterator[str]:
    """Yield an address: of this machine, or of a builder that starts empty. Skips where there can't be one."""
    if kind == "worker":
        yield "worker://"
        return
    if kind == "docker":
        with dockerd() as engine:
            yield f"docker://unix://{engine.path}"
        return
    with buildkitd() as daemon:
        yield daemon.address


def copa(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Run:
    """Call `copa`, and take its events apart from the rest."""
    capsys.readouterr()
    code = main([*map(str, arguments), "--progress", "rawjson"])
    out, err = capsys.readouterr()
    events = tuple(json.loads(line) for line in err.splitlines() if line.startswith("{"))
    return Run(code, out, err, events)


@dataclass(frozen=True, slots=True)
class Patching:
    """Calls of `copa patch` for one test, and what came of them."""

    folder: Path
    cache: Path
    """It may be that of several tests, and know the base image."""
    address: str
    capsys: pytest.CaptureFixture[str]

    def patch(self, image: str, *flags: str | Path, cache: str = "", tag: str = "patched") -> Run:
        """With a cache of its own when that has a name."""
        target = f"oci:{self.folder / 'out'}:{tag}"
        where = self.folder / cache if cache else self.cache
        arguments = ["patch", "-i", image, "--to", target, "--addr", self.address, *flags]
        return copa(self.capsys, *arguments, "--cache-dir", where, "-o", self.folder / "outcome.json")

    @property
    def outcome(self) -> dict[str, Any]:
        """What the last one says of the one platform."""
        outcome: dict[str, Any] = json.loads((self.folder / "outcome.json").read_text())["platforms"][0]
        return outcome

    @property
    def plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = self.outcome["plan"]
        return plan

    def changed(self, tag: str = "patched") -> dict[str, str]:
        """Return the text of what the new layer brings."""
        return {path: data.decode(errors="replace") for path, data in layer_files(self.folder / "out", tag).items()}

    def unpacked(self, tag: str = "patched") -> Path:
        """Return the image's tree, as umoci sees it."""
        umoci("unpack", "--image", f"{self.folder / 'out'}:{tag}", self.folder / f"root-{tag}")
        return self.folder / f"root-{tag}" / "rootfs"


def running_with(token: str) -> list[str]:
    """Return the processes of this machine that have a word as an argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token in path.read_bytes().decode("utf-8", "replace").split("\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found
