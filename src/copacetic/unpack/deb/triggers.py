# SPDX-License-Identifier: Apache-2.0
"""
Triggers: which packages want to hear of what the new packages do.

Follows deb-triggers(5): a trigger is a name that a package activates, or a path under which something changes. dpkg
also fires for files that are unpacked with the same content; the result of that is what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.lines import split_lines
from copacetic.scripts.changes import ChangeSet
from copacetic.unpack.deb.package import DebPackage
from copacetic.updates import PackageKey

__all__ = ["Activation", "find_activations"]


class Activation(Struct, frozen=True):
    """An interested package would be told of these triggers."""

    interested: PackageKey
    names: tuple[str, ...]
    causes: tuple[PackageKey, ...]
    """The packages that set them off."""
    unchanged: str = ""
    """For paths below which nothing is different: one of the paths."""


def find_activations(
    database: DpkgDatabase,
    packages: Sequence[DebPackage],
    activated: Mapping[PackageKey, Sequence[str]],
    changes: ChangeSet,
) -> list[Activation]:
    """Return the activations, by interested package; `activated` are names that scripts set off, by package."""
    causes: dict[tuple[PackageKey, str], list[PackageKey]] = {}
    named = _named_interests(database, packages)
    by_path = _path_interests(database, packages)
    for package in packages:
        names = [name for verb, name in package.triggers if verb.startswith("activate")]
        for name in dict.fromkeys((*names, *activated.get(package.key, ()))):
            for interested in named.get(name, ()):
                causes.setdefault((interested, name), []).append(package.key)
        old = database.files(package.installed) if package.installed is not None else ()
        paths = set(package.md5sums or ()) | set(old)
        for path, interested in by_path:
            if any(other == path or other.startswith(f"{path}/") for other in paths):
                causes.setdefault((interested, f"/{path}"), []).append(package.key)
    return _group(causes, changes)


def _group(causes: Mapping[tuple[PackageKey, str], Sequence[PackageKey]], changes: ChangeSet) -> list[Activation]:
    """Join what the same package hears of; paths without a difference are kept apart."""
    joined: dict[tuple[PackageKey, bool], tuple[list[str], list[PackageKey]]] = {}
    for (interested, name), packages in sorted(causes.items(), key=lambda item: (str(item[0][0]), item[0][1])):
        same = name.startswith("/") and changes.below((name[1:],)) is None
        names, keys = joined.setdefault((interested, same), ([], []))
        names.append(name)
        keys += packages
    return [
        Activation(interested, tuple(names), tuple(dict.fromkeys(keys)), names[0] if same else "")
        for (interested, same), (names, keys) in joined.items()
    ]


def _named_interests(database: DpkgDatabase, packages: Sequence[DebPackage]) -> dict[str, list[PackageKey]]:
    """Return who is interested in a name after the upgrade."""
    found: dict[str, list[PackageKey]] = {}
    for name, text in database.named_triggers.items():
        for line in split_lines(text):
            found.setdefault(name, []).append(_key(database, line.removesuffix("/noawait")))
    for package in packages:
        for verb, name in package.triggers:
            if verb.startswith("interest") and not name.startswith("/"):
                found.setdefault(name, []).append(package.key)
    return {name: list(dict.fromkeys(keys)) for name, keys in found.items()}


def _path_interests(database: DpkgDatabase, packages: Sequence[DebPackage]) -> list[tuple[str, PackageKey]]:
    found = [(path, _key(database, who.removesuffix("/noawait"))) for path, who in database.file_triggers]
    found += [
        (name.lstrip("/"), package.key)
        for package in packages
        for verb, name in package.triggers
        if verb.startswith("interest") and name.startswith("/")
    ]
    return list(dict.fromkeys(found))


def _key(database: DpkgDatabase, info_name: str) -> PackageKey:
    """Read a name as in the triggers' files, with an architecture only where several may be installed."""
    name, _, architecture = info_name.partition(":")
    here = (package.key for package in database.packages() if not architecture and package.name == name)
    return next(here, PackageKey(name, architecture))
