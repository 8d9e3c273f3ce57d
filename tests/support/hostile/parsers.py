# SPDX-License-Identifier: Apache-2.0
"""
Every parser that reads what strangers write, as a function of bytes that returns, or raises one of our errors.

Each does with the result what a run would do with it, since much is read only when it is asked for.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path

import zstandard

from copacetic.deb.deb822 import PackagesIndexer, parse_stanza, stanza_of
from copacetic.deb.relation import Relation, RelationError, parse_relations, provides
from copacetic.distro import Distro
from copacetic.errors import CopaError, InventoryError, PackageError, RepositoryError, blame_input
from copacetic.http.address import find_origin, join_address, show_address, split_credentials
from copacetic.inventory.apk import ApkDatabase
from copacetic.inventory.dpkg import DebRecord, DpkgDatabase
from copacetic.inventory.dpkg.archive import DebArchive
from copacetic.inventory.dpkg.manifest import MANIFEST
from copacetic.oci.challenge import parse_challenges, select_challenge
from copacetic.oci.descriptor import Digest, Platform
from copacetic.oci.manifest import ImageConfig, Index, Manifest, detect_media_type
from copacetic.oci.reference import Reference
from copacetic.pipeline.plan.document import write_plans
from copacetic.pipeline.plan.planfile import read_plans
from copacetic.report import HEAD, SCANNERS, parse_report
from copacetic.repository.apk.index import ApkIndex, make_candidate, read_v2, read_v3
from copacetic.repository.apk.package import open_package
from copacetic.repository.apk.sources import ApkSource
from copacetic.repository.apk.sources import parse_sources as parse_apk_sources
from copacetic.repository.apk.v3 import open_index
from copacetic.repository.apt.index import BYTES_OF_ROW, ROWS_FLOOR, IndexTable, PackagesIndex
from copacetic.repository.apt.keys import Signed
from copacetic.repository.apt.preferences import Preferences, Subject
from copacetic.repository.apt.release import Release, parse_release
from copacetic.repository.apt.resolver import sort_candidates
from copacetic.repository.apt.sources import AptSource, parse_sources, substitute
from copacetic.repository.sums import SumsMaker
from copacetic.scripts.shell.interpret import follow_script
from copacetic.scripts.shell.parser import parse_shell
from copacetic.scripts.shell.syntax import ShellSyntaxError
from copacetic.strict import read_digits
from copacetic.tables import plan_table
from copacetic.unpack.deb.payload import spool_payload
from copacetic.unpack.rpm.lua import rewrite_lua
from copacetic.unpack.rpm.package import load_package as load_rpm
from copacetic.unpack.rpm.payload import digest_payload
from copacetic.updates import Origin
from support.hostile.rpmmd import RPM_PARSERS
from support.image.memoryfs import MemoryFilesystem
from support.image.trees import stack
from support.rpm.rpmoracle import fetched_as as fetched_rpm

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Parser = Callable[[bytes], None]
PARSERS: dict[str, Parser] = dict(RPM_PARSERS)


def _parser(name: str) -> Callable[[Parser], Parser]:
    def add(parse: Parser) -> Parser:
        PARSERS[name] = parse
        return parse

    return add


def _read_all(rows: Iterable[object]) -> None:
    deque(rows, maxlen=0)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="parsers-"))


def _stored(data: bytes) -> Path:
    path = _folder() / "input"
    path.write_bytes(data)
    return path


# -- databases -------------------------------------------------------------------------------------------------------

STATUS = b"""Package: foo
Status: install ok installed
Architecture: amd64
Version: 1.0-1
Conffiles:
 /etc/foo 0123456789abcdef0123456789abcdef
"""
DPKG = {"status": "var/lib/dpkg/status", "status.d": "var/lib/dpkg/status.d/foo"}
DPKG |= {f"dpkg {name}": f"var/lib/dpkg/{name}" for name in ("arch", "diversions", "statoverride", "triggers/File")}
DPKG |= {f"dpkg {name}": f"var/lib/dpkg/info/foo.{name}" for name in ("list", "md5sums", "triggers")}
DPKG |= {"dpkg.cfg": "etc/dpkg/dpkg.cfg"}


def _read_dpkg(path: str, data: bytes) -> None:
    files = {"var/lib/dpkg/status": STATUS, "var/lib/dpkg/info/foo.list": b"/.\n/usr\n/usr/foo\n"}
    _ask_dpkg({**files, path: data})


def _wall(lines: bytes) -> bytes:
    """Put the header before a manifest's lines that goes with them."""
    count = lines.removesuffix(b"\n").count(b"\n") + 2
    header = b'{"jsonwall":"1.0","schema":"1.0","count":%d}\n' % count
    return zstandard.ZstdCompressor().compress(header + lines)


