# SPDX-License-Identifier: Apache-2.0
"""
From a scanner's words to findings: the only grammar of names, versions and identifiers.

Every string of a report is hostile. A row that breaks the grammar is left out and counted by its reason; what merely
adds to a row (an alias, a place, a purl) is dropped alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from copacetic.errors import CopaError, ReportError
from copacetic.families import find_family, type_of_report
from copacetic.oci import Digest
from copacetic.report.purl import MAX_LENGTH, Purl, read_purl
from copacetic.updates import Finding, Fix, Report

__all__ = [
    "DISTRIBUTION",
    "NAME",
    "VERSION",
    "FindingBuilder",
    "find_fault",
    "find_type",
    "is_os",
    "os_type",
    "specify",
]

DISTRIBUTION = "os"
"""The type of a package that is the distribution's, where a report doesn't say which package manager that has."""

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,254}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,254}")
"""What a package manager's database, a file name and a terminal all accept; the format's own grammar is stricter."""
_LIBRARY = re.compile(r"[A-Za-z0-9@._][A-Za-z0-9@/+._:~-]{0,254}")
_LIBRARY_VERSION = re.compile(r"[A-Za-z0-9(*][A-Za-z0-9+._:~^()*/@=-]{0,254}")
_OPERATOR = re.compile(r"(?:>=|\u2265|~>|=)\s*")
_PURL = re.compile(rf"[!-~]{{1,{MAX_LENGTH}}}")
_PLACE = re.compile(r"[ -~\u00a1-\u1fff\u3000-\ud7ff]{1,2000}")
_NO_FIX = frozenset({"", "none", "not fixed", "notavailable", "not available", "n/a", "--", "null", "unknown"})

MAX_FINDINGS = 1_000_000
MAX_FIXES = 100
MAX_PLACES = 20
MAX_ALIASES = 20
_MAX_READ = 100
"""What one row may say of one thing is looked at so far: rows share what they say, and there are many."""

_LIBRARY_TYPES: Mapping[str, str] = {
    "cargo": "crates.io rustbinary rust rust-crate",
    "composer": "packagist composer-vendor php php-composer",
    "gem": "bundler gemspec rubygems ruby",
    "golang": "go gobinary gomod go-module",
    "hex": "mix erlang",
    "maven": "jar java java-archive pom gradle gav sbt",
    "npm": "node node-pkg nodejs nodepkg javascript yarn pnpm bun package-lock",
    "nuget": "dotnet dotnet-core dotnet-deps packages-props .net",
    "pub": "dart",
    "pypi": "pip pipenv poetry python pythonpkg python-pkg pylock uv wheel egg",
    "swift": "swiftpm spm",
}
"""What scanners call the ecosystems of libraries, by purl's type."""
_BY_NAME = {word: kind for kind, words in _LIBRARY_TYPES.items() for word in (kind, *words.split())}

_SEVERITIES: Mapping[str, str] = {
    **dict.fromkeys(("critical", "defcon1"), "CRITICAL"),
    **dict.fromkeys(("high", "important"), "HIGH"),
    **dict.fromkeys(("medium", "moderate"), "MEDIUM"),
    **dict.fromkeys(("low", "negligible", "minimal", "info", "informational", "note"), "LOW"),
}
_SCORE = re.compile(r"\d{1,2}(?:\.\d{1,4})?")
_SCORES = ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW"), (0.0, "UNKNOWN"))
_PLATFORMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def os_type(text: object) -> str:
    """Return the type of package that a distribution (or package manager) has; empty for one that isn't known."""
    return type_of_report(text) if isinstance(text, str) else ""


def find_type(text: object) -> str:
    """Return purl's type for what a scanner calls a kind of package, itself where nobody knows it, or `generic`."""
    if not isinstance(text, str):
        return "generic"
    word = text[:_MAX_READ].lower()
    known = _BY_NAME.get(word) or os_type(word)
    return known or (word if ID.fullmatch(word) else "generic")


