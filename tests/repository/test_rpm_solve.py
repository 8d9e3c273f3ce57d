# SPDX-License-Identifier: Apache-2.0
"""What comes in of rpm packages for what is wanted, and what is said of the rest."""

from __future__ import annotations

import pytest

from copacetic.errors import RepositoryError
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.universe import RpmRules
from copacetic.updates import SkipReason
from support.rpm.rpmscenes import resolve, rpm


def test_a_fix_is_reached_with_the_oldest_version_that_has_it_and_nothing_else_changes() -> None:
    installed = [rpm("a 1-1"), rpm("b 1-1")]
    offered = [rpm(f"{name} {version}-1") for name in "ab" for version in (1, 2, 3, 4)]

    assert resolve(installed, offered, {"a": "3-1"}).new == ["a 3-1"]


def test_everything_goes_to_the_newest_version_when_that_is_wanted() -> None:
    installed = [rpm("a 1-1"), rpm("b 1-1"), rpm("c 5-1")]
    offered = [rpm(f"{name} {version}-1") for name in "abc" for version in (1, 2, 3)]

    outcome = resolve(installed, offered)

    assert outcome.new == ["a 3-1", "b 3-1"]
    assert not outcome.skipped


def test_what_an_update_needs_comes_along_before_it() -> None:
    installed = [rpm("a 1-1", requires="b = 1-1"), rpm("b 1-1"), rpm("z 1-1")]
    offered = [
        rpm("a 2-1", requires="b = 2-1, c"),
        *(rpm("b 2-1"), rpm("b 3-1"), rpm("c 2-1", requires="z >= 2"), rpm("z 2-1")),
    ]

    outcome = resolve(installed, offered, {"a": "2-1"})

    assert sorted(outcome.new) == ["a 2-1", "b 2-1", "c 2-1", "z 2-1"]
    assert outcome.new[-1] == "a 2-1"
    assert outcome.required_by == {"b 2-1": ("a",), "c 2-1": ("a",), "z 2-1": ("c",)}


def test_what_comes_in_new_is_rather_old_than_that_more_has_to_change() -> None:
    offered = [rpm("a 2-1", requires="c"), rpm("c 1-1"), rpm("c 2-1", requires="z >= 2"), rpm("z 2-1")]

    assert resolve([rpm("a 1-1"), rpm("z 1-1")], offered, {"a": "2-1"}).new == ["c 1-1", "a 2-1"]


def test_of_an_installed_package_that_must_come_along_the_oldest_version_is_taken_that_will_do() -> None:
    installed = [rpm("a 1-1", requires="b"), rpm("b 1-1")]
    offered = [rpm("a 2-1", requires="b >= 2"), rpm("b 2-1"), rpm("b 3-1")]

    assert resolve(installed, offered, {"a": "2-1"}).new == ["b 2-1", "a 2-1"]


def test_a_package_that_needs_the_old_version_comes_along() -> None:
    installed = [rpm("glibc 1-1"), rpm("glibc-common 1-1", requires="glibc = 1-1")]
    offered = [rpm("glibc 2-1"), rpm("glibc-common 2-1", requires="glibc = 2-1")]

    outcome = resolve(installed, offered, {"glibc": "2-1"})

    assert outcome.new == ["glibc 2-1", "glibc-common 2-1"]
    assert outcome.required_by == {"glibc-common 2-1": ("glibc",)}


def test_what_cannot_be_had_is_named_with_its_holder_and_the_rest_is_updated() -> None:
    installed = [rpm("a 1-1"), rpm("plugin 1-1", requires="a < 2"), rpm("b 1-1")]
    offered = [rpm("a 2-1"), rpm("b 2-1")]

    for wanted in ({"a": "2-1", "b": "2-1"}, None):
        outcome = resolve(installed, offered, wanted)

        assert outcome.new == ["b 2-1"]
    assert resolve(installed, offered, {"a": "2-1", "b": "2-1"}).skipped == {
        "a": (
            SkipReason.DEPENDENCY,
            "2-1 is offered, but plugin-1-1.x86_64 needs a < 2, and no newer plugin is offered",
        )
    }


