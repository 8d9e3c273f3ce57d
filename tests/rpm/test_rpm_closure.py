# SPDX-License-Identifier: Apache-2.0
"""What a set of packages lacks, as rpm says it of a database with the same packages; and what it can't be asked."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from copacetic.rpm import RpmHeader, tags
from copacetic.rpm.closure import broken_dependencies
from copacetic.rpm.header import number_entry, texts_entry
from support.rpm.realrpm import run_rpm
from support.rpm.rpmdbs import make_files, make_header, put_files

SENTENCE = re.compile(r"(\w+) (needs|conflicts with) (.*), which is (?:not )?installed")
SENSES = {"<": 2, ">": 4, "=": 8, "<=": 10, ">=": 12}
COLUMNS = {
    "requires": (tags.REQUIRE_NAMES, tags.REQUIRE_FLAGS, tags.REQUIRE_VERSIONS),
    "conflicts": (tags.CONFLICT_NAMES, tags.CONFLICT_FLAGS, tags.CONFLICT_VERSIONS),
    "provides": (tags.PROVIDE_NAMES, tags.PROVIDE_FLAGS, tags.PROVIDE_VERSIONS),
}


def package(name: str, evr: str = "1-1", *, files: tuple[str, ...] = (), **relations: list[str]) -> RpmHeader:
    """`relations` are texts: `a`, `a >= 1`, `(a if b)`."""
    relations = {**relations, "provides": [f"{name} = {evr}", *relations.get("provides", [])]}
    rows = []
    for kind, texts in ((kind, texts) for kind, texts in relations.items() if texts):
        parts = [(text, "", "") if text.startswith("(") else (*text.split(" "), "", "")[:3] for text in texts]
        rows += [
            texts_entry(COLUMNS[kind][0], [part[0] for part in parts]),
            number_entry(COLUMNS[kind][1], [SENSES.get(part[1], 0) for part in parts]),
            texts_entry(COLUMNS[kind][2], [part[2] for part in parts]),
        ]
    return make_header(name, evr, "x86_64", *rows, files=files)


def broken(*headers: RpmHeader) -> set[str]:
    return set(broken_dependencies(headers, lambda path: path.lstrip("/")))


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("b", True),
        ("b = 1:2", True),
        ("b >= 1:2-3", True),
        ("b > 1:2-3", False),
        ("b = 2-3", False),
        ("c", False),
        ("/usr/bin/b", True),
        ("/usr/bin/c", False),
        ("lib(x)(64bit)", True),
        ("(b and lib(x)(64bit))", True),
        ("(c if b)", False),
        ("(c if d)", True),
        ("(c if d else b)", True),
        ("(b with lib(x)(64bit))", True),
        ("(b without lib(x)(64bit))", False),
        ("abi < 1-2", True),
        ("abi > 1-2", True),
        ("abi < 0-9", False),
        ("rpmlib(Anything)", True),
        ("(broken", True),
    ],
)
def test_a_requirement_is_met_or_not(requirement: str, met: bool) -> None:
    other = package("b", "1:2-3", files=("/usr/bin/b",), provides=["lib(x)(64bit)", "abi = 1"])

    found = broken(package("a", requires=[requirement]), other)

    assert found == (set() if met else {f"a needs {requirement}, which is not installed"})


def test_a_file_is_found_wherever_a_link_of_the_image_leads() -> None:
    headers = [package("a", requires=["/bin/b"]), package("b", files=("/usr/bin/b",))]

    assert set(broken_dependencies(headers, lambda path: path.lstrip("/").replace("usr/bin", "bin"))) == set()
    assert broken(*headers) == {"a needs /bin/b, which is not installed"}


def test_a_package_does_not_conflict_with_itself() -> None:
    own = package("a", conflicts=["mta"], provides=["mta"])

    assert broken(own) == set()
    assert broken(own, package("b", provides=["mta"])) == {"a conflicts with mta, which is installed"}
    assert broken(package("a", conflicts=["b < 2"]), package("b", "2-1")) == set()


def any_set(source: random.Random) -> list[RpmHeader]:
    names = ["a", "b", "c", "d", "e"]

    def simple() -> str:
        name = source.choice([*names, "x", "y", "/opt/a", "/opt/x"])
        if name.startswith("/") or source.random() < 0.5:
            return name
        return f"{name} {source.choice(list(SENSES))} {source.choice(['1', '1-1', '2-1', '1:1-1', '2~rc-1', '1^x-1'])}"

    def relation() -> str:
        if source.random() < 0.6:
            return simple()
        one, other, third = simple(), simple(), simple()
        return source.choice(
            [f"({one} or {other})", f"({one} and {other})", f"({one} if {other})", f"({one} if {other} else {third})",
             f"({one} unless {other})", f"({one} with {other})", f"({one} without {other})"]
        )  # fmt: skip

    headers = []
    for name in source.sample(names, 4):
        evr = source.choice(["1-1", "2-1", "1:1-1", "2~rc-1", "1^x-1"])
        provides = [word for word in {simple() for _ in range(2)} if not word.startswith("/")]
        requires = [text for text in (relation() for _ in range(3)) if "unless" not in text]
        conflicts = [text for text in (relation() for _ in range(1)) if " if " not in text]
        files = (f"/opt/{name}",) if source.random() < 0.5 else ()
        headers.append(package(name, evr, files=files, requires=requires, conflicts=conflicts, provides=provides))
    return headers


def test_random_sets_lack_what_rpm_says_that_they_lack(tmp_path: Path) -> None:
    """Each set is a database; rpm is asked about all of its packages."""
    lacking = 0
    for number in range(60):
        headers = any_set(random.Random(number))
        folder = put_files(make_files("sqlite", headers), tmp_path / str(number))
        said = run_rpm("-Va", "--nofiles", "--noscripts", "--nosignature", "--nodigest", dbpath=folder).stdout

        rows = re.findall(r"^\t(.*) (is needed by|conflicts with) \(installed\) (\w+)-", said, re.MULTILINE)
        theirs = {(name, "needs" if how == "is needed by" else "conflicts with", what) for what, how, name in rows}
        mine = {match.groups() for match in map(SENTENCE.fullmatch, broken(*headers)) if match is not None}
        assert mine == theirs, number
        lacking += len(mine)
    assert lacking > 100
