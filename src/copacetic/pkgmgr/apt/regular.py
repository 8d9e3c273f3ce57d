# SPDX-License-Identifier: Apache-2.0
"""
An image with dpkg's `status` file: its own apt-get or dpkg runs, once, in its own root.

The run sees the packages as files named by their digests, in a read-only mount, and no network: what is installed
is decided by the plan, and the files' digests are all of it that a builder's cache goes by. Whatever apt writes for
itself is sent to a mount in memory. Nothing is passed through a shell but one constant script, whose words come in
as arguments.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from msgspec.structs import replace

from copacetic import llb
from copacetic.errors import ExpiredRepositoryError, SignatureError
from copacetic.llb.graph import MakeFile, Mount, Network, State
from copacetic.oci.filesystem import FileType, ImageFilesystem
from copacetic.pkgmgr import MOUNTED_FILES, Content, Recipe, Upgrade, count_packages, shared_key
from copacetic.pkgmgr.apt.leftovers import GENERATED, LEFTOVERS
from copacetic.pkgmgr.apt.order import group_by_predependencies
from copacetic.repository.apt.sources import ONLINE_SCHEMES, read_sources
from copacetic.updates import FetchedPackage, InstalledPackage

__all__ = ["APT_GET", "MOUNTED", "PROGRAMS", "WORK", "RegularImage", "package_files"]

APT_GET = "usr/bin/apt-get"
DPKG = "usr/bin/dpkg"
PROGRAMS = (DPKG, "usr/bin/dpkg-deb", "bin/sh", "bin/tar", "bin/rm")
"""What dpkg itself can't do without; it looks for more, and says so."""
MOUNTED = ("run", "tmp")
WORK = "/run/copacetic"
"""In memory. Never a directory of a package's: apt could not be upgraded below a mount."""
PACKAGES = f"{WORK}/packages"
SCRIPT = f"{WORK}/upgrade"
LISTS = f"{WORK}/lists"
POLICY = "usr/sbin/policy-rc.d"
MEMORY_FOR_FILES = 1 << 30
"""Bytes that scripts may keep in /tmp: what they write there is in the builder's memory."""
SOURCE = "packages"
"""The name of the `local` source."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
}
_DPKG = ("--force-confdef", "--force-confold", "--force-unsafe-io", "--log=/dev/null")
"""Changed configuration files stay; nothing is synchronised to a disk that is thrown away on failure anyway."""
_OPTIONS = (
    "APT::Sandbox::User=root",
    "APT::Install-Recommends=false",
    # Cleared of its children an option of the image's can't be; these have only one value.
    f"Dir::Cache={WORK}",
    f"Dir::Log={WORK}",
    f"Dir::State::lists={LISTS}",
    # Installing a file marks its package as wanted by somebody; the image's own marks stay as they are.
    f"Dir::State::extended_states={WORK}/extended_states",
    "Dpkg::Use-Pty=false",
)
_ONLINE = ("Acquire::Languages=none", "Acquire::Retries=3", "APT::Update::Error-Mode=any")
_SIGNED = (
    "Acquire::AllowInsecureRepositories=false",
    "Acquire::AllowDowngradeToInsecureRepositories=false",
    "Acquire::AllowWeakRepositories=false",
    "APT::Get::AllowUnauthenticated=false",
)
_DATED = ("Acquire::Check-Valid-Until=true",)
_FLAGS = ("--yes", "--quiet", "--no-remove")

_POLICY_SCRIPT = b"#!/bin/sh\n# No service is started while packages are installed.\nexit 101\n"
_UPGRADE_SCRIPT = """\
set -eu
options='{options}'
apt-get $options --quiet update
exec apt-get $options "$@"
"""
_GROUPS_SCRIPT = """\
set -eu
for group; do
  # A group is names of files, each a digest, with blanks between them.
  dpkg {options} --auto-deconfigure --install $group