def test_fixes_that_exclude_each_other_are_reached_as_far_as_they_go_together() -> None:
    installed = [rpm("a 1-1"), rpm("b 1-1"), rpm("c 1-1")]
    offered = [rpm("a 2-1", conflicts="b >= 2"), rpm("b 2-1"), rpm("c 2-1")]

    outcome = resolve(installed, offered, {"a": "2-1", "b": "2-1", "c": "2-1"})

    assert outcome.new == ["a 2-1", "c 2-1"]
    assert outcome.skipped == {"b": (SkipReason.DEPENDENCY, "2-1 is offered, but a-2-1.x86_64 conflicts with b >= 2")}


def test_a_later_version_is_taken_where_the_oldest_fix_goes_with_nothing() -> None:
    installed = [rpm("a 1-1"), rpm("b 1-1")]
    offered = [rpm("a 2-1", conflicts="b"), rpm("a 3-1", requires="missing"), rpm("a 4-1")]

    assert resolve(installed, offered, {"a": "2-1"}).new == ["a 4-1"]


@pytest.mark.parametrize(
    ("offered", "reason", "detail"),
    [
        ([], SkipReason.NO_CANDIDATE, "3-1 or later is needed, no newer version is offered"),
        ([rpm("a 2-1")], SkipReason.NO_CANDIDATE, "3-1 or later is needed, the newest offered is 2-1"),
        (
            [rpm("new 2-1", obsoletes="a")],
            SkipReason.NO_CANDIDATE,
            "3-1 or later is needed, no newer version is offered; new-2-1.x86_64 is offered in place of a",
        ),
        (
            [rpm("a 3-1", requires="libx.so.2")],
            SkipReason.DEPENDENCY,
            "3-1 is offered, but a-3-1.x86_64 needs libx.so.2, which no repository offers",
        ),
        (
            [rpm("a 3-1", requires="x"), rpm("x 1-1", conflicts="b")],
            SkipReason.DEPENDENCY,
            (
                "3-1 is offered, but a-3-1.x86_64 needs x: x-1-1.x86_64 conflicts with b, and b-1-1.x86_64 is "
                "installed, and no newer b is offered"
            ),
        ),
        (
            [rpm("a 3-1", requires="c = 2")],
            SkipReason.DEPENDENCY,
            "3-1 is offered, but a-3-1.x86_64 needs c = 2, which no repository offers",
        ),
    ],
)
def test_why_a_fix_is_not_reached_is_said(offered: list[RpmOffer], reason: SkipReason, detail: str) -> None:
    outcome = resolve([rpm("a 1-1"), rpm("b 1-1"), rpm("c 1-1")], offered, {"a": "3-1"})

    assert not outcome.new
    assert outcome.skipped == {"a": (reason, detail)}


def test_a_package_that_obsoletes_another_takes_its_place_when_everything_is_updated() -> None:
    installed = [rpm("old 1-1"), rpm("older 1-1"), rpm("user 1-1", requires="old")]
    offered = [rpm("new 2-1", provides="old = 2", obsoletes="old < 2, older"), rpm("old 1-2")]

    outcome = resolve(installed, offered)

    assert outcome.new == ["new 2-1"]
    assert outcome.gone == {"new 2-1": ["old", "older"]}


def test_an_obsoleted_package_that_is_still_needed_stays() -> None:
    installed = [rpm("old 1-1"), rpm("user 1-1", requires="old")]

    assert not resolve(installed, [rpm("new 2-1", obsoletes="old")]).new


def test_for_a_single_fix_a_package_is_rather_updated_than_replaced_by_what_obsoletes_it() -> None:
    installed = [rpm("a 1-1"), rpm("b 1-1", conflicts="a >= 2")]
    offered = [rpm("a 2-1"), rpm("b 2-1"), rpm("new 1-1", obsoletes="b")]

    assert sorted(resolve(installed, offered, {"a": "2-1"}).new) == ["a 2-1", "b 2-1"]
    assert resolve(installed, [rpm("a 2-1"), rpm("new 1-1", obsoletes="b")], {"a": "2-1"}).gone == {"new 1-1": ["b"]}


