# SPDX-License-Identifier: Apache-2.0
"""updateinfo.xml: which updates close which vulnerabilities, and how severe those are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from copacetic.repository.rpm.xmlreader import XmlError

__all__ = ["SEVERITIES", "Advisory", "AdvisoryReader", "severities_of"]

MAX_ADVISORIES = 100_000
MAX_PACKAGES = 500_000
_MAX_REFERENCES = 10_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._@+-]{0,99}")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,12}")
_WORDS = {
    "critical": "CRITICAL",
    "important": "HIGH",
    "high": "HIGH",
    "moderate": "MEDIUM",
    "medium": "MEDIUM",
    "low": "LOW",
}
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
"""In their order."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~%{}-]{0,254}")
_VERSION = re.compile(r"[A-Za-z0-9_.+~^%{}]{1,255}")


class Advisory(msgspec.Struct, frozen=True, array_like=True):
    """One update."""

    id: str
    kind: str
    """security, bugfix, enhancement, newpackage, or whatever a repository calls it."""
    severity: str
    """As in findings; empty where it gives none."""
    cves: tuple[str, ...]
    packages: tuple[tuple[str, str, str], ...]
    """Names, `[epoch:]version-release` and architectures."""


class AdvisoryReader:
    """Callbacks for `read_xml`; what isn't understood of one advisory is left out."""

    def __init__(self) -> None:
        self.found: list[Advisory] = []
        self._packages = 0
        self._clear({})

    def _clear(self, attributes: Mapping[str, str]) -> None:
        self._kind = attributes.get("type", "")[:40]
        self._id = self._severity = ""
        self._cves: dict[str, None] = {}
        self._rows: dict[tuple[str, str, str], None] = {}

    def start(self, path: str, attributes: Mapping[str, str]) -> None:
        if path == "/updates/update":
            self._clear(attributes)
        elif path == "/updates/update/references/reference":
            words = (attributes.get("id", ""), attributes.get("title", ""))
            for cve in (found[0] for found in map(_CVE.search, words) if found is not None):
                if len(self._cves) < _MAX_REFERENCES:
                    self._cves[cve] = None
        elif path == "/updates/update/pkglist/collection/package":
            self._package(attributes)

    def _package(self, attributes: Mapping[str, str]) -> None:
        parts = [attributes.get(key, "") for key in ("version", "release", "arch")]
        name, epoch = attributes.get("name", ""), attributes.get("epoch", "") or "0"
        usable = _NAME.fullmatch(name) and all(_VERSION.fullmatch(part) for part in parts)
        if not usable or not (epoch.isascii() and epoch.isdigit()) or len(epoch) > 9:
            return
        self._packages += 1
        if self._packages > MAX_PACKAGES:
            raise XmlError(f"more than {MAX_PACKAGES} packages in its advisories")
        epoch = epoch.lstrip("0")
        self._rows[name, f"{epoch}{':' if epoch else ''}{parts[0]}-{parts[1]}", parts[2]] = None

    def end(self, path: str, text: str) -> None:
        if path == "/updates/update/id":
            self._id = text.strip() if _ID.fullmatch(text.strip()) else ""
        elif path == "/updates/update/severity":
            self._severity = _WORDS.get(text.strip().lower(), "")
        elif path == "/updates/update" and self._id and self._rows:
            if len(self.found) == MAX_ADVISORIES:
                raise XmlError(f"more than {MAX_ADVISORIES} advisories")
            cves = tuple(self._cves)
            self.found.append(Advisory(self._id, self._kind, self._severity, cves, tuple(self._rows)))


def severities_of(advisories: Iterable[Advisory]) -> dict[str, str]:
    """Return the severities of vulnerabilities, of several the worst; advisories themselves are among their names."""
    found: dict[str, str] = {}
    for advisory in advisories:
        if advisory.severity:
            for name in (advisory.id, *advisory.cves):
                known = found.get(name)
                if known is None or SEVERITIES.index(known) < SEVERITIES.index(advisory.severity):
                    found[name] = advisory.severity
    return found
