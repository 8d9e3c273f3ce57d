# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

from copacetic.deb.deb822 import Stanza
from copacetic.pkgmgr.apt.order import group_by_predependencies


@dataclass(frozen=True)
class Package:
    name: str
    version: str = "2"
    architecture: str = "amd64"
    record: Stanza | None = None


def groups(*new: Package, installed: tuple[Package, ...] = ()) -> list[str]:
    return [" ".join(package.name for package in group) for group in group_by_predependencies(new, installed)]


def test_all_go_together_when_the_old_versions_meet_what_has_to_be_there_first() -> None:
    new = [Package("a", record=Stanza({"Pre-Depends": "b (>= 1)"})), Package("b")]
    assert groups(*new, installed=(Package("b", "1"),)) == ["a b"]


def test_what_has_to_be_configured_first_goes_first_with_all_it_needs() -> None:
    new = [
        Package("a", record=Stanza({"Pre-Depends": "b (>= 2)"})),
        Package("b", record=Stanza({"Depends": "c (>= 2), d"})),
        Package("c", record=Stanza({"Pre-Depends": "e"})),
        Package("d"),
        Package("e"),
        Package("z"),
    ]
    old = tuple(Package(name, "1") for name in "abcd")
    assert groups(*new, installed=old) == ["d e z", "b c", "a"]


def test_a_provider_or_an_alternative_counts() -> None:
    new = [
        Package("a", record=Stanza({"Pre-Depends": "x | virtual"})),
        Package("b", record=Stanza({"Provides": "virtual"})),
    ]
    assert groups(*new) == ["b", "a"]


def test_a_circle_ends_and_nothing_is_lost() -> None:
    new = [
        Package("a", record=Stanza({"Pre-Depends": "b"})),
        Package("b", record=Stanza({"Pre-Depends": "a"})),
        Package("c"),
    ]
    assert sorted(" ".join(groups(*new)).split()) == ["a", "b", "c"]


def test_what_can_t_be_read_orders_nothing() -> None:
    assert groups(Package("a", record=Stanza({"Pre-Depends": "${x}"})), Package("b")) == ["a b"]
