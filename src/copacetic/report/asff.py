# SPDX-License-Identifier: Apache-2.0
"""
AWS Security Finding Format: what Security Hub has of Inspector, and what Trivy's template for it writes.

One document may be about many images and machines. Trivy's rows name the image by text, with its distribution.
"""

from __future__ import annotations

import re

from copacetic.report.document import Shape, at, decode, is_list, sketch
from copacetic.report.grammar import FindingBuilder, os_type
from copacetic.report.images import ImageFindings
from copacetic.report.inspector import full_version, package_type
from copacetic.updates import Report

_SYSTEM = re.compile(r"\((\S{1,80}) \S{1,80}\)$")


class _Package(Shape, frozen=True, rename="pascal"):
    name: object = None
    version: object = ""
    epoch: object = 0
    release: object = ""
    package_manager: object = ""
    fixed_in_version: object = ""
    file_path: object = None


class _Vulnerability(Shape, frozen=True, rename="pascal"):
    id: object = None
    related_vulnerabilities: object = None
    vulnerable_packages: list[_Package] | None = None


class _Resource(Shape, frozen=True, rename="pascal"):
    id: object = ""
    details: object = None


class _Finding(Shape, frozen=True, rename="pascal"):
    severity: object = None
    product_fields: object = None
    resources: list[_Resource] | None = None
    vulnerabilities: list[_Vulnerability] | None = None


class _Document(Shape, frozen=True, rename="pascal"):
    findings: list[_Finding] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """A list of findings, or an object with it."""
    seen = sketch(head)
    return at(seen if isinstance(seen, list) else at(seen, "Findings"), 0, "ProductArn") is not None


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    what = f"the report {name}"
    findings = decode(data, list[_Finding], what) if is_list(data) else decode(data, _Document, what).findings or []
    images = ImageFindings("asff", name)
    trivy = FindingBuilder("asff", name)
    for finding in findings:
        packages = [one for each in finding.vulnerabilities or [] for one in each.vulnerable_packages or []]
        images.check(finding.resources, packages)
        for resource in finding.resources or []:
            if at(resource.details, "Other", "PkgName"):
                _add_of_trivy(trivy, finding, resource)
                continue
            image = at(resource.details, "AwsEcrContainerImage")
            builder = images.about(
                at(image, "ImageDigest"), image_name=at(image, "RepositoryName"), architecture=at(image, "Architecture")
            )
            if builder is not None:
                _add(builder, finding)
    found = trivy.report()
    return [found] if found.findings or found.unreadable else images.reports()


def _add(builder: FindingBuilder, finding: _Finding) -> None:
    fields = finding.product_fields if isinstance(finding.product_fields, dict) else {}
    platform = next((value for key, value in fields.items() if key.endswith("ImageDetails/platform")), "")
    for vulnerability in finding.vulnerabilities or []:
        for package in vulnerability.vulnerable_packages or []:
            builder.add(
                vulnerability=vulnerability.id,
                package=package.name,
                package_type=package_type(package.package_manager, platform),
                installed=full_version(package.epoch, package.version, package.release),
                fixed=package.fixed_in_version,
                severity=at(finding.severity, "Label"),
                aliases=vulnerability.related_vulnerabilities,
                locations=package.file_path,
                names_source=package.package_manager == "OS",
            )


def _add_of_trivy(builder: FindingBuilder, finding: _Finding, resource: _Resource) -> None:
    other = at(resource.details, "Other")
    system = _SYSTEM.search(resource.id) if isinstance(resource.id, str) else None
    builder.add(
        vulnerability=at(other, "CVE ID"),
        package=at(other, "PkgName"),
        package_type=os_type(system and system[1]) or "generic",
        installed=at(other, "Installed Package"),
        fixed=at(other, "Patched Package"),
        severity=at(finding.severity, "Label"),
    )
