# SPDX-License-Identifier: Apache-2.0
"""Which way an image's Debian packages can be changed by running something: apt-get, dpkg alone, or neither."""

from __future__ import annotations

from collections.abc import Sequence

from copacetic.errors import UnsupportedImageError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.llb.graph import State
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pkgmgr import PackageManager, Recipe, Upgrade
from copacetic.pkgmgr.apt.distroless import install_distroless
from copacetic.pkgmgr.apt.regular import APT_GET, MOUNTED, PROGRAMS, RegularImage
from copacetic.pkgmgr.probe import HINT, has_program, require_directory, require_programs
from copacetic.updates import FetchedPackage

__all__ = ["AptPackageManager"]


class AptPackageManager:
    """`PackageManager` of Debian and its derivatives."""

    tooling_image = "debian:stable-slim"

    def __init__(self, fs: ImageFilesystem, database: DpkgDatabase) -> None:
        self._fs = fs
        self._database = database
        self._has_apt = database.regular and has_program(fs, APT_GET)

    @classmethod
    def open(cls, fs: ImageFilesystem, database: PackageDatabase) -> AptPackageManager:
        """See `PackageManager.open`."""
        if not isinstance(database, DpkgDatabase):
            raise UnsupportedImageError(f"apt can't install into a {database.format} database")
        if database.bare or database.sliced:
            raise UnsupportedImageError(
                f"{database.format}: no dpkg can work with such records, so nothing can be run for it", hint=HINT
            )
        if database.regular:
            if any(not database.is_regular(package) for package in database.packages()):
                raise UnsupportedImageError(
                    "the image has packages in dpkg's status file and others in status.d, which dpkg doesn't know",
                    hint=HINT,
                )
            require_programs(fs, PROGRAMS)
            for path in MOUNTED:
                require_directory(fs, path)
        return cls(fs, database)

    @property
    def needs_tooling(self) -> bool:
        """An image without a `status` file has no dpkg, and no shell for scripts either."""
        return not self._database.regular

    @property
    def runs_scripts(self) -> bool:
        return self._database.regular

    def install(self, base: State, packages: Sequence[FetchedPackage], *, tooling: State | None) -> Recipe:
        """See `PackageManager.install`."""
        if self.needs_tooling:
            if tooling is None:
                raise UnsupportedImageError("the image has no package manager", hint="name one with --tooling-image")
            return install_distroless(self._fs, base, tooling, self._database, packages)
        installed = [package.update.installed for package in packages if package.update.installed is not None]
        image = RegularImage(self._fs, {path for one in installed for path in self._database.conffiles(one)})
        if not self._has_apt:
            return image.install_with_dpkg(base, packages, self._database.packages())
        broken = sorted(self._database.broken_dependencies())
        if broken:
            raise UnsupportedImageError(f"apt installs nothing while a dependency is broken: {broken[0]}", hint=HINT)
        return image.install(base, packages)

    def upgrade(self, base: State, upgrade: Upgrade) -> Recipe:
        """See `PackageManager.upgrade`."""
        if not self._has_apt:
            raise UnsupportedImageError("the image has no apt-get, so no builder can plan its upgrade", hint=HINT)
        return RegularImage(self._fs).upgrade(base, upgrade)


_: type[PackageManager] = AptPackageManager
