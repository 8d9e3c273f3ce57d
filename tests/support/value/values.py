# SPDX-License-Identifier: Apache-2.0
"""Short makers of the values that planning works on."""

from __future__ import annotations

from copacetic.http.reach import Reach, parse_network
from copacetic.oci import Digest, Platform
from copacetic.updates import (
    Candidate,
    Finding,
    Fix,
    InstalledPackage,
    MatchedFinding,
    Origin,
    PackageKey,
    Plan,
    PlannedUpdate,
    Section,
    Skipped,
    Strategy,
    Wanted,
)

LOOPBACK = "127.0.0.0/8"
HERE = Reach(networks=(parse_network(LOOPBACK),))
"""Tests serve repositories on loopback, where an image must not lead without being permitted to."""
ORIGIN = Origin(
    uri="http://deb.example/debian-security", suite="bookworm-security", component="main", signed_by="AB" * 20
)


def key(text: str) -> PackageKey:
    """Return the key of `name:architecture`."""
    name, _, architecture = text.rpartition(":")
    return PackageKey(name, architecture)


def installed(
    name: str,
    version: str,
    *,
    architecture: str = "amd64",
    source: str = "",
    source_version: str = "",
    held: bool = False,
) -> InstalledPackage:
    return InstalledPackage(
        name=name,
        version=version,
        architecture=architecture,
        source_name=source or name,
        source_version=source_version or version,
        held=held,
    )


def candidate(name: str, version: str, *, architecture: str = "amd64", source: str = "") -> Candidate:
    return Candidate(
        name=name,
        version=version,
        architecture=architecture,
        source_name=source or name,
        source_version=version,
        url=f"http://deb.example/pool/{name}_{architecture}.deb",
        size=1234,
        sha256="ab" * 32,
        origin=ORIGIN,
    )


def finding(
    package: str, *fixed: str, vulnerability_id: str = "CVE-2026-0001", fixed_is_source: bool = True, **more: object
) -> Finding:
    values: dict[str, object] = {
        "vulnerability_id": vulnerability_id,
        "package": package,
        "installed_version": "1.0-1",
        "package_type": "deb",
        "fixes": tuple(Fix(version=version, is_source=fixed_is_source) for version in fixed),
        **more,
    }
    return Finding(**values)  # type: ignore[arg-type]


def wanted_fix(package: InstalledPackage, version: str) -> Wanted:
    return Wanted(package=package, findings=(finding(package.name, version),))


def plan(
    *updates: PlannedUpdate,
    matched: tuple[MatchedFinding, ...] | None = None,
    skipped: tuple[Skipped, ...] = (),
    image: str = "registry.example/web:1",
) -> Plan:
    return Plan(
        image=image,
        image_digest=Digest.of(b"manifest"),
        platform=Platform(os="linux", architecture="amd64"),
        distro="Debian GNU/Linux 12 (bookworm)",
        strategy=Strategy.UNPACK,
        sections=(Section(package_type="deb", updates=updates, skipped=skipped, origins=(ORIGIN,)),),
        matched=matched,
    )
