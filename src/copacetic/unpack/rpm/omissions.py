# SPDX-License-Identifier: Apache-2.0
"""
Which files of a package this image leaves out: of another architecture, of other languages, documentation.

What the image's configuration says is the least of it: an image made with `tsflags=nodocs` or with excluded paths says
so nowhere but in its database, as the states of the files. So a path that was left out stays out, and one that is new
goes the way of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm.files import FileFlag, FileState, RpmFile
from copacetic.unpack.rpm.fate import Fate
from copacetic.unpack.rpm.files import directory_of

__all__ = ["Omissions"]

MAX_FILE = 1024 * 1024
MAX_MACRO_FILES = 500
_CONFIGURATIONS = ("etc/dnf/dnf.conf", "etc/yum.conf", "etc/tdnf/tdnf.conf", "etc/zypp/zypp.conf")
_NO_DOCS = re.compile(
    r"^\s*(?:tsflags\s*=.*\bnodocs\b|rpm\.install\.excludedocs\s*=\s*(?:yes|true|1|on)\b)", re.MULTILINE
)
_LANGUAGES = re.compile(r"^\s*override_install_langs\s*=\s*(\S+)", re.MULTILINE)
_MACRO = re.compile(r"^%(_install_langs|_excludedocs)[ \t]+(\S+)", re.MULTILINE)
_MACRO_FOLDERS = ("usr/lib/rpm/macros.d", "etc/rpm")


@dataclass(frozen=True, slots=True)
class Omissions:
    """An image's policy, as far as it is configured, and as far as its packages show it."""

    languages: tuple[str, ...] = ()
    """Those that are installed; empty for all."""
    no_documentation: bool = False
    colour: int = 0
    """The image's architectures, as rpm has them: 1 (32 bits), 2 (64 bits), 3 (both); 0 where all have one colour."""
    cascades: bool = True
    """Whether a directory goes when all that was in it were directories that went; rpm 4.11 leaves it."""
    neighbours: Mapping[str, bool] = field(default_factory=dict)
    """Whether all that packages have directly in a directory is left out, for directories in which something is."""

    @classmethod
    def read(
        cls, fs: ImageFilesystem, installed: Iterable[Sequence[RpmFile]], *, colour: int, old_rpm: bool
    ) -> Omissions:
        """Read what the image says, and what all packages of its database show."""
        no_documentation, languages = False, ""
        for path in _CONFIGURATIONS:
            text = _read(fs, path)
            no_documentation = no_documentation or _NO_DOCS.search(text) is not None
            found = _LANGUAGES.search(text)
            languages = languages or (found[1] if found else "")
        for text in _macro_files(fs):
            for name, value in _MACRO.findall(text):
                if name == "_excludedocs":
                    no_documentation = value == "1"
                else:
                    languages = value
        spoken = tuple(one for one in re.split("[:,]", languages) if one)
        return cls(
            languages=() if "all" in spoken or "ALL" in spoken or "%{nil}" in spoken else spoken,
            no_documentation=no_documentation,
            colour=colour,
            cascades=not old_rpm,
            neighbours=_look_around(installed),
        )

    def choose(self, files: Sequence[RpmFile], old: Mapping[str, RpmFile]) -> dict[str, Fate]:
        """Return which of a package's files are left out, by path; `old` are the installed version's, by path."""
        found: dict[str, Fate] = {}
        kinds = _kinds(old.values())
        for file in files:
            if self.colour and file.color and not self.colour & file.color:
                found[file.path] = Fate.WRONG_COLOUR
            elif self._omits(file, old, kinds):
                found[file.path] = Fate.NOT_INSTALLED
        if found:
            self._leave_emptied(files, found)
        return found

    def _omits(self, file: RpmFile, old: Mapping[str, RpmFile], kinds: Mapping[tuple[str, str], bool]) -> bool:
        before = old.get(file.path)
        if before is not None and before.state == FileState.NOT_INSTALLED:
            return True
        is_license = file.has(FileFlag.LICENSE)
        if not is_license and file.language and self.languages and not self._speaks(file.language):
            return True
        if not is_license and file.has(FileFlag.DOC) and self.no_documentation:
            return True
        if before is not None:
            return False
        around = self.neighbours.get(directory_of(file))
        if around is not None:
            return around
        return kinds.get(_kind(file), False)

    def _speaks(self, languages: str) -> bool:
        wanted = [part for part in languages.split("|") if part]
        return any(spoken.startswith(part) for spoken in self.languages for part in wanted)

    def _leave_emptied(self, files: Sequence[RpmFile], found: dict[str, Fate]) -> None:
        """Leave out directories of the package in which nothing of it is left, but was."""
        left: dict[str, int] = {}
        emptied: set[str] = set()
        own: dict[str, RpmFile] = {}
        for file in files:
            folder = directory_of(file)
            left[folder] = left.get(folder, 0) + (file.path not in found)
            if file.path in found:
                emptied.add(folder)
            if file.is_directory:
                own[file.path] = file
        for folder in sorted(left, reverse=True):
            directory = own.get(folder)
            if left[folder] or folder not in emptied or directory is None or directory.path in found:
                continue
            found[directory.path] = Fate.NOT_INSTALLED
            if self.cascades:
                above = directory_of(directory)
                left[above] = left.get(above, 1) - 1
                emptied.add(above)


def _kind(file: RpmFile) -> tuple[str, str]:
    is_documentation = file.has(FileFlag.DOC) and not file.has(FileFlag.LICENSE)
    return ("documentation" if is_documentation else "", file.language)


def _kinds(files: Iterable[RpmFile]) -> Mapping[tuple[str, str], bool]:
    """Return, for documentation and for each language, whether the installed version has none of it in the image."""
    found: dict[tuple[str, str], bool] = {}
    for file in files:
        kind = _kind(file)
        if kind != ("", "") and file.state in (FileState.NORMAL, FileState.NOT_INSTALLED):
            found[kind] = found.get(kind, True) and file.state == FileState.NOT_INSTALLED
    return found


def _look_around(installed: Iterable[Sequence[RpmFile]]) -> Mapping[str, bool]:
    found: dict[str, bool] = {}
    there: set[str] = set()
    for files in installed:
        for file in files:
            if file.state == FileState.NOT_INSTALLED:
                found[directory_of(file)] = True
            elif file.state == FileState.NORMAL:
                there.add(directory_of(file))
    return {folder: folder not in there for folder in found}


def _read(fs: ImageFilesystem, path: str) -> str:
    try:
        return fs.read(path, limit=MAX_FILE).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def _macro_files(fs: ImageFilesystem) -> Iterable[str]:
    """Yield rpm's macros in the order in which it reads them; what comes later counts."""
    yield _read(fs, "usr/lib/rpm/macros")
    for folder in _MACRO_FOLDERS:
        names = [name for name in fs.iterdir(folder) if name.startswith("macros")]
        for name in names[:MAX_MACRO_FILES]:
            yield "\n".join(split_lines(_read(fs, f"{folder}/{name}")))
