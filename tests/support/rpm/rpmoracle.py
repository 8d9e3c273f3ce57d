# SPDX-License-Identifier: Apache-2.0
"""
The real rpm as the judge of trees: it installs the same packages into a copy of a root, and both are compared.

No script runs, so nothing of the root does: the packages may be for any architecture.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import Entry
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm import RpmIdentity, RpmPackage
from copacetic.updates import Candidate, FetchedPackage, InstalledPackage, Origin, PackageKey, PlannedUpdate
from support.deb.debian import need
from support.rpm.realrpm import run_rpm

ORIGIN = Origin(uri="file:///repository", suite="", component="")
_FIELDS = ("type", "mode", "uid", "gid", "target", "device", "sha256", "xattrs")
DATABASE = ("var/lib/rpm/", "usr/lib/sysimage/rpm/")


class RpmRoot:
    """A root that rpm installs packages into."""

    def __init__(self, path: Path) -> None:
        need("rpm", root=True)
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def copy(self, path: Path) -> RpmRoot:
        """Copy it with all owners, attributes and links."""
        subprocess.run(["cp", "-a", self.path, path], check=True)
        return RpmRoot(path)

    def install(self, packages: Sequence[Path], *options: str) -> None:
        """Install or upgrade."""
        result = self.run(
            "-U", "--noscripts", "--nodeps", "--notriggers", "--nosignature", *options, *map(str, packages)
        )
        assert result.returncode == 0, result.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"_dbpath": "/var/lib/rpm", "_pkgverify_level": "none", "_install_langs": "all"}
        defined = [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]
        return run_rpm("--root", str(self.path), *defined, *arguments)

    @property
    def filesystem(self) -> DirectoryFilesystem:
        return DirectoryFilesystem(self.path)

    def erase(self) -> None:
        shutil.rmtree(self.path)


def fetched(path: Path, installed: InstalledPackage | None = None) -> FetchedPackage:
    """Return a package file as part of a plan."""
    with path.open("rb") as file:
        identity = RpmIdentity.of(RpmPackage.read(file).header)
    name, version = identity.name, identity.evr
    return fetched_as(path, name=name, version=version, architecture=identity.architecture, installed=installed)


def fetched_as(
    path: Path, *, name: str, version: str, architecture: str, installed: InstalledPackage | None = None
) -> FetchedPackage:
    """Return a file, whatever is in it, as the package that a plan says it is."""
    candidate = Candidate(
        name=name,
        version=version,
        architecture=architecture,
        source_name=name,
        source_version=version,
        url=f"file://{path}",
        size=path.stat().st_size,
        sha256="",
        origin=ORIGIN,
    )
    return FetchedPackage(update=PlannedUpdate(installed=installed, candidate=candidate), path=path)


def installed_as(path: Path) -> InstalledPackage:
    """Return a package file as a row of a database."""
    candidate = fetched(path).update.candidate
    return InstalledPackage(
        name=candidate.name,
        version=candidate.version,
        architecture=candidate.architecture,
        source_name=candidate.name,
        source_version=candidate.version,
    )


def differences(
    before: DirectoryFilesystem, tree: TreeBuilder, real: DirectoryFilesystem, *, ignored: Iterable[str] = DATABASE
) -> dict[str, str]:
    """Return how a composed tree differs from the real one, by path; modification times don't count."""
    skipped = tuple(ignored)
    paths = {path for path, _ in before.walk()} | {change.path for change in tree.finish().entries}
    ours = {path: entry for path in paths if (entry := tree.lookup(path, follow=False)) is not None}
    theirs = dict(real.walk())
    found: dict[str, str] = {}
    for path in sorted(ours.keys() | theirs.keys()):
        if path.startswith(skipped) or f"{path}/" in skipped:
            continue
        left, right = ours.get(path), theirs.get(path)
        if left is None or right is None:
            found[path] = "only rpm has it" if left is None else "rpm doesn't have it"
        elif unlike := [name for name in _FIELDS if getattr(left, name) != getattr(right, name)]:
            found[path] = ", ".join(f"{name} {_show(left, name)} for {_show(right, name)}" for name in unlike)
    return found


def _show(entry: Entry, name: str) -> str:
    value = getattr(entry, name)
    return oct(value) if name == "mode" else str(value)[:40]


def key_of(path: Path) -> PackageKey:
    return fetched(path).key


__all__ = ["DATABASE", "RpmRoot", "differences", "fetched", "installed_as", "key_of"]
