# SPDX-License-Identifier: Apache-2.0
"""
apk runs once: the image's own in its own root, or a tooling image's on the root of one that has none.

It upgrades from a read-only mount that holds the planned packages and an index of them, without any network. Unlike
`apk add` with files that leaves `world` as it is; where apk would do something else because of it, the run has another
one, and the image keeps its own. Nothing is passed through a shell, but where the builder plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from copacetic import llb
from copacetic.errors import SignatureError, UnsupportedImageError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.apk import ApkDatabase
from copacetic.inventory.apk.scripts import format_world
from copacetic.llb.graph import ExecState, FileAction, MakeDirectory, MakeFile, Mount, Network, State
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.pkgmgr import (
    Content,
    Leftover,
    PackageManager,
    Recipe,
    Upgrade,
    count_packages,
    scripts_left_out,
    shared_key,
)
from copacetic.pkgmgr.apk.offering import REPOSITORIES, offer_packages, read_row
from copacetic.pkgmgr.apk.world import make_world
from copacetic.pkgmgr.probe import HINT, has_program, refuse_links_out, require_directory, require_programs
from copacetic.repository.apk.package import open_package
from copacetic.updates import FetchedPackage

__all__ = ["ApkPackageManager"]

PROGRAMS = ("sbin/apk", "usr/sbin/apk", "usr/bin/apk")
"""Where distributions have it."""
SHELL = "bin/sh"
FIRST_WITH_NAMES = (2, 12, 0)
"""The first apk-tools whose `upgrade` takes names."""
WORK = "/run/copacetic"
"""In memory."""
PACKAGES = f"{WORK}/packages"
CACHE = f"{WORK}/cache"
SCRIPT = f"{WORK}/upgrade"
ROOT = f"{WORK}/root"
SOURCE = "apks"
"""The name of the `local` source."""
FOLDER = "etc/apk"
WORLD = f"{FOLDER}/world"
GENERATED = ("lib/apk/db/*", "usr/lib/apk/db/*", WORLD)
LEFTOVERS = (
    Leftover(pattern="lib/apk/db/lock", reason="a lock"),
    Leftover(pattern="usr/lib/apk/db/lock", reason="a lock"),
    Leftover(pattern="lib/apk/exec*", reason="where apk has scripts while they run"),
    Leftover(pattern="usr/lib/apk/exec*", reason="likewise"),
    Leftover(pattern="var/cache/apk/*", reason="apk's indexes and downloads"),
    Leftover(pattern="var/log/apk.log", reason="a log of the run"),
)

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}
_FIRST_SHELL_CODE = 126
"""From here on a code says how a process ended, and counts nothing."""
CONFIGURATION = ("etc/apk/config", "lib/apk/config", "usr/lib/apk/config")
_CONFIGURATION_LIMIT = 1024 * 1024
_UNTRUSTED = re.compile(r"^[^#\n]*\ballow-untrusted\b", re.MULTILINE)
_OFFLINE = (
    "--no-network",
    "--no-cache",
    "--no-progress",
    "--allow-untrusted",  # the mount's index, made here; see `offering`
    "--repositories-file",
    f"{PACKAGES}/{REPOSITORIES}",
)
_UPGRADE_SCRIPT = (
    "set -eu\n"
    "apk=$1\n"
    "shift\n"
    # An old apk only warns of a repository that it can't reach when it upgrades, but counts it when it updates.
    f'"$apk" --cache-dir {CACHE} --no-progress update\n'
    f'exec "$apk" --cache-dir {CACHE} --no-progress upgrade "$@"\n'
).encode()


class ApkPackageManager:
    """`PackageManager` of Alpine, Wolfi and Chainguard."""

    tooling_image = "alpine:latest"

    def __init__(self, fs: ImageFilesystem, database: ApkDatabase) -> None:
        self._fs = fs
        self._database = database
        self._apk = next((path for path in PROGRAMS if has_program(fs, path)), "")

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase) -> ApkPackageManager:
        """See `PackageManager.open`."""
        if not isinstance(database, ApkDatabase):
            raise UnsupportedImageError(f"apk can't install into a {database.format} database")
        if fs.resolve("lib/apk/db/installed") != database.path:
            raise UnsupportedImageError(
                f"apk looks for its database in /lib/apk/db, not at /{database.path}", hint=HINT
            )
        hidden = database.assumed()
        if hidden:
            raise UnsupportedImageError(
                f"apk doesn't know {hidden[0].name}, which only a hidden database lists, and would upgrade nothing",
                hint=HINT,
            )
        manager = cls(fs, database)
        if not manager.needs_tooling:
            require_programs(fs, (SHELL,))
            require_directory(fs, "run")
        return manager

    @property
    def needs_tooling(self) -> bool:
        """Images made by apko, and distroless ones, have a database and no apk."""
        return not self._apk

    @property
    def runs_scripts(self) -> bool:
        """In the image, below its root: a tooling image has no part in it."""
        return has_program(self._fs, SHELL)

    def install(self, base: State, packages: Sequence[FetchedPackage], *, tooling: State | None) -> Recipe:
        """See `PackageManager.install`."""
        offers = {package: read_row(package) for package in packages}
        files = offer_packages(offers, self._database, mounted_at=PACKAGES)
        told = self._tell(base, make_world(self._database, list(offers.values())))
        count = count_packages(packages)
        valid = self._exit_codes(packages)
        key = shared_key([*files, *(package.update.candidate.sha256 for package in packages)])
        mount = llb.Bind(dest=PACKAGES, source=llb.local(SOURCE, shared_key=key))
        if not self.needs_tooling:
            run = self._run(
                told, (f"/{self._apk}", *_OFFLINE, "upgrade"), (mount,), f"apk upgrade of {count}", valid=valid
            )
            return self._restore(self._recipe(base, run.root, {SOURCE: files}), told)
        if tooling is None:
            raise UnsupportedImageError("the image has no package manager", hint="name one with --tooling-image")
        self._refuse_links_out(packages)
        notes: tuple[str, ...] = ()
        arguments = ["/sbin/apk", "--root", ROOT, *_OFFLINE, "upgrade"]
        if not self.runs_scripts:
            notes = scripts_left_out(packages)
            arguments.insert(-1, "--no-scripts")
        root = llb.Bind(dest=ROOT, source=told, readonly=False)
        run = self._run(tooling, arguments, (root, mount), f"apk --root upgrade of {count}", valid=valid)
        recipe = self._recipe(base, run.output(ROOT), {SOURCE: files})
        return self._restore(replace(recipe, notes=notes, runs_scripts=self.runs_scripts), told)

    def upgrade(self, base: State, upgrade: Upgrade) -> Recipe:
        """See `PackageManager.upgrade`; another `repository_state` is another environment, and so another run."""
        if self.needs_tooling:
            raise UnsupportedImageError("the image has no apk, so no builder can plan its upgrade", hint=HINT)
        if not upgrade.allow_unsigned:
            self._refuse_lenient()
        names: list[str] = []
        if upgrade.names is not None:
            release = self._database.tools.release
            if release is None or release < FIRST_WITH_NAMES:
                raise UnsupportedImageError("the image's apk can't upgrade single packages, only all", hint=HINT)
            names = sorted({key.name for key in upgrade.names})
        script = llb.scratch().file(MakeFile(path="/upgrade", data=_UPGRADE_SCRIPT, mode=0o755))
        mounts = (llb.Tmpfs(dest=CACHE), llb.Bind(dest=SCRIPT, source=script, selector="/upgrade"))
        run = self._run(
            base,
            (f"/{SHELL}", SCRIPT, f"/{self._apk}", *names),
            mounts,
            "apk update and upgrade",
            upgrade=upgrade,
        )
        return self._recipe(base, run.root, {})

    def _tell(self, base: State, world: str) -> State:
        """Give the run a `world` of its own, where apk wouldn't do what was planned with the image's."""
        present = self._fs.lookup(WORLD, follow=False)
        if present is not None:
            same = set(world.split()) == set(self._database.world.split())
            if same or present.type is not FileType.FILE:
                return base
        actions: list[FileAction] = [MakeFile(path=f"/{WORLD}", data=world.encode("utf-8", "surrogateescape"))]
        if self._fs.lookup(FOLDER) is None:
            actions.insert(0, MakeDirectory(path=f"/{FOLDER}", parents=True))
        return base.file(*actions, name="what apk keeps")

    def _restore(self, recipe: Recipe, told: State) -> Recipe:
        """Leave the image's `world` as it was, in the form that its apk gives it."""
        if told is recipe.base:
            return recipe
        if self._fs.lookup(WORLD, follow=False) is None:
            made = () if self._fs.lookup(FOLDER) else (Leftover(pattern=FOLDER, reason="made for the run's world"),)
            return replace(recipe, leftovers=(*recipe.leftovers, *made), records={WORLD: None})
        world = format_world(self._database.world) if self._database.tools.installed else self._database.world
        return replace(recipe, records={WORLD: world.encode("utf-8", "surrogateescape")})

    def _exit_codes(self, packages: Sequence[FetchedPackage]) -> tuple[int, ...]:
        """
        Accept the errors that were there before: apk ends with the number of packages that are broken, whenever that
        was. One more is one of this run. What came of it is proven afterwards in any case.
        """
        replaced = {package.update.installed for package in packages}
        staying = sum(package not in replaced for package in self._database.broken())
        return (0, staying) if 0 < staying < _FIRST_SHELL_CODE else ()

    def _refuse_lenient(self) -> None:
        """From version 3 on apk takes its flags from a file, too, and would go by this one without a word."""
        for path in CONFIGURATION:
            try:
                text = self._fs.read(path, limit=_CONFIGURATION_LIMIT).decode("utf-8", "replace")
            except FileNotFoundError:
                continue
            if _UNTRUSTED.search(text):
                message = f"the builder would take repositories without a valid signature, as {path} has it"
                raise SignatureError(message, hint="--allow-unsigned-repository allows that")

    def _run(
        self,
        system: State,
        arguments: Sequence[str],
        mounts: Sequence[Mount],
        name: str,
        upgrade: Upgrade | None = None,
        valid: Sequence[int] = (),
    ) -> ExecState:
        """With `upgrade` there is a network."""
        state = {"COPACETIC_REPOSITORY_STATE": upgrade.repository_state} if upgrade is not None else {}
        return system.run(
            arguments,
            env={**_ENVIRONMENT, **state},
            mounts=(llb.Tmpfs(dest=WORK), *mounts),
            network=Network.SANDBOX if upgrade is not None else Network.NONE,
            proxy=upgrade.proxy if upgrade is not None else None,
            valid_exit_codes=valid,
            name=name,
        )

    def _recipe(self, base: State, result: State, directories: Mapping[str, Mapping[str, Content]]) -> Recipe:
        return Recipe(base=base, result=result, directories=directories, leftovers=LEFTOVERS, generated=GENERATED)

    def _refuse_links_out(self, packages: Sequence[FetchedPackage]) -> None:
        """Below a root, apk follows a link that leaves it into the tooling image."""
        refuse_links_out(self._fs, "the database", (self._database.path, "lib/apk/db/installed", "etc/apk/world"))
        for package in packages:
            update = package.update
            file = open_package(package.path, update.candidate.name)
            paths = [entry.path for entry, _ in file.entries(checked=False)]
            paths += self._database.files(update.installed) if update.installed is not None else ()
            refuse_links_out(self._fs, update.candidate.name, paths)


_: type[PackageManager] = ApkPackageManager