def _ask_dpkg(files: Mapping[str, bytes]) -> None:
    database = DpkgDatabase.detect(MemoryFilesystem(dict(files)))
    if database is None:
        return
    for package in database.packages():
        for read in (database.files, database.checksums, database.conffiles, database.scripts, database.own_files):
            read(package)
    for name in ("diversions", "statoverrides", "path_filters", "file_triggers", "named_triggers"):
        getattr(database, name)
    _ = database.native_architecture, database.notes()
    first = database.packages()[0]
    database.rewrite([DebRecord(control=stanza_of(first), control_files={}, files=(), replaces=first)])
    database.broken_dependencies()


for _name, _path in DPKG.items():
    PARSERS[_name] = lambda data, path=_path: _read_dpkg(path, data)  # type: ignore[misc]

PARSERS["status of others"] = lambda data: _ask_dpkg({"var/lib/dpkg/status": data})
PARSERS["manifest.wall"] = lambda data: _ask_dpkg({MANIFEST: _wall(data)})

INSTALLED = b"P:foo\nV:1-r0\nA:x86_64\nC:Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=\nF:usr\nR:foo\n\n"
APK = {
    "installed": "lib/apk/db/installed",
    "apk world": "etc/apk/world",
    "apk arch": "etc/apk/arch",
    "apk triggers": "lib/apk/db/triggers",
    "scripts.tar": "lib/apk/db/scripts.tar",
}


def _read_apk(path: str, data: bytes) -> None:
    database = ApkDatabase.detect(MemoryFilesystem({"lib/apk/db/installed": INSTALLED, path: data}))
    if database is None:
        return
    for package in database.packages():
        for read in (database.files, database.checksums, database.scripts, database.triggers, database.own_files):
            read(package)
        database.record(package).format()
    _ = database.notes(), database.native_architecture
    database.broken_dependencies()
    database.rewrite([], altered={}, now=0)


for _name, _path in APK.items():
    PARSERS[_name] = lambda data, path=_path: _read_apk(path, data)  # type: ignore[misc]


@_parser("os-release")
def _read_os_release(data: bytes) -> None:
    Distro.parse(data)


# -- repositories ----------------------------------------------------------------------------------------------------

SOURCE = AptSource(uri="http://e.example/debian", suite="stable", components=("main",), defined_in="sources.list")


def _read_sources(data: bytes, *, deb822: bool) -> None:
    found, _ = parse_sources(data.decode("utf-8", "replace"), "etc/apt/sources.list", deb822=deb822)
    for source in substitute(found, architecture="amd64", mirrors=()):
        _ = source.shown_uri, source.release_url


PARSERS["sources.list"] = lambda data: _read_sources(data, deb822=False)
PARSERS["debian.sources"] = lambda data: _read_sources(data, deb822=True)


@_parser("apk repositories")
def _read_apk_sources(data: bytes) -> None:
    known = {"APK_ARCH": "x86_64"}
    for source in parse_apk_sources(data.decode("utf-8", "replace"), "etc/apk/repositories", known)[0]:
        _ = source.url, source.branch, source.component, source.index_url("x86_64")


@_parser("Release")
def _read_release(data: bytes) -> None:
    release = parse_release(SOURCE, Signed(data, ""), "")
    _ = release.not_automatic, release.but_automatic_upgrades


@cache
def a_release() -> Release:
    row = b"0" * 64 + b" 1 main/binary-amd64/Packages"
    return parse_release(SOURCE, Signed(b"Suite: stable\nLabel: x\nSHA256:\n " + row + b"\n", ""), "")


@_parser("preferences")
def _read_preferences(data: bytes) -> None:
    pins = Preferences.read(MemoryFilesystem({"etc/apt/preferences": data, "etc/apt/apt.conf": data}), "amd64")
    place = PackagesIndex(a_release(), "main", Path(), IndexTable(b"\n\n", b""))
    for version in ("1.0-1", "2.0~bpo12+1"):
        subject = Subject(name="foo", source="foo", version=version, architecture="amd64", places=[None, place])
        pins.priority(subject)


@_parser("Packages")
def _read_packages(data: bytes) -> None:
    indexer, sums = PackagesIndexer(), SumsMaker()
    for at in range(0, len(data), 1 << 20):
        with blame_input(RepositoryError, "the index"):
            indexer.feed(data[at : at + (1 << 20)])
            sums.feed(data[at : at + (1 << 20)])
    table = indexer.finish()
    if indexer.count > len(data) // BYTES_OF_ROW + ROWS_FLOOR:
        raise RepositoryError("too many packages")
    index = PackagesIndex(a_release(), "main", _stored(data), IndexTable(table, sums.finish()))
    for name in ("foo", "a", "libfoo1"):
        sort_candidates(index.find(name))
    for candidate in index.providers("virtual"):
        provides(candidate, Relation("virtual"))
    _refuse_odd(index)


