# SPDX-License-Identifier: Apache-2.0
"""
Amazon Inspector's findings, and those that ECR has of an image: Inspector's, or its own basic scan's.

One document may be about many images, and about machines, which are left out. Versions come in parts; Debian's packages
are named by their source. The basic scan knows nothing of fixes.
"""

from __future__ import annotations

from copacetic.report.document import Shape, at, decode, has, sketch
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, os_type
from copacetic.report.images import ImageFindings
from copacetic.updates import Report

__all__ = ["accepts", "full_version", "package_type", "parse"]


class _Package(Shape, frozen=True, rename="camel"):
    name: object = None
    version: object = ""
    epoch: object = 0
    release: object = ""
    package_manager: object = ""
    fixed_in_version: object = ""
    file_path: object = None


class _Details(Shape, frozen=True, rename="camel"):
    vulnerability_id: object = None
    related_vulnerabilities: object = None
    vulnerable_packages: list[_Package] | None = None


class _Finding(Shape, frozen=True, rename="camel"):
    name: object = None
    severity: object = ""
    attributes: object = None
    package_vulnerability_details: _Details | None = None
    resources: list[object] | None = None


class _Scan(Shape, frozen=True, rename="camel"):
    findings: list[_Finding] | None = None
    enhanced_findings: list[_Finding] | None = None


class _Document(_Scan, frozen=True, rename="camel"):
    image_scan_findings: _Scan | None = None
    image_id: object = None
    repository_name: object = ""


def accepts(head: bytes, _name: str) -> bool:
    """What `aws inspector2 list-findings` and `aws ecr describe-image-scan-findings` print."""
    seen = sketch(head)
    return has(seen, "imageScanFindings") or has(at(seen, "findings", 0), "packageVulnerabilityDetails")


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`."""
    document = decode(data, _Document, f"the report {name}")
    scan = document.image_scan_findings or document
    findings = [*(scan.enhanced_findings or ()), *(scan.findings or ())]
    if any(finding.attributes for finding in findings):
        return [_read_basic(findings, document, name)]
    images = ImageFindings("inspector", name)
    for finding in findings:
        details = finding.package_vulnerability_details or _Details()
        images.check(finding.resources, details.vulnerable_packages)
        for resource in finding.resources or []:
            image = at(resource, "details", "awsEcrContainerImage")
            builder = images.about(
                at(image, "imageHash"),
                image_name=at(image, "repositoryName"),
                architecture=at(image, "architecture"),
            )
            if builder is not None:
                _add(builder, details, finding.severity, at(image, "platform"))
    return images.reports()


def _add(builder: FindingBuilder, details: _Details, severity: object, platform: object) -> None:
    for package in details.vulnerable_packages or []:
        builder.add(
            vulnerability=details.vulnerability_id,
            package=package.name,
            package_type=package_type(package.package_manager, platform),
            installed=full_version(package.epoch, package.version, package.release),
            fixed=package.fixed_in_version,
            severity=severity,
            aliases=details.related_vulnerabilities,
            locations=package.file_path,
            names_source=package.package_manager == "OS",
        )


def package_type(package_manager: object, platform: object) -> str:
    """`OS` is the distribution's own, whose name begins the platform's (`DEBIAN_12`)."""
    return os_type(platform) or DISTRIBUTION if package_manager == "OS" else find_type(package_manager)


def full_version(epoch: object, version: object, release: object) -> object:
    """Put a version together."""
    whole = f"{version}-{release}" if release else version
    return whole if epoch in (None, 0, "0", "") else f"{epoch}:{whole}"


def _read_basic(findings: list[_Finding], document: _Document, name: str) -> Report:
    builder = FindingBuilder("ecr", name, complete=False)
    for finding in findings:
        attributes = finding.attributes if isinstance(finding.attributes, list) else []
        values = {str(at(one, "key")): at(one, "value") for one in attributes}
        builder.add(
            vulnerability=finding.name,
            package=values.get("package_name"),
            package_type=DISTRIBUTION,
            installed=values.get("package_version"),
            severity=finding.severity,
            names_source=True,
        )
    return builder.report(image_digests=[at(document.image_id, "imageDigest")], image_name=document.repository_name)
