# SPDX-License-Identifier: Apache-2.0
"""
A fetched package, opened and held against the plan.

The identity that the signed index names is the digest of the control part, so what is read here is what the
repository vouches for, whatever the file is called.
"""

from __future__ import annotations

from collections.abc import Mapping

from copacetic.apk.stanza import stanza_of
from copacetic.errors import PackageError, about_package
from copacetic.repository.apk.package import ApkFile, open_package
from copacetic.strict import read_digits
from copacetic.unpack import FetchedPackage
from copacetic.unpack.package import OpenedPackage
from copacetic.updates import Candidate

__all__ = ["ApkPackage", "load_package"]


class ApkPackage(OpenedPackage, frozen=True, kw_only=True):
    """An .apk file."""

    file: ApkFile
    fields: Mapping[str, str]
    """What the database records: the index's row, with `r`, `q` and `f` of the package and the repository's tag."""

    @property
    def is_virtual(self) -> bool:
        """Whether apk records it without ever opening the package: the index says that nothing is installed."""
        return self.installed_size == 0

    @property
    def scripts(self) -> Mapping[str, bytes]:
        """By their names: post-install, trigger, …"""
        return {} if self.is_virtual else self.file.scripts

    @property
    def triggers(self) -> tuple[str, ...]:
        """Patterns of directories for which `trigger` is called."""
        return () if self.is_virtual else self.file.info.triggers


def load_package(fetched: FetchedPackage) -> ApkPackage:
    """Open a package. Raises `PackageError` when it isn't the planned one."""
    candidate = fetched.update.candidate
    with about_package(candidate.key):
        return _load(fetched, candidate)


def _load(fetched: FetchedPackage, candidate: Candidate) -> ApkPackage:
    label = f"{candidate.name} {candidate.version}"
    row = dict(stanza_of(candidate).fields)
    file = open_package(fetched.path, label, identity=row.get("C", ""))
    own = file.info.row(identity=file.identity, size=file.size, architecture=candidate.architecture)
    for letter, planned in (("P", candidate.name), ("V", candidate.version)):
        if own.get(letter) != planned:
            raise PackageError(f"{label}: the file is of {own.get(letter, 'nothing')!r} instead of {planned!r}")
    fields = row or dict(own)
    for letter in "rqsf":  # an index has none of them
        fields.pop(letter, None)
    for letter, known in (("s", candidate.origin.tag), ("f", file.flags)):
        if known:
            fields[letter] = known
    for letter in "rq":
        if fields.get("I", "0") != "0" and own.get(letter):
            fields[letter] = own[letter]
    package = ApkPackage(
        size=file.size,
        installed_size=read_digits(fields.get("I", ""), most=14) or 0,
        built=read_digits(fields.get("t", ""), most=11) or 0,
        file=file,
        fields=fields,
        installed=fetched.update.installed,
        key=candidate.key,
        version=candidate.version,
    )
    if package.is_virtual and any(entry.type != "5" for entry, _ in file.entries(checked=False)):
        raise PackageError(f"{label}: the index says that nothing is installed, and the package has files")
    return package