def _read_index(data: bytes) -> None:
    table, text = read_v2(data, "index")
    source = ApkSource(url="https://e.example/alpine/v3.19/main", kind="v2", defined_in="etc/apk/repositories")
    origin = Origin(uri=source.url, suite="", component="", label="", defined_in="", signed_by="")
    index = ApkIndex(source, origin, "x86_64", table, text, "")
    for name in ("foo", "so:libfoo.so.1", "a"):
        for row in (*index.rows(name), *index.rows_if(name)):
            make_candidate(index, row)
    _refuse_odd(index)


def _refuse_odd(index: PackagesIndex | ApkIndex) -> None:
    """A row that can't be used is left out by name: that counts as refused."""
    for reason in index.odd.rows.values():
        raise RepositoryError(reason)


PARSERS["APKINDEX"] = _read_index


@_parser("Packages.adb")
def _read_v3_index(data: bytes) -> None:
    with blame_input(RepositoryError, "the index"):
        adb = open_index(data)
    read_v3(adb, len(data), "index")


# -- packages --------------------------------------------------------------------------------------------------------


@_parser("deb")
def _read_deb(data: bytes) -> None:
    archive = DebArchive.open(_stored(data), "foo")
    control = archive.read_control()
    with blame_input(PackageError, "foo"):
        stanza = parse_stanza(control.files["control"].decode("utf-8", "surrogateescape"))
    size = stanza.find("Installed-Size").strip()
    spool = _folder() / "spool"
    spool.unlink(missing_ok=True)
    spool_payload(archive, spool, installed_size=(read_digits(size, most=11) or 0) * 1024)


def _read_package(data: bytes) -> None:
    package = open_package(_stored(data), "foo")
    package.verify()
    for _, content in package.entries():
        _read_all(content)
    package.info.row(identity=package.identity, size=package.size, architecture="")


PARSERS["apk"] = PARSERS["apk v3"] = _read_package


@_parser("rpm package")
def _read_rpm(data: bytes) -> None:
    package = load_rpm(fetched_rpm(_stored(data), name="foo", version="1-1", architecture="noarch"))
    digest_payload(package)


@_parser("rpm lua")
def _read_lua(data: bytes) -> None:
    text = rewrite_lua(data.decode("utf-8", "surrogateescape"))
    if text is not None:
        with suppress(ShellSyntaxError):  # of a command that it passes on as it is
            parse_shell(text)


@_parser("layer")
def _read_layer(data: bytes) -> None:
    fs = stack(data, data)
    for path, _ in fs.walk():
        fs.resolve(path)


# -- documents -------------------------------------------------------------------------------------------------------


@_parser("plan")
def _read_plan(data: bytes) -> None:
    plans = read_plans(data, where="plan.json")
    write_plans(plans)
    plan_table(plans)


@_parser("report")
def _read_report(data: bytes) -> None:
    parse_report(data, "report.json")


def _read_report_of(report_format: str, data: bytes) -> None:
    import_module(SCANNERS[report_format]).accepts(data[:HEAD], "report.json")
    parse_report(data, "report.json", report_format=report_format)


for _format in SCANNERS:
    PARSERS[f"{_format} report"] = lambda data, named=_format: _read_report_of(named, data)  # type: ignore[misc]


@_parser("manifest")
def _read_manifest(data: bytes) -> None:
    detect_media_type(data)
    parsers: tuple[Callable[[bytes], object], ...] = (Manifest.parse, Index.parse, ImageConfig.parse)
    errors = []
    for parse in parsers:
        try:
            parse(data)
        except CopaError as error:
            errors.append(error)
    if len(errors) == len(parsers):
        raise errors[0]


@_parser("reference")
def _read_reference(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    parsers: tuple[Callable[[str], object], ...] = (
        Reference.parse,
        Platform.parse,
        Digest.parse,
        find_origin,
        split_credentials,
        lambda link: join_address("http://e.example/a", link),
    )
    errors = []
    for parse in parsers:
        try:
            parse(text)
        except CopaError as error:
            errors.append(error)
    show_address(text)
    select_challenge(parse_challenges(text))
    if len(errors) == len(parsers):
        raise errors[0]


@_parser("relations")
def _read_relations(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        groups = parse_relations(text)
    except RelationError as error:
        raise InventoryError(str(error)) from error
    for relation in (relation for group in groups for relation in group):
        relation.accepts("1.0-1")
        str(relation)


# -- scripts ---------------------------------------------------------------------------------------------------------


class _Unknown:
    """Surroundings of which nothing is known."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments: None


@_parser("shell")
def _follow(data: bytes) -> None:
    try:
        script = parse_shell(data.decode("utf-8", "replace"))
        follow_script(script, arguments=["configure", "1"], variables={}, surroundings=_Unknown())
    except ShellSyntaxError as error:
        raise PackageError(str(error)) from error
