# SPDX-License-Identifier: Apache-2.0
"""Whole processes, timed by the operating system's own account of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished command."""

    seconds: float
    processor: float
    """Seconds, of all its threads."""
    megabytes: float
    """Peak memory of the largest process."""


@dataclass(frozen=True, slots=True)
class Result:
    """Several runs of one thing."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def processor(self) -> float:
        return statistics.median(sample.processor for sample in self.samples)

    @property
    def megabytes(self) -> float:
        return max(sample.megabytes for sample in self.samples)

    @property
    def spread(self) -> str:
        seconds = [sample.seconds for sample in self.samples]
        return f"{min(seconds):.2f}-{max(seconds):.2f}"


def run(command: Sequence[str]) -> Sample:
    """Run a command to its end; its output is shown only when it fails."""
    os.sync()  # what an earlier command left to be written is not this one's
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("COPA_")}
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile("r") as figures:
        child = [sys.executable, "-IS", str(Path(__file__).with_name("measure_child.py")), figures.name]
        subprocess.run([*child, *command], stdout=output, stderr=subprocess.STDOUT, env=environment, check=True)
        code, seconds, processor, kilobytes = figures.read().split()
        if int(code) != 0:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{output.read().decode(errors='replace')[-3000:]}")
    return Sample(float(seconds), float(processor), int(kilobytes) / 1024)


def repeat(name: str, runs: int, work: Callable[[], Sample]) -> Result:
    """Measure something several times."""
    return Result(name, tuple(work() for _ in range(runs)))
