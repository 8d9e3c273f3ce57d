# SPDX-License-Identifier: Apache-2.0
"""What reads rpm repositories, their definitions, and signatures, with honest inputs to begin with."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from copacetic.errors import RepositoryError, SignatureError, blame_input
from copacetic.repository.rpm.config import RpmConfig
from copacetic.repository.rpm.locks import read_locks
from copacetic.repository.rpm.mirrors import parse_mirrors
from copacetic.repository.rpm.modules import Modularity, parse_modules
from copacetic.repository.rpm.primary import (
    NAMED,
    OBSOLETING,
    PROVIDING,
    PrimaryIndexer,
    Terms,
    find_rows,
    parse_package,
)
from copacetic.repository.rpm.repomd import join_location, parse_repomd
from copacetic.repository.rpm.sources import parse_sources, with_mirrors
from copacetic.repository.rpm.updateinfo import AdvisoryReader, severities_of
from copacetic.repository.rpm.xmlreader import XmlReader
from copacetic.rpm.openpgp import OpenPgpError, dearmor, read_keys, read_signatures
from support.hostile import mutations
from support.image.memoryfs import MemoryFilesystem
from support.rpm.rpmfiles import Rpm
from support.rpm.rpmrepo import package_xml
from support.rpm.rpmsigners import RsaSigner, claim, rsa_key

__all__ = ["RPM_COSTS", "RPM_DATA", "RPM_PARSERS", "change_xml"]

_VARIABLES = {"releasever": "9", "basearch": "x86_64"}
_SHA256 = "a" * 64
_RPM = Rpm(
    name="foo", version="1.0~rc1", release="2^x", epoch=1, provides=("libfoo.so.1()(64bit)", "virtual = 1:2-3"),
    requires=("bar >= 1.0", "/bin/sh", "(a if b)", "rpmlib(X) <= 4-1"), conflicts=("baz < 2",), obsoletes=("old <= 1",),
    files=("/etc/foo & bar", "/usr/bin/foo"),
)  # fmt: skip


def _repomd(data: bytes) -> None:
    for file in parse_repomd(data, "it").files.values():
        join_location("https://e.example/r", file.location)


def _primary(data: bytes) -> None:
    indexer = PrimaryIndexer()
    with blame_input(RepositoryError, "it"):
        indexer.feed(data)
    table, terms = indexer.finish(), Terms(repository="r", priority=1, cost=1)
    fine = odd = 0
    for kind in (NAMED, PROVIDING, OBSOLETING):
        for name in ("foo", "other", "old", "virtual", "/usr/bin/foo"):
            for _, start, end in find_rows(table, kind, name):
                try:
                    parse_package(data[start:end], terms, "it")
                    fine += 1
                except RepositoryError as error:
                    odd += 1
                    last = error
    if odd and not fine:
        raise last


def _updateinfo(data: bytes) -> None:
    reader = AdvisoryReader()
    with blame_input(RepositoryError, "it"):
        XmlReader(reader.start, reader.end).feed(data, last=True)
    severities_of(reader.found)


def _modules(data: bytes) -> None:
    documents = parse_modules(data.decode("utf-8", "replace"), "it")
    modularity = Modularity(documents, {"node": "18"}, {"node": "node:18"}, "platform:el9")
    modularity.hides("node", "node-1:18.1-1.x86_64", hotfix=False)


def _definition(data: bytes) -> None:
    sources, _ = parse_sources(data.decode("utf-8", "replace"), "etc/yum.repos.d/a.repo", RpmConfig(), _VARIABLES)
    with_mirrors(sources, (("https://e.example", "https://m.example"),))


def _mirrors(data: bytes) -> None:
    parse_mirrors(data, "it", _VARIABLES)


def _locks(path: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        read_locks(MemoryFilesystem({path: data}))

    return read


def _openpgp(data: bytes) -> None:
    try:
        packets = dearmor(data)
        read_keys(packets)
        read_signatures(packets)
    except OpenPgpError as error:
        raise SignatureError(str(error)) from error


RPM_PARSERS: dict[str, Callable[[bytes], None]] = {
    "repomd": _repomd,
    "primary": _primary,
    "updateinfo": _updateinfo,
    "modules": _modules,
    "rpm mirrors": _mirrors,
    "rpm definition": _definition,
    "versionlock.list": _locks("etc/dnf/plugins/versionlock.list"),
    "versionlock.toml": _locks("etc/dnf/versionlock.toml"),
    "zypper locks": _locks("etc/zypp/locks"),
    "openpgp": _openpgp,
}

_SIGNER = RsaSigner(rsa_key(), version=4, claims=claim(0x13))
_FILE = f'<checksum type="sha256">{_SHA256}</checksum><size>12</size><timestamp>1700000000</timestamp>'
RPM_DATA: dict[str, tuple[bytes, ...]] = {
    "repomd": (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<repomd xmlns="x"><revision>5</revision>'
        + b"".join(
            f'<data type="{kind}">{_FILE}<location href="repodata/{kind}.xml.gz"/></data>\n'.encode()
            for kind in ("primary", "updateinfo", "modules")
        )
        + b"</repomd>",
    ),
    "primary": (
        b"<metadata>" + b"".join(package_xml(one, b"x").encode() for one in (_RPM, Rpm(name="other"))) + b"</metadata>",
    ),
    "updateinfo": (
        (
            b'<updates><update type="security"><id>A-1</id><severity>Low</severity><references><reference id="CVE-2026-0001"/>'
            b'</references><pkglist><collection><package name="a" epoch="0" version="1" release="2" arch="x86_64"/></collection>'
            b"</pkglist></update></updates>"
        ),
    ),
    "modules": (
        (
            b'---\ndocument: modulemd\ndata:\n  name: node\n  stream: "18"\n  description: >-\n    text\n  dependencies:\n'
            b"  - requires:\n      platform: [el9]\n  artifacts:\n    rpms:\n    - node-1:18.1-1.x86_64\n...\n---\n"
            b"document: modulemd-defaults\ndata:\n  module: node\n  stream: 18\n"
        ),
    ),
    "rpm mirrors": (
        b"# c\nhttps://one.example/$basearch/\nhttp://two.example\n",
        f'<metalink><files><file name="repomd.xml"><verification><hash type="sha256">{_SHA256}</hash></verification>'
        '<resources><url preference="9">https://a.example/repodata/repomd.xml</url></resources></file></files></metalink>'.encode(),
    ),
    "rpm definition": (
        (
            b"[a]\nname=x\nbaseurl=https://u:p@e.example/$releasever/${basearch}/\n  https://f.example/?credentials=SCC\n"
            b"gpgkey=file:///etc/k\nexclude=a* b\npriority=5\n# c\n[b]\nenabled=0\nmirrorlist=https://m.example/?a=${x:-y}\n"
        ),
    ),
    "versionlock.list": (b"# c\nfoo-1:1-1.*\n!bar-0:2-1.x86_64\n0:baz-1-1.*\n",),
    "versionlock.toml": (
        b'version="1.0"\n[[packages]]\nname="a"\n[[packages.conditions]]\nkey="evr"\ncomparator="<"\nvalue="0:2"\n',
    ),
    "zypper locks": (b"\ntype: package\nmatch_type: glob\nsolvable_name: a\n\ntype: pattern\nsolvable_name: b\n",),
    "openpgp": (dearmor(_SIGNER.public) + _SIGNER.sign(b"x"), RsaSigner(rsa_key()).sign(b"x")),
}


def change_xml(random: Random, data: bytes) -> bytes:
    """Change a document by its tags, attributes and texts."""
    pieces = re.split(rb"(<[^<>]*>|\"[^\"]*\")", data)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(pieces))
        pieces[at] = random.choice((random.choice(_MARKUP), random.choice(pieces), pieces[at] * 2, b"", pieces[at][1:]))
    if random.random() < 0.1:
        return mutations.change_bytes(random, b"".join(pieces))
    return b"".join(pieces)


_MARKUP = [
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"&#0;", b"&#x41;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x ?>", b"<a>" * 50,
    b"</package>", b"<package>", b'"../x"', b'"http://169.254.169.254/"', b'"-1"', b'"' + b"9" * 40 + b'"', b'""', b"\xff", b"\0",
]  # fmt: skip

_ROW = b"<package><name>foo</name><arch>a</arch></package>"
RPM_COSTS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "primary: very many packages of one name": ("primary", lambda size: _ROW * (size * 100_000)),
    "primary: very many names of one package": (
        "primary",
        lambda size: (
            b"<package><name>foo</name><format><rpm:provides>"
            + b"".join(b'<rpm:entry name="x%d"/>' % number for number in range(size * 100_000))
            + b"</rpm:provides></format></package>"
        ),
    ),
    "primary: deep": (
        "primary",
        lambda size: b"<package><name>foo</name>" + b"<a>" * (size * 1_000_000) + b"</package>",
    ),
    "primary: entries in the lists of one package": (
        "primary",
        lambda size: (
            b"<package><name>foo</name><format><rpm:requires>"
            + b'<rpm:entry name="(a if b)" flags="EQ" ver="1"/>' * (size * 20_000)
            + b"</rpm:requires></format></package>"
        ),
    ),
    "updateinfo: very many advisories": (
        "updateinfo",
        lambda size: (
            b"<updates>"
            + b'<update><id>A-1</id><pkglist><collection><package name="a" version="1" release="2" arch="x"/></collection>'
            b"</pkglist></update>" * (size * 50_000) + b"</updates>"
        ),
    ),
    "updateinfo: one attribute without an end": (
        "updateinfo",
        lambda size: b'<updates a="' + b"x" * (size * 10_000_000),
    ),
    "modules: deeper and deeper": (
        "modules",
        lambda size: b"---\n" + b"".join(b" " * number + b"a:\n" for number in range(int(size**0.5 * 2_000))),
    ),
    "modules: very many": ("modules", lambda size: b"---\ndocument: x\n" * (size * 100_000)),
    "repomd: very many files": (
        "repomd",
        lambda size: b"<repomd>" + b'<data type="x"/>' * (size * 100_000) + b"</repomd>",
    ),
    "rpm mirrors: very many": ("rpm mirrors", lambda size: b"https://a.example/x\n" * (size * 100_000)),
    "rpm definition: very many sections": ("rpm definition", lambda size: b"[a]\nb=c\n" * (size * 100_000)),
    "rpm definition: variables": (
        "rpm definition",
        lambda size: b"[a]\nbaseurl=https://" + b"$basearch" * (size * 100_000),
    ),
    "versionlock.list: very many": ("versionlock.list", lambda size: b"a*-0:1-1.*\n" * (size * 50_000)),
    "openpgp: very many packets": ("openpgp", lambda size: b"\xc2\x00" * (size * 1_000_000)),
    "openpgp: armor without an end": ("openpgp", lambda size: b"-----BEGIN PGP X-----\n" * (size * 100_000)),
}
"""What is small and costs a lot, by the parser that it is for."""
