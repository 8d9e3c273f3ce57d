# SPDX-License-Identifier: Apache-2.0
"""
An image with `status.d` only: a tooling image's dpkg acts on its root.

dpkg gets a database made from the image's own records, outside the root, and packages without maintainer scripts:
such an image never ran any and has no shell for them. The records in `status.d` are rewritten afterwards, by the same
code that does it for the embedded engine.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence

from copacetic import llb
from copacetic.deb.deb822 import format_stanza, parse_stanza, stanza_of
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.inventory.dpkg.archive import ControlPart, DebArchive
from copacetic.inventory.dpkg.rewrite import DebRecord
from copacetic.lines import split_lines
from copacetic.llb.graph import Copy, MakeDirectory, Network, State
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pkgmgr import Content, Leftover, Recipe, count_packages, shared_key
from copacetic.pkgmgr.apt.regular import package_names
from copacetic.pkgmgr.probe import refuse_links_out
from copacetic.updates import FetchedPackage, InstalledPackage

__all__ = ["install_distroless"]

_WORK = "/run/copacetic"
_ROOT = f"{_WORK}/root"
_DATABASE = f"{_WORK}/database"
_PACKAGES = f"{_WORK}/packages"
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_OPTIONS = (
    "--force-confdef",
    "--force-confold",
    "--force-depends",
    "--force-unsafe-io",
    "--log=/dev/null",
    "--no-triggers",
)
_KEPT = ("conffiles", "control", "md5sums")
"""Of a control part; the rest is scripts and what concerns them."""
_SUFFIXES = {"none": "", "gzip": ".gz", "xz": ".xz", "zstd": ".zst", "bzip2": ".bz2"}
_LEFTOVERS = (
    Leftover(pattern="*.dpkg-dist", reason="a distroless image has nobody to look at it"),
    Leftover(pattern="*.dpkg-new", reason="likewise"),
    Leftover(pattern="*.dpkg-old", reason="likewise"),
)


def install_distroless(
    fs: ImageFilesystem, base: State, tooling: State, database: DpkgDatabase, packages: Sequence[FetchedPackage]
) -> Recipe:
    """
    Describe the run. Raises `UnsupportedImageError` for an absolute link in a package's way: dpkg would follow it
    into the tooling image.
    """
    archives = {p: DebArchive.open(p.path, p.update.candidate.name) for p in packages}
    controls = {p: archive.read_control() for p, archive in archives.items()}
    for package in packages:
        refuse_links_out(fs, package.update.candidate.name, _payload_paths(controls[package]))
    debs = {
        f"{package.update.candidate.sha256}.deb": _without_scripts(archives[package], controls[package])
        for package in sorted(packages, key=lambda p: p.key)
    }
    records = database.rewrite([_record(controls[package], package.update.installed) for package in packages])
    run = tooling.run(
        ("/usr/bin/dpkg", f"--root={_ROOT}", f"--admindir={_DATABASE}", *_OPTIONS, *_filters(database),
         "--install", *(f"{_PACKAGES}/{name}" for name in debs)),
        env=_ENVIRONMENT,
        mounts=(
            llb.Tmpfs(dest=_WORK),
            llb.Tmpfs(dest="/tmp"),
            llb.Tmpfs(dest="/etc/dpkg/dpkg.cfg.d"),
            llb.Bind(dest=_ROOT, source=base, readonly=False),
            llb.Bind(dest=_DATABASE, source=_database_state(), readonly=False),
            llb.Bind(dest=_PACKAGES, source=llb.local("packages", shared_key=shared_key(debs))),
        ),
        network=Network.NONE,
        name=f"dpkg --root --install {count_packages(packages)}",
    )  # fmt: skip
    return Recipe(
        base=base,
        result=run.output(_ROOT),
        directories={"packages": debs, "database": _database_files(database)},
        leftovers=_LEFTOVERS,
        records=records,
        drops_bytecode=True,
        runs_scripts=False,
        names=package_names(packages),
    )


def _filters(database: DpkgDatabase) -> tuple[str, ...]:
    """The image's own; those of the tooling image are hidden."""
    return tuple(
        f"--path-{'include' if include else 'exclude'}={glob}" for include, glob in database.path_filters.rules
    )


def _database_state() -> State:
    """
    A copy, so that a builder's cache goes by what is in it: a writable mount of a `local` source goes by the session.
    """
    actions = (
        MakeDirectory(path="/updates"),
        MakeDirectory(path="/triggers"),
        Copy(source=llb.local("database"), path="/", dest="/", contents_only=True),
    )
    return llb.scratch().file(*actions, name="dpkg's database of the image")


def _database_files(database: DpkgDatabase) -> dict[str, Content]:
    """What dpkg has to know about what is installed, as it would have written it itself."""
    stanzas: list[str] = []
    files: dict[str, Content] = {"info/format": b"1\n"}
    for package in database.packages():
        stanza = stanza_of(package)
        fields = {name: value for name, value in stanza.fields.items() if name not in {"Status", "Conffiles"}}
        stanzas.append(format_stanza([*fields.items(), ("Status", "install ok installed")]))
        shared = stanza.fields.get("Multi-Arch", "") == "same"
        stem = f"info/{package.name}:{package.architecture}" if shared else f"info/{package.name}"
        paths = database.files(package)
        files[f"{stem}.list"] = "".join(f"{path}\n" for path in _with_parents(paths)).encode("utf-8", "surrogateescape")
        sums = database.md5sums(package)
        files[f"{stem}.md5sums"] = "".join(f"{md5}  {path}\n" for path, md5 in sums.items()).encode(
            "utf-8", "surrogateescape"
        )
    files["status"] = "".join(f"{stanza}\n\n" for stanza in stanzas).encode("utf-8", "surrogateescape")
    return files


def _with_parents(paths: Iterable[str]) -> Iterable[str]:
    found = {"/.": None}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            found["/" + "/".join(parts[:depth])] = None
    return found


def _record(control: ControlPart, installed: InstalledPackage | None) -> DebRecord:
    stanza = parse_stanza(control.files["control"].decode("utf-8", "surrogateescape"))
    files = {name: data for name, data in control.files.items() if name != "control"}
    return DebRecord(control=stanza, control_files=files, files=(), replaces=installed)


def _without_scripts(archive: DebArchive, control: ControlPart) -> Content:
    """The same package, its payload untouched, with nothing in it that dpkg would run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in _KEPT:
            if name in control.files:
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(control.files[name])
                tar.addfile(member, io.BytesIO(control.files[name]))
    kept, data = buffer.getvalue(), archive.data
    head = b"!<arch>\n" + _member("debian-binary", 4) + b"2.0\n" + _member("control.tar", len(kept)) + kept
    payload = _member(f"data.tar{_SUFFIXES[data.format]}", data.size)
    return (head + payload, Spooled(archive.path, data.offset, data.size), b"\n" * (data.size % 2))


def _member(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode()


def _payload_paths(control: ControlPart) -> Iterable[str]:
    for line in split_lines(control.files.get("md5sums", b"").decode("utf-8", "surrogateescape")):
        yield line.partition("  ")[2]
