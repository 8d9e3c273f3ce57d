# SPDX-License-Identifier: Apache-2.0
"""
What apk is told to keep in a run: `etc/apk/world` as far as the plan's result meets it, and whatever apk would remove.

apk removes what nothing in `world` needs, even when a new version only drops a dependency, and does nothing at all
while `world` asks for something in vain. The plan does neither. Names are enough: of each, apk finds the planned
version or the installed one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from copacetic.apk.dependency import (
    Dependency,
    DependencyError,
    dependencies_of,
    parse_dependency,
    provided_names,
)
from copacetic.apk.stanza import ApkStanza, stanza_of
from copacetic.errors import UnsupportedImageError
from copacetic.inventory.apk import ApkDatabase
from copacetic.pkgmgr.probe import HINT

__all__ = ["make_world"]


def make_world(database: ApkDatabase, rows: Sequence[Mapping[str, str]]) -> str:
    """
    Return the words with which an upgrade to the packages of some index rows is the plan, one on each line.

    Raises `UnsupportedImageError` for dependencies that can't be read.
    """
    result = {package.name: stanza_of(package) for package in database.packages()}
    result |= {row["P"]: ApkStanza(row) for row in rows}
    try:
        installed = _Installed(list(result.values()), database.version_scheme)
        asked = list(_asked(database.world, installed))
        reached = installed.reach([parse_dependency(word) for word in asked])
    except DependencyError as error:
        raise UnsupportedImageError(f"the image's packages: {error}", hint=HINT) from error
    return "".join(f"{word}\n" for word in (*asked, *sorted(result.keys() - reached)))


def _asked(world: str, installed: _Installed) -> Iterator[str]:
    """What `world` asks for in vain keeps its own package, whatever the version, or is left out."""
    for word in dict.fromkeys(world.split()):
        dependency = parse_dependency(word)
        if dependency.conflict or installed.meeting(dependency):
            yield word
        elif dependency.name in installed.providers:
            yield str(Dependency(dependency.name, tag=dependency.tag))


class _Installed:
    """A set of packages by what they provide."""

    def __init__(self, packages: Sequence[ApkStanza], scheme: str) -> None:
        self._packages = packages
        self._scheme = scheme
        self.providers: dict[str, list[tuple[ApkStanza, str | None]]] = defaultdict(list)
        for package in packages:
            for name, version in provided_names(package).items():
                self.providers[name].append((package, version))

    def meeting(self, dependency: Dependency) -> list[ApkStanza]:
        return [
            package
            for package, version in self.providers.get(dependency.name, ())
            if dependency.matches(version, package.identity, self._scheme)
        ]

    def reach(self, wanted: Sequence[Dependency]) -> set[str]:
        """Return the names of what is needed for certain; of several packages that would do, apk picks one."""
        reached: set[str] = set()
        pending = list(wanted)
        while pending:
            while pending:
                dependency = pending.pop()
                found = [] if dependency.conflict else self.meeting(dependency)
                chosen = [package for package in found if package.name == dependency.name] or found
                if len(chosen) == 1 and chosen[0].name not in reached:
                    reached.add(chosen[0].name)
                    pending += dependencies_of(chosen[0], "D")
            for package in self._packages:  # what comes in by itself stays by itself
                conditions = dependencies_of(package, "i")
                if package.name not in reached and conditions and all(self._holds(d, reached) for d in conditions):
                    pending.append(Dependency(package.name))
        return reached

    def _holds(self, dependency: Dependency, reached: set[str]) -> bool:
        return not dependency.conflict and any(package.name in reached for package in self.meeting(dependency))
