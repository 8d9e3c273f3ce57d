# SPDX-License-Identifier: Apache-2.0
"""Those who take part in a transaction: packages that come, that go and that stay, as their triggers see each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from copacetic.inventory.rpm import record_of
from copacetic.rpm import RpmHeader, RpmIdentity
from copacetic.rpm.files import FileState
from copacetic.unpack.rpm.owners import Decision, InstalledFiles
from copacetic.unpack.rpm.package import OpenedRpm
from copacetic.unpack.rpm.scriptlets import Trigger, read_triggers, trigger_kinds
from copacetic.updates import PackageKey

__all__ = ["Participant"]


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """One package, installed or not yet."""

    key: PackageKey
    identity: RpmIdentity
    header: RpmHeader
    paths: tuple[str, ...]
    """Of the files that it has in this image."""
    causes: tuple[PackageKey, ...] = ()
    """The planned packages for whose sake it comes or goes; none of those that stay."""
    comes: bool = False
    before: RpmHeader | None = None
    """That of the version in whose place it comes."""
    hears: frozenset[str] = frozenset()
    """The kinds of triggers that it has; see `scriptlets.read_triggers`."""
    left: str = "1"
    """Of a package that goes: how many versions of it are left then."""

    @classmethod
    def new(cls, package: OpenedRpm, decision: Decision) -> Participant:
        """Return a package that comes."""
        paths = tuple(path for path, fate in decision.fates.items() if not fate.is_left_out)
        before = record_of(package.installed).header if package.installed and package.is_upgrade else None
        header = package.header
        return cls(
            package.key,
            package.identity,
            header,
            paths,
            (package.key,),
            comes=True,
            before=before,
            hears=trigger_kinds(header),
        )

    @classmethod
    def installed(cls, owner: InstalledFiles, *causes: PackageKey, left: str = "1") -> Participant:
        """Return a package of the image, which goes for the sake of others, or stays."""
        header = record_of(owner.package).header
        paths = tuple(file.path for file in owner.files if file.state == FileState.NORMAL)
        hears = trigger_kinds(header)
        return cls(owner.package.key, RpmIdentity.of(header), header, paths, causes, hears=hears, left=left)

    def triggers(self, kind: str, event: str) -> Iterable[Trigger]:
        """Return its triggers of a kind that an event sets off."""
        return read_triggers(self.header, kind, event) if kind in self.hears else ()
