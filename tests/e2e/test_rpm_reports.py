# SPDX-License-Identifier: Apache-2.0
"""Reports about distributions of the rpm family, held against databases; and what they ask for, done to real images."""

from __future__ import annotations

import csv
import json
import lzma
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from copacetic.inventory.rpm import RpmDatabase
from copacetic.pipeline.plan.match import match_findings
from copacetic.report import parse_report
from copacetic.report.grammar import specify
from copacetic.rpm import tags
from copacetic.rpm.header import text_entry
from copacetic.updates import Finding, FindingStatus
from support.builder.running import copa
from support.image.images import FIXTURES, Layer, describe, fixture, make_image, write_layout
from support.rpm.rpmdbs import make_files, make_header, open_files, real_files
from support.server.served import Served, serve
from support.value.replacing import replace

_MANIFEST_LAYER = "application/vnd.oci.image.layer.v1.tar"
ABOUT = {
    "almalinux-8": ["openssl-libs"],
    "amazonlinux2-gp2-x86-vm": ["bind-export-libs"],
    "centos-6": ["openssl"],
    "centos-7-medium": ["openssl-libs"],
    "mariner-1.0": ["vim"],
    "opensuse-leap-151": ["libopenssl1_1", "openssl-1_1"],
    "opensuse-tumbleweed": ["libopenssl3"],
    "oraclelinux-8": ["curl"],
    "ubi-7": [],
}
"""Trivy's own reports, and what has a fix in each."""


def findings_of(path: Path) -> list[Finding]:
    reports = parse_report(path.read_bytes(), path.name)
    return [specify(one, "rpm") for report in reports for one in report.findings if one.package_type in {"rpm", "os"}]


def database_with(versions: Mapping[tuple[str, str], str]) -> RpmDatabase:
    return open_files(make_files("sqlite", [make_header(name, evr, arch) for (name, arch), evr in versions.items()]))


def statuses(findings: Sequence[Finding], database: RpmDatabase) -> set[FindingStatus]:
    return {one.status for one in match_findings(findings, database)[0]}


@pytest.mark.parametrize("name", ABOUT)
def test_a_report_of_trivy_s_is_about_what_an_image_has(name: str) -> None:
    path = fixture(f"reports/trivy/aquasecurity__trivy__testdata__{name}.json.golden")
    found = findings_of(path)
    before = {(one.package, one.architecture or "x86_64"): one.installed_version for one in found}
    fixed = {(one.package, one.architecture or "x86_64"): one.fixed_versions[-1] for one in found if one.fixes}

    matched, wanted = match_findings(found, database_with(before))

    assert sorted(want.package.name for want in wanted) == sorted(ABOUT[name])
    assert all(one.status in {FindingStatus.FIXABLE, FindingStatus.NO_FIX} for one in matched)
    assert statuses(found, database_with({**before, **fixed})) <= {FindingStatus.ALREADY_FIXED, FindingStatus.NO_FIX}


def _with_packages() -> list[str]:
    index = FIXTURES / "reports/INDEX.csv"
    wanted = {"clair-klar", "clair-v4", "grype", "twistlock-prisma", "snyk"}
    rows = csv.DictReader(index.read_text().splitlines()) if index.is_file() else ()
    return [row["file"] for row in rows if row["scanner"] in wanted]


def test_other_scanners_reports_are_about_what_an_image_has_too() -> None:
    fixture("reports")
    about: dict[str, int] = {}
    for name in _with_packages():
        found = [
            one for one in findings_of(FIXTURES / "reports" / name) if one.installed_version and "_" not in one.package
        ]
        if not found or "packagename" in name:  # libraries of Java's, called rpm by their scanner
            continue
        database = database_with({(f.package, f.architecture or "x86_64"): f.installed_version for f in found})
        assert FindingStatus.NOT_INSTALLED not in statuses(found, database), name
        about[name.partition("/")[0]] = len(found)

    assert set(about) == {"clair-klar", "clair-v4", "grype", "snyk", "twistlock-prisma"}


@pytest.mark.parametrize("name", ["alma9.0", "amazon2023", "bci15", "mariner", "rocky9.2", "sles15.4"])
def test_every_way_to_name_an_installed_package_finds_it(name: str) -> None:
    database = open_files(real_files(name))
    template = Finding(vulnerability_id="CVE-1", package="", installed_version="", fixes=(), package_type="rpm")
    for package in database.packages():
        full = f"{package.name}.{package.architecture}"
        known = [replace(template, package=one) for one in (package.name, full)]
        known.append(replace(template, package=package.source_name, names_source=True))
        for one, found in zip(known, match_findings(known, database)[0], strict=True):
            assert package.key in found.packages, one.package


