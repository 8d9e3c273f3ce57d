# SPDX-License-Identifier: Apache-2.0
"""Processor time of whole runs, as ratios to what is due in any case: the floor in C, and a bare interpreter."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.roots import build_root

from bench.measure import Result, Sample, run
from support.deb.debian import layout_of

FLOOR, BARE = "processor: the floor in C", "processor: a bare interpreter"


def measure(copa: str, work: Path, runs: int) -> list[Result]:
    """Do everything in turns, so that whatever else the machine does is everybody's burden."""
    layout, cache, target = work / "processor-layout", work / "processor-cache", work / "processor-result"
    image = layout_of([build_root("bookworm", name="bookworm-minbase", age=False)], layout)
    means = ["-q", "-i", image, "--cache-dir", str(cache)]

    def patch() -> Sample:
        shutil.rmtree(target, ignore_errors=True)
        return run([copa, "patch", *means, "--to", f"oci:{target}:1", "--ignore-errors"])

    def cold() -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return patch()

    turns: Mapping[str, Callable[[], Sample]] = {
        "processor: copa, empty cache": cold,
        FLOOR: lambda: _floor(layout, cache),
        "processor: copa, layer known": patch,
        "processor: copa plan, warm": lambda: run([copa, "plan", *means]),
        "processor: copa --version": lambda: run([copa, "--version"]),
        BARE: lambda: run([sys.executable, "-c", ""]),
    }
    for turn in turns.values():  # compiles what Python keeps compiled
        turn()
    samples: dict[str, list[Sample]] = {name: [] for name in turns}
    for _ in range(runs):
        for name, turn in turns.items():
            samples[name].append(turn())
    return [Result(name, tuple(found)) for name, found in samples.items()]


def _floor(layout: Path, cache: Path) -> Sample:
    command = [sys.executable, "-m", "bench.floor", str(layout), str(cache)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    return Sample(seconds=0, processor=float(printed.stdout), megabytes=0)


def show(results: list[Result]) -> None:
    width = max(len(result.name) for result in results)
    known = {result.name: result.processor for result in results}
    for result in results:
        least = min(sample.processor for sample in result.samples)
        peers = "" if result.name in {FLOOR, BARE} else f"{result.processor / known[FLOOR]:5.2f} x the floor"
        if result.name.endswith("--version"):
            peers = f"{result.processor / known[BARE]:5.2f} x a bare interpreter"
        elif "empty cache" in result.name:
            share = statistics.median(sample.seconds / sample.processor for sample in result.samples)
            peers += f", wall {share:.2f} x processor"
        print(f"{result.name.ljust(width)}  {result.processor:6.3f} s  (min {least:.3f})  {peers}", flush=True)
