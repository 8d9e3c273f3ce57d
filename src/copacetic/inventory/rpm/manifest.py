# SPDX-License-Identifier: Apache-2.0
"""
What distroless images of Mariner and Azure Linux have instead of a database: the output of two queries.

    container-manifest-1    name-version-release.architecture
    container-manifest-2    name, version-release, installed at, built at, vendor, (none), size, architecture, epoch,
                            source package; with tabs between them

Nothing says which files are whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from copacetic.errors import InventoryError
from copacetic.inventory.rpm.index import IndexRules
from copacetic.inventory.rpm.store import Contents, check_count
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm import tags
from copacetic.rpm.header import RpmEntry, RpmHeader, number_entry, text_entry
from copacetic.rpm.identity import NO_ARCHITECTURE, RpmIdentity
from copacetic.strict import read_digits

__all__ = ["FOLDER", "ManifestStore"]

FOLDER = "var/lib/rpmmanifest"
_NAMES, _ROWS = f"{FOLDER}/container-manifest-1", f"{FOLDER}/container-manifest-2"
_LIMIT = 16 * 1024 * 1024
_COLUMNS = 10
_NOTHING = "(none)"


class ManifestStore:
    """`RpmStore` of manifests: its headers say no more than the rows do, and stand for them."""

    format = "rpm manifest"

    def __init__(self, fs: ImageFilesystem, lines: list[str]) -> None:
        self.path = fs.resolve(_ROWS)
        self._lines = {number: line for number, line in enumerate(lines, 1) if line}
        headers = {number: self._header(line) for number, line in self._lines.items()}
        check_count(len(headers), self.path)
        self._headers = headers
        self.contents = Contents({number: one.blob for number, one in headers.items()}, max(headers, default=0))
        self._names_path = fs.resolve(_NAMES)
        self._names = _read_lines(fs, self._names_path)

    @classmethod
    def open(cls, fs: ImageFilesystem) -> ManifestStore | None:
        """Raises `InventoryError`."""
        lines = _read_lines(fs, _ROWS)
        return None if lines is None else cls(fs, lines)

    def notes(self) -> tuple[str, ...]:
        what = f"{self.path} is all that the image says of its packages: not which files are whose"
        return (f"{what}, so those of an old version that the new one doesn't have stay, and not what a package needs",)

    def write(self, headers: Mapping[int, RpmHeader], highest: int, rules: IndexRules) -> Mapping[str, bytes | None]:
        rows = [self._lines.get(number) or _format(header) for number, header in headers.items()]
        files: dict[str, bytes | None] = {self.path: _joined(rows)}
        if self._names is not None:
            gone = {_label(header) for number, header in self._headers.items() if number not in headers}
            new = [_label(header) for number, header in headers.items() if number not in self._headers]
            files[self._names_path] = _joined([*(line for line in self._names if line not in gone), *new])
        return files

    def _header(self, line: str) -> RpmHeader:
        words = line.split("\t")
        epoch = read_digits(words[8], most=9) if len(words) == _COLUMNS else None
        version, dash, release = words[1].rpartition("-") if len(words) == _COLUMNS else ("", "", "")
        if epoch is None or not dash:
            raise InventoryError(f"{self.path}: not a package: {line[:100]!r}")
        return RpmHeader.build(_entries(words, version, release, epoch), region=0)


def _entries(words: list[str], version: str, release: str, epoch: int) -> Iterator[RpmEntry]:
    yield text_entry(tags.NAME, words[0])
    yield text_entry(tags.VERSION, version)
    yield text_entry(tags.RELEASE, release)
    if epoch:
        yield number_entry(tags.EPOCH, [epoch])
    for tag, word in ((tags.VENDOR, words[4]), (tags.ARCH, words[7]), (tags.SOURCE_RPM, words[9])):
        if word != _NOTHING:
            yield text_entry(tag, word)


def _format(header: RpmHeader) -> str:
    identity = RpmIdentity.of(header)
    columns = (
        identity.name,
        f"{identity.version}-{identity.release}",
        str(header.number(tags.INSTALL_TIME) or 0),
        str(header.number(tags.BUILD_TIME) or 0),
        header.text(tags.VENDOR, _NOTHING),
        _NOTHING,
        str(header.number(tags.LONG_SIZE) or header.number(tags.SIZE) or 0),
        identity.architecture,
        str(identity.epoch or 0),
        header.text(tags.SOURCE_RPM, _NOTHING),
    )
    return "\t".join(" ".join(column.split()) for column in columns)


def _label(header: RpmHeader) -> str:
    """As `rpm -qa` prints it."""
    identity = RpmIdentity.of(header)
    label = f"{identity.name}-{identity.version}-{identity.release}"
    return label if identity.architecture == NO_ARCHITECTURE else f"{label}.{identity.architecture}"


def _read_lines(fs: ImageFilesystem, path: str) -> list[str] | None:
    try:
        return split_lines(fs.read(path, limit=_LIMIT).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
