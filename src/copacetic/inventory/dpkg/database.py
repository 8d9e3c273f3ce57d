# SPDX-License-Identifier: Apache-2.0
"""
dpkg's database, read from an image.

A regular one is a `status` file with everything else in `info/`; a distroless one is a directory `status.d` with a
stanza and, mostly, a list of checksums for each package. An image may have both, when somebody installed something
on a distroless base: the `status` file then speaks for the packages that it names.

Tools that put images together write a `status` without anything in `info/`, and so does who removes that folder. Of an
image that chisel made only slices of packages are there: its `status` has no `Status`, or there is only a manifest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from copacetic.deb.fix import is_fixed
from copacetic.deb.relation import RelationError, broken_relations, unreadable_relations
from copacetic.errors import InventoryError
from copacetic.inventory import PackageDatabase
from copacetic.inventory.dpkg.config import (
    Conffile,
    Diversion,
    PathFilters,
    StatOverride,
    parse_conffiles,
    parse_diversions,
    parse_statoverrides,
)
from copacetic.inventory.dpkg.manifest import MANIFEST, ChiselManifest, SlicedPath
from copacetic.inventory.dpkg.rewrite import (
    DebRecord,
    bare_stanza,
    installed_stanza,
    rewrite_distroless,
    rewrite_info,
    rewrite_status,
    rewrite_triggers,
    sliced_stanza,
)
from copacetic.inventory.dpkg.rows import StanzaRow, read_earlier, read_rows, read_status
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.updates import Finding, InstalledPackage, PackageKey

ROOT = "var/lib/dpkg"
STATUS = f"{ROOT}/status"
STATUS_D = f"{ROOT}/status.d"
INFO = f"{ROOT}/info"
TRIGGERS = f"{ROOT}/triggers"
STATUS_LIMIT = 32 * 1024 * 1024
MAX_LINES = 250_000
"""Of a file about one package, each of which costs many times its bytes; the longest of Debian have about 100,000."""
FILE_LIMIT = 16 * 1024 * 1024

_MD5_LINE = re.compile(r"([0-9a-f]{32})  (.+)")
_OWN = frozenset(
    {"status", "arch", "diversions", "statoverride", "info", "alternatives", "triggers", "parts", "updates", "status.d"}
)
"""Of dpkg's folder, files and folders."""
_SCRIPTS = ("config", "preinst", "postinst", "prerm", "postrm")
_DOCUMENTATION = ("usr/share/doc", "usr/share/doc-base", "usr/share/info", "usr/share/lintian", "usr/share/man")
_CONFIG_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.cfg)?")


