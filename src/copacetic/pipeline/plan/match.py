# SPDX-License-Identifier: Apache-2.0
"""
Findings held against the image's own database.

A report is somebody's view of the image at some time; what is installed decides. Names may be those of source
packages: that is resolved here and nowhere else. Which versions have a fix, the database knows; where a report can't
say what fixes a finding, nobody knows whether it is open, and the newest version of its package is wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from copacetic.errors import InvalidVersionError
from copacetic.inventory import PackageDatabase
from copacetic.updates import Finding, FindingStatus, InstalledPackage, MatchedFinding, Wanted

__all__ = ["match_findings", "match_inventories", "rate_findings", "want_everything"]

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    name: names
    for names in (("amd64", "x86_64"), ("arm64", "aarch64"), ("386", "i386", "i686", "x86"), ("ppc64el", "ppc64le"))
    for name in names
}
"""What platforms and packages of several families call one architecture: scanners mix them."""
_ByName = Mapping[str, list[InstalledPackage]]


def match_findings(
    findings: Iterable[Finding], database: PackageDatabase
) -> tuple[tuple[MatchedFinding, ...], tuple[Wanted, ...]]:
    """
    Return every finding with its status, and the packages that have to change, in the inventory's order; at the end
    those that are only assumed to be installed (`PackageDatabase.assumed`).
    """
    present = (*database.packages(), *database.assumed())
    by_name: dict[str, list[InstalledPackage]] = defaultdict(list)
    by_source: dict[str, list[InstalledPackage]] = defaultdict(list)
    for package in present:
        by_name[package.name].append(package)
        by_source[package.source_name].append(package)
    matched: list[MatchedFinding] = []
    to_fix: dict[InstalledPackage, list[Finding]] = {}
    for finding in findings:
        if finding.package_type != database.package_type:
            matched.append(MatchedFinding(finding=finding, status=FindingStatus.UNKNOWN))
            continue
        packages = _named(finding, by_name, by_source)
        if finding.architecture is not None:
            spellings = _SPELLINGS.get(finding.architecture, (finding.architecture,))
            packages = [one for one in packages if any(database.is_meant(one, spelling) for spelling in spellings)]
        status, open_packages = _status(finding, packages, database)
        keys = tuple(package.key for package in packages)
        matched.append(MatchedFinding(finding=finding, status=status, packages=keys))
        for package in open_packages:
            to_fix.setdefault(package, []).append(finding)
    wanted = tuple(Wanted(package=one, findings=tuple(to_fix[one])) for one in present if one in to_fix)
    return tuple(matched), wanted


def match_inventories(
    findings: Iterable[Finding], inventories: Sequence[PackageDatabase]
) -> tuple[tuple[MatchedFinding, ...], tuple[tuple[Wanted, ...], ...]]:
    """
    Hold every finding against the inventory of its type; see `match_findings`. What has to change comes by inventory.
    """
    matched = [MatchedFinding(finding=finding, status=FindingStatus.UNKNOWN) for finding in findings]
    wanted: list[tuple[Wanted, ...]] = []
    for inventory in inventories:
        places = [n for n, one in enumerate(matched) if one.finding.package_type == inventory.package_type]
        if not places:
            wanted.append(())
            continue
        found, to_change = match_findings((matched[place].finding for place in places), inventory)
        for place, one in zip(places, found, strict=True):
            matched[place] = one
        wanted.append(to_change)
    return tuple(matched), tuple(wanted)


def want_everything(installed: Sequence[InstalledPackage]) -> tuple[Wanted, ...]:
    """Without a report every package is wanted at its newest version."""
    return tuple(Wanted(package=package) for package in installed)


def _named(finding: Finding, by_name: _ByName, by_source: _ByName) -> list[InstalledPackage]:
    """
    A binary package's name wins; some scanners name the source instead without saying so, and what rpm's tools print as
    `zlib.x86_64` is a name with its architecture.
    """
    packages = by_source.get(finding.package, []) if finding.names_source else by_name.get(finding.package, [])
    packages = packages or by_source.get(finding.package, []) or by_name.get(finding.package, [])
    name, _, architecture = finding.package.rpartition(".")
    return packages or [package for package in by_name.get(name, ()) if package.architecture == architecture]


def _status(
    finding: Finding, packages: list[InstalledPackage], database: PackageDatabase
) -> tuple[FindingStatus, list[InstalledPackage]]:
    if not packages:
        return FindingStatus.NOT_INSTALLED, []
    if finding.fixes is None:
        return FindingStatus.UNKNOWN, packages
    if not finding.fixes:
        return FindingStatus.NO_FIX, []
    try:
        still_open = [package for package in packages if not database.is_fixed(package, finding)]
    except InvalidVersionError:
        return FindingStatus.UNKNOWN, []
    return (FindingStatus.FIXABLE if still_open else FindingStatus.ALREADY_FIXED), still_open


def rate_findings(
    matched: tuple[MatchedFinding, ...] | None, severities: Mapping[str, str]
) -> tuple[MatchedFinding, ...] | None:
    """Give findings whose report has no severity the one that repositories' advisories have for their vulnerability."""
    if matched is None or not severities:
        return matched
    return tuple(_rated(one, severities) for one in matched)


def _rated(matched: MatchedFinding, severities: Mapping[str, str]) -> MatchedFinding:
    finding = matched.finding
    names = (finding.vulnerability_id, *finding.aliases)
    severity = next((severities[name] for name in names if name in severities), "")
    if finding.severity != "UNKNOWN" or not severity:
        return matched
    return replace(matched, finding=replace(finding, severity=severity))
