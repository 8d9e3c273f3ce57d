# SPDX-License-Identifier: Apache-2.0
"""
Findings held against the image's own database.

A report is somebody's view of the image at some time; what is installed decides. Names may be those of source
packages, and fixed versions those of the source: both are resolved here and nowhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from copacetic.errors import InvalidVersionError
from copacetic.updates import Finding, FindingStatus, InstalledPackage, MatchedFinding, Wanted
from copacetic.version import compare_versions


def is_fixed(scheme: str, *, version: str, source_version: str, wanted: Wanted | Finding) -> bool:
    """
    Tell whether a package of these versions has reached every fixed version, in the order of a version scheme.

    Raises `InvalidVersionError` when one of them can't be compared.
    """
    reached = source_version if wanted.fixed_is_source_version else version
    return all(compare_versions(scheme, reached, fixed) >= 0 for fixed in wanted.fixed_versions)


def match_findings(
    findings: Iterable[Finding], installed: Sequence[InstalledPackage], package_type: str, *, scheme: str = ""
) -> tuple[tuple[MatchedFinding, ...], tuple[Wanted, ...]]:
    """
    Return every finding with its status, and the packages that have to change, in the inventory's order.

    `scheme` is the image's order of versions, by default the one that its type of package stands for.
    """
    by_name: dict[str, list[InstalledPackage]] = defaultdict(list)
    by_source: dict[str, list[InstalledPackage]] = defaultdict(list)
    for package in installed:
        by_name[package.name].append(package)
        by_source[package.source_name].append(package)
    matched: list[MatchedFinding] = []
    to_fix: dict[InstalledPackage, list[Finding]] = {}
    for finding in findings:
        if finding.package_type != package_type:
            matched.append(MatchedFinding(finding=finding, status=FindingStatus.UNKNOWN))
            continue
        packages = _concerned(finding, by_name, by_source)
        status, open_packages = _status(finding, packages, scheme or package_type)
        names = tuple(f"{package.name}:{package.architecture}" for package in packages)
        matched.append(MatchedFinding(finding=finding, status=status, packages=names))
        for package in open_packages:
            to_fix.setdefault(package, []).append(finding)
    wanted = tuple(_wanted(package, to_fix[package]) for package in installed if package in to_fix)
    return tuple(matched), wanted


def want_everything(installed: Sequence[InstalledPackage]) -> tuple[Wanted, ...]:
    """Without a report every package is wanted at its newest version."""
    return tuple(Wanted(package=package) for package in installed)


def _concerned(
    finding: Finding,
    by_name: dict[str, list[InstalledPackage]],
    by_source: dict[str, list[InstalledPackage]],
) -> list[InstalledPackage]:
    """A binary package's name wins; some scanners name the source instead without saying so."""
    packages = by_source.get(finding.package, []) if finding.names_source else by_name.get(finding.package, [])
    packages = packages or by_source.get(finding.package, [])
    if finding.architecture is None:
        return packages
    return [p for p in packages if p.architecture in {finding.architecture, "all", "noarch"}]


def _status(
    finding: Finding, packages: list[InstalledPackage], scheme: str
) -> tuple[FindingStatus, list[InstalledPackage]]:
    if not packages:
        return FindingStatus.NOT_INSTALLED, []
    if not finding.fixed_versions:
        return FindingStatus.NO_FIX, []
    try:
        still_open = [
            package
            for package in packages
            if not is_fixed(scheme, version=package.version, source_version=package.source_version, wanted=finding)
        ]
    except InvalidVersionError:
        return FindingStatus.UNKNOWN, []
    return (FindingStatus.FIXABLE if still_open else FindingStatus.ALREADY_FIXED), still_open


def _wanted(package: InstalledPackage, findings: list[Finding]) -> Wanted:
    source = [f for f in findings if f.fixed_is_source_version]
    chosen = source or findings
    versions = {version for finding in chosen for version in finding.fixed_versions}
    return Wanted(
        package=package,
        fixed_versions=tuple(sorted(versions)),
        fixed_is_source_version=bool(source),
        findings=tuple(findings),
    )