class DpkgDatabase:
    """`PackageDatabase` of Debian and its derivatives. Everything but the stanzas is read when it is asked for."""

    package_type = "deb"
    checksum_algorithm = "md5"
    version_scheme = "deb"

    def __init__(self, fs: ImageFilesystem, rows: Sequence[StanzaRow], manifest: ChiselManifest | None = None) -> None:
        self._fs = fs
        self._rows = tuple(rows)
        self._by_package = {row.package: row for row in rows if row.installed}
        self._manifest = manifest
        named = [row.package for row in rows if row.file == STATUS]
        self.sliced = any(row.package.partial for row in rows)
        """Whether some packages are there only in part, and stay so (`InstalledPackage.partial`)."""
        self.bare = bool(named) and not named[0].partial and not self._keeps_records(named)
        """Whether there is a `status` file and nothing in `info/`: who knows what belongs to which package?"""
        self.regular = bool(named) and not named[0].partial and not self.bare
        """Whether dpkg could work with it: a `status` file, and what belongs to it."""

    @classmethod
    def detect(cls, fs: ImageFilesystem) -> DpkgDatabase | None:
        rows: list[StanzaRow] = []
        with suppress(FileNotFoundError):
            rows = read_status(fs.read(STATUS, limit=STATUS_LIMIT), STATUS, may_mend=lambda: not fs.iterdir(INFO))
        named = {row.package.name for row in rows}
        for name in fs.iterdir(STATUS_D):
            path = f"{STATUS_D}/{name}"
            if name.endswith(".md5sums") or name.startswith("."):
                continue
            try:
                data = fs.read(path, limit=FILE_LIMIT)
            except FileNotFoundError:
                continue
            rows += [row for row in read_rows(data, path, needs_status=False) if row.package.name not in named]
        manifest = ChiselManifest.find(fs)
        if manifest is not None:
            rows += manifest.complete(rows)
        return cls(fs, rows, manifest) if any(row.installed for row in rows) else None

    @property
    def format(self) -> str:
        if self.regular:
            return "dpkg status"
        if self.bare:
            return "dpkg status without info"
        if not self.sliced:
            return "dpkg status.d"
        return "chisel manifest.wall" if self.path == MANIFEST else "chisel status"

    @property
    def path(self) -> str:
        files = {row.file for row in self._rows}
        return next((path for path in (STATUS, MANIFEST) if path in files), STATUS_D)

    def packages(self) -> tuple[InstalledPackage, ...]:
        return tuple(sorted(self._by_package, key=lambda p: p.key))

    def is_meant(self, package: InstalledPackage, architecture: str) -> bool:
        return package.architecture in {architecture, "all"}

    def is_fixed(self, package: InstalledPackage, finding: Finding) -> bool:
        return is_fixed(package, finding)

    def files(self, package: InstalledPackage) -> tuple[str, ...]:
        """From `info/*.list`; a distroless image has only the names in its checksums, chisel those of slices."""
        if package.partial:
            return tuple(one.path for one in self.sliced_paths(package) or ())
        if not self.is_regular(package):
            return tuple(self.md5sums(package))
        path = f"{self._info_stem(package)}.list"
        return tuple("" if line == "/." else _relative(line, path) for line in split_lines(self._text(path)))

    def own_files(self, package: InstalledPackage) -> tuple[str, ...]:
        if not self.is_regular(package):
            return (self._by_package[package].file,)
        # The list is often the same in the next version, the checksums hardly ever.
        stem = self._info_stem(package)
        return (f"{stem}.list", f"{stem}.md5sums")

    def sliced_paths(self, package: InstalledPackage) -> Sequence[SlicedPath] | None:
        """Return what chisel's manifest says that slices of a package brought; None where it doesn't know of it."""
        if self._manifest is None or package.name not in self._manifest.packages:
            return None
        return self._manifest.paths.get(package.name, ())

    def checksums(self, package: InstalledPackage) -> Mapping[str, tuple[str, str]]:
        if package.partial:  # below etc, where chisel doesn't tell configuration files from others, users change them
            found = ((one.path, one.final_sha256 or one.sha256) for one in self.sliced_paths(package) or ())
            return {path: ("sha256", sha256) for path, sha256 in found if sha256 and not path.startswith("etc/")}
        left_out = self.conffiles(package).keys()
        present = frozenset(self.files(package))
        return {
            self.diverted(path, package.name): ("md5", md5)
            for path, md5 in self.md5sums(package).items()
            if path in present
            and path not in left_out
            and not self.path_filters.excludes(path, directory_or_link=False)
        }

    def bare_paths(self, package: InstalledPackage) -> tuple[str, ...]:
        others = self.conffiles(package).keys() | self.md5sums(package).keys()
        if package.partial or self.diversions:  # else there are no further names among them
            others |= self.checksums(package).keys()
        excludes = self.path_filters.excludes
        return tuple(
            self.diverted(path, package.name)
            for path in self.files(package)
            if path
            and path not in others
            and not any(excludes(path, directory_or_link=special) for special in (True, False))
        )

    def place(self, path: str, package: str) -> str:
        return self.diverted(path, package)

    def describes(self, path: str, packages: Collection[str]) -> bool | None:
        """A list of any package may change, as one that loses files to another is shorter then."""
        folder, _, name = path.rpartition("/")
        root, info, separate = (self._fs.resolve(one) for one in (ROOT, INFO, STATUS_D))
        if folder == info:
            stem, _, kind = name.rpartition(".")
            return kind == "list" or name == "format" or stem.partition(":")[0] in packages
        if folder == separate:
            files = {row.file.rpartition("/")[2] for row in self._rows if row.package.name in packages}
            return name.removesuffix(".md5sums") in files.union(packages)
        is_own = (folder == root and name in _OWN) or folder in {f"{root}/alternatives", f"{root}/triggers"}
        is_own |= self._manifest is not None and path == self._fs.resolve(MANIFEST)
        return True if is_own else None

    def is_configuration(self, path: str, package: InstalledPackage) -> bool:
        return path in self.conffiles(package)

    def grants(self, path: str, owner: tuple[int, int, int]) -> bool:
        return False

    def diverted(self, path: str, package: str) -> str:
        """Return where a package's file really goes."""
        diversion = self.diversions.get(path)
        return path if diversion is None or diversion.package == package else diversion.to

    def assumed(self) -> tuple[InstalledPackage, ...]:
        return ()

    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        """What dpkg itself would warn of, or finish at the next occasion; what isn't known of its packages."""
        if self.bare:
            yield (
                f"{self.format}: the image doesn't say which files are whose: those of an old version that the new one "
                "doesn't have stay, and the proof goes by the new packages' own checksums"
            )
        elif self.sliced:
            kept = "only those paths of a package are updated that are in the image; no script ever ran"
            left = ", and what the new version doesn't have stays, as nothing says whose it is"
            sources = f"; {MANIFEST} doesn't say which source a package is of" if self.path == MANIFEST else ""
            yield f"{self.format}: {kept}{'' if self._manifest else left}{sources}"
        for package in self.packages():
            problem = unreadable_relations(package)
            if problem:
                yield f"{self.path}: {package.name}: {problem}: that field counts for nothing"
            if package.state:
                what = f"{package.name} {package.version} is {package.state}"
                yield f"{what}: its files are there, and dpkg has to finish it"

    def broken_dependencies(self) -> frozenset[str]:
        partial = frozenset(package.name for package in self._by_package if package.partial)
        try:
            found = broken_relations(self.packages(), self.native_architecture, partial=partial)
            return frozenset(str(one) for one in found)
        except RelationError as error:
            raise InventoryError(f"{self.path}: {error}") from error

    def is_regular(self, package: InstalledPackage) -> bool:
        """Tell whether a package's record is in the `status` file, and the rest is in `info/`."""
        return self.regular and self._by_package[package].file == STATUS

    def conffiles(self, package: InstalledPackage) -> Mapping[str, Conffile]:
        """Return the recorded configuration files by path; a distroless image records none."""
        value = self._by_package[package].stanza.find("Conffiles")
        return {conffile.path: conffile for conffile in parse_conffiles(value, f"{STATUS}: {package.name}")}

    def info(self, package: InstalledPackage, name: str) -> bytes | None:
        """Return a file of the package's control part: a script, `triggers`, `md5sums`, … or None."""
        if not self.is_regular(package):
            return None
        return self._read(f"{self._info_stem(package)}.{name}")

    def scripts(self, package: InstalledPackage) -> Mapping[str, bytes]:
        """Return the installed maintainer scripts by name."""
        return {name: data for name in _SCRIPTS if (data := self.info(package, name)) is not None}

    @cached_property
    def earlier(self) -> Mapping[PackageKey, str]:
        """See `read_earlier`."""
        return read_earlier(self._fs, STATUS, self._rows, limit=STATUS_LIMIT)

    @cached_property
    def native_architecture(self) -> str:
        """The architecture dpkg was built for: that of the `dpkg` package, or else the most frequent one."""
        counts = Counter(p.architecture for p in self._by_package if p.architecture != "all")
        for package in self._by_package:
            if package.name == "dpkg" and package.architecture != "all":
                return package.architecture
        return max(sorted(counts), key=lambda name: counts[name], default="all")

    @cached_property
    def diversions(self) -> Mapping[str, Diversion]:
        return parse_diversions(self._text(f"{ROOT}/diversions"))

    @cached_property
    def statoverrides(self) -> Mapping[str, StatOverride]:
        return parse_statoverrides(self._text(f"{ROOT}/statoverride"))

    @cached_property
    def path_filters(self) -> PathFilters:
        names = [name for name in self._fs.iterdir("etc/dpkg/dpkg.cfg.d") if _CONFIG_NAME.fullmatch(name)]
        texts = [self._text(f"etc/dpkg/dpkg.cfg.d/{name}") for name in names]
        if self.bare:  # what puts images together leaves documentation out; its own filters were elsewhere
            absent = (folder for folder in _DOCUMENTATION if not self._fs.iterdir(folder))
            texts[:0] = [f"path-exclude=/{folder}\npath-exclude=/{folder}/*\n" for folder in absent]
        return PathFilters.parse([*texts, self._text("etc/dpkg/dpkg.cfg")])

    @cached_property
    def file_triggers(self) -> tuple[tuple[str, str], ...]:
        """Paths that packages are interested in, each with the package's info name (and `/noawait`)."""
        rows = (line.rpartition(" ") for line in split_lines(self._text(f"{TRIGGERS}/File")))
        return tuple((path.lstrip("/"), package) for path, _, package in rows if path.startswith("/"))

    @cached_property
    def named_triggers(self) -> Mapping[str, str]:
        """The text of each file of `triggers/` that lists who is interested in a name."""
        names = [name for name in self._fs.iterdir(TRIGGERS) if name not in {"File", "Lock", "Unincorp"}]
        return {name: self._text(f"{TRIGGERS}/{name}") for name in names}

    def rewrite(self, records: Sequence[DebRecord]) -> Mapping[str, bytes | None]:
        """Return the database's files that change when packages were installed; None removes one."""
        changes: dict[str, bytes | None] = {}
        in_status = [record for record in records if self._home(record) == STATUS]
        if in_status:
            write = installed_stanza if self.regular else bare_stanza if self.bare else sliced_stanza
            changes[STATUS] = rewrite_status(self._status_rows(), in_status, write)
        if self.regular:
            changes.update(self._rewrite_info(in_status))
        elif self.bare:
            for record in in_status:
                for name in self._info_files(record.replaces) if record.replaces is not None else ():
                    changes[f"{INFO}/{name}"] = record.control_files.get(name.rpartition(".")[2])
        for record in records:
            if self._home(record) not in {STATUS, MANIFEST}:
                path = f"{STATUS_D}/{record.name}" if record.replaces is None else self._home(record)
                had_sums = self._fs.lookup(f"{path}.md5sums") is not None
                changes.update(rewrite_distroless(record, path, had_sums=had_sums))
        manifest = self._manifest.rewrite(records) if self._manifest is not None and self.sliced else None
        return changes if manifest is None else {**changes, MANIFEST: manifest}

    def _home(self, record: DebRecord) -> str:
        """Return the file in which a record stands, or where a new one goes."""
        return self.path if record.replaces is None else self._by_package[record.replaces].file

    def _rewrite_info(self, records: Sequence[DebRecord]) -> Mapping[str, bytes | None]:
        changes: dict[str, bytes | None] = {}
        file_triggers = self._text(f"{TRIGGERS}/File")
        named = dict(self.named_triggers)
        for record in records:
            old = self._info_files(record.replaces) if record.replaces is not None else []
            changes.update(rewrite_info(record, old, INFO))
            for name, text in rewrite_triggers(record, file_triggers, named).items():
                changes[f"{TRIGGERS}/{name}"] = text.encode() if text else None
                if name == "File":
                    file_triggers = text
                    changes[f"{TRIGGERS}/File"] = text.encode()
                else:
                    named[name] = text
        return changes

    def _status_rows(self) -> list[tuple[PackageKey, str]]:
        return [(r.package.key, r.stanza.text) for r in self._rows if r.file == STATUS]

    def _info_files(self, package: InstalledPackage) -> list[str]:
        stem = self._info_stem(package).rpartition("/")[2]
        prefix = f"{stem}."
        return [name for name in self._info_names if name.startswith(prefix) and "." not in name[len(prefix) :]]

    @cached_property
    def _info_names(self) -> tuple[str, ...]:
        return self._fs.iterdir(INFO)

    def _keeps_records(self, packages: Sequence[InstalledPackage]) -> bool:
        """Tell whether `info/` has a list of files, or a script: the first package mostly answers that."""
        stems = (f"{INFO}/{name}" for p in packages for name in (p.name, f"{p.name}:{p.architecture}"))
        if any(self._fs.lookup(f"{stem}.list") is not None for stem in stems):
            return True
        return any(name.rpartition(".")[2] in _SCRIPTS for name in self._info_names)

    def _info_stem(self, package: InstalledPackage) -> str:
        qualified = f"{INFO}/{package.name}:{package.architecture}"
        return qualified if self._fs.lookup(f"{qualified}.list") is not None else f"{INFO}/{package.name}"

    def md5sums(self, package: InstalledPackage) -> Mapping[str, str]:
        """Return path → MD5 of the package's files as shipped, without those that dpkg calls conffiles."""
        row = self._by_package[package]
        if row.package.partial:
            return {}
        path = f"{self._info_stem(package)}.md5sums" if row.file == STATUS else f"{row.file}.md5sums"
        lines = (_MD5_LINE.fullmatch(line) for line in split_lines(self._text(path)))
        return {_relative(match[2].removeprefix("./"), path): match[1] for match in lines if match is not None}

    def _read(self, path: str) -> bytes | None:
        try:
            return self._fs.read(path, limit=FILE_LIMIT)
        except FileNotFoundError:
            return None

    def _text(self, path: str) -> str:
        data = self._read(path) or b""
        if data.count(b"\n") > MAX_LINES:
            raise InventoryError(f"{path} has more than {MAX_LINES} lines")
        return data.decode("utf-8", "surrogateescape")


def _relative(name: str, where: str) -> str:
    """Return what a list names, from the image's root."""
    if ".." in name.split("/"):
        raise InventoryError(f"{where}: not a plain path: {name[:100]!r}")
    return name.lstrip("/")


_: type[PackageDatabase] = DpkgDatabase