def is_os(package_type: str) -> bool:
    """Tell whether packages of a type are the distribution's own."""
    return package_type == DISTRIBUTION or find_family(package_type) is not None


def is_fixed_by_source(package_type: str) -> bool:
    """Tell whether fixed versions of such packages are those of their sources."""
    family = find_family(package_type)
    return family is not None and family.fixed_by_source


def find_fault(finding: Finding) -> str:
    """Say which of a finding's strings break the grammar, as a plural; empty when none does."""
    library = not is_os(finding.package_type)
    if not ID.fullmatch(finding.package_type):
        return "invalid package types"
    if not (_LIBRARY if library else NAME).fullmatch(finding.package):
        return "invalid package names"
    if not ID.fullmatch(finding.vulnerability_id) or not all(map(ID.fullmatch, finding.aliases)):
        return "invalid vulnerability ids"
    grammar = _LIBRARY_VERSION if library else VERSION
    for version in (finding.installed_version, *finding.fixed_versions):
        if version and not grammar.fullmatch(version):
            return "invalid versions"
    for text in (finding.purl, finding.severity, finding.architecture, *finding.locations):
        if text and not _PLACE.fullmatch(text):
            return "unprintable texts"
    return ""


def specify(finding: Finding, package_type: str) -> Finding:
    """Say which package manager's a finding is that is only known to be the distribution's."""
    if finding.package_type != DISTRIBUTION:
        return finding
    is_source = is_fixed_by_source(package_type)
    fixes = finding.fixes and tuple(replace(fix, is_source=is_source) for fix in finding.fixes)
    return replace(finding, package_type=package_type, fixes=fixes)


class FindingBuilder:
    """
    Collects the findings about one image. What it is given is as the report has it, of whatever type.

    `complete` says that a row without a fixed version has no fix; otherwise nobody knows whether it has one.
    """

    def __init__(self, scanner: str, path: str, *, complete: bool = True) -> None:
        self._scanner = scanner
        self._path = path
        self._complete = complete
        self._rows = 0
        self._findings: dict[Finding, None] = {}
        self._unreadable: Counter[str] = Counter()
        # What many rows have alike is read once.
        self._fixes: dict[tuple[str, bool], tuple[Fix, ...]] = {}
        self._purls: dict[str, Purl | None] = {}

    def refuse(self, reason: str) -> None:
        """Leave a row out; `reason` is a plural (`invalid versions`)."""
        self._unreadable[reason] += 1

    def add(
        self,
        *,
        vulnerability: object,
        package: object,
        package_type: str,
        installed: object = "",
        fixed: object = (),
        severity: object = "",
        architecture: object = None,
        purl: object = "",
        aliases: object = (),
        locations: object = (),
        names_source: bool = False,
        fixed_is_source: bool | None = None,
    ) -> None:
        """
        Take one row. `fixed` is a list of versions, or one text with commas; an architecture that isn't given comes
        from the purl, and `fixed_is_source` from the type. Raises `ReportError` when there are too many.
        """
        self._rows += 1
        if self._rows > MAX_FINDINGS:
            raise ReportError(f"the report {self._path} has more than {MAX_FINDINGS} findings")
        if not isinstance(package, str):
            return self.refuse("invalid package names")
        if not isinstance(vulnerability, str):
            return self.refuse("invalid vulnerability ids")
        is_source = is_fixed_by_source(package_type) if fixed_is_source is None else fixed_is_source
        fixes, version = self._read_fixes(fixed, is_source=is_source), _version(installed or "")
        if fixes is None or version is None:
            return self.refuse("invalid versions")
        parts = self.read_purl(purl) if purl else None
        finding = Finding(
            vulnerability_id=vulnerability,
            package=package,
            installed_version=version,
            fixes=fixes if fixes or self._complete else None,
            severity=_severity(severity),
            package_type=package_type,
            architecture=_architecture(architecture, parts),
            names_source=names_source,
            aliases=_texts(aliases, ID, MAX_ALIASES, but=vulnerability) if aliases else (),
            purl="" if parts is None else str(purl),
            locations=tuple(place.lstrip("/") for place in _texts(locations, _PLACE, MAX_PLACES)) if locations else (),
        )
        fault = find_fault(finding)
        if fault:
            return self.refuse(fault)
        self._findings[finding] = None
        return None

    def _read_fixes(self, fixed: object, *, is_source: bool) -> tuple[Fix, ...] | None:
        if not isinstance(fixed, str):
            versions = _versions(fixed)
            return None if versions is None else tuple(Fix(version=one, is_source=is_source) for one in versions)
        found = self._fixes.get((fixed, is_source))
        if found is None:
            versions = _versions(fixed.split(",", MAX_FIXES))
            if versions is None:
                return None
            found = tuple(Fix(version=one, is_source=is_source) for one in versions)
            self._fixes[fixed, is_source] = found
        return found

    def read_purl(self, text: object) -> Purl | None:
        """Return the parts of a package URL; the same one is read once."""
        if not isinstance(text, str) or not _PURL.fullmatch(text):
            return None
        if text not in self._purls:
            self._purls[text] = read_purl(text)
        return self._purls[text]

    def report(
        self,
        *,
        image_digests: Iterable[object] = (),
        image_name: object = "",
        os_family: object = "",
        os_version: object = "",
        architecture: object = "",
    ) -> Report:
        """Close the report; digests may stand behind a name and an @, what isn't one says nothing."""
        return Report(
            scanner=self._scanner,
            path=self._path,
            findings=tuple(self._findings),
            image_digests=frozenset(_digests(image_digests)),
            image_name=image_name[:512] if isinstance(image_name, str) else "",
            os_family=_word(os_family),
            os_version=_word(os_version),
            architecture=_PLATFORMS.get(_word(architecture).lower(), _word(architecture)),
            unreadable=dict(self._unreadable),
        )