done
"""


class RegularImage:
    """One image, as far as its own package manager goes."""

    def __init__(self, fs: ImageFilesystem, conffiles: Container[str] = ()) -> None:
        """`conffiles` are paths of configuration files that packages have which may change."""
        self._fs = fs
        # What something is mounted on can't be replaced, and dpkg would give up: the package's own gets there
        # afterwards. A configuration file that looks changed is put beside it, and dpkg has to see it for its records.
        hidden = (path for path in (*MOUNTED_FILES, POLICY) if path not in conffiles)
        self._dpkg = (*_DPKG, *(f"--path-exclude=/{path}" for path in hidden))
        self._apt = (*_OPTIONS, *(f"Dpkg::Options::={option}" for option in self._dpkg))

    def install(self, base: State, packages: Sequence[FetchedPackage]) -> Recipe:
        """Let apt-get install the files: it knows in which order, and what has to be configured in between."""
        files = package_files(packages)
        options = (part for option in self._apt for part in ("-o", option))
        arguments = (f"/{APT_GET}", *_FLAGS, *options, "install", *(f"{PACKAGES}/{name}" for name in files))
        return self._offline(base, arguments, packages, f"apt-get install {count_packages(packages)}")

    def install_with_dpkg(
        self, base: State, packages: Sequence[FetchedPackage], installed: Sequence[InstalledPackage]
    ) -> Recipe:
        """Without apt-get: all at once, or in groups where some have to be configured before others are unpacked."""
        by_candidate = {id(package.update.candidate): package for package in packages}
        groups = group_by_predependencies([package.update.candidate for package in packages], installed)
        names = [[*package_files([by_candidate[id(one)] for one in group])] for group in groups]
        what = f"dpkg --install {count_packages(packages)}"
        if len(names) == 1:
            arguments = (
                f"/{DPKG}",
                *self._dpkg,
                "--auto-deconfigure",
                "--install",
                *(f"{PACKAGES}/{n}" for n in names[0]),
            )
            return self._offline(base, arguments, packages, what)
        text = _GROUPS_SCRIPT.format(options=" ".join(self._dpkg))
        script = llb.scratch().file(MakeFile(path="/install", data=text.encode(), mode=0o755))
        bind = llb.Bind(dest=SCRIPT, source=script, selector="/install")
        words = (" ".join(f"{PACKAGES}/{name}" for name in group) for group in names)
        return self._offline(base, ("/bin/sh", SCRIPT, *words), packages, f"{what} in {len(names)} groups", bind)

    def upgrade(self, base: State, upgrade: Upgrade) -> Recipe:
        """Refresh and upgrade; `repository_state` is in the environment, so that another one is another run."""
        self._refuse_lenient(upgrade)
        options = [
            *self._apt,
            *_ONLINE,
            *(_SIGNED * (not upgrade.allow_unsigned)),
            *(_DATED * (not upgrade.allow_expired)),
        ]
        text = _UPGRADE_SCRIPT.format(options=" ".join(f"-o {option}" for option in options))
        verb: tuple[str, ...] = ("upgrade", "--with-new-pkgs")
        if upgrade.names is not None:
            verb = ("install", "--only-upgrade", "--", *map(str, upgrade.names))
        script = llb.scratch().file(MakeFile(path="/upgrade", data=text.encode(), mode=0o755))
        run = base.run(
            ("/bin/sh", SCRIPT, *_FLAGS, *verb),
            env={**_ENVIRONMENT, "COPACETIC_REPOSITORY_STATE": upgrade.repository_state},
            mounts=(
                *self._mounts(),
                llb.Tmpfs(dest=LISTS),  # apt makes no directory for its lists but below its own
                llb.Bind(dest=SCRIPT, source=script, selector="/upgrade"),
            ),
            proxy=upgrade.proxy,
            name="apt-get update and upgrade",
        )
        return self._recipe(base, run.root)

    def _refuse_lenient(self, upgrade: Upgrade) -> None:
        """No option outweighs what a definition says of its own repository, and apt would go by it without a word."""
        for source in read_sources(self._fs, schemes=ONLINE_SCHEMES)[0]:
            where = f"{source.shown_uri} {source.suite} ({source.defined_in})"
            if (source.trusted or source.insecure) and not upgrade.allow_unsigned:
                message = f"the builder would take {where} without a valid signature, as the image has it"
                raise SignatureError(message, hint="--allow-unsigned-repository allows that")
            if not source.check_valid_until and not upgrade.allow_expired:
                message = f"the builder would take {where} past its date, as the image has it"
                raise ExpiredRepositoryError(message, hint="--allow-expired-repository allows that")

    def _offline(
        self, base: State, arguments: Sequence[str], packages: Sequence[FetchedPackage], name: str, *more: Mount
    ) -> Recipe:
        files = package_files(packages)
        source = llb.local(SOURCE, shared_key=shared_key(files))
        run = base.run(
            arguments,
            env=_ENVIRONMENT,
            mounts=(*self._mounts(), llb.Bind(dest=PACKAGES, source=source), *more),
            network=Network.NONE,
            name=name,
        )
        return replace(self._recipe(base, run.root), directories={SOURCE: files}, names=package_names(packages))

    def _mounts(self) -> tuple[Mount, ...]:
        mounts: list[Mount] = [llb.Tmpfs(dest=WORK), llb.Tmpfs(dest="/tmp", size=MEMORY_FOR_FILES)]
        present = self._fs.lookup(POLICY, follow=False)
        folder = POLICY.rpartition("/")[0]
        if self._fs.resolve(folder) == folder and (present is None or present.type is FileType.FILE):
            policy = llb.scratch().file(MakeFile(path="/policy-rc.d", data=_POLICY_SCRIPT, mode=0o755))
            mounts.append(llb.Bind(dest=f"/{POLICY}", source=policy, selector="/policy-rc.d"))
        return tuple(mounts)

    def _recipe(self, base: State, result: State) -> Recipe:
        return Recipe(
            base=base,
            result=result,
            leftovers=LEFTOVERS,
            mounted=(POLICY, "tmp/*"),
            generated=GENERATED,
            drops_bytecode=True,
        )


def package_files(packages: Sequence[FetchedPackage]) -> dict[str, Content]:
    """
    Name the files by their digests, in a fixed order. A name of the repository's would be read as more than a name:
    apt 2.2 passes over a path with a colon, without a word.
    """
    ordered = sorted(packages, key=lambda p: p.key)
    return {f"{package.update.candidate.sha256}.deb": package.path for package in ordered}


def package_names(packages: Sequence[FetchedPackage]) -> dict[str, str]:
    """Return how people call the files that are named by their digests."""
    candidates = [package.update.candidate for package in packages]
    return {f"{one.sha256}.deb": f"{one.name}_{one.version}.deb" for one in candidates}
