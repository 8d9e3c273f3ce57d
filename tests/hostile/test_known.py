# SPDX-License-Identifier: Apache-2.0
"""Inputs that once ended in a traceback, or in none at all: each kind once, and its answer."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from copacetic.errors import CopaError, InventoryError, PackageError, PlanFileError, ReportError, RepositoryError
from copacetic.pipeline.plan.document import write_plans
from copacetic.updates import PlannedUpdate
from support.hostile.parsers import PARSERS, STATUS
from support.value.plandocuments import section_of
from support.value.values import candidate, installed, plan


def plan_with(**changes: object) -> bytes:
    update = PlannedUpdate(installed=installed("foo", "1.0-1"), candidate=candidate("foo", "2.0-1"))
    document = json.loads(write_plans([plan(update)]))
    section_of(document["plans"][0])["updates"][0].update(changes)
    return json.dumps(document).encode()


def report(**changes: object) -> bytes:
    row = {"VulnerabilityID": "CVE-1", "PkgName": "foo", "InstalledVersion": "1", "FixedVersion": "2", **changes}
    result = {"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [row]}
    return json.dumps({"SchemaVersion": 2, "Results": [result]}).encode()


def release(**fields: str) -> bytes:
    values = {"Suite": "stable", **fields, "SHA256": f"\n {'0' * 64} 1 main/binary-amd64/Packages"}
    return "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in values.items()).encode()


def packages(**fields: str) -> bytes:
    row = {"Package": "foo", "Version": "1", "Architecture": "all", "Size": "1", "SHA256": "0" * 64, "Filename": "a"}
    return "".join(f"{name}: {value}\n" for name, value in {**row, **fields}.items()).encode()


REFUSED: list[tuple[str, bytes, type[CopaError], str]] = [
    ("plan", b'{"schemaVersion":1,"kind":"copacetic.plan\xd9","plans":[]}', PlanFileError, "is not a plan"),
    ("plan", b"[" * 100_000, PlanFileError, "is not a plan"),
    ("plan", plan_with(url="http://[x/"), PlanFileError, "no usable address"),
    ("plan", plan_with(url="http://a:99999/"), PlanFileError, "no usable address"),
    ("plan", plan_with(url="http://a\0b/"), PlanFileError, "no usable address"),
    ("plan", plan_with(url="http:///foo.deb"), PlanFileError, "no usable address"),
    ("plan", plan_with(size=-1), PlanFileError, "no usable size"),
    ("plan", plan_with(size=10**18), PlanFileError, "no usable size"),
    ("plan", plan_with(size=10**40), PlanFileError, "no usable size"),
    ("report", b'{"SchemaVersion": [2], "Results": []}', ReportError, "schema version"),
    ("report", b'{"SchemaVersion": {}, "Results": []}', ReportError, "schema version"),
    ("report", b'{"SchemaVersion": 2, "x": "\xff"}', ReportError, "is not JSON"),
    ("report", gzip.compress(b"[" + b"[],[]," * 1_000_000 + b"[]]", 1), ReportError, "more than 2500000 values"),
    ("sources.list", b"deb http://[x/ s main", RepositoryError, r"sources\.list:1: not a repository's address"),
    ("sources.list", b"deb http://a:port/ s main", RepositoryError, r"sources\.list:1: not a repository's address"),
    (
        "debian.sources",
        b"Types: deb\nURIs: http://[\nSuites: s\nComponents: c\n",
        RepositoryError,
        "not a repository's address",
    ),
    ("apk repositories", b"http://[x/main", RepositoryError, "not a repository's address"),
    ("apk repositories", b"http://e.example:x/main", RepositoryError, "not a repository's address"),
    ("status", STATUS.replace(b"/etc/foo 0123456789abcdef", b"obsolete\n /etc/foo 0"), InventoryError, "'obsolete'"),
    ("installed", b"".join(b"P:p%d\nV:1\n\n" % n for n in range(30_001)), InventoryError, "more than 30000 packages"),
    (
        "manifest.wall",
        b'{"kind":"package","name":"a","version":"1","arch":"all","size":' + b"9" * 5_000 + b"}\n",
        InventoryError,
        "line 2: a number",
    ),
    ("Packages", packages(Size="\u0663"), RepositoryError, "no usable SHA256 and Size"),
    ("Packages", packages(Size="+10"), RepositoryError, "no usable SHA256 and Size"),
    ("Packages", packages(Size="1_0"), RepositoryError, "no usable SHA256 and Size"),
    ("Packages", packages(Size="9" * 30), RepositoryError, "no usable SHA256 and Size"),
    ("Packages", packages(Size="9" * 5000), RepositoryError, "no usable SHA256 and Size"),
    ("deb", b"!<arch>\n" + b"debian-binary   " + b"0" * 32 + b"-1        `\n", PackageError, "broken ar header"),
]
"""Parser, input, error and what it says."""


@pytest.mark.parametrize(("parser", "data", "kind", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_nobody_has_thought_of_is_an_error_about_the_input(
    parser: str, data: bytes, kind: type[CopaError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        PARSERS[parser](data)
    assert "\n" not in str(caught.value)


ACCEPTED = [
    ("report", report(Severity=["HIGH"])),
    ("report", report(PkgIdentifier={"PURL": "pkg://["})),
    ("report", report(FixedVersion=["2"])),
    ("Release", release(Date="Mon, 01 Jan 2024 00:00:00 +99999999999999")),
    ("Release", release(Date="Mon, 99 Foo 2024 99:99:99 UTC")),
    ("Release", release(Valid_Until="()")),
    ("preferences", b"Package: /a{99999999999}/\nPin: release a=stable\nPin-Priority: 900\n"),
    ("Packages", packages(Package="foo", Provides="virtual, a (")),
    ("Packages", b"Package: a 1 2\n\nPackage: a\x00b\n\n" + packages()),
]
"""What is passed over: one row says nothing against the others, and no date is no promise."""


@pytest.mark.parametrize(("parser", "data"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_what_only_one_row_has_wrong_is_passed_over(parser: str, data: bytes) -> None:
    PARSERS[parser](data)


SMALL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a field of very many lines": ("status", lambda: STATUS + b"Description: x\n" + b" y\n" * 500_000),
    "a key of very many values": ("apk world", lambda: b"a " * 500_000),
    "variables that double each other": (
        "apk repositories",
        lambda: b"set a=xxxxxxxx\n" + b"set a=${a}${a}\n" * 60 + b"http://e.example/${a}\n",
    ),
    "addresses times suites": (
        "debian.sources",
        lambda: (
            b"Types: deb\nComponents: c\nURIs:" + b" http://e.example" * 9_000 + b"\nSuites:" + b" s" * 90_000 + b"\n"
        ),
    ),
    "very many keys": (
        "debian.sources",
        lambda: b"Types: deb\nURIs: http://e\nSuites: s/\nSigned-By:" + b" /a" * 300_000,
    ),
    "very many empty lines": ("preferences", lambda: b"\n" * 500_000 + b"APT"),
    "a rule of nothing but blanks": ("dpkg.cfg", lambda: b"path-exclude=" + b"a " * 300_000 + b"\n"),
    "very many rules": ("dpkg.cfg", lambda: b"path-exclude=/usr/*\n" * 300_000),
    "one script very many times": ("scripts.tar", lambda: _script() * 20_000 + bytes(1024)),
    "very many triggers": ("apk triggers", lambda: b"Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM= /a\n" * 200_000),
}
"""What took for ever, though it is small: by what it does, parser and input."""


def _script() -> bytes:
    header = bytearray(512)
    name = b"foo-1-r0.Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=.post-install"
    header[: len(name)] = name
    header[124:135] = b"00000000001"
    return bytes(header) + b"x".ljust(512, b"\0")


@pytest.mark.no_cover  # which takes several times as long
@pytest.mark.parametrize("name", SMALL)
def test_what_is_small_takes_little_time(name: str) -> None:
    parser, make = SMALL[name]
    data = make()
    started = time.process_time()

    try:
        PARSERS[parser](data)
    except CopaError:
        pass

    assert time.process_time() - started < 5, f"{len(data)} bytes"


def test_a_document_of_ours_is_still_one() -> None:
    documents: dict[str, Any] = {"plan": plan_with(), "report": report(), "Release": release(), "Packages": packages()}
    for parser, data in documents.items():
        PARSERS[parser](data)
