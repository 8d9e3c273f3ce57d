# SPDX-License-Identifier: Apache-2.0
"""
All scripts and triggers of a set of packages, judged together.

What a package changes is told from the lists of checksums, old and new; of the payload only the configuration files,
which are in no such list, are looked at. An image
without scripts of its own (distroless) never ran any, and has no program to run them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from copacetic.errors import ConflictError, InvalidVersionError, about_package
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.changes import ChangeSet, PackageChange
from copacetic.scripts.effects import Due
from copacetic.scripts.judgement import Harmless, describe
from copacetic.scripts.surroundings import ImageSurroundings
from copacetic.unpack.deb.owners import Ownership
from copacetic.unpack.deb.package import DebPackage
from copacetic.unpack.deb.payload import read_checksums, spool_payload
from copacetic.unpack.deb.scripts import JudgedScript, ScriptSet, UpgradeJudge
from copacetic.unpack.deb.slices import Slices
from copacetic.unpack.deb.triggers import find_activations
from copacetic.updates import PackageKey, ScriptClass, ScriptVerdict
from copacetic.version import compare_versions

__all__ = ["Assessment", "assess_packages", "is_sliced"]

SHELL = "bin/sh"
NO_SCRIPTS = "this image keeps no maintainer scripts and has none of the programs they call"


class Assessment(Struct, frozen=True):
    """The verdicts by package, and what is to be done instead of running anything."""

    verdicts: Mapping[PackageKey, tuple[ScriptVerdict, ...]]
    effects: tuple[Due, ...]


def assess_packages(tree: TreeBuilder, database: DpkgDatabase, packages: Sequence[DebPackage]) -> Assessment:
    """Judge every script of the packages, and every trigger that they set off."""
    changes = ChangeSet.of([_change(tree, database, package) for package in packages])
    _refuse_conflicts(database, packages)
    surroundings = ImageSurroundings(tree, changes, _compare)
    judge = UpgradeJudge(surroundings, changes, lambda key: database.earlier.get(key, ""))
    sets = {package.key: _script_set(database, package) for package in packages}
    surroundings.unstable = judge.unstable_paths(list(sets.values()))
    judged: dict[PackageKey, list[JudgedScript]] = {}
    for package in packages:
        if is_sliced(database, package):
            judged[package.key] = _judge_slices(tree, database, package)
        elif _is_scriptless(tree, database, package):
            judged[package.key] = [_without_scripts(package.key, name) for name in package.scripts]
        else:
            judged[package.key] = judge.judge_package(sets[package.key])
    if database.regular or (database.bare and tree.lookup(SHELL) is not None):
        _judge_triggers(judge, database, packages, sets, judged)
    effects = dict.fromkeys(effect for scripts in judged.values() for one in scripts for effect in one.effects)
    verdicts = {key: tuple(one.verdict for one in scripts) for key, scripts in judged.items()}
    return Assessment(verdicts, tuple(effects))


def _judge_triggers(
    judge: UpgradeJudge,
    database: DpkgDatabase,
    packages: Sequence[DebPackage],
    sets: Mapping[PackageKey, ScriptSet],
    judged: dict[PackageKey, list[JudgedScript]],
) -> None:
    """Judge what interested packages would do; the verdicts stand with the packages that set the triggers off."""
    activated = {key: [name for one in scripts for name in one.triggers] for key, scripts in judged.items()}
    for activation in find_activations(database, packages, activated, judge.changes):
        interested = sets.get(activation.interested) or _installed_set(database, activation.interested)
        if interested is None:
            continue
        result = judge.judge_triggered(interested, activation.names, unchanged=activation.unchanged)
        for cause in activation.causes:
            verdict = replace(result.verdict, package=cause, script=f"trigger {' '.join(activation.names)}")
            judged[cause].append(replace(result, verdict=verdict, triggers=()))


def is_sliced(database: DpkgDatabase, package: DebPackage) -> bool:
    """Tell whether the image has, or would have, only a part of a package."""
    if package.installed is None:
        return database.sliced and not database.regular
    return package.installed.partial


def _judge_slices(tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> list[JudgedScript]:
    payload = spool_payload(package.archive, None, installed_size=package.installed_size)
    judged = [_without_scripts(package.key, name) for name in package.scripts]
    obstacle = Slices(tree, database, package).find_obstacle(payload)
    if obstacle:
        verdict = ScriptVerdict(
            package=package.key, script="slices", verdict=ScriptClass.REFUSED, reason=f"{package.version}: {obstacle}"
        )
        judged.insert(0, JudgedScript(verdict))
    return judged


def _is_scriptless(tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> bool:
    """Who removed only dpkg's records may have let scripts run before, and what they call may be there."""
    if database.bare and tree.lookup(SHELL) is not None:
        return False
    if package.installed is None:
        return not database.regular
    return not database.is_regular(package.installed)


def _without_scripts(key: PackageKey, name: str) -> JudgedScript:
    return JudgedScript(describe(key, name, Harmless(NO_SCRIPTS)))


