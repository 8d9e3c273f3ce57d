# SPDX-License-Identifier: Apache-2.0
"""apk's repository definitions."""

from __future__ import annotations

import pytest

from copacetic.distro import Distro
from copacetic.errors import RepositoryError
from copacetic.repository.apk.sources import ApkSource, branch_of, builtin_variables, parse_sources, read_sources
from support.image.trees import tree


def distro(**values: str) -> Distro:
    return Distro.parse("".join(f"{key.upper()}={value}\n" for key, value in values.items()).encode())


ALPINE = distro(id="alpine", version_id="3.19.1")


def parse(text: str) -> list[ApkSource]:
    return parse_sources(text, "etc/apk/repositories", builtin_variables(ALPINE, "x86_64"))[0]


def test_a_line_is_a_repository_with_its_index_below_the_architecture() -> None:
    (source,) = parse("# comment\n\nhttps://dl.example/alpine/v3.19/main/  # why\n")

    assert source == ApkSource(
        url="https://dl.example/alpine/v3.19/main", kind="v2", tag="", defined_in="etc/apk/repositories:3"
    )
    assert source.index_url("x86_64") == "https://dl.example/alpine/v3.19/main/x86_64/APKINDEX.tar.gz"
    assert (source.branch, source.component) == ("v3.19", "main")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("@edge https://e.example/edge/main", [("https://e.example/edge/main", "v2", "edge")]),
        ("v2 @x https://e.example a b", [("https://e.example/a", "v2", "x"), ("https://e.example/b", "v2", "x")]),
        ("v3 https://e.example main", [("https://e.example/main", "v3", "")]),
        ("ndx https://e.example/i/APKINDEX.tar.gz", [("https://e.example/i/APKINDEX.tar.gz", "ndx", "")]),
        ("https://e.example/i/Packages.adb", [("https://e.example/i/Packages.adb", "ndx", "")]),
        ("set m=https://m.example\n${m} main", [("https://m.example/main", "v2", "")]),
        ("set m=https://a\nset -default m=https://b\n${m}/x", [("https://a/x", "v2", "")]),
        ("set -default m=https://b\n${m}/x", [("https://b/x", "v2", "")]),
        ("set a=main\nhttps://e.example ${a}", [("https://e.example/main", "v2", "")]),
        ("https://e.example/${APK_ARCH}/x", [("https://e.example/x86_64/x", "v2", "")]),
        ("https://e.example/${OS_ID}/${OS_BRANCH}/main", [("https://e.example/alpine/v3.19/main", "v2", "")]),
    ],
)
def test_definitions_of_apk_3_are_understood(line: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(source.url, source.kind, source.tag) for source in parse(line)] == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v2", "not a repository definition: 'v2'"),
        ("@t", "not a repository definition: '@t'"),
        ("@-x https://e.example", "not a tag: '@-x'"),
        ("https://${nothing}/x", "the variable 'nothing' is not set"),
        ("set APK_ARCH=x", "not a variable: 'APK_ARCH'"),
        ("set 1=x", "not a variable: '1'"),
        ("set x", "not a variable: 'x'"),
        ("https://e.example ../../etc", "not a component: '../../etc'"),
        ("ndx https://e.example/i.adb main", "an index file has no components"),
        ("https://[::1/x", "not a repository's address"),
        ("https://e.example/a\x01b", "not a repository's address"),
        ("https://e.example/a?x=1", "not a repository's address"),
        ("https://e.example/a#x", "not a repository's address"),
    ],
)
def test_a_broken_line_is_named_with_its_file_and_number(line: str, message: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        parse(f"# first\n{line}\n")

    assert str(caught.value).startswith("etc/apk/repositories:2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["/repo", "file:///repo", "ftp://e.example/x", "../x"])
def test_nothing_in_an_image_makes_this_machine_read_its_own_files(line: str) -> None:
    sources, notes = parse_sources(line, "etc/apk/repositories", {})

    assert sources == []
    assert len(notes) == 1
    assert notes[0].endswith("repositories are not used")


def test_an_address_is_kept_apart_from_its_secrets() -> None:
    (source,) = parse("https://user:se%40cret@e.example/v3.1/x")

    assert source.url == "https://e.example/v3.1/x"
    assert "cret" not in repr(source)
    assert source.login is not None
    assert source.login.secret == "user:se@cret"


def test_of_two_lists_of_one_name_the_administrator_s_counts() -> None:
    files = {
        "etc/apk/repositories": "https://e.example/1\n",
        "etc/apk/repositories.d/b.list": "https://e.example/${x}\n",
        "etc/apk/repositories.d/a.list": "set x=2\n",
        "etc/apk/repositories.d/readme": "nonsense\n",
        "lib/apk/repositories.d/a.list": "https://e.example/hidden\n",
        "lib/apk/repositories.d/c.list": "https://e.example/3\n",
    }

    sources, _ = read_sources(tree(files), {})

    assert [(source.url, source.defined_in) for source in sources] == [
        ("https://e.example/1", "etc/apk/repositories:1"),
        ("https://e.example/2", "etc/apk/repositories.d/b.list:1"),
        ("https://e.example/3", "lib/apk/repositories.d/c.list:1"),
    ]


def test_too_many_repositories_are_refused() -> None:
    lines = "".join(f"https://e.example/{number}\n" for number in range(201))

    with pytest.raises(RepositoryError, match="defines 201 repositories, the limit is 200"):
        read_sources(tree({"etc/apk/repositories": lines}), {})


@pytest.mark.parametrize(
    ("identity", "version", "branch"),
    [
        ("alpine", "3.19.1", "v3.19"),
        ("alpine", "3.22.0_alpha20250108", "edge"),
        ("alpine", "3.10.2", "v3.10"),
        ("alpine", "edge", "edge"),
        ("alpine", "3.21_rc1", "v3.21"),
        ("wolfi", "20230201", ""),
        ("chainguard", "20230214", ""),
    ],
)
def test_the_branch_follows_from_os_release(identity: str, version: str, branch: str) -> None:
    assert branch_of(distro(id=identity, version_id=version)) == branch
