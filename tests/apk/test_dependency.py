# SPDX-License-Identifier: Apache-2.0
"""apk's dependencies, and what a set of packages lacks by them."""

from __future__ import annotations

import pytest

from copacetic.apk.closure import broken_dependencies
from copacetic.apk.dependency import Dependency, DependencyError, parse_dependencies, parse_dependency
from copacetic.apk.stanza import ApkStanza


def package(name: str, version: str = "1-r0", **fields: str) -> ApkStanza:
    return ApkStanza({"P": name, "V": version, **fields})


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("busybox", Dependency("busybox")),
        ("so:libc.musl-x86_64.so.1", Dependency("so:libc.musl-x86_64.so.1")),
        ("/bin/sh", Dependency("/bin/sh")),
        ("busybox=1.36.1-r7", Dependency("busybox", "=", "1.36.1-r7")),
        ("a>=1", Dependency("a", ">=", "1")),
        ("a~1.2", Dependency("a", "~", "1.2")),
        ("a=~1.2", Dependency("a", "=~", "1.2")),
        ("!a<2", Dependency("a", "<", "2", conflict=True)),
        ("a@edge", Dependency("a", tag="edge")),
        ("a@edge=1", Dependency("a", "=", "1", "edge")),
        ("a=1@edge", Dependency("a", "=", "1", "edge")),
        ("a><Q1YVZTckeuYPZDZZTsGAEu1Jhpf2o=", Dependency("a", "><", "Q1YVZTckeuYPZDZZTsGAEu1Jhpf2o=")),
    ],
)
def test_a_word_is_read_into_its_parts(word: str, expected: Dependency) -> None:
    assert parse_dependency(word) == expected


@pytest.mark.parametrize("word", ["", "!", "=1", "a=", "a==1", "a<=>1", "a@", "a b", "!!a", "a" * 600])
def test_what_is_no_dependency_is_refused(word: str) -> None:
    with pytest.raises(DependencyError, match="not a dependency"):
        parse_dependency(word)


@pytest.mark.parametrize(
    ("word", "version", "met"),
    [
        ("a", None, True),
        ("a>=1", None, False),
        ("a=1.2-r3", "1.2-r3", True),
        ("a=1.2", "1.2-r3", False),
        ("a~1.2", "1.2-r3", True),
        ("a~1.2", "1.20", False),
        ("a~1", "1.2.3-r0", True),
        ("a<2", "1.9-r9", True),
        ("a>1", "1", False),
        ("a>=1", "1", True),
        ("a<1_foo", "0.5", False),
    ],
)
def test_a_version_meets_what_is_asked_for(word: str, version: str | None, met: bool) -> None:
    for scheme in ("apk", "apk2"):
        assert parse_dependency(word).matches(version, "Q1", scheme) is met, scheme


def test_a_fuzzy_wish_looks_at_the_shorter_of_both_in_2_and_at_its_own_length_in_3() -> None:
    wish = parse_dependency("a~1.2.3")

    assert wish.matches("1.2", "", "apk2")
    assert not wish.matches("1.2", "", "apk")


def test_an_identity_is_met_by_that_package_only() -> None:
    wish = parse_dependency("a><Q1abc=")

    assert wish.matches("1", "Q1abc=", "apk")
    assert not wish.matches("1", "Q1abd=", "apk")


def broken(*packages: ApkStanza, world: str = "", assumed: tuple[ApkStanza, ...] = ()) -> list[str]:
    return list(broken_dependencies(packages, assumed, world, "apk2"))


def test_a_closed_set_lacks_nothing() -> None:
    assert broken(package("a", D="b>=1 so:x !c"), package("b", p="so:x=3"), world="a !z\n") == []


def test_what_is_missing_is_named_with_who_asks_for_it() -> None:
    assert broken(package("a", D="b>=2 so:x"), package("b"), world="a\nq@edge\n") == [
        "a needs b>=2, which is not installed",
        "a needs so:x, which is not installed",
        "etc/apk/world needs q@edge, which is not installed",
    ]


def test_what_excludes_another_is_named_but_not_for_what_it_is_itself() -> None:
    assert broken(package("a", D="!mta", p="mta"), package("b", p="mta")) == ["a excludes mta, and b is installed"]


def test_of_two_packages_one_name_with_a_version_is_too_much() -> None:
    assert broken(package("a", p="so:x=1"), package("b", p="so:x=1")) == [
        "a and b both are so:x, which only one package may be"
    ]
    assert broken(package("a", p="virtual"), package("b", p="virtual")) == []


def test_a_package_of_a_hidden_database_serves_others_and_is_not_judged() -> None:
    glibc = package("glibc", p="so:libc.so.6=6", D="missing")

    assert broken(package("a", D="so:libc.so.6"), assumed=(glibc,)) == []


def test_a_list_that_can_t_be_read_names_its_package() -> None:
    with pytest.raises(DependencyError, match="a: D: not a dependency: '=1'"):
        broken(package("a", D="b =1"))


def test_a_list_may_be_empty() -> None:
    assert parse_dependencies(" \n") == ()
