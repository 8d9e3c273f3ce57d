# SPDX-License-Identifier: Apache-2.0
"""Scripts at random, judged and then run: what is called harmless does nothing, in whichever shell."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.effects import RemoveFiles
from copacetic.scripts.surroundings import ImageSurroundings
from copacetic.unpack.deb.scripts import ScriptSet, UpgradeJudge
from copacetic.updates import ScriptClass
from support.hostile.boundedchild import bounded_memory
from support.script.scriptbox import build_box, run_all
from support.script.scriptgen import make_script
from support.value.values import key

pytestmark = [pytest.mark.system]

BATCH = 500
SCRIPTS = int(os.environ.get("COPA_SCRIPTS", "100000"))
"""How many scripts the soak makes, together."""
PARTS = 4
ALONG = {"dash": ("dash", "busybox"), "busybox": ("dash", "busybox"), "bash": ("bash",)}
"""The shells that a script is run by: whatever is /bin/sh there."""


def judge_all(root: Path, scripts: Sequence[tuple[str, str]]) -> list[tuple[ScriptClass, tuple[str, ...], str]]:
    """Judge each as the postinst of a package that is new; returns the verdicts, what would be removed, and reasons."""
    changes = ChangeSet()
    tree = TreeBuilder(DirectoryFilesystem(root))
    around = ImageSurroundings(tree, changes, lambda *_: None)
    judge = UpgradeJudge(around, changes)
    found = []
    for _, text in scripts:
        scripts_of = ScriptSet(key("x:all"), "", "1", {}, {"postinst": text})
        around.unstable = judge.unstable_paths([scripts_of])
        (one,) = judge.judge_package(scripts_of)
        gone = tuple(
            os.path.normpath(path).lstrip("/")
            for _, effect in one.effects
            if isinstance(effect, RemoveFiles)
            for path in effect.paths
        )
        found.append((one.verdict.verdict, gone, one.verdict.reason))
    return found


def find_missed(root: Path, seeds: Sequence[int]) -> tuple[list[str], int]:
    """Return the scripts that do something unforeseen, and how many were run."""
    scripts = [make_script(seed) for seed in seeds]
    with bounded_memory():
        verdicts = judge_all(root, scripts)
    runs = [
        (number, shell)
        for number, (shell, _) in enumerate(scripts)
        if verdicts[number][0] is not ScriptClass.NEEDS_EXECUTION
        for shell in ALONG[shell]
    ]
    changed = run_all(root, [(shell, scripts[number][1]) for number, shell in runs])
    missed = []
    for (number, shell), paths in zip(runs, changed, strict=True):
        verdict, gone, reason = verdicts[number]
        around = {*gone, *(os.path.dirname(path) for path in gone)}
        if set(paths) - around:
            missed.append(
                f"seed {seeds[number]}, {shell}: {verdict.value} ({reason}), but {paths}:\n{scripts[number][1]}"
            )
    return missed, len(runs)


@pytest.mark.parametrize("batch", range(4))
def test_what_is_called_harmless_does_nothing(batch: int, tmp_path: Path) -> None:
    root = build_box(tmp_path / "root")

    missed, ran = find_missed(root, range(batch * BATCH, (batch + 1) * BATCH))

    assert missed == []
    assert ran > BATCH // 10


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_called_harmless_does_nothing_a_hundred_thousand_times(part: int, tmp_path: Path) -> None:
    root = build_box(tmp_path / "root")
    first = (int(time.time()) * PARTS + part) * 1_000_000
    last = first + SCRIPTS // PARTS
    missed: list[str] = []

    for batch in range(first, last, BATCH):
        missed += find_missed(root, range(batch, min(batch + BATCH, last)))[0]

    assert missed == []
