# SPDX-License-Identifier: Apache-2.0
"""
Running the image's own apt, in BuildKit and in the worker, against a Dockerfile upgrade by buildah and the Go tool.

From registry to registry, every run on a builder that starts empty. What was done is counted from the builder's own
status: how often a graph was solved, how often a program ran, how often an index was refreshed. The Go tool is measured
when `COPA_BENCH_GO_TOOL` names its binary; otherwise its figures are quoted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demo.roots import build_root

from bench.measure import Result, Sample, repeat, run
from copacetic.pipeline.apply.solvelog import KNOWN
from support.builder.buildkitd import buildkitd
from support.deb.debian import layout_of

if TYPE_CHECKING:
    from bench.__main__ import Bench

GO_TOOL = "COPA_BENCH_GO_TOOL"
QUOTED = "quoted: 25.7 s for all updates, 18.4 s with a report, with 9 updates of Debian 12 on a fresh builder"


@dataclass(frozen=True, slots=True)
class Counts:
    """What one run made a builder do."""

    updates: int
    solves: int
    execs: int
    refreshes: int

    def __str__(self) -> str:
        return f"{self.updates} updates: {self.solves} solves, {self.execs} execs, {self.refreshes} refreshes"


def buildkit(bench: Bench) -> list[Result]:
    """A BuildKit of our own, empty at each run."""
    image = _push(bench, "buildkit")

    def ours() -> Sample:
        with _builder(bench) as address:
            return run(_exec(bench, image, address, "ours"))

    with _builder(bench) as address:
        print(f"buildkit: {_count(bench, _exec(bench, image, address, 'counted'))}", flush=True)
        print(f"buildkit, again, nothing new: {_count(bench, _exec(bench, image, address, 'again'))}", flush=True)
    results = [repeat("buildkit: copa, fresh builder", bench.runs, ours)]
    results.append(repeat("buildkit: buildah, Dockerfile upgrade", bench.runs, lambda: bench.buildah(image, "peer")))
    go_tool = os.environ.get(GO_TOOL)
    if go_tool:
        results.append(repeat("buildkit: the Go tool, fresh builder", bench.runs, _go_tool(bench, go_tool, image)))
    else:
        print(f"the Go tool, {QUOTED}", flush=True)
    return results


def worker(bench: Bench) -> list[Result]:
    """This machine, without any daemon."""
    image = _push(bench, "worker")
    print(f"worker: {_count(bench, _exec(bench, image, 'worker://', 'counted'))}", flush=True)
    return [
        repeat("worker: copa", bench.runs, lambda: run(_exec(bench, image, "worker://", "ours"))),
        repeat("worker: buildah, Dockerfile upgrade", bench.runs, lambda: bench.buildah(image, "peer")),
    ]


def _push(bench: Bench, name: str) -> str:
    tar = build_root("bookworm", name="bookworm-minbase", age=False)
    return bench.push(layout_of([tar], bench.work / f"{name}-layout"), name)


@contextmanager
def _builder(bench: Bench) -> Iterator[str]:
    with buildkitd(registries=[bench.registry]) as daemon:
        yield daemon.address


def _exec(bench: Bench, image: str, address: str, tag: str) -> list[str]:
    cache = Path(tempfile.mkdtemp(dir=bench.work))
    command = bench.copa(image, cache, tag)
    return [*command, "--strategy", "exec", "--addr", address]


def _count(bench: Bench, command: list[str]) -> Counts:
    """Run once with events, and count the vertices that were worked on."""
    outcome = Path(tempfile.mkdtemp(dir=bench.work)) / "outcome.json"
    watched = [word for word in command if word != "-q"] + ["--progress", "rawjson", "-o", str(outcome)]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3_000:])
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    labels = [event["text"] for event in events if event["event"] == "start" and not event["text"].endswith(KNOWN)]
    (platform,) = json.loads(outcome.read_text())["platforms"]
    return Counts(
        updates=sum(len(section["updates"]) for section in platform["plan"]["sections"]),
        solves=sum(label.startswith("solve with ") for label in labels),
        execs=sum(label.startswith(("apt-get ", "dpkg ")) for label in labels),
        refreshes=sum(label.startswith("apt-get update") for label in labels),
    )


def _go_tool(bench: Bench, program: str, image: str) -> Callable[[], Sample]:
    """
    The Go tool needs an image with tools in its own registry or Debian's: the builder is told that both are here, and
    the image's own root serves as one.
    """
    tooling = f"{bench.registry}/library/debian:12-slim"
    layout = layout_of([build_root("bookworm", name="bookworm-minbase", age=False)], bench.work / "tooling-layout")
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", layout, f"docker://{tooling}"], check=True)
    target = f"{image.rpartition(':')[0]}:go"

    def once() -> Sample:
        home = tempfile.mkdtemp(dir=bench.work)
        with buildkitd(mirrors={"docker.io": bench.registry}, registries=[bench.registry]) as daemon:
            sample = run(
                ["env", f"HOME={home}", program, "patch", "--image", image, "--tag", target, "--push",
                 "--addr", daemon.address, "--timeout", "10m"]
            )  # fmt: skip
        shutil.rmtree(home, ignore_errors=True)
        return sample

    return once
