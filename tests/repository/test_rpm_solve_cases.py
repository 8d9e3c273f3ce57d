# SPDX-License-Identifier: Apache-2.0
"""libsolv's own testcases: each has the result that libsolv has, or is named here with the kind of difference."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deb.debian import need
from support.image.images import fixture
from support.rpm.solvcases import NotAskedForError, SolvCase, judge, read_solv_case

WEAK = "what is only recommended doesn't come in: testsolv has the same result when it ignores that, too"
EXPLAINED = {
    ("test/testcases/alternative/recommends.t", 0): WEAK,
    ("test/testcases/alternative/strongrecommends.t", 0): WEAK,
    ("test/testcases/choicerules/choice6.t", 0): WEAK,
    ("test/testcases/choose/enhanced.t", 0): "what enhances something installed isn't preferred to what doesn't",
    ("test/testcases/choose/suggested.t", 0): "what is suggested isn't preferred to what isn't",
    ("test/testcases/lockstep/lockstep_install.t", 0): "32 bits of a package don't bring in its 64 bits",
    ("test/testcases/multiversion/multiversion.t", 2): "obsoletes of several versions count, as dnf has set it",
    ("test/testcases/strongrecommends/strongr.t", 0): WEAK,
    ("test/testcases/targeted/targeted_up.t", 0): "all that a package was split into comes in, as dnf has set it",
    ("test/testcases/weakdeps/supplements_implicitobsoleteusescolors.t", 0): WEAK,
    ("test/testcases/yumobs/split.t", 0): "all that a package was split into comes in, as dnf has set it",
    ("zypp/basic-exercises/Bug299819-2-test.t", 0): WEAK,
    (
        "zypp/basic-exercises/exercise-43-test.t",
        0,
    ): "what asked in vain for something before, may do so in a new version",
    ("zypp/bugzilla-tests/bug208784-test.t", 0): "what supplements something installed isn't preferred",
    ("zypp/install-zypper-tests/install-zypper-noforce-test.t", 0): WEAK,
    ("zypp/sat-tests/recommends-install-postfix-test.t", 0): WEAK,
    ("zypp/selection-tests/bug166212-x86_64-test.t", 0): WEAK,
    ("zypp/selection-tests/bug198095-test.t", 0): WEAK,
    ("zypp/selection-tests/install-minimal-test.t", 0): WEAK,
    ("zypp/selection-tests/install-simple-test.t", 0): WEAK,
    ("zypp/yast-tests/Bug160602-test.t", 0): WEAK,
    ("zypp/yast-tests/kernel2-test.t", 0): WEAK,
    ("zypp/yast-tests/tpctl-multi-test.t", 0): WEAK,
    ("zypp/yast-tests/tpctl-smp-test.t", 0): "what supplements something that comes in isn't preferred",
}
LARGE = 30_000
"""Bytes of repositories from which on reading a case takes its time."""


def cases(*, large: bool) -> Iterator[tuple[str, Path]]:
    folder = fixture("rpm/solver")
    for name in (folder / "CASES").read_text().split():
        path = folder / name
        words = [word for line in path.read_text(errors="replace").splitlines() for word in line.split()]
        size = sum((path.parent / word).stat().st_size for word in words if word.endswith(".repo.gz"))
        if (size > LARGE) is large:
            yield name, path


@pytest.mark.parametrize(
    ("large", "same", "others"), [(False, 167, 13), pytest.param(True, 38, 11, marks=pytest.mark.soak)]
)
def test_libsolvs_cases_have_its_results_or_a_reason(large: bool, same: int, others: int, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    for name, path in cases(large=large):
        try:
            case = read_solv_case(path)
        except NotAskedForError:
            kinds["not asked for"] += 1
            continue
        for number in range(len(case.steps)):
            kinds[verdict(name, path, case, number, tmp_path)] += 1
    assert kinds["same"] >= same, kinds
    assert kinds["explained"] <= others, kinds


def verdict(name: str, path: Path, case: SolvCase, number: int, folder: Path) -> str:
    try:
        difference = judge(case, case.steps[number])
    except NotAskedForError:
        return "not asked for"
    reason = EXPLAINED.get((name, number))
    assert bool(difference) == bool(reason), f"{name} {number}: {difference or 'no difference any more'}"
    if reason == WEAK:
        step = case.steps[number]
        step.result = without_recommendations(path, number, folder)
        assert not judge(case, step), name
    return "explained" if reason else "same"


def without_recommendations(path: Path, number: int, folder: Path) -> list[str]:
    """Ask testsolv for the result of a step, recommendations left out."""
    need("testsolv")
    place = folder / path.name.removesuffix(".t")
    place.mkdir()
    for file in path.parent.iterdir():
        if file.name != path.name:
            (place / file.name).symlink_to(file)
    lines = path.read_text().splitlines()
    steps = "\n".join(lines).split("nextjob")
    start = "\n".join(line for line in steps[0].splitlines() if not line.startswith(("job", "result", "solverflags")))
    head = start if number else ""
    text = f"{head}\n{steps[number]}\n".replace("strongrecommends", "ignorerecommended")
    (place / path.name).write_text(text.replace("\nresult ", "\nsolverflags ignorerecommended\nresult ", 1))
    run = subprocess.run(["testsolv", "-r", str(place / path.name)], capture_output=True, text=True, check=False)
    return run.stdout.splitlines()
