# SPDX-License-Identifier: Apache-2.0
"""Plans survive the way through a file, and a hostile file does not get in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from copacetic.errors import PlanFileError
from copacetic.pipeline.plan.document import plan_document, write_plans
from copacetic.pipeline.plan.planfile import read_plans
from copacetic.updates import (
    FindingStatus,
    MatchedFinding,
    PlannedUpdate,
    ScriptClass,
    ScriptVerdict,
    Section,
    Skipped,
    SkipReason,
)
from support.value.plandocuments import section_of
from support.value.replacing import replace
from support.value.values import ORIGIN, candidate, finding, installed, key, plan

SHARED = [finding(name, "2.0-1", vulnerability_id="CVE-2026-7") for name in ("libfoo", "foo")]
DEBS = plan(
    PlannedUpdate(
        installed=installed("foo", "1.0-1"),
        candidate=candidate("foo", "2.0-1"),
        findings=(SHARED[1],),
        scripts=(
            ScriptVerdict(
                package=key("foo:amd64"), script="postinst", verdict=ScriptClass.HARMLESS, reason="has run before"
            ),
        ),
    ),
    PlannedUpdate(installed=None, candidate=candidate("libbar", "1:3~rc1-1"), required_by=("foo",)),
    skipped=(
        Skipped(
            package=installed("libfoo", "1.0-1"),
            reason=SkipReason.HELD,
            detail="on hold in the image",
            findings=(SHARED[0],),
        ),
    ),
)
NAMESAKE = finding("foo", "3", vulnerability_id="CVE-2026-7", package_type="apk")
APKS = Section(
    package_type="apk",
    updates=(PlannedUpdate(installed=installed("foo", "2"), candidate=candidate("foo", "3"), findings=(NAMESAKE,)),),
    origins=(ORIGIN,),
    notes=("a note on apk",),
)
PLAN = replace(
    DEBS,
    sections=(*DEBS.sections, APKS),
    matched=tuple(
        MatchedFinding(finding=f, status=FindingStatus.FIXABLE, packages=(key(f"{f.package}:amd64"),))
        for f in (*SHARED, NAMESAKE)
    ),
    image_notes=("a note",),
)


def test_a_plan_that_was_written_reads_back_the_same() -> None:
    (read,) = read_plans(write_plans([PLAN]), where="plan.json")

    assert read == PLAN


def test_everything_that_a_report_says_of_a_finding_survives() -> None:
    row = finding("foo", "2.0-1", "3.0-1", aliases=("GHSA-1",), purl="pkg:deb/debian/foo@1", locations=("usr/bin/foo",))
    rows = (row, replace(row, fixes=None, architecture="amd64", names_source=True))
    matched = tuple(MatchedFinding(finding=one, status=FindingStatus.UNKNOWN) for one in rows)

    (read,) = read_plans(write_plans([plan(matched=matched)]), where="plan.json")

    assert read.matched == matched


def test_a_finding_of_two_packages_comes_back_to_the_right_one() -> None:
    (read,) = read_plans(write_plans([PLAN]), where="plan.json")

    assert read.updates[0].findings == (SHARED[1],)
    assert read.skipped[0].findings == (SHARED[0],)


def test_a_finding_of_one_type_of_package_is_none_of_its_namesake_of_another_type() -> None:
    (read,) = read_plans(write_plans([PLAN]), where="plan.json")

    assert [[update.findings for update in section.updates] for section in read.sections] == [
        [(SHARED[1],), ()],
        [(NAMESAKE,)],
    ]


def test_all_sections_together_are_the_plan() -> None:
    assert [update.candidate.name for update in PLAN.updates] == ["foo", "libbar", "foo"]
    assert (PLAN.download_size, PLAN.notes) == (3 * 1234, ("a note on apk", "a note"))


def test_the_document_names_the_address_and_digest_of_every_package() -> None:
    document = plan_document(DEBS)

    assert [(u["url"], u["sha256"]) for u in section_of(document)["updates"]] == [
        (u.candidate.url, u.candidate.sha256) for u in DEBS.updates
    ]


def test_fields_of_a_later_version_are_passed_over() -> None:
    document = json.loads(write_plans([PLAN]))
    document["later"] = document["plans"][0]["later"] = {"x": 1}

    assert read_plans(json.dumps(document).encode(), where="plan.json") == (PLAN,)


def _set(path: str, value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            document = document[part]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schemaVersion", 2), "schema version 2"),
        (_set("kind", "something"), "something"),
        (_set("plans.0.sections.0.updates.0.name", "foo; rm -rf /"), "not valid in the update"),
        (_set("plans.0.sections.0.updates.0.name", "../../etc/passwd"), "not valid in the update"),
        (_set("plans.0.sections.0.updates.0.version", "1.0\n"), "not valid in the update"),
        (_set("plans.0.sections.0.updates.0.sha256", "0"), "not valid in the update"),
        (_set("plans.0.sections.0.updates.0.url", "file:///etc/shadow"), "no usable address"),
        *(
            (_set("plans.0.sections.0.updates.0.url", url), "no usable address")
            for url in (
                "http://[x/",
                "http://a\0b/",
                "http://h/ b",
                "http://h/\u202e",
                "http:///x",
                "FILE:///etc/passwd",
                "",
            )
        ),
        *((_set("plans.0.sections.0.updates.0.size", size), "has no usable size") for size in (-1, 0, 10**18, 10**40)),
        (_set("plans.0.sections.0.repositories.0.tag", "edge\nP:x"), "not a repository's tag"),
        (_set("plans.0.sections.0.updates.0.repository", 9), "no usable address or repository"),
        (_set("plans.0.sections.0.updates.0.size", "big"), "size"),
        (_set("plans.0.imageDigest", "sha256:beef"), "digest"),
        (_set("plans.0.sections.0.updates", 3), "updates"),
        (
            _set("plans.0.findings.0.package", "foo; rm -rf /"),
            "a finding about 'foo; rm -rf /' has invalid package names",
        ),
        (_set("plans.0.findings.0.vulnerabilityId", "CVE\n"), "has invalid vulnerability ids"),
        (_set("plans.0.findings.0.aliases", ["CVE-1", "x y"]), "has invalid vulnerability ids"),
        (_set("plans.0.findings.0.fixes.0.version", "1 2"), "has invalid versions"),
        (_set("plans.0.findings.0.locations", ["usr\u202e"]), "has unprintable texts"),
        (_set("plans.0.sections.0.packageType", "apk"), "'apk' has two sections in one plan"),
        (_set("plans.0.sections.0.packageType", "../deb"), "'../deb' is not a type of package"),
    ],
)
def test_a_plan_that_is_not_one_is_refused_with_the_place(change: Callable[[Any], None], message: str) -> None:
    document = json.loads(write_plans([PLAN]))
    change(document)

    with pytest.raises(PlanFileError, match=re.escape(message)) as error:
        read_plans(json.dumps(document).encode(), where="plan.json")
    assert "plan.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"kind":"copacetic.plan\xd9","plans":[]}',
        b"[" * 100_000,
        b'{"schemaVersion":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_not_json_of_the_right_shape_is_refused(data: bytes) -> None:
    with pytest.raises(PlanFileError, match=r"plan\.json is not a plan"):
        read_plans(data, where="plan.json")
