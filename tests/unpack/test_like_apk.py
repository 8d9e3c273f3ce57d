# SPDX-License-Identifier: Apache-2.0
"""Random upgrades: what is composed is what the real apk leaves, to the byte."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.errors import PackageError
from support.apk.apkcases import GROUP, PASSWD, Case, edit, make_case
from support.apk.apkcomposed import compose_onto
from support.apk.apkoracle import Run, alpine_root, differences, run_in
from support.apk.apks import write_repository
from support.deb.composed import copy_root

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("apk")]

TOOLS = {
    "3.10.2": "2.10.4-r2",
    "3.18.2": "2.14.0-r2",
    "3.20.3": "2.14.4-r0",
    "3.22.0": "2.14.9-r2",
    "3.23.6": "3.0.8-r0",
}
"""The apk-tools of each release."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A case on the disk: the root before the upgrade."""

    case: Case
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"


class Host:
    """A real root whose apk works on other roots inside it."""

    def __init__(self, root: Path, tools: str) -> None:
        self.root = root
        self.tools = tools

    def prepare(self, seeds: range) -> list[Trial]:
        """Install the first versions of all cases, and let the user at them."""
        trials = [self._lay_out(seed) for seed in seeds]
        runs = self._apk(trials, "first", lambda t: "--initdb add " + " ".join(a.name for a in t.case.before))
        assert all(run.code == 0 for run in runs), [run.output for run in runs if run.code]
        for seed, trial in zip(seeds, trials, strict=True):
            edit(random.Random(-seed - 1), trial.case, trial.root)
        return trials

    def upgrade(self, trials: list[Trial]) -> list[Run]:
        return self._apk(trials, "then", lambda _: "upgrade")

    def _lay_out(self, seed: int) -> Trial:
        case = make_case(random.Random(seed), tools=self.tools)
        trial = Trial(case, self.root / "t" / str(seed))
        (trial.root / "etc/apk/protected_paths.d").mkdir(parents=True)
        (trial.root / "etc/passwd").write_text(PASSWD)
        (trial.root / "etc/group").write_text(GROUP)
        if case.protected:
            (trial.root / "etc/apk/protected_paths.d/x.list").write_text(case.protected)
        write_repository(trial.folder / "first", case.before)
        write_repository(trial.folder / "then", case.after)
        return trial

    def _apk(self, trials: list[Trial], repository: str, arguments: object) -> list[Run]:
        assert callable(arguments)
        lines = []
        for trial in trials:
            inside = f"/t/{trial.folder.name}"
            options = f"--allow-untrusted --no-cache --repositories-file /dev/null -X {inside}/{repository}"
            lines.append(f"apk --root {inside}/root {options} {arguments(trial)} 2>&1; printf '\\n@@ %s\\n' $?")
        output = run_in(self.root, "\n".join(lines)).output
        parts = output.split("\n@@ ")
        codes = [int(part.split("\n", 1)[0]) for part in parts[1:]]
        texts = [parts[0], *(part.partition("\n")[2] for part in parts[1:])]
        assert len(codes) == len(trials), output
        return [Run(code, text) for code, text in zip(codes, texts, strict=False)]


def compare(host: Host, seeds: range) -> Counter[str]:
    """Upgrade with both, and fail at the first difference; returns how often what happened."""
    trials = host.prepare(seeds)
    ours = [copy_root(trial.root, trial.folder / "ours") for trial in trials]
    outcomes: Counter[str] = Counter()
    for trial, mine, run in zip(trials, ours, host.upgrade(trials), strict=True):
        by_name = {apk.name: apk for apk in trial.case.after}
        upgraded = [by_name[name] for _, name in run.commits]
        rows = [(apk.row(), trial.folder / "then/x86_64" / apk.file_name) for apk in upgraded]
        try:
            composition = compose_onto(mine, rows, trial.folder / "scratch")
        except PackageError as error:
            assert run.code != 0, f"{trial.folder.name}: refused ({error}), which apk does not: {run.output}"
            outcomes["refused by both"] += 1
            continue
        if run.code != 0:
            outcomes["apk fails"] += 1
            continue
        # apk 3 changes a directory that is there only now and then (docs/concepts/alpine.md).
        found = differences(trial.root, mine, directories=not host.tools.startswith("3."))
        assert not found, f"seed {trial.folder.name}: {trial.case}\n{run.output}\n" + "\n".join(found)
        outcomes["the same"] += 1
        for note in composition.notes:
            outcomes[next(word for word in ("kept", "no package has it", ".apk-new") if word in note)] += 1
    shutil.rmtree(host.root / "t")
    return outcomes


@pytest.mark.parametrize("release", TOOLS)
def test_random_upgrades_give_what_apk_gives(release: str, tmp_path: Path) -> None:
    host = Host(alpine_root(release, tmp_path / "host"), TOOLS[release])

    first = 100 * list(TOOLS).index(release)
    outcomes = compare(host, range(first, first + 25))

    assert outcomes["the same"] >= 15
    assert all(outcomes[kind] for kind in (".apk-new", "kept", "no package has it")), outcomes
    assert not outcomes["apk fails"]


@pytest.mark.soak
@pytest.mark.parametrize("release", TOOLS)
def test_many_random_upgrades_give_what_apk_gives(release: str, tmp_path: Path) -> None:
    host = Host(alpine_root(release, tmp_path / "host"), TOOLS[release])
    first = 1_000 * (1 + list(TOOLS).index(release))
    for start in range(first, first + 600, 50):
        assert not compare(host, range(start, start + 50))["apk fails"]