def test_a_set_that_is_made_to_be_hard_is_given_up_and_the_rest_is_updated() -> None:
    """13 pigeons, 12 holes."""
    offered = [rpm("a 2-1", requires=", ".join(f"pigeon{n}" for n in range(13))), rpm("b 2-1")]
    for number in range(13):
        holes = " or ".join(f"h{number}x{hole}" for hole in range(12))
        offered.append(rpm(f"pigeon{number} 1-1", requires=f"({holes})"))
        for hole in range(12):
            others = ", ".join(f"h{other}x{hole}" for other in range(13) if other != number)
            offered.append(rpm(f"h{number}x{hole} 1-1", conflicts=others))

    outcome = resolve([rpm("a 1-1"), rpm("b 1-1")], offered, {"a": "2-1", "b": "2-1"})

    assert outcome.new == ["b 2-1"]
    assert outcome.skipped == {
        "a": (SkipReason.DEPENDENCY, "2-1 is offered, but the search for a consistent set was given up")
    }


def test_a_repository_that_offers_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.repository.rpm.universe.MAX_STEPS", 5_000)
    monkeypatch.setattr("copacetic.repository.rpm.universe.MAX_VERSIONS", 90)
    wide = ", ".join(f"v >= {number}" for number in range(100))
    offered = [rpm("a 2-1", requires=wide), *(rpm(f"p{number} 1-1", provides="v = 9999") for number in range(100))]

    with pytest.raises(RepositoryError, match="too many packages have to do with others, as with"):
        resolve([rpm("a 1-1")], offered)
    with pytest.raises(RepositoryError, match="98 packages of the name a are offered"):
        resolve([rpm("a 1-1")], [rpm(f"a {version}-1") for version in range(2, 100)])


def test_all_packages_that_one_was_split_into_come_in() -> None:
    outcome = resolve([rpm("c 27-1")], [rpm("d 28-1", obsoletes="c"), rpm("e 28-1", obsoletes="c")])

    assert outcome.new == ["d 28-1", "e 28-1"]
    assert outcome.gone == {"d 28-1": ["c"]}


def test_what_was_broken_before_may_stay_so_and_pulls_nothing_in() -> None:
    installed = [rpm("a 1-1", requires="systemd, lib = 1"), rpm("lib 1-1")]
    offered = [rpm("a 2-1", requires="systemd, lib = 1"), rpm("systemd 250-1")]

    assert resolve(installed, offered, {"a": "2-1"}).new == ["a 2-1"]


def test_a_requirement_that_is_new_counts_although_an_older_one_was_broken() -> None:
    installed = [rpm("glibc 1-1", requires="glibc-common = 1-1")]

    outcome = resolve(installed, [rpm("glibc 2-1", requires="glibc-common = 2-1")], {"glibc": "2-1"})

    assert not outcome.new
    assert outcome.skipped["glibc"][0] is SkipReason.DEPENDENCY


def test_a_conflict_that_was_there_before_may_stay() -> None:
    installed = [rpm("a 1-1", conflicts="b"), rpm("b 1-1")]

    assert resolve(installed, [rpm("a 2-1", conflicts="b")], {"a": "2-1"}).new == ["a 2-1"]
    assert not resolve(installed, [rpm("a 2-1", conflicts="b, b >= 1")], {"a": "2-1"}).new


def test_a_file_is_a_requirement_as_any_other() -> None:
    installed = [rpm("a 1-1"), rpm("sh 1-1", files="/bin/sh /usr/share/sh")]
    offered = [
        rpm("a 2-1", requires="/bin/sh, /usr/share/sh, /usr/bin/perl"),
        rpm("perl 5-1", files="/usr/bin/perl"),
        rpm("sh 2-1", files="/bin/sh"),
    ]

    assert sorted(resolve(installed, offered, {"a": "2-1"}).new) == ["a 2-1", "perl 5-1"]
    assert sorted(resolve(installed, offered).new) == ["a 2-1", "perl 5-1"]


