# SPDX-License-Identifier: Apache-2.0
"""
The stanzas of dpkg's database, whoever wrote them.

dpkg gives each a `Status`; tools that only put together an image may give none (control files one after the other), or
write a Status into control files whose continuation lines lost their blank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from msgspec import Struct

from copacetic.deb.deb822 import MAX_LINES, Deb822Error, Stanza, parse_stanzas, stanza_of
from copacetic.errors import InventoryError
from copacetic.inventory.earlier import Versions, earlier_versions
from copacetic.oci.filesystem import ImageFilesystem, hidden_versions
from copacetic.updates import InstalledPackage, PackageKey

__all__ = [
    "ARCHITECTURE",
    "MAX_PACKAGES",
    "NAME",
    "VERSION",
    "StanzaRow",
    "mend_stanzas",
    "read_earlier",
    "read_rows",
    "read_status",
]

MAX_PACKAGES = 30_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,127}")
VERSION = re.compile(r"[!-.0-~]{1,256}")
"""As dpkg reads its own database: it only warns of characters that a version doesn't have."""
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?")
_INSTALLED = frozenset({"installed", "triggers-awaited", "triggers-pending"})
_UNFINISHED = frozenset({"unpacked", "half-configured", "half-installed"})
"""dpkg was interrupted, or a script failed: the files are there, vulnerable or not."""
_STATUS_FIELD = re.compile(rb"^Status:", re.MULTILINE | re.IGNORECASE)
_FIELD = re.compile(r"([A-Z][A-Za-z0-9-]{1,40}):(?: |\Z)")
_FOLLOWING = frozenset({"homepage", "built-using", "static-built-using", "original-maintainer", "tag", "task"})
"""Fields that stand behind the description. Another word and a colon there is the description's text."""


class StanzaRow(Struct, frozen=True):
    """One package's stanza, and the file it stands in."""

    package: InstalledPackage
    file: str
    installed: bool

    @property
    def stanza(self) -> Stanza:
        return stanza_of(self.package)


def read_status(data: bytes, file: str, *, may_mend: Callable[[], bool]) -> list[StanzaRow]:
    """Read a `status` file, whoever wrote it. What dpkg wrote itself isn't to be mended when it is broken."""
    if _STATUS_FIELD.search(data) is None:
        return read_rows(data, file, needs_status=False, partial=True)
    try:
        return read_rows(data, file, needs_status=True)
    except InventoryError:
        if may_mend():
            with suppress(InventoryError):
                return read_rows(data, file, needs_status=True, mended=True)
        raise


def read_earlier(fs: ImageFilesystem, path: str, rows: Iterable[StanzaRow], *, limit: int) -> Versions:
    """Return what the `status` files of lower layers tell; see `earlier_versions`. A broken one has none."""
    before: list[Versions] = []
    for data in hidden_versions(fs, path, limit=limit):
        try:
            before.append(_versions(read_rows(data, path, needs_status=True)))
        except InventoryError:
            before.append({})
    return earlier_versions(_versions(rows), before)


def _versions(rows: Iterable[StanzaRow]) -> Versions:
    return {row.package.key: row.package.version for row in rows if row.installed}


def read_rows(
    data: bytes, file: str, *, needs_status: bool, mended: bool = False, partial: bool = False
) -> list[StanzaRow]:
    """
    Read the stanzas of a file. `mended` takes lines that have lost their leading blank; `partial` says that a package
    is there only in part.

    Raises `InventoryError`.
    """
    text = data.decode("utf-8", "surrogateescape")
    rows: dict[PackageKey, StanzaRow] = {}
    try:
        for stanza in mend_stanzas(text) if mended else parse_stanzas(text):
            row = _row(stanza, file, needs_status, partial)
            key = row.package.key
            if key in rows:
                raise InventoryError(f"{file}: {key} stands there twice")
            if len(rows) == MAX_PACKAGES:
                raise InventoryError(f"{file} has more than {MAX_PACKAGES} packages")
            rows[key] = row
    except Deb822Error as error:
        raise InventoryError(f"{file}: {error}") from error
    return list(rows.values())


def mend_stanzas(text: str) -> Iterator[Stanza]:
    """
    Yield stanzas whose continuation lines have no leading blank; their text is what was read.

    A line is a field only where it can't be anything else, so that a description can't set one.
    """
    if text.count("\n") > MAX_LINES:
        raise Deb822Error(f"more than {MAX_LINES} lines")
    start = 0
    lines = text.split("\n")
    for number in range(len(lines) + 1):
        if number < len(lines) and lines[number].strip(" \t\r"):
            continue
        if number > start:
            ours = lines[start:number]
            (stanza,) = parse_stanzas("\n".join(_mend(ours)))
            yield Stanza(fields=stanza.fields, text="\n".join(ours))
        start = number + 1


def _mend(lines: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for line in lines:
        match = _FIELD.match(line)
        name = match[1].lower() if match is not None else ""
        is_field = bool(name) and name not in seen and ("description" not in seen or name in _FOLLOWING)
        seen.add(name)
        yield line if is_field or line[0] in " \t" else f" {line}"


def _row(stanza: Stanza, file: str, needs_status: bool, partial: bool) -> StanzaRow:
    name, version = stanza.find("Package"), stanza.find("Version")
    architecture = stanza.find("Architecture", "all")
    words = stanza.find("Status").split()
    if needs_status and len(words) != 3:
        raise InventoryError(f"{file}: {name[:100]!r} has no usable Status")
    state = words[2] if needs_status and words[2] in _UNFINISHED else ""
    installed = not needs_status or bool(state) or words[2] in _INSTALLED
    if not NAME.fullmatch(name):
        raise InventoryError(f"{file}: not a package name: {name[:100]!r}")
    if installed and not (VERSION.fullmatch(version) and ARCHITECTURE.fullmatch(architecture)):
        raise InventoryError(f"{file}: {name} has the version {version[:100]!r} for {architecture[:100]!r}")
    source = _SOURCE.fullmatch(stanza.find("Source").strip())
    package = InstalledPackage(
        name=name,
        version=version,
        architecture=architecture,
        source_name=source[1] if source else name,
        source_version=(source[2] if source else None) or version,
        held=bool(words) and words[0] == "hold",
        state=state,
        partial=partial,
        record=stanza,
    )
    return StanzaRow(package, file, installed)
