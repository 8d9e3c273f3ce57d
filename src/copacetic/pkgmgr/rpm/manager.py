# SPDX-License-Identifier: Apache-2.0
"""
The planned packages, and nothing else, in one transaction of rpm without any network.

The managers in front of rpm would only plan again, each by rules of its own: what is installed is decided by the plan,
so rpm gets the files. Their signatures were verified before (`repository.rpm`), with keys that needn't be in the
image's database; rpm checks the digests once more. Nothing is passed through a shell, but where the builder plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from copacetic import llb
from copacetic.errors import UnsupportedImageError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.rpm import RpmDatabase
from copacetic.inventory.rpm.bdb import ENVIRONMENT
from copacetic.llb.graph import ExecState, Mount, Network, State
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pkgmgr import Content, PackageManager, Recipe, Upgrade, count_packages, scripts_left_out, shared_key
from copacetic.pkgmgr.probe import HINT, has_program, refuse_links_out, require_directory
from copacetic.pkgmgr.rpm.front import find_front
from copacetic.pkgmgr.rpm.leftovers import LEFTOVERS, in_database
from copacetic.updates import FetchedPackage

__all__ = ["RpmPackageManager"]

PROGRAMS = ("usr/bin/rpm", "bin/rpm")
SHELL = "bin/sh"
WORK = "/run/copacetic"
"""In memory."""
PACKAGES = f"{WORK}/packages"
ROOT = f"{WORK}/root"
SOURCE = "rpms"
"""The name of the `local` source."""
MEMORY_FOR_FILES = 1 << 30
"""Bytes that scriptlets may keep in /tmp."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "SYSTEMD_OFFLINE": "1",
}
_OPTIONS = ("-U", "--nosignature")
_WITHOUT_SCRIPTS = ("--noscripts", "--notriggers")


class RpmPackageManager:
    """`PackageManager` of everything that has rpm's database."""

    tooling_image = "almalinux:9"

    def __init__(self, fs: ImageFilesystem, database: RpmDatabase) -> None:
        self._fs = fs
        self._database = database
        self._folder = database.path.rpartition("/")[0]
        self._rpm = next((path for path in PROGRAMS if has_program(fs, path)), "")

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase) -> RpmPackageManager:
        """See `PackageManager.open`."""
        if not isinstance(database, RpmDatabase):
            raise UnsupportedImageError(f"rpm can't install into a {database.format} database")
        if not database.backend:
            message = f"{database.format}: no rpm can work with such records, so nothing can be run for it"
            raise UnsupportedImageError(message, hint=HINT)
        for path in ("run", "tmp"):
            require_directory(fs, path)
        return cls(fs, database)

    @property
    def needs_tooling(self) -> bool:
        """Micro and distroless images have a database and no rpm."""
        return not self._rpm

    @property
    def runs_scripts(self) -> bool:
        """In the image, below its root: a tooling image has no part in it."""
        return has_program(self._fs, SHELL)

    def install(self, base: State, packages: Sequence[FetchedPackage], *, tooling: State | None) -> Recipe:
        """See `PackageManager.install`."""
        ordered = sorted(packages, key=lambda package: package.key)
        files: dict[str, Content] = {f"{one.update.candidate.sha256}.rpm": one.path for one in ordered}
        mount = llb.Bind(dest=PACKAGES, source=llb.local(SOURCE, shared_key=shared_key(files)))
        paths = [f"{PACKAGES}/{name}" for name in files]
        notes = () if self.runs_scripts else scripts_left_out(packages)
        what = f"rpm -U {count_packages(packages)}"
        if not self.needs_tooling:
            run = self._run(base, (f"/{self._rpm}", *self._options(), *paths), (mount,), what)
            result = run.root
        else:
            if tooling is None:
                raise UnsupportedImageError("the image has no package manager", hint="name one with --tooling-image")
            # Below a root rpm is confined by `chroot`; only its database is looked for from the outside.
            refuse_links_out(self._fs, "the database", (self._database.path,))
            root = llb.Bind(dest=ROOT, source=base, readonly=False)
            words = ("/usr/bin/rpm", "--root", ROOT, *self._place(), *self._options(), *paths)
            result = self._run(tooling, words, (root, mount), f"rpm --root {what.removeprefix('rpm ')}").output(ROOT)
        recipe = self._recipe(base, result, {SOURCE: files})
        names = {f"{one.update.candidate.sha256}.rpm": _file_name(one) for one in ordered}
        return replace(recipe, notes=notes, names=names, runs_scripts=self.runs_scripts)

    def upgrade(self, base: State, upgrade: Upgrade) -> Recipe:
        """See `PackageManager.upgrade`; another `repository_state` is another environment, and so another run."""
        front = find_front(self._fs)
        if front is None:
            message = "the image has no dnf, yum, tdnf or zypper, so no builder can plan its upgrade"
            raise UnsupportedImageError(message, hint=HINT)
        if not upgrade.allow_unsigned:
            front.refuse_lenient(self._fs)
        names = None if upgrade.names is None else sorted({f"{key.name}.{key.architecture}" for key in upgrade.names})
        run = self._run(base, front.command(names), front.mounts(), f"{front.name} upgrade", upgrade)
        return self._recipe(base, run.root, {})

    def _options(self) -> tuple[str, ...]:
        """
        What was broken before rpm would hold against the packages, whoever broke it; what they break themselves is
        refused when the result is proven.
        """
        lenient = ("--nodeps",) if self._database.broken_dependencies() else ()
        return (*_OPTIONS, *lenient, *(() if self.runs_scripts else _WITHOUT_SCRIPTS))

    def _place(self) -> tuple[str, ...]:
        """Another image's rpm would take its own distribution's place and format."""
        return ("--define", f"_dbpath /{self._folder}", "--define", f"_db_backend {self._database.backend}")

    def _run(
        self,
        system: State,
        arguments: Sequence[str],
        mounts: Sequence[Mount],
        name: str,
        upgrade: Upgrade | None = None,
    ) -> ExecState:
        """With `upgrade` there is a network."""
        state = {"COPACETIC_REPOSITORY_STATE": upgrade.repository_state} if upgrade is not None else {}
        return system.run(
            arguments,
            env={**_ENVIRONMENT, **state},
            mounts=(llb.Tmpfs(dest=WORK), llb.Tmpfs(dest="/tmp", size=MEMORY_FOR_FILES), *mounts),
            network=Network.SANDBOX if upgrade is not None else Network.NONE,
            proxy=upgrade.proxy if upgrade is not None else None,
            name=name,
        )

    def _recipe(self, base: State, result: State, directories: Mapping[str, Mapping[str, Content]]) -> Recipe:
        """Berkeley DB's memory is of one machine, and rpm would go by it; packages own it, so it has to go by name."""
        folder = self._folder
        stale = {name for name in self._fs.iterdir(folder) if name.startswith(ENVIRONMENT)}
        if self._database.backend == "bdb":
            stale.update(f"{ENVIRONMENT}{number:03}" for number in range(1, 6))
        return Recipe(
            base=base,
            result=result,
            directories=directories,
            leftovers=(*LEFTOVERS, *in_database(folder)),
            mounted=("tmp/*",),
            generated=(f"{folder}/*",),
            records_times=True,
            records={f"{folder}/{name}": None for name in sorted(stale)},
        )


def _file_name(package: FetchedPackage) -> str:
    candidate = package.update.candidate
    return f"{candidate.name}-{candidate.version}.{candidate.architecture}.rpm"


_: type[PackageManager] = RpmPackageManager
