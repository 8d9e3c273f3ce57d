# SPDX-License-Identifier: Apache-2.0
"""Definitions of rpm repositories: what is read of them, and what is refused."""

from __future__ import annotations

import pytest

from copacetic.distro import Distro
from copacetic.errors import RepositoryError
from copacetic.repository.rpm.config import RpmConfig, base_architecture, read_config, release_variables
from copacetic.repository.rpm.inifile import expand, parse_ini
from copacetic.repository.rpm.installed import provided_releases
from copacetic.repository.rpm.sources import (
    RpmSource,
    parse_sources,
    read_credentials,
    read_sources,
    with_mirrors,
)
from support.image.trees import tree
from support.rpm.rpmfiles import Rpm
from support.rpm.rpmrepo import OS_RELEASE, installed_rpm

VARIABLES = {"releasever": "9", "basearch": "x86_64", "infra": "stock"}
WHERE = "etc/yum.repos.d/a.repo"


def parse(text: str, config: RpmConfig | None = None) -> list[RpmSource]:
    return parse_sources(text, WHERE, config or RpmConfig(), VARIABLES)[0]


def one(settings: str, config: RpmConfig | None = None) -> RpmSource:
    (source,) = parse(f"[a]\nbaseurl=https://r.example/a/\n{settings}", config)
    return source


def test_a_definition_says_where_its_packages_are_and_how_they_are_checked() -> None:
    source = one("gpgkey=file:///etc/pki/k1\n\tfile:///etc/pki/k2\npriority=10\ncost=50\nrepo_gpgcheck=1\n")

    assert (source.id, source.urls, source.defined_in) == ("a", ("https://r.example/a",), WHERE)
    assert source.keys == ("file:///etc/pki/k1", "file:///etc/pki/k2")
    assert (source.priority, source.cost, source.checks_packages, source.checks_metadata) == (10, 50, True, True)
    assert (source.named, source.optional, source.module_hotfixes) == (False, False, False)


def test_variables_are_filled_in_and_one_that_nobody_sets_is_an_error() -> None:
    (source,) = parse("[a]\nmirrorlist=http://m.example/?release=$releasever&arch=${basearch}&infra=$infra\n")

    assert source.mirrorlist == "http://m.example/?release=9&arch=x86_64&infra=stock"
    assert source.shown == "http://m.example/ (etc/yum.repos.d/a.repo [a])"
    with pytest.raises(RepositoryError, match=r"a\.repo \[a\]: nothing sets \$awsregion"):
        parse("[a]\nbaseurl=https://r.$awsregion.example/\n")
    assert parse("[a]\nenabled=0\nbaseurl=https://r.$awsregion.example/\n") == []


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$a-${a}", "1-1"),
        ("${b:-two}", "two"),
        ("${a:-two}", "1"),
        ("${a:+set}${b:+set}", "set"),
        ("$a$", "1$"),
    ],
)
def test_variables_have_every_spelling_of_dnf(text: str, expanded: str) -> None:
    assert expand(text, {"a": "1"}, "it") == expanded


def test_variables_come_from_the_release_and_from_files() -> None:
    fs = tree(
        {"etc/yum/vars/contentdir": "centos\n", "etc/dnf/vars/infra": "container\nmore\n", "etc/dnf/vars/bad": "a b"}
    )
    release = Rpm(
        name="x-release", version="9.3", provides=("system-release = 9.3-1", "system-release(releasever) = 9")
    )
    provided = provided_releases([installed_rpm(release)])

    found = release_variables(fs, Distro.parse(OS_RELEASE.encode()), "aarch64", provided)

    assert found == {
        "arch": "aarch64", "basearch": "aarch64", "releasever": "9", "releasever_major": "9", "contentdir": "centos",
        "infra": "container",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identity", "version", "release"),
    [("almalinux", "9.3", "9"), ("fedora", "42", "42"), ("amzn", "2023", "2023"), ("opensuse-leap", "15.6", "15.6")],
)
def test_without_a_package_that_gives_it_os_release_does(identity: str, version: str, release: str) -> None:
    distro = Distro.parse(f"ID={identity}\nVERSION_ID={version}\n".encode())

    assert release_variables(tree({}), distro, "x86_64", {})["releasever"] == release


def test_architectures_have_a_base() -> None:
    known = {"i686": "i386", "x86_64_v2": "x86_64", "armv7hl": "armhfp", "aarch64": "aarch64", "s390x": "s390x"}

    assert {name: base_architecture(name) for name in known} == known


def test_the_main_configuration_gives_what_a_definition_leaves_out() -> None:
    main = "[main]\ngpgcheck=0\nrepo_gpgcheck=1\nskip_if_unavailable=True\nexcludepkgs=kernel*, a\nexclude=b\n"
    fs = tree({"etc/dnf/dnf.conf": main, "etc/yum.conf": "[main]\nexclude=c\n", "etc/os-release": OS_RELEASE})

    config = read_config(fs)
    assert (config.path, config.platform) == ("etc/dnf/dnf.conf", "platform:el9")
    assert set(config.excludes) == {"kernel*", "a", "b"}
    source = one("", config)
    assert (source.checks_packages, source.checks_metadata, source.optional) == (False, True, True)
    assert one("gpgcheck=1\nskip_if_unavailable=0\n", config).checks_packages