def _script_set(database: DpkgDatabase, package: DebPackage) -> ScriptSet:
    installed = package.installed
    return ScriptSet(
        key=package.key,
        old_version=installed.version if installed is not None else "",
        new_version=package.version,
        old=_decode(database.scripts(installed)) if installed is not None else {},
        new=package.scripts,
    )


def _installed_set(database: DpkgDatabase, key: PackageKey) -> ScriptSet | None:
    """Return the scripts of a package that stays as it is."""
    for package in database.packages():
        if package.key == key:
            scripts = _decode(database.scripts(package))
            return ScriptSet(key, package.version, package.version, scripts, scripts)
    return None


def _decode(scripts: Mapping[str, bytes]) -> dict[str, str]:
    return {name: data.decode("utf-8", "surrogateescape") for name, data in scripts.items()}


def _change(tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> PackageChange:
    """Compare the checksums of the old version and the new one."""
    with about_package(package.key):
        return _compare_lists(tree, database, package)


def _compare_lists(tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> PackageChange:
    installed = package.installed
    old_list = database.files(installed) if installed is not None else ()
    old = database.md5sums(installed) if installed is not None else {}
    new = package.md5sums
    conffiles = _canonical(tree, package.conffiles)
    news = _changed_conffiles(tree, database, package)
    if new is None:
        # Without checksums, everything that there was may change.
        files = _canonical(tree, (path for path in old_list if path)) - conffiles
        return PackageChange(package.key, files=files, changed=files, conffiles=news)
    new_files = {_resolve(tree, path): md5 for path, md5 in new.items()}
    old_files = {_resolve(tree, path): md5 for path, md5 in old.items()}
    present = _canonical(tree, old_list)
    altered = {path for path, md5 in new_files.items() if path in present and old_files.get(path) != md5}
    return PackageChange(
        package.key,
        files=frozenset(new_files) - conffiles,
        changed=frozenset(altered) - conffiles,
        added=frozenset(new_files) - present - conffiles,
        removed=frozenset(old_files) - frozenset(new_files) - conffiles,
        conffiles=news,
    )


def _refuse_conflicts(database: DpkgDatabase, packages: Sequence[DebPackage]) -> None:
    """
    Find files that come new and are another package's, as far as the list of checksums tells before anything is
    unpacked. Raises `ConflictError`.
    """
    listed = {p.key: [*(p.md5sums or ()), *(path for path, gone in p.conffiles.items() if not gone)] for p in packages}
    added: list[tuple[DebPackage, list[str]]] = []
    for package in packages:
        if is_sliced(database, package):
            continue  # nothing new comes in
        old = frozenset(database.files(package.installed)) if package.installed is not None else frozenset()
        added.append((package, [path for path in listed[package.key] if path not in old]))
    if not any(paths for _, paths in added):
        return
    ownership = Ownership(database, packages, listed)
    for package, paths in added:
        with about_package(package.key):
            for path in paths:
                if not database.path_filters.excludes(path, directory_or_link=False):
                    try:
                        ownership.claim(path, package)
                    except ConflictError as error:
                        raise error.reworded(f"{package.label}: {error}") from error


def _changed_conffiles(tree: TreeBuilder, database: DpkgDatabase, package: DebPackage) -> frozenset[str]:
    """Return the configuration files that the package ships with other bytes than before."""
    shipped = [path for path, to_remove in package.conffiles.items() if not to_remove]
    if package.installed is None or not shipped:
        return _canonical(tree, package.conffiles)
    old = database.conffiles(package.installed)
    new = read_checksums(package.archive, shipped, installed_size=package.installed_size)
    same = {path for path in shipped if path in old and old[path].md5 == new.get(path)}
    return _canonical(tree, (path for path in (*package.conffiles, *old) if path not in same))


def _canonical(tree: TreeBuilder, paths: Iterable[str]) -> frozenset[str]:
    return frozenset(_resolve(tree, path) for path in paths)


def _resolve(tree: TreeBuilder, path: str) -> str:
    return tree.resolve(path, follow=False)


def _compare(left: str, operator: str, right: str) -> bool | None:
    """Compare as `dpkg --compare-versions`: an empty version is older than any, or with `-nl` newer."""
    plain = operator.removesuffix("-nl")
    if not left or not right:
        empty = 1 if operator.endswith("-nl") else -1
        order = 0 if left == right else empty if not left else -empty
    else:
        try:
            order = compare_versions("deb", left, right)
        except InvalidVersionError:
            return None
    answers = {
        "lt": order < 0,
        "<<": order < 0,
        "le": order <= 0,
        "<": order <= 0,
        "<=": order <= 0,
        "eq": order == 0,
        "=": order == 0,
        "ne": order != 0,
        "ge": order >= 0,
        ">=": order >= 0,
        ">": order >= 0,
        "gt": order > 0,
        ">>": order > 0,
    }
    return answers.get(plain)
