# SPDX-License-Identifier: Apache-2.0
"""
What packages say of their files, held against what a result has: content, type, mode, owner, target, attributes.

Where scripts were run, a package's own script may have given its files other attributes than they were packed with;
the rights to act as somebody else (setuid, setgid, capabilities) come from packages only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from copacetic.oci.filesystem import Entry, FileType, is_equal
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.shipped import Explanation, ShippedPackage, ShippedPath

__all__ = ["Claim", "Comparison", "attributes_of", "is_same", "new_rights", "speaks_of"]

_CAPABILITY = "security.capability"
_OF_THE_MACHINE = ("security.selinux", "trusted.overlay.", "user.overlay.")
_RIGHTS = 0o6000


Claim: TypeAlias = tuple[ShippedPackage, ShippedPath] | None
"""That a planned package ships a path; None where nobody here knows what the package says of it."""


@dataclass(slots=True)
class Comparison:
    """Holds claims against a result."""

    explanation: Explanation
    accounts: tuple[Accounts, ...]
    """The result's, and the image's: a name counts as it was when the file was unpacked."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Of files with several, by what `Entry.link_group` says: a script that speaks of one speaks of all."""
    granted: dict[str, str] = field(default_factory=dict)
    """Path → package, of files to which a script of that package gave rights that it was not packed with."""
    _owners: dict[tuple[str, int, str, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def differs(self, claim: Claim, path: str, entry: Entry, was: Entry | None) -> str:
        """Return how a path is another than a package says, or nothing. `was` is what the image has there."""
        if claim is None:
            return new_rights(entry, was)
        package, said = claim
        effect = (self.explanation.effects or {}).get(path)
        if effect is not None and effect.entry is not None and is_same(effect.entry, entry):
            return "" if self._is_of_script(package, path, entry, was) else new_rights(entry, was)
        if said.is_configuration and was is not None and is_same(was, entry):
            return ""  # it is there to be changed, and stays
        problem = self._content_differs(said, entry, was)
        if problem:
            return problem
        problem = self.attributes_differ(said, entry)
        if not problem or (said.is_configuration and was is not None and attributes_of(was) == attributes_of(entry)):
            return ""
        if self.explanation.effects is None and self._is_of_script(package, path, entry, was):
            return ""
        return problem

    def _content_differs(self, said: ShippedPath, entry: Entry, was: Entry | None) -> str:
        if entry.type is not said.type:
            return f"is a {entry.type.value} instead of a {said.type.value}"
        if entry.target != said.target:
            return f"leads to {entry.target} instead of {said.target}"
        if entry.device != said.device:
            return "is another device"
        if entry.sha256 == said.sha256:
            return ""
        stays = self.explanation.effects is None or (was is not None and was.sha256 == entry.sha256)
        return "" if said.is_configuration and stays else "has another content than in the package"

    def attributes_differ(self, said: ShippedPath, entry: Entry) -> str:
        """Return how mode, owner or extended attributes are others than a package says, or nothing."""
        if entry.mode != said.mode and entry.type is not FileType.SYMLINK:
            return f"has the mode {entry.mode:04o} instead of {said.mode:04o}"
        owner, named = (entry.uid, entry.gid), (said.user, said.uid, said.group, said.gid)
        owners = self._owners.get(named)
        if owners is None:
            owners = self._owners[named] = tuple(accounts.owner(*named) for accounts in self.accounts)
        if owner not in owners:
            return f"belongs to {owner[0]}:{owner[1]} instead of {owners[0][0]}:{owners[0][1]}"
        if entry.xattrs or said.xattrs:
            mine, packed = _portable(entry.xattrs), _portable(said.xattrs)
            if mine != packed:
                return f"has other extended attributes ({', '.join(sorted({*mine, *packed}))})"
        return ""

    def _is_of_script(self, package: ShippedPackage, path: str, entry: Entry, was: Entry | None) -> bool:
        """
        Tell whether a package's own script has made a file's attributes what they are: the image has it so already,
        or a script speaks of the file. Of a directory that isn't there yet, scripts needn't speak.
        """
        if was is not None and was.type is entry.type and attributes_of(was) == attributes_of(entry):
            return True
        if entry.type is FileType.DIRECTORY:
            return bool(package.scripts)
        if not any(speaks_of(package.scripts, name) for name in (path, *self.names.get(entry.link_group, ()))):
            return False
        if new_rights(entry, was):
            self.granted[path] = package.key.name
        return True


def new_rights(entry: Entry, was: Entry | None) -> str:
    """Return which rights a file has that the image's at this path hadn't, or nothing; devices count, too."""
    if entry.type in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE):
        return f"is a {entry.type.value} that no package ships"
    if entry.type is not FileType.FILE or not (entry.mode & _RIGHTS or _CAPABILITY in entry.xattrs):
        return ""
    had = was if was is not None and was.type is FileType.FILE else None
    if entry.mode & 0o4000 and (had is None or not had.mode & 0o4000 or had.uid != entry.uid):
        return "is setuid now, and no package ships it so"
    if entry.mode & 0o2000 and (had is None or not had.mode & 0o2000 or had.gid != entry.gid):
        return "is setgid now, and no package ships it so"
    if _CAPABILITY in entry.xattrs and (had is None or had.xattrs.get(_CAPABILITY) != entry.xattrs[_CAPABILITY]):
        return "has capabilities now, and no package ships it so"
    return ""


def speaks_of(scripts: str, path: str) -> bool:
    """Tell whether scripts name a file, wherever they say that it is."""
    name = path.rpartition("/")[2]
    return name in scripts and re.search(rf"(?<![\w.+-]){re.escape(name)}(?![\w+-]|\.\w)", scripts) is not None


def attributes_of(entry: Entry) -> tuple[object, ...]:
    """Return mode, owner and extended attributes, to be compared."""
    mode = None if entry.type is FileType.SYMLINK else entry.mode
    return mode, entry.uid, entry.gid, _portable(entry.xattrs)


def is_same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries are equal in everything but times, and what a machine puts on every file."""
    if one.xattrs or other.xattrs:
        one, other = (replace(entry, xattrs=_portable(entry.xattrs)) for entry in (one, other))
    return is_equal(one, other)


def _portable(xattrs: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Leave out what a machine puts on every file; no layer of ours has it."""
    if not xattrs:
        return {}
    return {name: value for name, value in xattrs.items() if not name.startswith(_OF_THE_MACHINE)}
