# SPDX-License-Identifier: Apache-2.0
"""What is read of rpm-md: repomd, primary, mirrors, advisories, modules; honest, odd and hostile."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from copacetic.errors import CopaError, RepositoryError
from copacetic.repository.rpm.mirrors import parse_mirrors
from copacetic.repository.rpm.modules import Modularity, ModuleDocument, parse_modules, read_states
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.patterns import RpmPatterns
from copacetic.repository.rpm.primary import (
    NAMED,
    OBSOLETING,
    PROVIDING,
    PrimaryIndexer,
    PrimaryTable,
    Terms,
    find_rows,
    parse_package,
)
from copacetic.repository.rpm.repomd import join_location, parse_repomd
from copacetic.repository.rpm.updateinfo import Advisory, AdvisoryReader, severities_of
from copacetic.repository.rpm.xmlreader import MAX_TEXT, XmlError, XmlReader
from support.image.trees import tree
from support.rpm.rpmfiles import Rpm
from support.rpm.rpmrepo import package_xml

TERMS = Terms(repository="r", priority=1, cost=2)
DIGEST = "a" * 64
PRIMARY = f'<data type="primary"><checksum type="sha256">{DIGEST}</checksum><location href="repodata/p.xml"/></data>'


def repomd(inner: str) -> bytes:
    return f'<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo">{inner}</repomd>'.encode()


# -- XML -------------------------------------------------------------------------------------------------------------


def parse_xml(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    reader = XmlReader(end=lambda path, content: found.append((path, content)))
    reader.feed(text.encode(), last=True)
    return found


def test_paths_have_no_prefixes_and_texts_no_entities() -> None:
    assert parse_xml("<m xmlns:r='x'><r:a>1 &lt; 2</r:a><b/></m>") == [("/m/a", "1 < 2"), ("/m/b", ""), ("/m", "")]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE m [<!ENTITY a "aaaa">]><m>&a;</m>',
        '<!DOCTYPE m SYSTEM "http://169.254.169.254/x"><m/>',
        '<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]><m>&a;</m>',
        "<m>&a;</m>",
        "<a>" * 100,
        "<m>" + "a" * (MAX_TEXT + 1) + "</m>",
        "<m><n></m></n>",
        "",
        "\0",
    ],
)
def test_what_needs_a_document_type_or_has_no_end_is_refused(text: str) -> None:
    with pytest.raises(XmlError):
        parse_xml(text)


# -- repomd.xml ------------------------------------------------------------------------------------------------------


def test_a_repomd_lists_files_by_size_and_digest() -> None:
    inner = (
        f"<revision>55</revision>{PRIMARY}"
        f'<data type="updateinfo"><checksum type="sha512">{"b" * 128}</checksum><location href="u.xml.zst"/>'
        "<timestamp>1700000000.5</timestamp><size>12</size><open-size>30</open-size></data>"
    )
    found = parse_repomd(repomd(inner), "it")

    assert found.date == datetime.fromtimestamp(1_700_000_000, UTC)
    assert (found.files["primary"].checksum, found.files["primary"].size) == (("sha256", DIGEST), None)
    listed = found.files["updateinfo"]
    assert (listed.location, listed.size, listed.open_size) == ("u.xml.zst", 12, 30)


@pytest.mark.parametrize(
    "inner",
    [
        "",
        PRIMARY.replace("sha256", "md5"),
        PRIMARY.replace(DIGEST, DIGEST[:-1]),
        PRIMARY.replace("repodata/p.xml", "../p.xml"),
        PRIMARY.replace("repodata/p.xml", "/p.xml"),
        PRIMARY.replace("repodata/p.xml", "http://169.254.169.254/p.xml"),
        PRIMARY.replace("<location ", '<location xml:base="http://169.254.169.254/" '),
    ],
)
def test_one_whose_primary_nothing_proves_or_that_leads_elsewhere_is_refused(inner: str) -> None:
    with pytest.raises(RepositoryError, match=r"it: repomd\.xml lists no primary metadata with a digest"):
        parse_repomd(repomd(inner), "it")


def test_one_that_is_none_is_refused() -> None:
    with pytest.raises(RepositoryError, match=r"it: repomd\.xml can't be read"):
        parse_repomd(b"<html><p>moved</html>", "it")


@pytest.mark.parametrize(
    ("url", "location", "joined"),
    [
        ("https://a.example/r", "Packages/a+b~1.rpm", "https://a.example/r/Packages/a%2Bb~1.rpm"),
        ("https://a.example/x/y/", "../../blobstore/1/a.rpm", "https://a.example/blobstore/1/a.rpm"),
        ("https://a.example", "../../../a.rpm", "https://a.example/a.rpm"),
        ("https://a.example:8443/x", "./b//c", "https://a.example:8443/x/b/c"),
    ],
)
def test_packages_may_lie_beside_their_repository_and_on_no_other_host(url: str, location: str, joined: str) -> None:
    assert join_location(url, location) == joined


# -- mirrors ---------------------------------------------------------------------------------------------------------

METALINK = """<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
<files><file name="repomd.xml"><mm0:timestamp>1</mm0:timestamp><size>3</size>
<verification><hash type="md5">{md5}</hash><hash type="sha256">{new}</hash></verification>
<mm0:alternates><mm0:alternate><verification><hash type="sha256">{old}</hash></verification></mm0:alternate></mm0:alternates>
<resources maxconnections="1">
<url protocol="rsync" preference="100">rsync://r.example/repodata/repomd.xml</url>
<url protocol="http" preference="90">http://two.example/a/repodata/repomd.xml</url>
<url protocol="https" preference="99">https://one.example/a/repodata/repomd.xml</url>
<url protocol="https" preference="98">https://user:word@three.example/repodata/repomd.xml</url>
</resources></file></files></metalink>"""


def test_a_metalink_gives_mirrors_by_preference_and_what_a_repomd_may_be() -> None:
    text = METALINK.format(md5="c" * 32, new="a" * 64, old="b" * 64)

    found = parse_mirrors(text.encode(), "it", {})

    assert found.urls == ("https://one.example/a", "http://two.example/a")
    assert found.checksums == (("sha256", "a" * 64), ("sha256", "b" * 64))


def test_a_list_gives_them_in_its_order_with_variables() -> None:
    text = (
        b"# c\n\nhttps://one.example/$basearch/\nftp://x.example/\nhttps://a:b@y.example/\nhttp://two.example/\n/etc\n"
    )

    found = parse_mirrors(text, "it", {"basearch": "x86_64"})

    assert (found.urls, found.checksums) == (("https://one.example/x86_64", "http://two.example"), ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Invalid release/repo/arch combination\n",
        METALINK.format(md5="c" * 32, new="x", old="x"),
        METALINK.format(md5="", new="a" * 64, old="").replace('name="repomd.xml"', 'name="other"'),
        METALINK.format(md5="", new="a" * 64, old="").replace("</metalink>", ""),
    ],
)
def test_what_lists_nothing_or_proves_nothing_is_refused(text: str) -> None:
    with pytest.raises(RepositoryError, match="^it "):
        parse_mirrors(text.encode(), "it", {})


# -- primary ---------------------------------------------------------------------------------------------------------


def index(text: bytes, size: int = 1 << 20) -> PrimaryTable:
    indexer = PrimaryIndexer()
    for at in range(0, len(text), size):
        indexer.feed(text[at : at + size])
    return indexer.finish()


def rows(table: PrimaryTable, text: bytes, kind: bytes, name: str) -> list[str]:
    found = [parse_package(text[start:end], TERMS, "it") for _, start, end in find_rows(table, kind, name)]
    return [offer.nevra for offer in found]


RICH = Rpm(
    name="rich", version="2~rc1", release="3^x", epoch=1,
    provides=("libx.so.1()(64bit)", "old = 1", "a&b<c>"), obsoletes=("old < 2",), conflicts=("bad >= 1:2-3",),
    requires=("dep >= 0:1.5", "/bin/sh", "(a if b)"), files=("/etc/rich & famous", "/usr/bin/rich", "/usr/share/x"),
    source="src-name-1-2.src.rpm",
)  # fmt: skip


def document(*rpms: Rpm) -> bytes:
    return b"<metadata>" + "".join(package_xml(rpm, b"data") for rpm in rpms).encode() + b"</metadata>"


def test_a_package_s_text_says_all_that_resolving_needs() -> None:
    text = package_xml(RICH, b"data").encode()

    offer = parse_package(text, TERMS, "it")

    assert (offer.nevra, offer.priority, offer.cost, offer.repository) == ("rich-1:2~rc1-3^x.x86_64", 1, 2, "r")
    assert [str(one) for one in offer.provides] == [
        "rich = 1:2~rc1-3^x", "libx.so.1()(64bit)", "old = 1", "a&b<c>",
    ]  # fmt: skip
    assert [str(one) for one in offer.requires] == ["dep >= 1.5", "/bin/sh", "(a if b)"]
    assert [str(one) for one in offer.obsoletes] == ["old < 2"]
    assert [str(one) for one in offer.conflicts] == ["bad >= 1:2-3"]
    assert offer.files == {"/etc/rich & famous", "/usr/bin/rich"}
    assert offer.checksum is not None
    assert (offer.checksum.hex, offer.size) == (hashlib.sha256(b"data").hexdigest(), 4)
    assert (offer.source, offer.vendor) == ("src-name-1-2.src.rpm", "Tests")


@pytest.mark.parametrize("size", [1 << 20, 1000, 7])
def test_packages_are_found_by_what_they_are_provide_and_obsolete(size: int) -> None:
    simple = Rpm(name="rich", version="0")
    text = document(simple, RICH, Rpm(name="other", provides=("rich",)))
    table = index(text, size)

    assert rows(table, text, NAMED, "rich") == ["rich-0-1.x86_64", "rich-1:2~rc1-3^x.x86_64"]
    assert rows(table, text, PROVIDING, "rich") == ["other-1-1.x86_64"]
    for name in ("libx.so.1()(64bit)", "/etc/rich & famous", "/usr/bin/rich"):
        assert rows(table, text, PROVIDING, name) == ["rich-1:2~rc1-3^x.x86_64"]
    assert rows(table, text, OBSOLETING, "old") == ["rich-1:2~rc1-3^x.x86_64"]
    assert rows(table, text, NAMED, "absent") == rows(table, text, OBSOLETING, "rich") == []


@pytest.mark.parametrize("prefix", ["", "md:"])
def test_prefixes_and_quotes_are_whatever_a_repository_likes(prefix: str) -> None:
    text = document(RICH).replace(b"rpm:", prefix.encode()).replace(b'entry name="old"', b"entry  name='old'")
    table = index(text)

    assert rows(table, text, PROVIDING, "old") == rows(table, text, OBSOLETING, "old") == ["rich-1:2~rc1-3^x.x86_64"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<name>rich</name>", "<name>../../x</name>", r"offers '\.\./\.\./x'"),
        ("<arch>x86_64</arch>", "<arch>x 86</arch>", "offers 'rich' for 'x 86'"),
        ('ver="2~rc1" rel="3^x"', 'ver="2 1" rel="3"', "with the version"),
        ('epoch="1"', 'epoch="-1"', "with the version"),
        ('href="Packages/', 'href="/', "has the location"),
        ('href="Packages/', 'href="%2e%2e/', "has the location"),
        ('href="Packages/', 'xml:base="file:///etc/" href="', "has the location"),
        ('href="Packages/', 'xml:base="https://a:b@c.example/" href="', "has the location"),
        ('href="Packages/', 'href="http://169.254.169.254/', "has the location"),
        ('<checksum type="sha256"', '<checksum type="crc"', "has no usable digest and size"),
        ('package="4"', 'package=""', "has no usable digest and size"),
        ("<description>", "<description>&unknown;", "can't be read"),
        ('flags="LT"', 'flags="LT" epoch="x"', "can't be read"),
    ],
)
def test_a_row_that_can_t_be_used_is_named(old: str, new: str, words: str) -> None:
    text = package_xml(RICH, b"data")
    assert old in text

    with pytest.raises(RepositoryError, match=words):
        parse_package(text.replace(old, new).encode(), TERMS, "it")


def test_a_package_without_an_end_doesn_t_fill_the_memory() -> None:
    indexer = PrimaryIndexer()
    with pytest.raises(XmlError, match="a package of more than"):
        for _ in range(20):
            indexer.feed(b"<package>" + b"x" * (1 << 20))


def test_names_that_share_a_sum_are_told_apart_by_what_is_there() -> None:
    table = PrimaryTable(index(document(RICH)).spans, (0).to_bytes(8, "little"))

    assert list(find_rows(table, NAMED, "rich")) == []


def test_hostile_primaries_end_in_errors_or_rows_that_are_left_out() -> None:
    chosen = random.Random(11)
    good = document(RICH, Rpm(name="b"), Rpm(name="c"))
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chosen.randint(1, 6)):
            at = chosen.randrange(len(data))
            piece = chosen.choice(
                [b"<", b">", b"&", b"\0", b"</package>", b"<package>", b'"', b"<!--", b"<![CDATA[", b"\xff"]
            )
            data[at : at + chosen.randint(0, 3)] = piece
        text = bytes(data)
        table = index(text)
        for name in ("rich", "b", "old"):
            for kind in (NAMED, PROVIDING, OBSOLETING):
                for _, start, end in find_rows(table, kind, name):
                    try:
                        assert isinstance(parse_package(text[start:end], TERMS, "it"), RpmOffer)
                    except CopaError:
                        continue


# -- updateinfo ------------------------------------------------------------------------------------------------------


def advisories(inner: str) -> list[Advisory]:
    reader = AdvisoryReader()
    xml = XmlReader(reader.start, reader.end)
    xml.feed(f"<updates>{inner}</updates>".encode(), last=True)
    return reader.found


def update(identity: str, severity: str, cve: str, package: Mapping[str, str]) -> str:
    attributes = "".join(f' {key}="{value}"' for key, value in package.items())
    return (
        f'<update type="security"><id>{identity}</id><severity>{severity}</severity><references>'
        f'<reference id="{cve}" type="cve"/><reference title="bug 1"/></references>'
        f"<pkglist><collection><package{attributes}/></collection></pkglist></update>"
    )


PACKAGE = {"name": "a", "epoch": "0", "version": "1", "release": "2", "arch": "x86_64"}


def test_advisories_say_what_they_close_and_how_bad_it_is() -> None:
    text = update("RHSA-2026:0001", "Important", "CVE-2026-0001", PACKAGE)
    text += update("RHSA-2026:0002", "low", "CVE-2026-0001 CVE-2026-0003", {**PACKAGE, "epoch": "3"})
    text += update("bad id!", "low", "CVE-1", PACKAGE) + update("RHSA-3", "None", "", {**PACKAGE, "name": "../x"})

    found = advisories(text)

    assert found == [
        Advisory("RHSA-2026:0001", "security", "HIGH", ("CVE-2026-0001",), (("a", "1-2", "x86_64"),)),
        Advisory("RHSA-2026:0002", "security", "LOW", ("CVE-2026-0001",), (("a", "3:1-2", "x86_64"),)),
    ]
    assert severities_of(found) == {"RHSA-2026:0001": "HIGH", "RHSA-2026:0002": "LOW", "CVE-2026-0001": "HIGH"}


# -- modules ---------------------------------------------------------------------------------------------------------

MODULES = """---
document: modulemd-defaults
version: 1
data:
  module: node
  stream: "18"