def test_a_login_is_taken_out_of_an_address_and_given_for_that_one_alone() -> None:
    (source,) = parse("[a]\nbaseurl=https://me:pass@r.example/a\n  https://q.example/b\n")

    assert source.urls == ("https://r.example/a", "https://q.example/b")
    assert [(login.origin.host, login.path, login.secret) for login in source.logins] == [
        ("r.example", "/a", "me:pass")
    ]
    (login,) = one("username=me\npassword=pa:ss\n").logins
    assert (login.origin.host, login.path, login.secret) == ("r.example", "/a", "me:pa:ss")
    assert "pass" not in repr(source)


def test_zypper_s_own_spellings_are_understood() -> None:
    text = "[a]\nbaseurl=https://updates.example/x?credentials=SCC\npath=/sub/\nautorefresh=1\n"
    (source,), _ = parse_sources(text, "etc/zypp/repos.d/a.repo", RpmConfig(), {})

    assert source.urls == ("https://updates.example/x/sub",)
    assert source.metadata_suffices
    fs = tree({"etc/zypp/credentials.d/SCC": "# by SUSEConnect\nusername = me\npassword=word\n"})
    assert [login.secret for login in read_credentials(fs, [source])] == ["me:word"]


def test_an_image_s_files_are_read_in_their_order_and_the_first_of_a_name_counts() -> None:
    fs = tree(
        {
            "etc/yum.repos.d/b.repo": "[x]\nbaseurl=https://two.example\n[y]\nbaseurl=file:///local\n",
            "etc/yum.repos.d/a.repo": "[main]\n[x]\nbaseurl=https://one.example\n",
            "etc/yum.repos.d/c.repo.rpmnew": "[z]\nbaseurl=https://three.example\n",
            "etc/zypp/repos.d/z.repo": "[zypp]\nenabled=1\nbaseurl=https://four.example\n",
        }
    )

    sources, notes = read_sources(fs, RpmConfig(), {})

    assert [(source.id, source.urls) for source in sources] == [
        ("x", ("https://one.example",)),
        ("zypp", ("https://four.example",)),
    ]
    assert notes == [
        "etc/yum.repos.d/b.repo [y] has no address of http or https: it is not used",
        "etc/yum.repos.d/b.repo defines [x] once more: etc/yum.repos.d/a.repo counts",
    ]


def test_the_user_s_definition_may_be_an_address_alone() -> None:
    (source,), _ = parse_sources("https://r.example/os/$basearch/", "--repository", RpmConfig(), VARIABLES)

    assert (source.urls, source.checks_packages, source.keys) == (("https://r.example/os/x86_64",), True, ())


def test_mirrors_take_the_place_of_addresses_and_of_lists_of_them() -> None:
    sources = parse("[a]\nbaseurl=https://r.example/a\n[b]\nmirrorlist=https://m.example/list?x=1\n")

    one, two = with_mirrors(sources, [("https://r.example", "https://u:p@near.example/r")])
    assert (one.urls, one.named, one.logins[0].secret) == (("https://near.example/r/a",), True, "u:p")
    assert (two.mirrorlist, two.named) == ("https://m.example/list?x=1", False)
    (_, two) = with_mirrors(sources, [("https://m.example/list?x=1", "https://near.example/b")])
    assert (two.urls, two.mirrorlist, two.named) == (("https://near.example/b",), "", True)
    (_, two) = with_mirrors(sources, [("https://m.example", "https://near.example/b")])
    assert (two.urls, two.mirrorlist, two.named) == ((), "https://near.example/b/list?x=1", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("baseurl=https://a\n", r"a\.repo:1: not a section and not a setting: 'baseurl"),
        ("[a]\nwords\n", r"a\.repo:2: not a section and not a setting: 'words'"),
        (
            "[a]\nbaseurl=https://a.example/x?token=1\n",
            r"a\.repo \[a\]: not a repository's address: 'https://a.example/x",
        ),
        ("[a]\nbaseurl=https://a.example\\c\n", "not a repository's address"),
        ("[a]\nmirrorlist=https://u:p@a.example/?x\n", "not the address of a list of mirrors"),
        ("[" + "a" * 300 + "]\n", "not a section"),
        ("[a]\n" + "".join(f"k{number}=1\n" for number in range(300)), "more than 1000 sections, or 200 settings"),
    ],
)
def test_broken_definitions_are_named_with_their_place(text: str, words: str) -> None:
    with pytest.raises(RepositoryError, match=words) as caught:
        parse(text)
    assert "token" not in str(caught.value)


def test_lines_are_joined_and_comments_left_out() -> None:
    text = "# c\n[a]\nx = 1\n  2\n; c\n# d\n\t3\ny: 4\r\n[b]\n"

    assert parse_ini(text, "it") == {"a": {"x": "1\n2\n3", "y": "4"}, "b": {}}
