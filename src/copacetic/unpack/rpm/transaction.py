# SPDX-License-Identifier: Apache-2.0
"""
A whole transaction, as rpm does it: what all packages do before, each new package with its scripts, then each old one
with its own, what all do afterwards, and the triggers in between.

The same is gone through twice: as a rehearsal, to judge the scripts where they would run, and to compose the layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from functools import cached_property

from msgspec.structs import replace

from copacetic.inventory.rpm import RpmDatabase, record_of
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm import tags
from copacetic.rpm.files import RpmFile
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.judgement import NeedsExecution, describe
from copacetic.scripts.runner import ScriptCall, ScriptRunner
from copacetic.unpack.rpm.install import RpmInstaller
from copacetic.unpack.rpm.omissions import Omissions
from copacetic.unpack.rpm.owners import Decisions, InstalledFiles
from copacetic.unpack.rpm.package import OpenedRpm
from copacetic.unpack.rpm.participants import Participant
from copacetic.unpack.rpm.payload import RpmFileEntry
from copacetic.unpack.rpm.scriptlets import (
    CRITICAL,
    LUA,
    Scriptlet,
    Trigger,
    has_trigger,
    read_scriptlet,
    shell_text,
)
from copacetic.unpack.rpm.scripts import OWN_WORDS, RPM
from copacetic.updates import InstalledPackage, PackageKey, ScriptVerdict

__all__ = ["Payloads", "RpmImage", "RpmTransaction"]

Payloads = Mapping[PackageKey, Sequence[RpmFileEntry]]
LIBC = "glibc"
_NO_CASCADE = (4, 13)
"""The release of rpm from which on directories go with the directories in them."""


class RpmImage:
    """What is read of an image once, whatever is done with it."""

    def __init__(self, fs: ImageFilesystem, database: RpmDatabase) -> None:
        self.fs = fs
        self.database = database

    @cached_property
    def files(self) -> Mapping[InstalledPackage, tuple[RpmFile, ...]]:
        """All packages' lists."""
        lists = self.database.lists_files
        return {one: record_of(one).files if lists else () for one in self.database.packages()}

    @cached_property
    def omissions(self) -> Omissions:
        """Which files it leaves out."""
        old_rpm = self.database.rpm_release < _NO_CASCADE
        found = Omissions.read(self.fs, self.files.values(), colour=self.database.color or 0, old_rpm=old_rpm)
        # Where nothing says which files there are, an image without documentation is one that wants none.
        bare = not self.database.lists_files and not self.fs.iterdir("usr/share/doc")
        return replace_fields(found, no_documentation=True) if bare else found


