# SPDX-License-Identifier: Apache-2.0
"""rpm's dependencies: ranges that overlap, and rich ones."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from copacetic.rpm.dependency import (
    EQUAL,
    GREATER,
    LESS,
    RichDependency,
    RpmDependency,
    RpmDependencyError,
    holds,
    make_requirement,
    parse_requirement,
    simple_parts,
)
from support.deb.debian import need


def simple(text: str) -> RpmDependency:
    found = parse_requirement(text)
    assert isinstance(found, RpmDependency)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bash", RpmDependency("bash")),
        ("libc.so.6(GLIBC_2.34)(64bit)", RpmDependency("libc.so.6(GLIBC_2.34)(64bit)")),
        ("/usr/bin/sh", RpmDependency("/usr/bin/sh")),
        ("glibc = 2.34-83.el9", RpmDependency("glibc", EQUAL, "2.34-83.el9")),
        ("glibc >= 1:2", RpmDependency("glibc", GREATER | EQUAL, "1:2")),
        ("glibc < 2", RpmDependency("glibc", LESS, "2")),
        ("(a)", RpmDependency("a")),
        ("(a or b > 1)", RichDependency("or", (RpmDependency("a"), RpmDependency("b", GREATER, "1")))),
        (
            "(a if (b and c(x)) else d)",
            RichDependency(
                "if",
                (
                    RpmDependency("a"),
                    RichDependency("and", (RpmDependency("b"), RpmDependency("c(x)"))),
                    RpmDependency("d"),
                ),
            ),
        ),
    ],
)
def test_a_dependency_is_read_into_its_parts(text: str, expected: object) -> None:
    found = parse_requirement(text)

    assert found == expected
    assert parse_requirement(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "a >=", "a >= 1 2", "(", "()", "(a", "a)", "(a or)", "(a or b", "(a or b and c)", "(a b)"),
        *("(a if b if c)", "(a without b without c)", "(a or b else c)", "(and or b)", "(a or b) c"),
        *("(" * 30 + "a" + ")" * 30, "a" * 9000, "a\x00"),
    ],
)
def test_what_is_no_dependency_is_refused(text: str) -> None:
    with pytest.raises(RpmDependencyError):
        parse_requirement(text)


@pytest.mark.parametrize(
    ("asked", "provided", "met"),
    [
        ("a", "a", True),
        ("a", "a = 1", True),
        ("a >= 1", "a", True),
        ("a >= 1", "a = 1", True),
        ("a >= 1", "a = 1-3", True),
        ("a = 1-3", "a = 1", True),
        ("a = 1-3", "a = 1-4", False),
        ("a > 1", "a = 1-3", False),
        ("a < 1-3", "a = 1", True),
        ("a = 1", "a > 1-3", True),
        ("a > 1-3", "a < 1", False),
        ("a < 1", "a = 1~rc1", True),
        ("a < 2", "a >= 1", True),
        ("a < 1", "a >= 1", False),
        ("a <= 1", "a >= 1", True),
        ("a > 1", "a > 5", True),
        ("a >= 1", "a = 1:0.1", True),
        ("a = 1", "a <> 1", False),
    ],
)
def test_ranges_of_versions_match_where_they_overlap(asked: str, provided: str, met: bool) -> None:
    assert simple(asked).matches(simple(provided)) is met


@pytest.mark.parametrize(
    ("text", "present", "met"),
    [
        ("(a and b)", "a", False),
        ("(a and b)", "a b", True),
        ("(a or b)", "b", True),
        ("(a or b)", "", False),
        ("(a if b)", "", True),
        ("(a if b)", "b", False),
        ("(a if b)", "a b", True),
        ("(a if b else c)", "a", False),
        ("(a if b else c)", "c", True),
        ("(a unless b)", "a", True),
        ("(a unless b)", "a b", False),
        ("(a unless b)", "", False),
        ("(a unless b else c)", "b c", True),
        ("(a with b)", "a b", False),
        ("(a with b)", "ab", True),
        ("(a without b)", "ab", False),
        ("(a without b)", "ab a", True),
        ("((a or c) with b)", "cb", True),
    ],
)
def test_a_rich_dependency_holds_by_what_is_there(text: str, present: str, met: bool) -> None:
    """A package `ab` provides a and b."""
    packages = present.split()

    def found(part: RpmDependency) -> frozenset[str]:
        return frozenset(name for name in packages if part.name in name)

    assert holds(parse_requirement(text), found) is met


def test_headers_give_a_dependency_in_three_fields() -> None:
    pre = 1 << 9
    assert make_requirement("a", pre | GREATER | EQUAL, "1:2-3") == parse_requirement("a >= 1:2-3")
    assert make_requirement("a", pre) == RpmDependency("a")
    for name in ("/usr/share/a file", "gpg(Somebody <key@example.org>)"):
        assert make_requirement(name) == RpmDependency(name)
    assert isinstance(make_requirement("(a or b)"), RichDependency)
    assert make_requirement("rpmlib(PayloadIsZstd)", LESS | EQUAL, "5.4.18-1") == parse_requirement(
        "rpmlib(PayloadIsZstd) <= 5.4.18-1"
    )


def test_every_simple_part_of_a_rich_dependency_is_seen() -> None:
    parts = simple_parts(parse_requirement("((a and b > 1) if c else d)"))

    assert [str(part) for part in parts] == ["a", "b > 1", "c", "d"]


@pytest.mark.parametrize("count", [5_000, pytest.param(500_000, marks=pytest.mark.soak)])
def test_any_text_is_a_dependency_that_is_written_as_it_was_read_or_refused(count: int) -> None:
    words = ("a", "b(c)", "d(e(f))", "/g", "(", ")", "((", "and", "or", "if", "else", "unless", "with", "without", "<")
    more = (">=", "=", "<>", "1", "2:3-4", "~", "^", "\x00", "\u00e9", "\u202e", "a" * 9000)
    chosen, read = random.Random(count), 0
    for _ in range(count):
        text = chosen.choice(("", " ")).join(chosen.choices((*words, *words, *more), k=chosen.randint(1, 12)))
        for tried in (text, f"({text})"):
            try:
                found = parse_requirement(tried)
            except RpmDependencyError:
                continue
            read += 1
            assert parse_requirement(str(found)) == found
            assert holds(found, lambda part: frozenset(part.name)) in {True, False}
    assert read > count / 50


def test_ranges_match_as_they_do_for_libsolv(tmp_path: Path) -> None:
    """Every range as a requirement of a package, and as what another one provides."""
    need("testsolv")
    ranges = [
        f"v {operator} {evr}"
        for operator in ("<", "<=", "=", ">=", ">")
        for evr in ("1", "1-3", "1-4", "1:1", "2", "1~rc")
    ]
    pairs = [(asked, provided) for asked in (*ranges, "v") for provided in (*ranges, "v")]
    lines = ["repo system 0 empty", "repo test 0 testtags <inline>"]
    for number, (asked, provided) in enumerate(pairs):
        lines += [f"#>=Pkg: x{number} 1 1 noarch", f"#>=Req: {asked.replace('v', f'v{number}')}"]
        lines += [f"#>=Pkg: p{number} 1 1 noarch", f"#>=Prv: {provided.replace('v', f'v{number}')}"]
    jobs = [f"job install name x{number} [weak]" for number in range(len(pairs))]
    case = tmp_path / "case.t"
    case.write_text("\n".join([*lines, "system x86_64 rpm system", *jobs, "result transaction,problems <inline>", ""]))

    run = subprocess.run(["testsolv", "-r", str(case)], capture_output=True, text=True, check=False)
    installed = set(re.findall(r"^install (x\d+)-", run.stdout, re.MULTILINE))

    met = {f"x{number}" for number, (asked, provided) in enumerate(pairs) if simple(asked).matches(simple(provided))}
    assert met == installed
    assert 0 < len(met) < len(pairs)