@pytest.mark.parametrize(
    ("requires", "new"),
    [
        ("(x or y)", ["a 2-1", "x 1-1"]),
        ("(x and y)", ["a 2-1", "x 1-1", "y 1-1"]),
        ("(x if b)", ["a 2-1", "x 1-1"]),
        ("(x if nothing)", ["a 2-1"]),
        ("(x if nothing else y)", ["a 2-1", "y 1-1"]),
        ("(y unless nothing)", ["a 2-1", "y 1-1"]),
        ("(lib with lib2)", ["a 2-1", "y 1-1"]),
        ("(lib without lib2)", ["a 2-1", "x 1-1"]),
        ("(x if (b and lib)), (y or b)", ["a 2-1"]),
    ],
)
def test_rich_requirements_bring_in_what_they_ask_for(requires: str, new: list[str]) -> None:
    offered = [rpm("a 2-1", requires=requires), rpm("x 1-1", provides="lib"), rpm("y 1-1", provides="lib, lib2")]

    assert sorted(resolve([rpm("a 1-1"), rpm("b 1-1")], offered, {"a": "2-1"}).new) == new


def test_a_rich_conflict_counts_as_a_whole() -> None:
    offered = [rpm("a 2-1", conflicts="(b and c)")]

    assert resolve([rpm("a 1-1"), rpm("b 1-1")], offered, {"a": "2-1"}).new == ["a 2-1"]
    assert not resolve([rpm("a 1-1"), rpm("b 1-1"), rpm("c 1-1")], offered, {"a": "2-1"}).new


def test_a_rich_requirement_that_explodes_makes_a_package_unusable_and_nothing_slow() -> None:
    parts = " or ".join(f"(p{number} and q{number})" for number in range(40))
    offered = [rpm("a 2-1", requires=f"({parts})"), rpm("b 2-1"), *(rpm(f"p{n} 1-1") for n in range(40))]

    outcome = resolve([rpm("a 1-1"), rpm("b 1-1")], offered, {"a": "2-1", "b": "2-1"})

    assert outcome.new == ["b 2-1"]
    assert outcome.skipped["a"][0] is SkipReason.DEPENDENCY


def test_the_repository_of_the_best_priority_counts_even_with_an_older_version() -> None:
    offered = [rpm("a 2-1", priority=10, repository="own"), rpm("a 3-1")]

    assert resolve([rpm("a 1-1")], offered).new == ["a 2-1"]
    assert resolve([rpm("a 2-1")], offered).new == ["a 3-1"]
    assert resolve([rpm("a 1-1")], offered, {"a": "3-1"}).new == ["a 3-1"]


def test_a_kernel_comes_in_beside_the_installed_ones() -> None:
    rules = RpmRules(architecture="x86_64", install_only=frozenset({"kernel"}))
    installed = [rpm("kernel 1-1"), rpm("kernel 2-1"), rpm("tool 1-1", requires="kernel = 1-1")]
    offered = [rpm("kernel 2-1"), rpm("kernel 3-1"), rpm("kernel 4-1")]

    everything = resolve(installed, offered, rules=rules)
    fix = resolve(installed, offered, {"kernel": "3-1"}, rules=rules)

    assert (everything.new, everything.gone) == (["kernel 4-1"], {})
    assert fix.new == ["kernel 3-1"]
    assert not fix.skipped
    assert fix.resolved.notes == (
        "kernel-3-1.x86_64 comes in beside the kernel that is installed, and that stays, as with dnf",
    )


def test_a_package_says_itself_that_it_may_be_there_several_times() -> None:
    installed = [rpm("kernel-rt 1-1", provides="installonlypkg(kernel)")]

    assert resolve(installed, [rpm("kernel-rt 2-1", provides="installonlypkg(kernel)")]).resolved.changes[0].old is None


def test_both_architectures_of_a_package_go_up_together() -> None:
    installed = [rpm("glibc 1-1"), rpm("glibc 1-1 i686")]

    both = resolve(installed, [rpm("glibc 2-1"), rpm("glibc 3-1"), rpm("glibc 2-1 i686")])
    alone = resolve(installed, [rpm("glibc 2-1")], {"glibc": "2-1"})

    assert sorted(both.new) == ["glibc 2-1", "glibc 2-1 i686"]
    assert not alone.new
    assert alone.skipped["glibc"][0] in {SkipReason.DEPENDENCY, SkipReason.NO_CANDIDATE}


