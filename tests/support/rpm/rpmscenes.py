# SPDX-License-Identifier: Apache-2.0
"""
Small sets of rpm packages, resolved.

    installed = [rpm("a 1-1", requires="b = 1-1"), rpm("b 1-1")]
    offered = [rpm("a 2-1", requires="b = 2-1"), rpm("b 2-1")]
    resolve(installed, offered, {"a": "2-1"}).new == ["b 2-1", "a 2-1"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.resolver import PresentRpm, RpmResolved, RpmResolver
from copacetic.repository.rpm.universe import RpmRules
from copacetic.rpm.dependency import RpmDependency, parse_requirement
from copacetic.updates import Finding, Fix, InstalledPackage, PackageKey, SkipReason, Wanted
from copacetic.version import compare_versions
from support.rpm.offering import Offered

__all__ = ["Outcome", "installed_of", "resolve", "rpm"]


def rpm(
    identity: str,
    *,
    provides: str = "",
    requires: str = "",
    conflicts: str = "",
    obsoletes: str = "",
    files: str = "",
    vendor: str = "",
    priority: int = 99,
    repository: str = "updates",
) -> RpmOffer:
    """`name evr` or `name evr architecture`; lists are separated by commas."""
    name, evr, architecture = [*identity.split(), "x86_64"][:3]
    return RpmOffer(
        name=name,
        evr=evr,
        architecture=architecture,
        provides=tuple(_simple(text) for text in _items(provides)),
        requires=tuple(parse_requirement(text) for text in _items(requires)),
        conflicts=tuple(parse_requirement(text) for text in _items(conflicts)),
        obsoletes=tuple(_simple(text) for text in _items(obsoletes)),
        files=frozenset(files.split()),
        vendor=vendor,
        priority=priority,
        repository=repository,
    )


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _simple(text: str) -> RpmDependency:
    found = parse_requirement(text)
    assert isinstance(found, RpmDependency)
    return found


class Outcome(Struct, frozen=True):
    """What a resolver made of a request, for comparing."""

    resolved: RpmResolved

    @property
    def new(self) -> list[str]:
        """What comes in, in its order."""
        return [_short(change.new) for change in self.resolved.changes]

    @property
    def gone(self) -> dict[str, list[str]]:
        """What goes that isn't updated, by what takes its place."""
        return {
            _short(change.new): [
                old.name for old in (change.old, *change.obsoleted) if old and old.name != change.new.name
            ]
            for change in self.resolved.changes
            if any(old and old.name != change.new.name for old in (change.old, *change.obsoleted))
        }

    @property
    def required_by(self) -> dict[str, tuple[str, ...]]:
        return {_short(change.new): change.required_by for change in self.resolved.changes if change.required_by}

    @property
    def skipped(self) -> dict[str, tuple[SkipReason, str]]:
        return {skipped.package.name: (skipped.reason, skipped.detail) for skipped in self.resolved.skipped}


def _short(offer: RpmOffer) -> str:
    architecture = "" if offer.architecture == "x86_64" else f" {offer.architecture}"
    return f"{offer.name} {offer.evr}{architecture}"


def installed_of(
    offers: Iterable[RpmOffer], *, held: Sequence[str] = (), install_only: Sequence[str] = ()
) -> list[PresentRpm]:
    """Return packages as a database has them."""
    return [
        PresentRpm(
            InstalledPackage(
                name=offer.name,
                version=offer.evr,
                architecture=offer.architecture,
                source_name=offer.name,
                source_version=offer.evr,
                held=offer.name in held,
                instance=offer.evr if offer.name in install_only else "",
            ),
            replace(offer, repository=""),
        )
        for offer in offers
    ]


def resolve(
    installed: Sequence[RpmOffer],
    offered: Iterable[RpmOffer],
    wanted: Mapping[str, str] | None = None,
    *,
    held: Sequence[str] = (),
    frozen: Mapping[str, str] | None = None,
    rules: RpmRules | None = None,
) -> Outcome:
    """Ask for fixed versions, by names, each as little as it takes; or, without any, for everything that is newer."""
    rules = rules or RpmRules(architecture="x86_64")
    present = installed_of(installed, held=held, install_only=sorted(rules.install_only))
    resolver = RpmResolver(
        present,
        Offered(offered),
        rules,
        is_fixed=_is_fixed,
        frozen={PackageKey(name, "x86_64"): reason for name, reason in (frozen or {}).items()},
    )
    wants = [
        Wanted(
            package=one.package, findings=() if wanted is None else (_finding(one.package, wanted[one.package.name]),)
        )
        for one in present
        if wanted is None or one.package.name in wanted
    ]
    return Outcome(resolver.resolve(wants, exhaustive=wanted is None))


def _finding(package: InstalledPackage, fixed: str) -> Finding:
    return Finding(
        vulnerability_id="CVE-2026-1",
        package=package.name,
        installed_version=package.version,
        fixes=(Fix(version=fixed, is_source=False),),
        package_type="rpm",
    )


def _is_fixed(offer: RpmOffer, finding: Finding) -> bool:
    return any(compare_versions("rpm", offer.evr, version) >= 0 for version in finding.fixed_versions)
