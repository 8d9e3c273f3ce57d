# SPDX-License-Identifier: Apache-2.0
"""Relations between packages, and what a set of them lacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.deb.deb822 import Stanza, stanza_of
from copacetic.deb.relation import RelationError, broken_relations, parse_relations
from copacetic.updates import InstalledPackage
from support.floors import accepting, refusal
from support.value.values import installed


def package(name: str, version: str = "1", architecture: str = "amd64", **fields: str) -> InstalledPackage:
    made = installed(name, version, architecture=architecture)
    return InstalledPackage(
        name=made.name, version=version, architecture=architecture, source_name=name, source_version=version,
        record=Stanza({key.replace("_", "-"): value for key, value in fields.items()}),
    )  # fmt: skip


def broken(*packages: InstalledPackage) -> list[str]:
    return [str(one) for one in broken_relations(packages, "amd64")]


def test_a_field_is_read_with_alternatives_versions_and_qualifiers() -> None:
    (one, two) = parse_relations(
        "a (>= 1:2~) | b:any , c [amd64 !arm64] <!nocheck> (<< 3)".replace(" [amd64 !arm64] <!nocheck>", "")
    )

    assert [str(relation) for relation in one] == ["a (>= 1:2~)", "b:any"]
    assert [str(relation) for relation in two] == ["c (<< 3)"]
    assert parse_relations("x [amd64] <!nocheck>")[0][0].name == "x"


@pytest.mark.parametrize("text", ["a (>> )", "$(rm)", "a b", "a (= 1", "|"])
def test_what_is_no_relation_is_quoted(text: str) -> None:
    with pytest.raises(RelationError, match="not a relation"):
        parse_relations(text)


NAMES = st.sampled_from(["a", "libc6", "b:any"]) | st.text(max_size=3)
LIMITS = st.sampled_from(["", " (>= 1:2~)", " (<< 3)", " [amd64 !i386]", " <!nocheck>", " (= "])
RELATIONS = st.lists(st.builds("{}{}".format, NAMES, LIMITS), max_size=3)


@accepting(0.1)
@given(st.sampled_from([", ", " | ", ",\n"]), RELATIONS)
def test_any_text_is_a_relation_or_refused(separator: str, relations: list[str]) -> None:
    with refusal(RelationError):
        parse_relations(separator.join(relations))


@pytest.mark.parametrize(
    ("version", "operator", "accepted"),
    [
        ("1.0", ">=", True),
        ("0.9", ">=", False),
        ("1.0", "=", True),
        ("1.0", ">>", False),
        ("1.0", "<<", False),
        ("1.0", "<=", True),
    ],
)
def test_a_version_is_accepted_as_the_operator_says(version: str, operator: str, accepted: bool) -> None:
    assert parse_relations(f"a ({operator} 1.0)")[0][0].accepts(version) is accepted


def test_a_set_without_contradictions_has_none() -> None:
    assert broken(package("a", Depends="b (>= 1) | c"), package("b"), package("d", Breaks="b (<< 1)")) == []


def test_what_is_missing_is_named() -> None:
    assert broken(package("a", Depends="b (>= 2)"), package("b")) == ["a Depends b (>= 2), which is not installed"]


def test_what_is_too_much_is_named() -> None:
    assert broken(package("a", Breaks="b (<< 2)"), package("b")) == ["a Breaks b (<< 2), and b 1 is installed"]


def test_a_provided_name_is_enough_unless_a_version_is_asked_for() -> None:
    provider = package("b", Provides="virtual, versioned (= 3)")

    assert broken(package("a", Depends="virtual, versioned (>= 2)"), provider) == []
    assert broken(package("a", Depends="virtual (>= 1)"), provider) != []


def test_a_package_may_conflict_with_what_it_provides_itself() -> None:
    assert broken(package("a", Conflicts="mta", Provides="mta")) == []


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (package("lib"), True),
        (package("lib", architecture="all"), True),
        (package("lib", architecture="i386"), False),
        (package("lib", architecture="i386", Multi_Arch="foreign"), True),
        (package("lib", architecture="i386", Multi_Arch="allowed"), False),
    ],
)
def test_another_architecture_counts_as_multi_arch_says(other: InstalledPackage, fits: bool) -> None:
    assert (broken(package("a", Depends="lib"), other) == []) is fits
    if stanza_of(other).fields.get("Multi-Arch") == "allowed":
        assert broken(package("a", Depends="lib:any"), other) == []


def test_a_version_without_an_operator_is_that_version() -> None:
    assert str(parse_relations("libc6 (2.36)")[0][0]) == "libc6 (= 2.36)"
