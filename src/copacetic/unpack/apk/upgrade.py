# SPDX-License-Identifier: Apache-2.0
"""
A whole upgrade, as apk does it: commit by commit, package by package, each with its scripts, and triggers at the end.

The same is gone through twice: as a rehearsal, to judge the scripts where they would run, and to compose the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from copacetic.inventory.apk import ApkDatabase
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.judgement import NeedsExecution, describe
from copacetic.scripts.runner import ScriptCall, ScriptRunner
from copacetic.unpack.apk.directories import Directories
from copacetic.unpack.apk.holders import Holder, Holders
from copacetic.unpack.apk.install import ApkInstaller
from copacetic.unpack.apk.package import ApkPackage
from copacetic.unpack.apk.payload import Payloads
from copacetic.unpack.apk.protected import ProtectedPaths
from copacetic.unpack.apk.scripts import APK
from copacetic.unpack.apk.triggers import Interest, find_fired
from copacetic.updates import InstalledPackage, PackageKey, ScriptVerdict

__all__ = ["ApkUpgrade", "commit_hooks"]

LIBC = "glibc"
_FIRST = {"pre-upgrade": "pre-install", "post-upgrade": "post-install"}
"""What ran in the place of a script when nothing was installed before."""


@dataclass(slots=True)
class ApkUpgrade:
    """Goes through the packages in the order in which apk commits them."""

    tree: TreeBuilder
    fs: ImageFilesystem
    database: ApkDatabase
    packages: Sequence[ApkPackage]
    epoch: int
    rehearsal: bool = False
    only_files: bool = False
    """No script is followed, and what has no place in the image is left out: a script may make room."""
    holders: Holders = field(init=False)
    installed: dict[PackageKey, Holder] = field(default_factory=dict)
    """The new lists, by the packages' keys."""
    verdicts: dict[PackageKey, list[ScriptVerdict]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _runner: ScriptRunner = field(init=False)

    def __post_init__(self) -> None:
        database = self.database
        self.holders = Holders((Holder.of(p, database.record(p)) for p in database.packages()), database.tools)
        self.verdicts = {package.key: [] for package in self.packages}
        engine = ScriptEngine(self.tree, self.epoch, rehearsal=self.rehearsal, libc=self._libc_versions())
        self._runner = ScriptRunner(APK, engine, self.fs, database.version_scheme)

    def run(self, payloads: Payloads) -> None:
        """Do all of it. Raises `PackageError` where apk itself would fail."""
        protected = ProtectedPaths.read(self.fs)
        installer = ApkInstaller(self.tree, self.holders, protected, self.notes, scripted=self.only_files)
        self._refuse_hooks()
        done: list[ApkPackage] = []
        for commit in split_commits(self.packages):
            directories = Directories(self.tree, self.holders, self.database.tools)
            for package in commit:
                self._script(package, "pre-install" if package.installed is None else "pre-upgrade")
                self.installed[package.key] = installer.install(package, payloads[package.key], directories)
                self._script(package, "post-install" if package.installed is None else "post-upgrade")
            directories.settle()
            done += commit
            if self.only_files:
                continue
            self._fire(commit, done, directories)

    def _script(self, package: ApkPackage, name: str) -> None:
        data = package.scripts.get(name)
        if data is None or self.only_files:
            return
        installed = package.installed
        arguments = (package.version,) if installed is None else (package.version, installed.version)
        call = ScriptCall(
            package=package.key,
            name=name,
            text=_decode(data),
            arguments=arguments,
            before=self._runs_before(name, installed) if installed is not None else (),
        )
        self.verdicts[package.key].append(self._run(call))

    def _runs_before(self, name: str, installed: InstalledPackage) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield what ran when a version was installed: as nothing was before, and over the one of lower layers."""
        scripts = self.database.scripts(installed)
        first, again = scripts.get(_FIRST.get(name, "")), scripts.get(name)
        if first is not None:
            yield _decode(first), (installed.version,)
        earlier = self.database.earlier.get(installed.key, "") if again is not None else ""
        if again is not None and earlier:
            yield _decode(again), (installed.version, earlier)

    def _run(self, call: ScriptCall) -> ScriptVerdict:
        busybox = self.holders.find("busybox")
        self._runner.engine.busybox = busybox.version if busybox is not None else ""
        with self.tree.in_name_of(f"{call.name} of {call.package}"):
            return self._runner.run(call)

    def _fire(self, commit: Sequence[ApkPackage], done: Sequence[ApkPackage], directories: Directories) -> None:
        """Run the triggers of a commit; a verdict stands with the packages that set a trigger off."""
        new = {package.key: package for package in done}
        replaced = {package.installed for package in done}
        fresh = {package.key for package in commit}
        interests = [
            Interest(p.key, self.database.triggers(p), fresh=False)
            for p in self.database.packages()
            if p not in replaced and self.database.triggers(p)
        ]
        interests += [Interest(key, p.triggers, fresh=key in fresh) for key, p in new.items() if p.triggers]
        for interest, heard in find_fired(interests, directories.known, frozenset(directories.touched)):
            text = self._trigger_text(interest.package, new)
            if text is None:
                continue
            verdict = self._run(ScriptCall(interest.package, "trigger", text, heard))
            causes = [p.key for p in commit if p.key == interest.package or self._touches(p, heard)]
            for key in causes or [package.key for package in commit]:
                name = "trigger" if key == interest.package else f"trigger of {interest.package.name}"
                self.verdicts[key].append(replace(verdict, package=key, script=name))

    def _trigger_text(self, key: PackageKey, new: Mapping[PackageKey, ApkPackage]) -> str | None:
        if key in new:
            data = new[key].scripts.get("trigger")
        else:
            package = next(p for p in self.database.packages() if p.key == key)
            data = self.database.scripts(package).get("trigger")
        return None if data is None else _decode(data)

    def _touches(self, package: ApkPackage, heard: Sequence[str]) -> bool:
        listed = set(self.installed[package.key].directories)
        if package.installed is not None:
            listed |= {directory.path for directory in self.database.record(package.installed).directories}
        return not listed.isdisjoint(path[1:] for path in heard)

    def _refuse_hooks(self) -> None:
        """Leave an image to execution in which apk runs something around every commit."""
        for path in commit_hooks(self.fs, self.database):
            entry = self.fs.lookup(path)
            hidden = path.rpartition("/")[2].startswith(".")
            if entry is None or entry.type is not FileType.FILE or hidden or not entry.mode & 0o111:
                continue
            for package in self.packages:
                judgement = NeedsExecution(f"the image has {path}, which apk runs around every upgrade")
                self.verdicts[package.key].append(describe(package.key, "commit hook", judgement))

    def _libc_versions(self) -> tuple[str, str] | None:
        for package in self.packages:
            if package.name == LIBC and package.installed is not None:
                return package.installed.version, package.version
        return None


def _decode(script: bytes) -> str:
    return script.decode("utf-8", "surrogateescape")


def commit_hooks(fs: ImageFilesystem, database: ApkDatabase) -> list[str]:
    """Return what lies where the image's apk looks for programs to run around every commit; apk 3 has two places."""
    folders = ("etc/apk/commit_hooks.d", "lib/apk/commit_hooks.d")
    return [f"{folder}/{name}" for folder in folders[: 1 + database.tools.is_apk3] for name in fs.iterdir(folder)]


def split_commits(packages: Sequence[ApkPackage]) -> list[Sequence[ApkPackage]]:
    """Return what apk does in one go: first the upgrade of itself with what that needs, then the rest."""
    own = next((n for n, p in enumerate(packages) if p.name == "apk-tools" and p.installed is not None), None)
    parts = [packages] if own is None else [packages[: own + 1], packages[own + 1 :]]
    return [part for part in parts if part]
