# SPDX-License-Identifier: Apache-2.0
"""What scanners say in their own words, from the report to the layer."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from support.deb.aptrepo import Repository, debian_image, serve_repository, write_image
from support.deb.debs import Deb, file

OLD, OTHER = "1.0-1", "sha256:" + "0" * 64


def _deb(name: str, version: str, **fields: str) -> Deb:
    return Deb(
        name=name, version=version, architecture="amd64", fields=fields, files={f"usr/lib/{name}": file(version)}
    )


INSTALLED = [_deb("libfoo1", OLD, Source="foo"), _deb("foo", OLD), _deb("bar", OLD)]
OFFERED = [
    _deb(name, v, **more)
    for v in ("1.0-2", "1.0-3")
    for name, more in (("libfoo1", {"Source": "foo"}), ("foo", {}), ("bar", {}))
]


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository(OFFERED) as served:
        yield served


class Case:
    def __init__(self, folder: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.image = write_image(folder / "image", debian_image(repository, INSTALLED))
        self.digest = json.loads((folder / "image/index.json").read_bytes())["manifests"][0]["digest"]

    def run(self, document: object, *flags: str, name: str = "r.json") -> tuple[int, dict[str, str], str]:
        """Patch by a report, and return the exit code, what changed to what, and what is said."""
        path = self.folder / name
        path.write_text(json.dumps(document))
        outcome = self.folder / "outcome.json"
        target = f"oci:{self.folder / 'out'}:1"
        code = main(
            ["patch", "-i", self.image, "-r", str(path), "--to", target, "-o", str(outcome), "--no-cache", *flags]
        )
        self.outcome: Any = json.loads(outcome.read_bytes()) if outcome.exists() else None
        plan = self.outcome["platforms"][0]["plan"] if self.outcome else None
        sections = plan["sections"] if plan else []
        changed = {row["name"]: row["version"] for section in sections for row in section["updates"]}
        return code, changed, self.capsys.readouterr().err


@pytest.fixture
def case(tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> Case:
    return Case(tmp_path, repository, capsys)


def grype(*rows: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
    return {
        "matches": [
            {
                "vulnerability": {"id": "CVE-1", "severity": "High", "fix": {"versions": fixes, "state": "fixed"}},
                "artifact": {"name": name, "version": OLD, "type": "deb"},
            }
            for name, fixes in rows
        ],
        "descriptor": {"name": "grype"},
    }


def inspector(*findings: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "findings": [
            {
                "severity": "HIGH",
                "packageVulnerabilityDetails": {
                    "vulnerabilityId": "CVE-1",
                    "vulnerablePackages": [
                        {"name": name, "version": "1.0", "release": "1", "packageManager": "OS", "fixedInVersion": fix}
                    ],
                },
                "resources": [{"details": {"awsEcrContainerImage": {"imageHash": digest, "platform": "DEBIAN_12"}}}],
            }
            for digest, name, fix in findings
        ]
    }


def test_a_binary_package_is_brought_to_the_closest_version_that_is_enough(case: Case) -> None:
    code, changed, _ = case.run(grype(("libfoo1", ("1.0-2",))))

    assert (code, changed) == (0, {"libfoo1": "1.0-2"})
    (closed,) = case.outcome["platforms"][0]["findings"]["closed"]
    assert closed["fixes"] == [{"version": "1.0-2", "isSource": True}]


def test_of_several_fixed_versions_that_of_the_installed_branch_is_reached(case: Case) -> None:
    code, changed, _ = case.run(grype(("libfoo1", ("0.9-5", "1.0-2", "2.0-1"))))

    assert (code, changed) == (0, {"libfoo1": "1.0-2"})


def test_a_source_package_stands_for_all_its_binaries_and_other_images_rows_for_nothing(case: Case) -> None:
    code, changed, _ = case.run(inspector((OTHER, "bar", "0:1.0-3"), (case.digest, "foo", "0:1.0-2")))

    assert (code, changed) == (0, {"libfoo1": "1.0-2", "foo": "1.0-2"})


def test_a_document_about_other_images_only_is_about_another_image(case: Case) -> None:
    code, changed, said = case.run(inspector((OTHER, "foo", "0:1.0-2")))

    assert (code, changed) == (2, {})
    assert f"is about another image: it names {OTHER}" in said


def test_what_a_report_only_calls_vulnerable_is_brought_to_the_newest_and_called_unknown(case: Case) -> None:
    components = [
        {
            "bom-ref": name,
            "type": "library",
            "name": name,
            "version": OLD,
            "purl": f"pkg:deb/debian/{name}@{OLD}?arch=amd64",
        }
        for name in ("bar", "gone")
    ]
    vulnerabilities = [{"id": "CVE-1", "affects": [{"ref": "bar"}, {"ref": "gone"}]}]
    document = {"bomFormat": "CycloneDX", "components": components, "vulnerabilities": vulnerabilities}

    code, changed, _ = case.run(document)

    assert (code, changed) == (0, {"bar": "1.0-3"})
    platform = case.outcome["platforms"][0]
    rows = platform["plan"]["findings"]
    assert {row["package"]: (row["status"], row["fixes"]) for row in rows} == {
        "bar": ("unknown", None),
        "gone": ("not-installed", None),
    }
    assert platform["findings"]["closed"] == []


def test_an_inventory_of_what_is_at_its_newest_changes_nothing(case: Case) -> None:
    document = {
        "bomFormat": "CycloneDX",
        "vulnerabilities": [{"id": "CVE-1", "affects": [{"ref": "pkg:deb/debian/foo@9"}]}],
    }
    assert case.run(document)[:2] == (0, {"foo": "1.0-3"})
    case.image = f"oci:{case.folder / 'out'}:1"

    code, changed, _ = case.run(document)

    assert (code, changed) == (0, {})


def test_a_fix_that_the_report_names_and_no_repository_has_is_an_error_whatever_else_is_an_inventory(
    case: Case,
) -> None:
    case.run(grype(("libfoo1", ("1.0-9",))), "--ignore-errors", name="one.json")
    bom = {"bomFormat": "CycloneDX", "vulnerabilities": [{"id": "CVE-2", "affects": [{"ref": "pkg:deb/debian/bar@1"}]}]}

    code, changed, said = case.run(bom, "-r", str(case.folder / "one.json"))

    assert (code, changed) == (4, {})
    assert "1.0-9 or later is needed" in said


def test_a_package_that_is_only_known_to_be_the_distribution_s_has_the_image_s_own_type(case: Case) -> None:
    vulnerability = {"name": "CVE-1", "severity": "HIGH", "fixedVersion": "1.0-2"}
    packages = [{"name": "libfoo1", "version": OLD, "vulnerabilities": [vulnerability]}]

    code, changed, _ = case.run({"scanOriginResource": {}, "result": {"osPackages": packages, "libraries": None}})

    assert (code, changed) == (0, {"libfoo1": "1.0-2"})
    (closed,) = case.outcome["platforms"][0]["findings"]["closed"]
    assert (closed["packageType"], closed["fixes"]) == ("deb", [{"version": "1.0-2", "isSource": True}])


def test_a_report_comes_by_standard_input_with_its_format_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps(grype(("bar", ("1.0-2",)))).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    code = main(["plan", "-i", case.image, "-r", "-", "--report-format", "grype", "--no-cache"])

    out, _ = case.capsys.readouterr()
    assert code == 0
    assert "1.0-2" in out


def test_a_format_that_there_is_none_of_is_refused_with_those_that_there_are(case: Case) -> None:
    code, _, said = case.run({}, "--report-format", "tryvi")

    assert code == 2
    assert "no report format is called 'tryvi'" in said
    assert "trivy, grype, cyclonedx" in said
