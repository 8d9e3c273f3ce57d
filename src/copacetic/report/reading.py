# SPDX-License-Identifier: Apache-2.0
"""Reports as bytes: files, folders and standard input, plain or gzipped, within limits."""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from copacetic.errors import ReportError

__all__ = ["REPORT_LIMIT", "STANDARD_INPUT", "plain_text", "read_files"]

REPORT_LIMIT = 128 * 1024 * 1024
MAX_FILES = 1_000
MAX_VALUES = 2_500_000
"""Each has a comma, a colon or a bracket of its own; those in texts count, too."""
STANDARD_INPUT = Path("-")
_PIECE = 1024 * 1024
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_files(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and bytes, once; a folder stands for its files, `-` for standard input."""
    for path in paths:
        for file in _files(path):
            yield ("standard input" if file == STANDARD_INPUT else str(file)), _load(file)


def plain_text(data: bytes, name: str) -> bytes:
    """
    Unpack gzip and return UTF-8 without a byte order mark; PowerShell writes UTF-16.

    Raises `ReportError`, also for bytes that are no text.
    """
    data = _unpacked(data, name)
    try:
        wide = _WIDE.get(data[:2])
        data = data[2:].decode(wide).encode() if wide else data.removeprefix(codecs.BOM_UTF8)
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, 0 if data.isascii() else len(data), _PIECE):
            decoder.decode(data[at : at + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise ReportError(f"the report {name} is not JSON: {error}") from error
    if not data or data.isspace():
        raise ReportError(f"the report {name} is empty")
    # Three bytes may become an object of a hundred.
    if sum(map(data.count, (b",", b"[", b"{", b":"))) > MAX_VALUES:
        raise ReportError(f"the report {name} has more than {MAX_VALUES} values", hint="split it")
    return data


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
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(REPORT_LIMIT + 1)
        else:
            with path.open("rb") as file:
                data = file.read(REPORT_LIMIT + 1)
    except OSError as error:
        raise ReportError(f"can't read the report {path}: {error.strerror}") from error
    if len(data) > REPORT_LIMIT:
        raise ReportError(f"the report {path} has more than {REPORT_LIMIT} bytes", hint="is it a report?")
    return data


def _unpacked(data: bytes, name: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        decoder = zlib.decompressobj(31)
        plain = decoder.decompress(data, REPORT_LIMIT + 1)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ReportError(f"the report {name} is broken gzip: {error}") from error
    if len(plain) > REPORT_LIMIT:
        raise ReportError(f"the report {name} unpacks to more than {REPORT_LIMIT} bytes")
    if not decoder.eof:
        raise ReportError(f"the report {name} is truncated")
    return plain
