# SPDX-License-Identifier: Apache-2.0
"""A fetched package, opened and held against the plan."""

from __future__ import annotations

from pathlib import Path

from copacetic.errors import PackageError, StorageError, about_package
from copacetic.repository.limits import MAX_ENTRIES
from copacetic.rpm import HeaderError, RpmHeader, RpmIdentity, RpmPackage, tags
from copacetic.rpm.files import RpmFile, read_files
from copacetic.unpack import FetchedPackage
from copacetic.unpack.package import OpenedPackage
from copacetic.unpack.rpm.files import require_plain
from copacetic.unpack.rpm.scriptlets import require_triggers

__all__ = ["OpenedRpm", "load_package"]


class OpenedRpm(OpenedPackage, frozen=True, kw_only=True):
    """An .rpm file."""

    path: Path
    file: RpmPackage
    files: tuple[RpmFile, ...]
    identity: RpmIdentity

    @property
    def header(self) -> RpmHeader:
        return self.file.header

    @property
    def is_upgrade(self) -> bool:
        """Whether a version of itself makes room for it; a package of another name that it replaces is erased."""
        return self.installed is not None and self.installed.name == self.name


def load_package(fetched: FetchedPackage) -> OpenedRpm:
    """Open a package. Raises `PackageError` when it isn't the planned one, or nothing that could be installed."""
    with about_package(fetched.key):
        return _load(fetched)


def _load(fetched: FetchedPackage) -> OpenedRpm:
    candidate = fetched.update.candidate
    label = f"{candidate.name} {candidate.version}"
    try:
        with fetched.path.open("rb") as source:
            file = RpmPackage.read(source)
            size = source.seek(0, 2)
        identity = RpmIdentity.of(file.header)
        files = read_files(file.header)
    except HeaderError as error:
        raise PackageError(f"{label}: {error}") from error
    except OSError as error:
        raise StorageError(f"{fetched.path}: {error.strerror or error}") from error
    own = (identity.name, identity.evr.removeprefix("0:"), identity.architecture)
    if own != (candidate.name, candidate.version.removeprefix("0:"), candidate.architecture):
        raise PackageError(f"{label}: the file is of {str(identity)!r}")
    _require_installable(file.header, files, label)
    return OpenedRpm(
        installed=fetched.update.installed,
        key=candidate.key,
        version=candidate.version,
        size=size,
        installed_size=file.header.number(tags.LONG_SIZE) or file.header.number(tags.SIZE) or 0,
        built=file.header.number(tags.BUILD_TIME) or 0,
        path=fetched.path,
        file=file,
        files=files,
        identity=identity,
    )


def _require_installable(header: RpmHeader, files: tuple[RpmFile, ...], label: str) -> None:
    """Refuse what no layer could hold, and what is in no package that anybody installs by now."""
    if tags.SOURCE_PACKAGE in header or tags.SOURCE_RPM not in header:
        raise PackageError(f"{label}: it is a package of sources")
    if header.text(tags.PAYLOAD_FORMAT, "cpio") != "cpio" or tags.OLD_FILE_NAMES in header:
        raise PackageError(f"{label}: its payload has a form that is not known")
    if len(files) > MAX_ENTRIES:
        raise PackageError(f"{label}: it has {len(files)} paths, more than {MAX_ENTRIES}")
    require_plain(files, label)
    require_triggers(header)
