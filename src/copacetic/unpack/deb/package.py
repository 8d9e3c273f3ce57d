# SPDX-License-Identifier: Apache-2.0
"""
A fetched package with its control part, checked against the plan.

Nothing of the payload is read here. The control file must name the package, the version and the architecture that
the plan does, whatever the file is called.
"""

from __future__ import annotations

from collections.abc import Mapping

from copacetic.deb.deb822 import Deb822Error, Stanza, parse_stanza
from copacetic.errors import PackageError, about_package
from copacetic.inventory.dpkg.archive import ControlPart, DebArchive
from copacetic.lines import split_lines
from copacetic.strict import read_digits
from copacetic.unpack import FetchedPackage
from copacetic.unpack.deb.conffile import parse_conffile_list
from copacetic.unpack.package import OpenedPackage
from copacetic.updates import Candidate

__all__ = ["SCRIPTS", "DebPackage", "load_package"]

SCRIPTS = ("config", "preinst", "postinst", "prerm", "postrm")


class DebPackage(OpenedPackage, frozen=True, kw_only=True):
    """A .deb file."""

    archive: DebArchive
    control: ControlPart
    stanza: Stanza
    conffiles: Mapping[str, bool]
    """Path → whether it is listed only to be removed on upgrade."""

    @property
    def is_shared(self) -> bool:
        """Whether packages of other architectures may be installed beside it, and own the same files."""
        return self.stanza.find("Multi-Arch").strip() == "same"

    def text(self, name: str) -> str | None:
        """Return a file of the control part as text, or None."""
        data = self.control.files.get(name)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    @property
    def scripts(self) -> Mapping[str, str]:
        """The maintainer scripts by name."""
        return {name: text for name in SCRIPTS if (text := self.text(name)) is not None}

    @property
    def md5sums(self) -> Mapping[str, str] | None:
        """Path → MD5 of the regular files, or None when the package has no such list."""
        text = self.text("md5sums")
        if text is None:
            return None
        rows = (line.split(None, 1) for line in split_lines(text))
        return {row[1].removeprefix("./").strip("/"): row[0] for row in rows if len(row) == 2}

    @property
    def triggers(self) -> tuple[tuple[str, str], ...]:
        """The lines of its `triggers` file: directive and name."""
        rows = (line.partition("#")[0].split() for line in split_lines(self.text("triggers") or ""))
        return tuple((row[0], row[1]) for row in rows if len(row) == 2)


def load_package(fetched: FetchedPackage) -> DebPackage:
    """Read a package's control part. Raises `PackageError` when it isn't the planned package."""
    candidate = fetched.update.candidate
    with about_package(candidate.key):
        return _load(fetched, candidate)


def _load(fetched: FetchedPackage, candidate: Candidate) -> DebPackage:
    label = f"{candidate.name} {candidate.version}"
    archive = DebArchive.open(fetched.path, label)
    control = archive.read_control()
    try:
        stanza = parse_stanza(control.files["control"].decode("utf-8", "surrogateescape"))
        conffiles = parse_conffile_list(control.files.get("conffiles", b"").decode("utf-8", "surrogateescape"))
    except ValueError as error:
        what = "control" if isinstance(error, Deb822Error) else "conffiles"
        raise PackageError(f"{label}: its {what} file is broken: {error}") from error
    expected = (candidate.name, candidate.version, candidate.architecture)
    for field, value in zip(("Package", "Version", "Architecture"), expected, strict=True):
        if stanza.find(field).strip() != value:
            raise PackageError(f"{label}: the file is of {field} {stanza.find(field)!r} instead of {value!r}")
    return DebPackage(
        size=archive.data.size,
        installed_size=(read_digits(stanza.find("Installed-Size").strip(), most=11) or 0) * 1024,
        built=control.newest_mtime,
        archive=archive,
        control=control,
        stanza=stanza,
        installed=fetched.update.installed,
        key=candidate.key,
        version=candidate.version,
        conffiles=conffiles,
    )