@pytest.mark.parametrize("other", ["a 2-1 i686", "a 2-1 aarch64", "a 2-1 src"])
def test_no_other_architecture_takes_a_packages_place(other: str) -> None:
    assert not resolve([rpm("a 1-1")], [rpm(other)]).new


def test_a_package_may_become_one_for_all_architectures_and_back() -> None:
    assert resolve([rpm("a 1-1")], [rpm("a 2-1 noarch")]).new == ["a 2-1 noarch"]
    assert resolve([rpm("a 1-1 noarch")], [rpm("a 2-1")]).new == ["a 2-1"]


def test_another_vendors_version_is_not_taken_without_a_word() -> None:
    def withheld(old: RpmOffer, new: RpmOffer) -> str:
        return "" if old.vendor == new.vendor else f"{new.evr} is of {new.vendor}"

    rules = RpmRules(architecture="x86_64", withheld=withheld)
    installed = [rpm("a 1-1", vendor="one")]

    outcome = resolve(installed, [rpm("a 2-1", vendor="other")], {"a": "2-1"}, rules=rules)

    assert not outcome.new
    assert outcome.skipped == {"a": (SkipReason.VENDOR, "2-1 is of other")}
    assert resolve(installed, [rpm("a 2-1", vendor="one"), rpm("a 3-1", vendor="other")], rules=rules).new == ["a 2-1"]


def test_what_is_held_or_frozen_stays_and_holds_back_what_needs_it_to_change() -> None:
    installed = [rpm("a 1-1", requires="b = 1-1"), rpm("b 1-1"), rpm("c 1-1")]
    offered = [rpm("a 2-1", requires="b = 2-1"), rpm("b 2-1"), rpm("c 2-1")]
    wanted = {"a": "2-1", "b": "2-1", "c": "2-1"}

    held = resolve(installed, offered, wanted, held=["b"])
    frozen = resolve(installed, offered, wanted, frozen={"b": "has a script that must be run"})

    assert held.new == frozen.new == ["c 2-1"]
    assert held.skipped["b"] == (SkipReason.HELD, "the image holds it at its version")
    assert "b" not in frozen.skipped
    assert frozen.skipped["a"] == (
        SkipReason.DEPENDENCY,
        "2-1 is offered, but a-2-1.x86_64 needs b = 2-1: b has a script that must be run",
    )


def test_what_is_frozen_does_not_come_in_new_either() -> None:
    offered = [rpm("a 2-1", requires="lib"), rpm("x 1-1", provides="lib"), rpm("y 1-1", provides="lib")]

    assert sorted(resolve([rpm("a 1-1")], offered, {"a": "2-1"}, frozen={"x": "can't be"}).new) == ["a 2-1", "y 1-1"]


def test_nothing_goes_down() -> None:
    installed = [rpm("a 1-1"), rpm("b 3-1")]

    assert not resolve(installed, [rpm("a 2-1", requires="b = 2-1"), rpm("b 2-1")]).new


def test_an_update_of_what_is_installed_is_preferred_to_another_package() -> None:
    installed = [rpm("a 1-1", requires="p = 1"), rpm("b 1-1", provides="p = 1")]
    offered = [
        *(rpm("a 2-1", requires="p = 2"), rpm("b 2-1", provides="p = 2")),
        *(rpm("c 1-1", provides="p = 1"), rpm("c 2-1", provides="p = 2")),
    ]

    assert sorted(resolve(installed, offered, {"a": "2-1"}).new) == ["a 2-1", "b 2-1"]
    assert sorted(resolve(installed, offered, {"b": "2-1"}).new) == ["a 2-1", "b 2-1"]


def test_the_outcome_depends_on_no_order() -> None:
    installed = [rpm(f"{name} 1-1", requires="lib") for name in "abc"] + [rpm("lib0 1-1", provides="lib")]
    offered = [
        *(rpm(f"{name} 2-1", requires="lib >= 2") for name in "abc"),
        *(rpm(f"lib{number} 2-1", provides="lib = 2") for number in range(4)),
    ]

    outcomes = [resolve(installed[::step], offered[::step]) for step in (1, -1)]

    assert outcomes[0].new == outcomes[1].new
    assert sorted(outcomes[0].new) == ["a 2-1", "b 2-1", "c 2-1", "lib0 2-1"]
