# SPDX-License-Identifier: Apache-2.0
"""
What is wrong, what is installed, what is offered, and what is going to change: the values that all parts share.

They are the same for every distribution. What only one package manager knows (a stanza, a header) travels in
`record` and is read by the modules of that package manager alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from copacetic.oci import Digest, Platform


class PackageKey(NamedTuple):
    """What tells packages apart that may be there at the same time; ordered, and for people `name:architecture`."""

    name: str
    architecture: str
    instance: str = ""
    """Of a package that may be installed several times (a kernel's version), as its family says; mostly empty."""

    def __str__(self) -> str:
        return f"{self.name}:{self.architecture}"


class Fix(Struct, frozen=True, kw_only=True):
    """The version that closes a vulnerability on one branch of a package."""

    version: str
    is_source: bool
    """
    Whether it is a version of the *source* package, which may differ from the binary's in more than an epoch
    (bsdutils is 1:2.41-5 of util-linux 2.41-5), as in everything that comes from Debian's security tracker.
    """


class Finding(Struct, frozen=True, kw_only=True):
    """One row of a report: a package in it has a vulnerability. All strings passed their strict grammar."""

    vulnerability_id: str
    package: str
    """The name as reported; `names_source` says whether it is a source package's."""
    installed_version: str
    fixes: tuple[Fix, ...] | None
    """
    One per branch, in the report's order: the one of the installed branch has to be reached. Empty when the report
    says that there is none, None when reports of its kind can't say.
    """
    severity: str = "UNKNOWN"
    package_type: str
    """As in a purl: deb, apk, rpm, …; `os` where the report says no more than that it is the distribution's."""
    architecture: str | None = None
    names_source: bool = False
    aliases: tuple[str, ...] = ()
    """Other names of the vulnerability: the CVE of a GHSA, …"""
    purl: str = ""
    locations: tuple[str, ...] = ()
    """Paths in the image, without the leading slash."""

    @property
    def fixed_versions(self) -> tuple[str, ...]:
        """The versions of `fixes`."""
        return tuple(fix.version for fix in self.fixes or ())


class Report(Struct, frozen=True, kw_only=True):
    """A parsed report about one image, before anything is known about the image: all of its rows."""

    scanner: str
    path: str
    findings: tuple[Finding, ...]
    image_digests: frozenset[Digest] = frozenset()
    """Digests (of a manifest, an index or a config) that the report says it is about; empty when it names none."""
    image_name: str = ""
    os_family: str = ""
    os_version: str = ""
    architecture: str = ""
    """As in an image's platform: amd64, arm64, …"""
    unreadable: Mapping[str, int] = {}
    """Rows that were refused and how often, by reason (`invalid package names`, …)."""


class FindingStatus(StrEnum):
    """What the image itself says about a finding."""

    FIXABLE = "fixable"
    NO_FIX = "no-fix"
    NOT_INSTALLED = "not-installed"
    ALREADY_FIXED = "already-fixed"
    UNKNOWN = "unknown"
    """The versions can't be compared, nobody says what fixes it, or the type of package is not this image's."""


@cache
def _compared(kind: type[Struct]) -> Callable[[Struct], tuple[object, ...]]:
    return attrgetter(*(name for name in kind.__struct_fields__ if name != "record"))


class _Recorded(Struct, frozen=True, kw_only=True, eq=False):
    """A package; what is on record about it counts for nothing when two are compared."""

    name: str
    version: str
    architecture: str
    source_name: str
    source_version: str
    instance: str = ""
    """See `PackageKey`."""
    record: object = None
    """What a database or a repository says of it, for its own family; None where only a plan does."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _compared(type(self))(self) == _compared(type(self))(other)

    def __hash__(self) -> int:
        return hash(_compared(type(self))(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key} {self.version})"

    @property
    def key(self) -> PackageKey:
        return PackageKey(self.name, self.architecture, self.instance)


class InstalledPackage(_Recorded, frozen=True, kw_only=True, eq=False):
    """One row of a package database."""

    held: bool = False
    """The administrator has put it on hold: it stays as it is."""
    state: str = ""
    """How far its package manager came with it, in its words (`half-configured`), where that isn't the end."""
    partial: bool = False
    """Only some of its files are in the image, and that stays so: nothing comes in for its sake."""


class Origin(Struct, frozen=True, kw_only=True):
    """Where a candidate comes from: a repository, as its own signed metadata describes it."""

    uri: str
    suite: str
    component: str
    label: str = ""
    defined_in: str = ""
    """The file of the image, the flag or the host's file that names this repository."""
    signed_by: str = ""
    """The key that vouched for it, by its fingerprint or (apk) its file's name; empty when nothing was verified."""
    tag: str = ""
    """apk's, without its @; of a repository that only serves who asks for it."""
    sha256: str = ""
    """Of the signed file that vouches for what it offers, as it came (InRelease, Release, apk's index)."""
    not_verified: str = ""
    """What wasn't verified, or didn't hold, and who allowed that; `doubt` is what to show."""

    @property
    def doubt(self) -> str:
        """Why it counts as not verified; empty for one that is."""
        return self.not_verified or ("" if self.signed_by else "no trusted key has signed it")


class Candidate(_Recorded, frozen=True, kw_only=True, eq=False):
    """A package that a repository offers, with all that is needed to fetch and check it."""

    url: str
    size: int
    """In bytes."""
    sha256: str
    """Of the file; empty as long as only something else in the metadata proves it (apk), until it is fetched."""
    origin: Origin

    @property
    def fingerprint(self) -> str:
        """All that determines what the package does to an image, as one line; of use with its SHA-256 only."""
        return f"{self.name} {self.architecture} {self.version} {self.sha256}"

    def is_same(self, other: Candidate) -> bool:
        """Tell whether both are the same package file, wherever it is; where one lacks a digest the rest decides."""
        same = (self.key, self.version, self.size) == (other.key, other.version, other.size)
        return same and self.sha256 in {"", other.sha256}


class Wanted(Struct, frozen=True, kw_only=True):
    """An installed package that must change, and how far."""

    package: InstalledPackage
    findings: tuple[Finding, ...] = ()
    """The fixes of all must be reached. Empty, or where one has a fix that nobody knows, the newest is taken."""

    @property
    def needed(self) -> str:
        """What has to be reached, for people; empty where any newer version will do."""
        versions = {" or ".join(finding.fixed_versions) for finding in self.findings if finding.fixes}
        return f"{' and '.join(sorted(versions))} or later is needed" if versions else ""

    @property
    def is_open_ended(self) -> bool:
        """Whether no version is known to be new enough."""
        return not self.findings or any(finding.fixes is None for finding in self.findings)

    def skip(self, reason: SkipReason, detail: str) -> Skipped:
        """Leave it as it is."""
        return Skipped(package=self.package, reason=reason, detail=detail, findings=self.findings)


class SkipReason(StrEnum):
    """Why a package or a finding is left as it is."""

    HELD = "held"
    NO_CANDIDATE = "no-candidate"
    """No configured repository offers a version that is new enough."""
    DEPENDENCY = "dependency"
    """The resulting set would break a dependency, or conflict."""
    NEEDS_EXECUTION = "needs-execution"
    """A maintainer script does what only running it can do."""
    VENDOR = "vendor"
    """What is offered is another vendor's, and neither a pin nor the user has said that it may take its place."""
    CONFLICT = "conflict"
    """It can't be installed over what the image has: a file is another package's, or has no place."""
    BROKEN = "broken"
    """Its file can't be had as the index promises it, or can't be used, or the index's own words about it can't."""
    UNSUPPORTED = "unsupported"


class Skipped(Struct, frozen=True, kw_only=True):
    """A wanted package that stays as it is, with the reason in words."""

    package: InstalledPackage
    reason: SkipReason
    detail: str
    findings: tuple[Finding, ...] = ()


class ScriptClass(StrEnum):
    """What to do about a maintainer script, from best to worst."""

    HARMLESS = "harmless"
    """Recognised: running it would change nothing in an image."""
    REPRODUCED = "reproduced"
    """What it does is done by copacetic, without running it."""
    NEEDS_EXECUTION = "needs-execution"
    REFUSED = "refused"
    """Not a script's fault: the package can't be brought into this image, and running it would change nothing."""


class ScriptVerdict(Struct, frozen=True, kw_only=True):
    """The judgement of one maintainer script or trigger."""

    package: PackageKey
    script: str
    """preinst, postinst, prerm, postrm, config, or a trigger's name."""
    verdict: ScriptClass
    reason: str


class PlannedUpdate(Struct, frozen=True, kw_only=True):
    """One package that changes: `installed` is None for a dependency that comes in new."""

    installed: InstalledPackage | None
    candidate: Candidate
    findings: tuple[Finding, ...] = ()
    required_by: tuple[str, ...] = ()
    """Names of the packages that need it, when nobody asked for it directly."""
    scripts: tuple[ScriptVerdict, ...] = ()

    @property
    def key(self) -> PackageKey:
        """That of the package as it will be."""
        return self.candidate.key


class FetchedPackage(Struct, frozen=True, kw_only=True):
    """A planned update and the verified package file on the local disk."""

    update: PlannedUpdate
    path: Path

    @property
    def key(self) -> PackageKey:
        return self.update.key

    @property
    def fingerprint(self) -> str:
        return self.update.candidate.fingerprint


class Resolution(Struct, frozen=True, kw_only=True):
    """A repository's answer: a set of changes that is consistent, and what can't be part of it."""

    updates: tuple[PlannedUpdate, ...]
    """In the order in which the package manager would install them, where that makes a difference."""
    skipped: tuple[Skipped, ...]
    origins: tuple[Origin, ...]
    """Every repository that was consulted."""
    notes: tuple[str, ...] = ()
    """What a user should know of the repositories or the choice."""
    severities: Mapping[str, str] = {}
    """Of vulnerabilities, as the repositories' advisories have them; for findings whose report has none."""


class MatchedFinding(Struct, frozen=True, kw_only=True):
    """A finding, held against the image's own database."""

    finding: Finding
    status: FindingStatus
    packages: tuple[PackageKey, ...] = ()
    """Installed packages that it concerns."""


class Strategy(StrEnum):
    """How updates are applied."""

    AUTO = "auto"
    """Unpack what can be; run the image's package manager where a script needs it and something here can do that."""
    UNPACK = "unpack"
    """The embedded engine: nothing of the image is run."""
    EXEC = "exec"
    """The image's own package manager runs, in a builder or in the local worker."""


class Section(Struct, frozen=True, kw_only=True):
    """What is going to happen to one inventory of an image."""

    package_type: str
    updates: tuple[PlannedUpdate, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    origins: tuple[Origin, ...] = ()
    """Every repository that was consulted."""
    notes: tuple[str, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """What is going to happen to one platform of one image, and why; `pipeline.plan.document` reads and writes it."""

    image: str
    image_digest: Digest
    """Of this platform's manifest."""
    platform: Platform
    distro: str
    """As os-release calls it, for people: `Debian GNU/Linux 12 (bookworm)`."""
    strategy: Strategy
    """How the updates are applied; never AUTO."""
    sections: tuple[Section, ...]
    """One for each inventory that is asked to change, of another type of package each."""
    matched: tuple[MatchedFinding, ...] | None
    """None without a report."""
    image_notes: tuple[str, ...] = ()
    """About the image as a whole."""
    strategy_reason: str = ""
    """Why it is this strategy, in one line."""

    @property
    def updates(self) -> tuple[PlannedUpdate, ...]:
        return tuple(update for section in self.sections for update in section.updates)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(skipped for section in self.sections for skipped in section.skipped)

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(origin for section in self.sections for origin in section.origins)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*(note for section in self.sections for note in section.notes), *self.image_notes)

    @property
    def doubtful(self) -> tuple[Origin, ...]:
        """Repositories that aren't verified, among those consulted or used."""
        origins = (*self.origins, *(update.candidate.origin for update in self.updates))
        return tuple(origin for origin in dict.fromkeys(origins) if origin.doubt)

    @property
    def download_size(self) -> int:
        """The packages' size in bytes, cached or not."""
        return sum(update.candidate.size for update in self.updates)