def _version(text: object) -> str | None:
    """Strip what surrounds a version without saying anything: an epoch of 0 is none."""
    if not isinstance(text, str) or len(text) > _MAX_READ * 4:
        return None
    bare = text.strip(" []")
    operator = _OPERATOR.match(bare)
    return (bare[operator.end() :] if operator else bare).removeprefix("0:")


def _versions(value: object) -> list[str] | None:
    """Return fixed versions once each, in their order; None for what is no list of texts."""
    texts = value if isinstance(value, list | tuple) else [value or ""]
    if len(texts) > MAX_FIXES:
        return None
    found = [_version(text) for text in texts]
    known = [version for version in dict.fromkeys(found) if version and version.lower() not in _NO_FIX]
    # An upper bound is where a branch ends, beside its `>=`.
    return None if None in found else [version for version in known if not version.startswith("<")]


def _texts(value: object, grammar: re.Pattern[str], most: int, *, but: str = "") -> tuple[str, ...]:
    texts = value[:_MAX_READ] if isinstance(value, list | tuple) else (value,)
    valid = dict.fromkeys(text for text in texts if isinstance(text, str) and grammar.fullmatch(text))
    return tuple(text for text in valid if text != but)[:most]


def _severity(value: object) -> str:
    """A number is a CVSS score."""
    if not isinstance(value, str):
        return "UNKNOWN"
    if _SCORE.fullmatch(value):
        return next(name for least, name in _SCORES if float(value) >= least)
    return _SEVERITIES.get(value[:_MAX_READ].lower(), "UNKNOWN")


def _architecture(given: object, purl: Purl | None) -> str | None:
    word = given if isinstance(given, str) else purl.architecture if purl is not None else ""
    return word if NAME.fullmatch(word) else None


def _word(value: object) -> str:
    return value if isinstance(value, str) and NAME.fullmatch(value) else ""


def _digests(values: Iterable[object]) -> Iterator[Digest]:
    for value in values:
        if isinstance(value, str):
            try:
                yield Digest.parse(value.rpartition("@")[2])
            except CopaError:
                continue
