# SPDX-License-Identifier: Apache-2.0
"""
Each format by a trimmed sample: real ones, but for inspector, ecr, azure-defender, xray, wiz and the manifests, which are
written after the documented schemas.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from copacetic.report import HEAD, SCANNERS, load_reports
from support.value.reports import SAMPLES, load, only, rows

ROWS: dict[str, tuple[str, ...]] = {
    "anchore.json": (
        "CVE-2018-15686 libsystemd0 232-25+deb9u9 > 232-25+deb9u10 (high, deb)",
        "CVE-2011-3374 apt 1.4.9 > - (low, deb)",
        "VULNDB-103881 jersey 1.13 > 1.18 (medium, maven)",
    ),
    "asff-trivy.json": (
        "CVE-2019-1549 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r0 (medium, apk)",
        "CVE-2019-1551 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r2 (medium, apk)",
    ),
    "asff.json": (
        "CVE-2023-2650 openssl 1.1.1n-0+deb11u4 > 1.1.1n-0+deb11u5 (medium, deb source)",
        "CVE-2022-32149 golang.org/x/text 0.3.8-0.20220509174342-b4bca84b0361 > 0.3.8 (high, golang)",
        "CVE-2022-32149 golang.org/x/text 0.3.3 > 0.3.8 (high, golang)",
        "CVE-2022-32149 golang.org/x/text 0.3.8-0.20220509174342-b4bca84b0361 > 0.3.8 (high, golang)",
    ),
    "azure-defender.json": (
        "CVE-2023-32700 libptexenc1 2019.20190605.51237-3build2 > 2019.20190605.51237-3ubuntu0.1 (high, deb)",
        "CVE-2022-42969 py 1.11.0.0 > - (medium, pypi)",
    ),
    "clair-scanner.json": (
        "CVE-2018-20839 systemd 237-3ubuntu10.29 > - (medium, deb source)",
        "CVE-2019-5094 e2fsprogs 1.44.1-1ubuntu1.1 > 1.44.1-1ubuntu1.2 (medium, deb source)",
    ),
    "clair.json": (
        "RHSA-2024:0628 libssh-config 0.9.6-10.el8_8 > 0.9.6-13.el8_9 (medium, rpm)",
        "CVE-2023-6004 libssh-config 0.9.6-10.el8_8 > - (low, rpm)",
        "RHSA-2024:0119 libxml2 2.9.7-16.el8_8.1 > 2.9.7-18.el8_9 (medium, rpm)",
        "CVE-2024-25062 libxml2 2.9.7-16.el8_8.1 > - (medium, rpm)",
    ),
    "cyclonedx-grype.json": (
        "CVE-1999-0001 package-1 1.1.1 > ? (low, generic)",
        "CVE-1999-0002 package-2 2.2.2 > ? (critical, deb)",
    ),
    "cyclonedx-trivy.json": (
        "CVE-2019-18224 libidn2-0 2.0.5-1 > 2.0.5-1+deb10u1 (medium, deb)",
        "CVE-2019-18276 bash 5.0-4 > - (high, deb)",
        "CVE-2020-8165 activesupport 6.0.2.1 > 6.0.3.1 5.2.4.3 (high, gem)",
    ),
    "ecr-basic.json": ("CVE-2019-5188 e2fsprogs 1.44.1-1ubuntu1.1 > ? (medium, os source)",),
    "ecr-enhanced.json": ("CVE-2022-3219 gnupg2 2.2.27-2+deb11u2 > - (low, deb source)",),
    "gitlab.json": (
        "CVE-2019-1549 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r0 (medium, apk)",
        "CVE-2019-1551 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r2 (medium, apk)",
    ),
    "grype.json": (
        "CVE-2024-5535 libssl3 3.0.14-1~deb12u2 > 3.0.15-1~deb12u1 (critical, deb)",
        "CVE-2024-56433 login 1:4.13+dfsg1-1+b1 > - (low, deb)",
        "CVE-2025-0938 python 3.8.20 > 3.9.22 3.10.17 3.11.12 3.12.9 3.13.2 3.14.0a5 (medium, binary)",
        "GHSA-cx63-2mw6-8hw5 setuptools 57.5.0 > 70.0.0 (high, pypi)",
    ),
    "inspector.json": (
        "CVE-2023-2650 openssl 1.1.1n-0+deb11u4 > 1.1.1n-0+deb11u5 (high, deb source)",
        "CVE-2023-2650 openssl 1.1.1n-0+deb11u4 > 1.1.1n-0+deb11u5 (high, deb source)",
        "CVE-2024-0001 bind-libs 32:9.11.4-26.P2.amzn2 > 32:9.11.4-26.P2.amzn2.13 (medium, rpm source)",
        "CVE-2024-0001 requests 2.28.0 > - (medium, pypi)",
    ),
    "klar.json": (
        "RHSA-2019:0109 perl-libs 4:5.16.3-293.el7 > 4:5.16.3-294.el7_6 (critical, rpm source)",
        "RHSA-2019:0049 systemd-libs 219-62.el7 > 219-62.el7_6.2 (critical, rpm source)",
    ),
    "osv.json": (
        "CVE-2024-1013 unixodbc 2.3.11-2 > - (unknown, deb source)",
        "CVE-2024-3847 chromium 73.0.3683.75-1 > - (unknown, deb source)",
        "GHSA-fxg5-wq6x-vr4w golang.org/x/net 0.1.0 > 0.1.1-0.20221104162952-702349b0e862 (high, golang)",
        "GO-2023-1495 golang.org/x/net 0.1.0 > 0.1.1-0.20221104162952-702349b0e862 (unknown, golang)",
        "GHSA-mrrw-grhq-86gf ascii 0.8.7 > 0.9.3 (medium, cargo)",
        "RUSTSEC-2023-0015 ascii 0.8.7 > 0.9.3 (unknown, cargo)",
        "GHSA-mc8h-8q98-g5hr remove_dir_all 0.5.3 > 0.8.0 (low, cargo)",
        "RUSTSEC-2023-0018 remove_dir_all 0.5.3 > 0.8.0 (unknown, cargo)",
    ),
    "prisma.json": (
        "CVE-2013-7459 pycrypto 2.6.1 > - (critical, deb source)",
        "CVE-2018-6485 glibc 2.24-11+deb9u4 > - (high, deb source)",
    ),
    "sarif-grype.json": (
        "CVE-2007-5686 login 1:4.13+dfsg1-1+b1 > - (low, deb)",
        "CVE-2007-5686 passwd 1:4.13+dfsg1-1+b1 > - (low, deb)",
    ),
    "sarif-scout.json": (
        "CVE-2025-0395 glibc 2.31-13+deb11u11 > 2.31-13+deb11u12 (high, deb source)",
        "CVE-2025-59375 expat 2.2.10-2+deb11u7 > - (high, deb source)",
        "CVE-2024-28219 pillow 9.4.0 > 10.3.0 (high, pypi)",
    ),
    "sarif-snyk.json": (
        "CVE-2011-3374 libapt-pkg6.0 2.6.1 > - (low, deb)",
        "CVE-2016-2781 coreutils 9.1-1 > - (low, deb)",
    ),
    "sarif-trivy.json": (
        "CVE-2019-1549 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r0 (medium, os)",
        "CVE-2019-1551 libssl1.1 1.1.1c-r0 > 1.1.1d-r2 (medium, os)",
    ),
    "snyk.json": (
        "CVE-2023-4039 libgcc-s1 10.2.1-6 > - (low, deb)",
        "CVE-2020-15084 express-jwt 0.1.3 > 6.0.0 (high, npm)",
    ),
    "trivy-operator.json": (
        "CVE-2024-0553 libgnutls30 3.6.13-2ubuntu1.9 > 3.6.13-2ubuntu1.10 (medium, deb)",
        "CVE-2024-22365 libpam-modules 1.3.1-5ubuntu4.6 > 1.3.1-5ubuntu4.7 (medium, deb)",
    ),
    "trivy.json": (
        "CVE-2019-1549 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r0 (medium, apk)",
        "CVE-2019-1551 libcrypto1.1 1.1.1c-r0 > 1.1.1d-r2 (medium, apk)",
    ),
    "v1alpha1.json": (
        "CVE-2021-36159 apk-tools 2.12.5-r1 > 2.12.6-r0 (unknown, apk)",
        "unnamed busybox 1.33.1-r2 > 1.33.1-r3 (unknown, apk)",
    ),
    "v1alpha2.json": (
        "CVE-2024-5535 libssl3 3.0.14-1~deb12u2 > 3.0.15-1~deb12u1 (unknown, deb)",
        "CVE-2023-32681 requests 2.28.0 > 2.31.0 (unknown, pypi)",
    ),
    "wiz.json": (
        "CVE-2024-5535 libssl3 3.3.1-r0 > 3.3.1-r1 (low, os)",
        "CVE-2023-39325 golang.org/x/net 0.14.0 > 0.17.0 (high, generic)",
    ),
    "xray-export.json": ("CVE-2020-28493 zlib 1:1.2.13.dfsg-1 > 1:1.2.13.dfsg-2 (medium, deb source)",),
    "xray.json": (
        "CVE-2023-3446 libcrypto3 3.1.1-r1 > 3.1.1-r3 (low, apk)",
        "CVE-2023-3446 libx11 2:1.8.4-2 > 2:1.8.4-2+deb12u1 (low, deb source)",
        "XRAY-2 openssl 1:1.1.1k-4.el8 > - (high, rpm)",
        "XRAY-2 org.apache.sshd:sshd-core 1.0.0 > 2.9.2 2.10.0 (high, maven)",
    ),
}
"""`vulnerability package installed > fixes (severity, type)`; `-` is no fix, `?` one that nobody knows."""


def test_every_sample_is_in_the_table() -> None:
    assert sorted(ROWS) == sorted(path.name for path in SAMPLES.iterdir())


@pytest.mark.parametrize("name", ROWS)
def test_a_report_s_rows_are_findings(name: str) -> None:
    reports = load(name)

    assert rows(reports) == ROWS[name]
    sources = {fix.is_source for r in reports for f in r.findings if f.package_type == "deb" for fix in f.fixes or ()}
    others = {fix.is_source for r in reports for f in r.findings if f.package_type != "deb" for fix in f.fixes or ()}
    assert sources <= {True}
    assert others <= {False}


@pytest.mark.parametrize("name", ROWS)
def test_a_report_is_recognised_by_one_format_alone(name: str) -> None:
    data = (SAMPLES / name).read_bytes()

    assert sum(import_module(module).accepts(data[:HEAD], name) for module in SCANNERS.values()) == 1


def test_every_format_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/reports.md").read_text()

    assert [name for name in SCANNERS if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("module", SCANNERS.values())
@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[", b"null", b"1", b'"text"', b"[[]]", b'[{"a": 1}]', b'{"results": 3}']
)
def test_no_format_stumbles_over_what_is_none(module: str, data: bytes) -> None:
    assert import_module(module).accepts(data, "r.json") is False


@pytest.mark.parametrize(
    ("name", "image", "architecture", "digests"),
    [
        ("trivy.json", "testdata/fixtures/images/alpine-310.tar.gz", "amd64", 1),
        ("grype.json", "my-app:latest", "amd64", 2),
        ("trivy-operator.json", "registry.example/library/ubuntu", "", 1),
        ("cyclonedx-grype.json", "user-input", "", 1),
        ("sarif-trivy.json", "testdata/fixtures/images/alpine-310.tar.gz", "", 1),
        ("snyk.json", "example/juiceshop:latest/juiceshop", "amd64", 0),
        ("clair.json", "", "", 1),
        ("prisma.json", "", "", 1),
        ("ecr-basic.json", "web", "", 1),
        ("azure-defender.json", "web", "", 1),
        ("v1alpha2.json", "", "arm64", 0),
    ],
)
def test_the_image_is_known_as_far_as_the_report_says_it(
    name: str, image: str, architecture: str, digests: int
) -> None:
    report = only(load(name))

    assert (report.image_name, report.architecture, len(report.image_digests)) == (image, architecture, digests)


def test_rows_that_say_the_same_are_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    document = json.loads((SAMPLES / "snyk.json").read_bytes())
    document["vulnerabilities"] *= 3
    path.write_text(json.dumps(document))

    assert rows(load_reports([path])) == rows(load("snyk.json"))