@dataclass(slots=True)
class RpmTransaction:
    """Goes through the packages in the order in which they come."""

    tree: TreeBuilder
    image: RpmImage
    packages: Sequence[OpenedRpm]
    epoch: int
    rehearsal: bool = False
    only_files: bool = False
    """No script is followed."""
    decisions: Decisions = field(init=False)
    verdicts: dict[PackageKey, list[ScriptVerdict]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _going: dict[PackageKey, InstalledFiles] = field(default_factory=dict)
    """The versions in whose place packages come, by the keys of those."""
    _staying: list[InstalledFiles] = field(default_factory=list)
    _runner: ScriptRunner = field(init=False)

    def __post_init__(self) -> None:
        by_package = {package.installed: package.key for package in self.packages}
        for installed, files in self.image.files.items():
            owner = InstalledFiles(installed, files, goes=installed in by_package)
            if owner.goes:
                self._going[by_package[installed]] = owner
            else:
                self._staying.append(owner)
        owners = [*self._staying, *self._going.values()]
        omissions = self.image.omissions
        self.decisions = Decisions(self.tree, owners, omissions)
        self.verdicts = {package.key: [] for package in self.packages}
        engine = ScriptEngine(self.tree, self.epoch, rehearsal=self.rehearsal, libc=self._libc_versions())
        self._runner = ScriptRunner(RPM, engine, self.image.fs, self.image.database.version_scheme)

    def run(self, payloads: Payloads) -> None:
        """Do all of it. Raises `ConflictError` where rpm itself would refuse."""
        installer = RpmInstaller(self.tree, self.decisions, self.notes)
        for package in self.packages:
            self._script(package, "pretrans")
        self.decisions.decide(self.packages)
        new = {p.key: Participant.new(p, self.decisions.by_key[p.key]) for p in self.packages}
        lefts = {package.key: "1" if package.is_upgrade else "0" for package in self.packages}
        old = {key: Participant.installed(owner, key, left=lefts[key]) for key, owner in self._going.items()}
        there = [*(Participant.installed(owner) for owner in self._staying), *old.values()]
        self._fire_together("un", old.values(), there)
        for package in self.packages:
            member = new[package.key]
            self._fire_packages("prein", member, there)
            self._script(package, "pre")
            installer.install(package, payloads[package.key])
            there.append(member)
            self._fire_files("in", member, there, member.paths, early=True)
            self._script(package, "post")
            self._fire_files("in", member, there, member.paths, early=False)
            self._fire_packages("in", member, there)
        for key in reversed(old):
            member = old[key]
            gone = self._leaving(member)
            self._fire_files("un", member, there, gone, early=True)
            self._fire_packages("un", member, there)
            self._old_script(member, "preun")
            self._fire_files("un", member, there, gone, early=False)
            installer.erase(self._going[key])
            self._fire_files("postun", member, there, gone, early=True)
            self._old_script(member, "postun")
            self._fire_files("postun", member, there, gone, early=False)
            self._fire_packages("postun", member, there)
            there.remove(member)
        for package in self.packages:
            self._script(package, "posttrans")
        for member in old.values():
            self._old_script(member, "postuntrans")
        self._fire_together("in", new.values(), there)
        self._fire_together("postun", old.values(), there)

    def _leaving(self, member: Participant) -> tuple[str, ...]:
        """Return the paths of a version that goes which no package has afterwards."""
        resolve, is_wanted = self.tree.resolve, self.decisions.is_wanted
        return tuple(path for path in member.paths if not is_wanted(resolve(path, follow=False)))

    # -- scripts ---------------------------------------------------------------------------------------------

    def _script(self, package: OpenedRpm, name: str) -> None:
        """Run a script of a package that comes; it is told how many versions there are then."""
        installed = package.installed if package.is_upgrade else None
        before = read_scriptlet(record_of(installed).header, name) if installed is not None else None
        arguments = ("1",) if installed is None else ("2",)
        self._run(package.key, read_scriptlet(package.header, name), arguments, before, (package.key,))

    def _old_script(self, member: Participant, name: str) -> None:
        """Run a script of a version that goes; it is told how many are left then."""
        scriptlet = read_scriptlet(member.header, name)
        self._run(member.key, scriptlet, (member.left,), None, member.causes, of=" of the installed version")

    def _run(
        self,
        owner: PackageKey,
        scriptlet: Scriptlet | None,
        arguments: tuple[str, ...],
        before: Scriptlet | None,
        causes: tuple[PackageKey, ...],
        *,
        of: str = "",
    ) -> None:
        """Run a script; the verdict on it stands with the packages that cause it."""
        if scriptlet is None or self.only_files:
            return
        name = f"%{scriptlet.name}{of}"
        shell = self._shell()
        text = shell_text(scriptlet, shell)
        if scriptlet.expanded:
            verdict = describe(owner, name, NeedsExecution("rpm expands macros in it before it is run"))
        elif text is None:
            verdict = describe(
                owner, name, NeedsExecution(f"it is not a shell script but one of {scriptlet.program[0]}")
            )
        elif scriptlet.program[0] != LUA and OWN_WORDS in scriptlet.body:
            verdict = describe(owner, name, NeedsExecution("it has words that stand for something else here"))
        else:
            earlier = shell_text(before, shell) if before is not None else None
            call = ScriptCall(
                package=owner,
                name=name,
                text=text,
                arguments=arguments,
                before=() if earlier is None else ((earlier, ("1", *arguments[1:])),),
                may_fail=scriptlet.name not in CRITICAL,
                built_in=scriptlet.program[0] == LUA or not scriptlet.body,
            )
            with self.tree.in_name_of(f"{name} of {owner}"):
                verdict = self._runner.run(call)
        for key in causes:
            self.verdicts[key].append(replace(verdict, package=key))

    def _shell(self) -> str:
        """Return what /bin/sh is: with rpm it is mostly bash, whatever it is called by."""
        program = self.tree.resolve("bin/sh")
        return f"/{program}" if program.rpartition("/")[2] == "bash" else "/bin/sh"

    # -- triggers --------------------------------------------------------------------------------------------

    def _fire_packages(self, event: str, moving: Participant, there: Sequence[Participant]) -> None:
        """
        Run what others do when a package comes or goes, and what it does itself, as others are there. A script is told
        how many versions there are of its own package, and of the one that sets it off.
        """
        counts = Counter(one.identity.name for one in there)
        name = moving.identity.name
        change = {"in": 0, "prein": 1}.get(event, -1)
        own = (*moving.triggers("", event),) if event in ("in", "un") else ()
        for trigger in own:
            heard = [one.identity.name for one in there if trigger.hears_package(one.identity.name, one.identity.evr)]
            if heard:
                numbers = (counts[name] + min(change, 0), counts[heard[0]])
                self._trigger(moving, trigger, numbers, moving.causes)
        for other in tuple(there):
            for trigger in other.triggers("", event):
                if trigger.hears_package(name, moving.identity.evr):
                    numbers = (counts[other.identity.name], counts[name] + change)
                    self._trigger(other, trigger, numbers, moving.causes)

    def _fire_files(
        self, event: str, moving: Participant, there: Sequence[Participant], paths: Sequence[str], *, early: bool
    ) -> None:
        """Run what packages do when files come or go below a path, before or after the package's own script."""
        for other in tuple(there):
            for trigger in other.triggers("file", event):
                if trigger.is_early is early and trigger.hears_files(paths):
                    self._trigger(other, trigger, (0,), moving.causes)
        for trigger in moving.triggers("file", event) if event != "postun" else ():
            if trigger.is_early is early and self._hears_any(trigger, there):
                self._trigger(moving, trigger, (0,), moving.causes)

    def _fire_together(self, event: str, moving: Iterable[Participant], there: Sequence[Participant]) -> None:
        """Run what packages do once for all files that come or go; those that come hear of what is there already."""
        moved = tuple(moving)
        for other in tuple(there):
            for trigger in other.triggers("transfile", event):
                causes = [key for one in moved if trigger.hears_files(one.paths) for key in one.causes]
                if other in moved and event == "in" and self._hears_any(trigger, there):
                    causes += other.causes
                if causes:
                    self._trigger(other, trigger, (0,), tuple(dict.fromkeys(causes)))

    def _hears_any(self, trigger: Trigger, there: Iterable[Participant]) -> bool:
        return any(trigger.hears_files(one.paths) for one in there)

    def _trigger(
        self, owner: Participant, trigger: Trigger, numbers: tuple[int, ...], causes: tuple[PackageKey, ...]
    ) -> None:
        """Run a trigger; it has run before where it was in the image already, as every package has come once."""
        header = owner.before if owner.comes else owner.header
        scriptlet = trigger.scriptlet
        before = scriptlet if header is not None and has_trigger(header, trigger) else None
        of = "" if causes == (owner.key,) and owner.comes else f" of {owner.key.name}"
        arguments = tuple(map(str, numbers))
        self._run(owner.key, scriptlet, arguments, before if scriptlet.name.endswith("in") else None, causes, of=of)

    def _libc_versions(self) -> tuple[str, str] | None:
        for package in self.packages:
            if package.name == LIBC and package.installed is not None:
                return record_of(package.installed).header.text(tags.VERSION), package.header.text(tags.VERSION)
        return None