def test_a_module_s_package_is_known_by_its_name() -> None:
    label = text_entry(tags.MODULARITY_LABEL, "nodejs:18:8090020231212")
    evr = "1:18.19.0-1.module+el8.9.0+20764+1abdafcb"
    row = {
        "VulnerabilityID": "CVE-2024-1",
        "PkgName": "nodejs",
        "PkgIdentifier": {"PURL": f"pkg:rpm/redhat/nodejs@{evr[2:]}?arch=x86_64&epoch=1&modularitylabel=nodejs%3A18"},
        "InstalledVersion": evr,
        "FixedVersion": "1:18.19.1-1.module+el8.9.0+21387+bdfdfd5b",
    }
    (report,) = parse_report(json.dumps(trivy("redhat", "8.9", [row])).encode(), "report")
    (found,) = report.findings

    ((matched,), _) = match_findings(
        [found], open_files(make_files("sqlite", [make_header("nodejs", evr, "x86_64", label)]))
    )

    assert matched.status is FindingStatus.FIXABLE


def trivy(family: str, version: str, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    results = [{"Target": "image", "Class": "os-pkgs", "Type": family, "Vulnerabilities": list(rows)}]
    return {"SchemaVersion": 2, "Metadata": {"OS": {"Family": family, "Name": version}}, "Results": results}


def row_of(number: int, name: str, installed: str, fixed: str, architecture: str) -> dict[str, object]:
    epoch, _, bare = installed.rpartition(":")
    more = f"&epoch={epoch}" if epoch else ""
    return {
        "VulnerabilityID": f"CVE-2024-{number}",
        "PkgName": name,
        "PkgIdentifier": {"PURL": f"pkg:rpm/any/{name}@{bare}?arch={architecture}{more}"},
        "InstalledVersion": installed,
        "FixedVersion": fixed,
        "Status": "fixed",
    }


CENTOS = [
    row_of(1, "openssl-libs", "1:1.0.2k-19.el7", "1:1.0.2k-25.el7_9", "x86_64"),
    row_of(2, "expat", "2.1.0-12.el7", "0:2.1.0-14.el7_9", "x86_64"),
    row_of(3, "zlib.x86_64", "1.2.7-18.el7", "1.2.7-20.el7_9", "x86_64"),
]
ALMA = [row_of(1, "glibc", "2.34-28.el9_0", "2.34-60.el9_2.7, 2.34-83.el9_3.7", "aarch64")]
IMAGES = {
    "centos": ("el7/centos7-httpd-rpmdb-bdb.tar.xz", "el7/updates", "7.9.2009", CENTOS),
    "alma": ("rpm/el9/alma9-20220706-aarch64.tar.xz", "rpm/el9/repo-9.3", "9.0", ALMA),
}
CHANGED = {
    "centos": {"expat": "CVE-2024-2", "openssl-libs": "CVE-2024-1", "zlib": "CVE-2024-3"},
    "alma": {"glibc": "CVE-2024-1", "glibc-common": "", "glibc-minimal-langpack": ""},
}
"""What changes, and which finding that closes; the others are what it needs."""


@pytest.mark.system
@pytest.mark.parametrize("family", [pytest.param("centos", marks=pytest.mark.soak), "alma"])
def test_what_a_report_asks_for_changes_with_what_it_needs_and_nothing_else(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, repository, version, rows = IMAGES[family]
    plain = lzma.decompress(fixture(root).read_bytes())
    layout = tmp_path / "image"
    write_layout(layout, {"base": make_image([Layer(describe(plain, _MANIFEST_LAYER), plain, plain)])})
    report = tmp_path / "report.json"
    report.write_text(json.dumps(trivy(family, version, rows)))
    served = Served()
    served.add_folder(fixture(repository))
    keyring = fixture("rpm/RPM-GPG-KEY-fixtures")
    with serve(served):
        flags: list[str | Path] = [
            "-r",
            report,
            "--repository",
            served.address,
            "--keyring",
            keyring,
            "--strategy",
            "unpack",
        ]
        cache: list[str | Path] = ["--cache-dir", tmp_path / "cache"]
        target = f"oci:{tmp_path / 'out'}:1"
        run = copa(
            capsys, "patch", "-i", f"oci:{layout}:base", "--to", target, *flags, *cache, "-o", tmp_path / "o.json"
        )
        again = copa(capsys, "plan", "-i", target, *flags[:-2], *cache)

    assert run.code == 0, run.err
    (platform,) = json.loads((tmp_path / "o.json").read_text())["platforms"]
    (section,) = platform["plan"]["sections"]
    closes = {one["name"]: ",".join(one["findings"]) for one in section["updates"]}
    assert closes == CHANGED[family]
    assert platform["verified"]
    assert [one["vulnerabilityId"] for one in platform["findings"]["closed"]] == [
        row["VulnerabilityID"] for row in rows
    ]
    assert platform["findings"]["open"] == []
    assert f"{len(rows)} already fixed" in again.out
    before, after = (inspected(capsys, image, cache) for image in (f"oci:{layout}:base", target))
    assert {name for name, had in before.items() if after[name] != had} == set(CHANGED[family])
    assert before.keys() == after.keys()


def inspected(capsys: pytest.CaptureFixture[str], image: str, cache: Sequence[str | Path]) -> dict[str, str]:
    run = copa(capsys, "inspect", image, "--format", "json", *cache)
    (platform,) = json.loads(run.out)["platforms"]
    packages = chain.from_iterable(one["packages"] for one in platform["inventories"])
    return {one["name"]: one["version"] for one in packages}