...
---
document: modulemd
version: 2
data:
  name: node
  stream: "18"
  description: >-
    document: modulemd
      name: evil
  dependencies:
  - buildrequires:
      platform: [el8]
    requires:
      platform: [el9]
      ninja: []
  artifacts:
    rpms:
    - node-1:18.1-1.module.x86_64
    - 'node-libs-0:18.1-1.module.x86_64'
...
---
document: modulemd
data:
    name: node
    stream: 20
    dependencies:
    -   requires:
            platform:
            - el9
    artifacts:
        rpms:
        - node-1:20.1-1.module.x86_64
"""


def test_modules_are_read_in_every_indentation() -> None:
    assert parse_modules(MODULES, "it") == (
        ModuleDocument("node", "18", is_default=True),
        ModuleDocument(
            "node", "18", ("node-1:18.1-1.module.x86_64", "node-libs-0:18.1-1.module.x86_64"),
            (("platform", ("el9",)), ("ninja", ())),
        ),
        ModuleDocument("node", "20", ("node-1:20.1-1.module.x86_64",), (("platform", ("el9",)),)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"), [("  name: node\n", "  nme: node\n"), ('stream: "18"\n  desc', 'stream: "../18"\n  desc'), ("- node-1:18.1-1.module.x86_64", "- {a: b}")]
)  # fmt: skip
def test_a_module_that_isn_t_understood_is_refused_rather_than_shown(old: str, new: str) -> None:
    assert old in MODULES
    with pytest.raises(RepositoryError, match="^it: "):
        parse_modules(MODULES.replace(old, new), "it")


def hidden(states: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    modularity = Modularity(parse_modules(MODULES, "it"), states, labels, "platform:el9")
    packages = {"18": "node-1:18.1-1.module.x86_64", "20": "node-1:20.1-1.module.x86_64", "none": "node-0:9-1.x86_64"}
    return {key: modularity.hides("node", nevra, hotfix=False) for key, nevra in packages.items()}


def visible(states: Mapping[str, str], labels: Mapping[str, str]) -> set[str]:
    return {key for key, reason in hidden(states, labels).items() if not reason}


def test_only_the_stream_in_use_can_be_seen() -> None:
    assert visible({}, {}) == {"18"}  # the default
    assert visible({"node": "20"}, {}) == {"20"}
    assert visible({"node": ""}, {}) == {"none"}
    assert visible({}, {"node": "node:20"}) == {"20"}  # what is installed, though nobody has enabled it
    assert visible({}, {"node": ""}) == {"none"}  # what is of no module stays so
    assert hidden({"node": "20"}, {})["18"] == "module streams: it is of node:18, and node:20 is in use"


def test_a_hotfix_repository_goes_beside_streams() -> None:
    modularity = Modularity(parse_modules(MODULES, "it"), {}, {}, "platform:el9")

    assert modularity.hides("node", "node-0:9-1.x86_64", hotfix=True) == ""
    assert modularity.stream_of("node-1:18.1-1.module.x86_64") == "node:18"


def test_a_build_for_another_platform_can_t_be_seen() -> None:
    modularity = Modularity(parse_modules(MODULES, "it"), {}, {}, "platform:el8")

    assert modularity.hides("node", "node-1:18.1-1.module.x86_64", hotfix=False)


def test_states_are_what_dnf_writes() -> None:
    fs = tree(
        {
            "etc/dnf/modules.d/node.module": "[node]\nname=node\nstream=20\nprofiles=\nstate=enabled\n",
            "etc/dnf/modules.d/perl.module": "[perl]\nname=perl\nstream=\nprofiles=\nstate=disabled\n",
            "etc/dnf/modules.d/php.module": "[php]\nname=php\nstream=8\nprofiles=\nstate=\n",
        }
    )

    assert read_states(fs) == {"node": "20", "perl": ""}


# -- what costs ------------------------------------------------------------------------------------------------------


def test_patterns_without_end_are_refused_and_names_are_not() -> None:
    assert RpmPatterns([f"name{number}" for number in range(10_000)], "it").find(["name77"]) == "name77"
    with pytest.raises(RepositoryError, match="^it has more than 200 patterns"):
        RpmPatterns([f"name{number}*" for number in range(201)], "it")


def test_a_name_that_everything_provides_is_an_error_and_no_work() -> None:
    text = document(*(Rpm(name=f"n{number}", provides=("all",)) for number in range(1_001)))
    table = index(text)

    assert len(list(find_rows(table, NAMED, "n7"))) == 1
    with pytest.raises(RepositoryError, match="more than 1000 packages are offered for 'all'"):
        list(find_rows(table, PROVIDING, "all"))
