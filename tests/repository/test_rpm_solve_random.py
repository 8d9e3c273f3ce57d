# SPDX-License-Identifier: Apache-2.0
"""Generated sets of rpm packages, with libsolv's testsolv and the real dnf as judges, and an independent look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.universe import RpmRules
from copacetic.version import compare_versions
from support.rpm.realdnf import dnf_upgrade
from support.rpm.rpmrandom import RpmScene, broken, compare_results, libsolv_result, make_scene
from support.rpm.rpmscenes import resolve, rpm

COUNTS = [100, pytest.param(1500, marks=pytest.mark.soak)]


def result_of(scene: RpmScene, wanted: dict[str, str] | None = None) -> list[RpmOffer]:
    """What is there in the end."""
    changes = resolve(scene.installed, scene.offers, wanted).resolved.changes
    gone = {
        (old.name, old.architecture) for change in changes for old in (change.old, *change.obsoleted) if old is not None
    }
    kept = [offer for offer in scene.installed if (offer.name, offer.architecture) not in gone]
    return [*kept, *(change.new for change in changes)]


def faults(packages: Sequence[RpmOffer]) -> list[str]:
    return [fault for offer in packages for fault in broken(offer, packages)]


@pytest.mark.parametrize("count", COUNTS)
def test_updating_everything_gives_what_libsolv_makes_of_it_or_something_that_is_as_good(
    count: int, tmp_path: Path
) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(count):
        scene = make_scene(seed)
        packages = result_of(scene)
        assert not faults(packages), seed
        theirs = libsolv_result(scene, ["job update all packages"], tmp_path)
        kind = compare_results(scene, [offer.nevra for offer in packages], theirs)
        assert kind != "worse", seed
        kinds[kind] += 1
    assert kinds["same"] >= 0.92 * count, kinds


@pytest.mark.parametrize("count", COUNTS)
def test_a_fix_is_reached_where_libsolv_can_and_nothing_else_changes_that_need_not(count: int, tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(count):
        scene = make_scene(seed, multilib=False)
        old = next((offer for offer in scene.installed if newer(scene, offer)), None)
        if old is None:
            continue
        possible = [
            new.evr for new in newer(scene, old) if not any("problem" in line for line in asked(scene, new, tmp_path))
        ]
        packages = result_of(scene, {old.name: newer(scene, old)[0].evr})
        reached = next((offer.evr for offer in packages if offer.name == old.name), "")
        assert not faults(packages), seed
        assert reached == (possible[0] if possible else old.evr), seed
        assert not unneeded(scene, packages, old.name), seed
        kinds["reached" if possible else "not reached"] += 1
    assert min(kinds["reached"], kinds["not reached"]) > count / 10, kinds


def newer(scene: RpmScene, old: RpmOffer) -> list[RpmOffer]:
    """What is offered of an installed package's name and is newer, the oldest first."""
    found = [o for o in scene.offers if o.name == old.name and compare_versions("rpm", o.evr, old.evr) > 0]
    return sorted(found, key=lambda offer: offer.evr)


def asked(scene: RpmScene, new: RpmOffer, folder: Path) -> set[str]:
    """With dnf's own setting, all heirs of a package would have to come in for the sake of one."""
    return libsolv_result(scene, [f"job install pkg {new.nevra}@{new.repository}"], folder, without="yumobsoletes")


def unneeded(scene: RpmScene, packages: Sequence[RpmOffer], name: str) -> list[str]:
    """Return the changes of which each could be left out on its own."""
    before = {offer.name: offer for offer in scene.installed}
    found = []
    for offer in packages:
        if offer.name == name or offer in scene.installed:
            continue
        rest = [other for other in packages if other is not offer]
        rest += [old for old in (before.get(offer.name),) if old is not None]
        heir = any(one.name in before and one.name not in {o.name for o in rest} for one in offer.obsoletes)
        if not faults(rest) and not heir:
            found.append(offer.nevra)
    return found


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_updating_everything_gives_what_dnf_makes_of_it_or_something_that_is_as_good(
    count: int, tmp_path: Path
) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(20, 20 + count):
        scene = make_scene(seed, multilib=False)
        if not scene.installed:
            continue
        folder = tmp_path / str(seed)
        folder.mkdir()
        new, gone = dnf_upgrade(folder, scene.installed, scene.offers)
        theirs = {offer.nevra for offer in scene.installed} - set(gone) | set(new)
        kind = compare_results(scene, [offer.nevra for offer in result_of(scene)], theirs)
        assert kind != "worse", seed
        kinds[kind] += 1
    assert kinds["same"] >= 0.85 * sum(kinds.values()), kinds


def test_kernels_and_heirs_come_in_as_with_dnf(tmp_path: Path) -> None:
    installed = [rpm("kernel 1-1"), rpm("tool 1-1", requires="kernel = 1-1"), rpm("old 1-1"), rpm("split 1-1")]
    offered = [
        *(rpm("kernel 2-1"), rpm("kernel 3-1"), rpm("new 1-1", obsoletes="old < 2", provides="old = 2")),
        *(rpm("left 1-1", obsoletes="split"), rpm("right 1-1", obsoletes="split")),
    ]
    rules = RpmRules(architecture="x86_64", install_only=frozenset({"kernel"}))

    changes = resolve(installed, offered, rules=rules).resolved.changes
    new, gone = dnf_upgrade(tmp_path, installed, offered, install_only=["kernel"])

    assert sorted(change.new.nevra for change in changes) == new
    assert new == ["kernel-3-1.x86_64", "left-1-1.x86_64", "new-1-1.x86_64", "right-1-1.x86_64"]
    assert gone == ["old-1-1.x86_64", "split-1-1.x86_64"]
    olds = {old.name for change in changes for old in (change.old, *change.obsoleted) if old is not None}
    assert olds == {"old", "split"}
