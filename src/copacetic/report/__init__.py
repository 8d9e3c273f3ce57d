# SPDX-License-Identifier: Apache-2.0
"""
Scanners' reports in, findings out.

A format is one module with `detect` and `parse`, listed in `PARSERS`; a report's format is detected, never asked for.
All strings of a report are hostile: what breaks the grammar of names and versions is left out and counted.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from copacetic.errors import ReportError, UnsupportedReportError, blame_input
from copacetic.loader import load
from copacetic.updates import Report

__all__ = ["PARSERS", "REPORT_LIMIT", "ReportParser", "load_reports", "parse_report"]

REPORT_LIMIT = 128 * 1024 * 1024
MAX_FILES = 1_000
MAX_VALUES = 2_500_000
"""Each has a comma, a colon or a bracket of its own; those in texts count, too."""

PARSERS: tuple[tuple[str, str], ...] = (("Trivy JSON", "copacetic.report.trivy"),)


class ReportParser(Protocol):
    """What a format's module has."""

    def detect(self, document: Any) -> bool:
        """Tell whether a decoded JSON document is of this format."""
        ...

    def parse(self, document: Any, path: str, package_types: frozenset[str]) -> Report:
        """Raises `ReportError`, naming the place in the document."""
        ...


def load_reports(paths: Sequence[Path], *, package_types: frozenset[str]) -> tuple[Report, ...]:
    """Read reports; a directory stands for its files. Raises `ReportError`."""
    return tuple(
        parse_report(_load(file), str(file), package_types=package_types) for path in paths for file in _files(path)
    )


def parse_report(data: bytes, path: str, *, package_types: frozenset[str]) -> Report:
    """Decode one report; `path` is for messages. Raises `ReportError` or `UnsupportedReportError`."""
    import msgspec

    data = _plain(data, path).removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise ReportError(f"the report {path} is empty")
    # Three bytes may become an object of a hundred.
    if sum(map(data.count, (b",", b"[", b"{", b":"))) > MAX_VALUES:
        raise ReportError(f"the report {path} has more than {MAX_VALUES} values", hint="split it")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ReportError(f"the report {path} is not JSON: {error}") from error
    for _name, module in PARSERS:
        parser: ReportParser = load(module)
        with blame_input(ReportError, f"the report {path}"):
            if parser.detect(document):
                return parser.parse(document, path, package_types)
    known = ", ".join(name for name, _ in PARSERS)
    found = f"an object with {', '.join(sorted(document)[:6])}" if isinstance(document, dict) else "no object"
    raise UnsupportedReportError(f"the report {path} is {found}; supported: {known}")


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files or len(files) > MAX_FILES:
        raise ReportError(f"the directory {path} has {len(files)} files, not 1 to {MAX_FILES} reports")
    yield from files


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(REPORT_LIMIT + 1)
    except OSError as error:
        raise ReportError(f"can't read the report {path}: {error.strerror}") from error
    if len(data) > REPORT_LIMIT:
        raise ReportError(f"the report {path} has more than {REPORT_LIMIT} bytes", hint="is it a report?")
    return data


def _plain(data: bytes, path: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        decoder = zlib.decompressobj(31)
        plain = decoder.decompress(data, REPORT_LIMIT + 1)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ReportError(f"the report {path} is broken gzip: {error}") from error
    if len(plain) > REPORT_LIMIT:
        raise ReportError(f"the report {path} unpacks to more than {REPORT_LIMIT} bytes")
    if not decoder.eof:
        raise ReportError(f"the report {path} is truncated")
    return plain
