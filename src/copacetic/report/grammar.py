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
from dataclasses import replace

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
_OPERATOR = re.compile(r"(?:>=|~>|=)\s*")
_PURL = re.compile(rf"[!-~]{{1,{MAX_LENGTH}}}")
_PLACE = re.compile(r"[ -~\u00a1-\u1fff\u3000-\ud7ff]{1,2000}")
_NO_FIX = frozenset({"", "none", "not fixed", "notavailable", "not available", "n/a", "--", "null", "unknown"})

MAX_FINDINGS = 1_000_000
MAX_PLACES = 20
MAX_ALIASES = 20

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
_PLATFORMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def os_type(text: object) -> str:
    """Return the type of package that a distribution (or package manager) has; empty for one that isn't known."""
    return type_of_report(text) if isinstance(text, str) else ""


def find_type(text: object) -> str:
    """Return purl's type for what a scanner calls a kind of package, itself where nobody knows it, or `generic`."""
    if not isinstance(text, str):
        return "generic"
    word = text.lower()
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
    if not all(map(ID.fullmatch, (finding.vulnerability_id, *finding.aliases))):
        return "invalid vulnerability ids"
    versions = filter(None, (finding.installed_version, *finding.fixed_versions))
    if not all(map((_LIBRARY_VERSION if library else VERSION).fullmatch, versions)):
        return "invalid versions"
    rest = (finding.purl, finding.severity, finding.architecture or "", *finding.locations)
    return "" if all(map(_PLACE.fullmatch, filter(None, rest))) else "unprintable texts"


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
        self._findings: dict[Finding, None] = {}
        self._unreadable: Counter[str] = Counter()

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
        if len(self._findings) + self._unreadable.total() >= MAX_FINDINGS:
            raise ReportError(f"the report {self._path} has more than {MAX_FINDINGS} findings")
        versions, version = _versions(fixed), _version(installed or "")
        if not isinstance(package, str):
            return self.refuse("invalid package names")
        if not isinstance(vulnerability, str):
            return self.refuse("invalid vulnerability ids")
        if versions is None or version is None:
            return self.refuse("invalid versions")
        is_source = is_fixed_by_source(package_type) if fixed_is_source is None else fixed_is_source
        parts = read_purl(purl)
        fixes = tuple(Fix(version=fix, is_source=is_source) for fix in versions)
        finding = Finding(
            vulnerability_id=vulnerability,
            package=package,
            installed_version=version,
            fixes=fixes if fixes or self._complete else None,
            severity=_SEVERITIES.get(severity.lower(), "UNKNOWN") if isinstance(severity, str) else "UNKNOWN",
            package_type=package_type,
            architecture=_architecture(architecture, parts),
            names_source=names_source,
            aliases=tuple(alias for alias in _texts(aliases, ID, MAX_ALIASES) if alias != vulnerability),
            purl=next(_texts(purl, _PURL, 1), "") if parts is not None else "",
            locations=tuple(place.lstrip("/") for place in _texts(locations, _PLACE, MAX_PLACES)),
        )
        fault = find_fault(finding)
        if fault:
            return self.refuse(fault)
        self._findings[finding] = None
        return None

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
    if not isinstance(text, str):
        return None
    return _OPERATOR.sub("", text.strip(" []"), count=1).removeprefix("0:")


def _versions(value: object) -> list[str] | None:
    """Return fixed versions once each, in their order; None for what is no text."""
    texts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value or ""]
    found = [_version(text) for text in texts]
    known = [version for version in dict.fromkeys(found) if version and version.lower() not in _NO_FIX]
    known = [version for version in known if not version.startswith("<")]  # where a branch ends, beside its `>=`
    return None if None in found else known


def _texts(value: object, grammar: re.Pattern[str], most: int) -> Iterator[str]:
    texts = value if isinstance(value, list | tuple) else (value,)
    valid = dict.fromkeys(text for text in texts if isinstance(text, str) and grammar.fullmatch(text))
    yield from list(valid)[:most]


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
