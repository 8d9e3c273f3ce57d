# SPDX-License-Identifier: Apache-2.0
"""
Scanners' reports in, findings out.

A format is one module that follows `Scanner`, listed in `SCANNERS`; a report's format is recognised by its beginning
unless the user names it. A scanner says everything that a report says: which of it counts is policy, and decided
elsewhere. All strings are hostile, and pass the grammar in `grammar`, which no format goes round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from copacetic.errors import ReportError, UnsupportedReportError, UsageError, blame_input
from copacetic.loader import load
from copacetic.report.document import sketch
from copacetic.report.reading import plain_text, read_files
from copacetic.updates import Report

__all__ = ["SCANNERS", "Scanner", "load_reports", "parse_report"]

HEAD = 64 * 1024

SCANNERS: Mapping[str, str] = {
    "trivy": "copacetic.report.trivy",
    "grype": "copacetic.report.grype",
    "cyclonedx": "copacetic.report.cyclonedx",
    "sarif": "copacetic.report.sarif",
    "osv": "copacetic.report.osv",
    "snyk": "copacetic.report.snyk",
    "clair": "copacetic.report.clair",
    "clair2": "copacetic.report.clair2",
    "inspector": "copacetic.report.inspector",
    "anchore": "copacetic.report.anchore",
    "prisma": "copacetic.report.prisma",
    "gitlab": "copacetic.report.gitlab",
    "trivy-operator": "copacetic.report.operator",
    "azure-defender": "copacetic.report.defender",
    "asff": "copacetic.report.asff",
    "xray": "copacetic.report.xray",
    "wiz": "copacetic.report.wiz",
    "manifest": "copacetic.report.manifest",
}
"""Modules by the name of their format; the first that accepts a report reads it."""


class Scanner(Protocol):
    """What a format's module has."""

    def accepts(self, head: bytes, name: str) -> bool:
        """Tell whether a report is of this format, by its first 64 KiB and its name; it may be anything at all."""
        ...

    def parse(self, data: bytes, name: str) -> Iterable[Report]:
        """
        Return a report for each image that the document speaks of, findings of all kinds in it.

        `data` is UTF-8 without a byte order mark. Raises `ReportError`, naming the place in the document.
        """
        ...


def load_reports(paths: Sequence[Path], *, report_format: str = "") -> tuple[Report, ...]:
    """Read reports; a directory stands for its files, `-` for standard input. Raises `ReportError`, `UsageError`."""
    if report_format and report_format not in SCANNERS:
        raise UsageError(f"no report format is called {report_format[:80]!r}", hint=f"there are {', '.join(SCANNERS)}")
    return tuple(
        report for name, data in read_files(paths) for report in parse_report(data, name, report_format=report_format)
    )


def parse_report(data: bytes, name: str, *, report_format: str = "") -> tuple[Report, ...]:
    """Decode one file; `name` is for messages. Raises `ReportError` or `UnsupportedReportError`."""
    text = plain_text(data, name)
    head = text[:HEAD]
    for known in [report_format] if report_format else SCANNERS:
        scanner: Scanner = load(SCANNERS[known])
        with blame_input(ReportError, f"the report {name}"):
            if report_format or scanner.accepts(head, name):
                return tuple(scanner.parse(text, name))
    found = sketch(head)
    if found is None and head.strip() != b"null":
        raise ReportError(f"the report {name} is not JSON")
    shown = f"an object with {', '.join(sorted(found)[:6])}" if isinstance(found, dict) else "no object"
    raise UnsupportedReportError(f"the report {name} is {shown}; supported: {', '.join(SCANNERS)}")
