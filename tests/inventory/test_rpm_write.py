# SPDX-License-Identifier: Apache-2.0
"""
rpm's databases, written: with the rows that rpm itself would write, byte for byte the same each time, and such that
rpm goes on with them. Of three formats each by the rpm that can judge it: Debian's for sqlite, CentOS 7's own for
Berkeley DB (and Berkeley DB's own verifier), trixie's for ndb.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from copacetic.inventory.rpm import record_of
from copacetic.inventory.rpm.bdb import BdbFile, BdbStore
from copacetic.inventory.rpm.index import INDEXES, IndexRules
from copacetic.inventory.rpm.store import Contents
from copacetic.rpm import RpmEntry, RpmHeader, tags
from copacetic.rpm.header import CHAR, number_entry, text_entry, texts_entry
from support.deb.debian import build_root, need
from support.image.images import fixture
from support.rpm.ndbrows import index_rows
from support.rpm.realrpm import run_rpm
from support.rpm.rpmdbs import (
    BDB,
    EVERY,
    FOLDER,
    KINDS,
    NDB,
    SQLITE,
    UPDATES,
    as_rpm_installed,
    got_files,
    make_files,
    make_header,
    named,
    newer_packages,
    open_files,
    put_files,
    real_files,
    sqlite_tables,
)

pytestmark = pytest.mark.xdist_group("rpmdbs")
FORCED = ["--justdb", "--nodeps", "--noscripts", "--notriggers", "--nosignature", "--nodigest"]
ANYWHERE = ["--ignorearch", "--ignoreos", "--oldpackage"]


def one_file(files: Mapping[str, bytes | None], name: str) -> bytes:
    found = [data for path, data in files.items() if path.rpartition("/")[2] == name]
    assert len(found) == 1
    assert found[0] is not None
    return found[0]


# -- the same again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_what_is_written_is_read_back_and_written_the_same_again(name: str) -> None:
    database = open_files(real_files(name))

    first = database.rewrite((), ())
    again = open_files(first)
    second = again.rewrite((), ())

    assert again.records == database.records
    assert again.notes() == ()
    for path, data in second.items():
        if not path.endswith((".db", "-wal", "-shm")):  # the generation of ndb rises
            assert data == first[path], path
    assert open_files(real_files(name)).rewrite((), ()) == first


@pytest.mark.parametrize("name", SQLITE)
def test_the_tables_of_a_real_sqlite_file_are_those_that_rpm_has_written(name: str) -> None:
    files = real_files(name)

    mine = sqlite_tables(one_file(open_files(files).rewrite((), ()), "rpmdb.sqlite"))

    assert mine == sqlite_tables(one_file(files, "rpmdb.sqlite"))
    assert len(mine) == len(INDEXES) + 2


@pytest.mark.parametrize("name", BDB)
def test_the_rows_of_real_index_files_are_those_that_rpm_has_written(name: str) -> None:
    files = real_files(name)

    written = open_files(files).rewrite((), ())

    for index in INDEXES:
        path = f"{FOLDER}/{index}"
        assert (path in written) == (path in files)
        if path in files:
            assert bdb_rows(written[path] or b"") == bdb_rows(files[path]), index
    assert len(written) == (13 if name == "centos7" else 19)


def bdb_rows(data: bytes) -> dict[bytes, list[tuple[int, ...]]]:
    file = BdbFile(data, "x")
    return {key: sorted(struct.iter_unpack(f"{file.order}II", value)) for key, value in file.items()}


def test_the_rows_of_a_real_ndb_index_are_those_that_rpm_has_written() -> None:
    """That one was last written by rpm 4.20, whatever rpm the image has."""
    files = real_files("sle15")
    database = open_files(files)
    database.rpm_release = (4, 20)

    written = database.rewrite((), ())

    mine, theirs = (index_rows(one_file(side, "Index.db")) for side in (written, files))
    assert mine == theirs
    assert list(mine) == list(theirs)
    assert sum(map(len, mine.values())) > 20_000


# -- an upgrade, as rpm itself does it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UPDATES)
def test_an_upgrade_leaves_the_tables_that_rpm_leaves(name: str, tmp_path: Path) -> None:
    """Headers byte for byte, numbers, and all rows in their order."""
    files = real_files(name)
    before = open_files(files)
    before.rpm_release = (4, 18)
    newer = newer_packages(before, UPDATES[name])
    folder = put_files(files, tmp_path)

    result = run_rpm("-U", *FORCED, *ANYWHERE, *(path for path, _, _ in newer.values()), dbpath=folder)

    assert result.returncode == 0, result.stderr
    after = open_files(got_files(folder))
    added, removed = as_rpm_installed(before, after, newer)
    mine = before.rewrite(added, removed)
    assert sqlite_tables(one_file(mine, "rpmdb.sqlite")) == sqlite_tables((folder / "rpmdb.sqlite").read_bytes())
    assert [record.number for record in open_files(mine).records] == [record.number for record in after.records]
    assert len(added) == len(newer) > 5


def test_rpm_goes_on_with_a_written_sqlite_file(tmp_path: Path) -> None:
    before = open_files(real_files("al2023"))
    newer = newer_packages(before, UPDATES["al2023"])
    path, package, old = next(row for row in newer.values() if row[2].name == "curl-minimal")
    states = [0] * package.header.count(tags.BASE_NAMES)
    header = package.header.with_entries([number_entry(tags.FILE_STATES, states, CHAR), *installed()])
    folder = put_files(before.rewrite([header], [old]), tmp_path)

    assert run_rpm("--verifydb", dbpath=folder, program="rpmdb").returncode == 0
    assert run_rpm("-qf", "/usr/bin/curl", dbpath=folder).stdout.startswith("curl-minimal")
    assert run_rpm("-q", "--whatprovides", "libcurl.so.4()(64bit)", dbpath=folder).stdout.startswith("libcurl")
    assert run_rpm("-e", "--justdb", "--nodeps", "curl-minimal", dbpath=folder).returncode == 0
    assert run_rpm("-U", *FORCED, *ANYWHERE, path, dbpath=folder).returncode == 0
    after = open_files(got_files(folder))
    assert record_of(named(after, "curl-minimal")).number == 104
    assert run_rpm("--verifydb", dbpath=folder, program="rpmdb").returncode == 0
    assert len(after.packages()) == len(before.packages())


def installed() -> list[RpmEntry]:
    return [number_entry(tags.INSTALL_TIME, [1_700_000_000]), number_entry(tags.INSTALL_TID, [1_700_000_000])]


def test_a_written_sqlite_file_can_be_read_by_who_can_t_write() -> None:
    """Another user, in a folder that isn't his: a file that wants a log can't be opened there."""
    need("setpriv", "rpm", root=True)
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    put_files(open_files(real_files("alma9.3")).rewrite((), ()), folder)
    folder.chmod(0o755)

    result = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "rpm", "--dbpath", str(folder), "-q", "bash"],
        capture_output=True,
        text=True,
        check=False,
    )

    shutil.rmtree(folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("bash-5.1")


# -- numbers and side files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_a_package_that_went_is_not_given_again(kind: str) -> None:
    database = open_files(make_files(kind, [make_header("a"), make_header("b"), make_header("c")], highest=7))

    gone = open_files(database.rewrite((), [named(database, "c")]))
    after = open_files(gone.rewrite([make_header("d")], ()))

    assert [(r.number, r.header.text(tags.NAME)) for r in after.records] == [(1, "a"), (2, "b"), (8, "d")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_that_stays_keeps_its_number_when_its_header_changes(kind: str) -> None:
    database = open_files(make_files(kind, [make_header("a", files=["/x"]), make_header("b")]))
    lost = make_header("a", "1-1", "x86_64", number_entry(tags.FILE_STATES, [1], CHAR), files=["/x"])

    after = open_files(database.rewrite((), (), {named(database, "a"): lost}))

    assert after.records[0].number == 1
    assert after.files(named(after, "a")) == ()


@pytest.mark.parametrize(
    ("kind", "beside"),
    [("bdb", ["__db.001", "__db.002", "__db.register"]), ("sqlite", ["rpmdb.sqlite-wal", "rpmdb.sqlite-shm"])],
)
def test_what_rpm_would_believe_more_than_the_database_goes(kind: str, beside: list[str]) -> None:
    files = make_files(kind, [make_header("a")])
    stale = {f"{FOLDER}/{name}": b"" if name.endswith("wal") else b"old" for name in beside}
    others = {f"{FOLDER}/.rpm.lock": b"", f"{FOLDER}/mine": b"x"}

    written = open_files({**files, **stale, **others}).rewrite((), ())

    assert {path for path, data in written.items() if data is None} == set(stale)
    assert not others.keys() & written.keys()


def test_only_those_index_files_are_written_that_the_image_has() -> None:
    files = {
        path: data
        for path, data in make_files("bdb", [make_header("a")]).items()
        if path.endswith(("Packages", "Name"))
    }

    assert set(open_files(files).rewrite((), ())) == {f"{FOLDER}/Packages", f"{FOLDER}/Name"}


def test_an_index_of_ndb_that_is_of_another_time_is_made_anew() -> None:
    files = make_files("ndb", [make_header("a")])
    old = make_files("ndb", [make_header("b")])
    newer = open_files(files).rewrite((), ())
    database = open_files({**newer, f"{FOLDER}/Index.db": old[f"{FOLDER}/Index.db"]})

    written = database.rewrite((), ())

    assert "Index.db is not about this state of it" in database.notes()[0]
    assert index_rows(one_file(written, "Index.db"))[tags.NAME] == {(b"a", 1, 0)}
    assert open_files(written).notes() == ()


# -- Berkeley DB's own verifier --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "page"), [("<", 4096), (">", 4096), ("<", 512), (">", 16384)])
def test_berkeley_db_finds_nothing_wrong(order: str, page: int, tmp_path: Path) -> None:
    """In both orders of bytes; with small pages trees have several levels."""
    need("db5.3_verify")
    database = open_files(real_files("alma9.0"))
    headers = {record.number: record.header for record in database.records}
    file = BdbFile(one_file(real_files("alma9.0"), "Packages"), "x")
    file.order, file.page_size = order, page
    store = BdbStore(file, f"{FOLDER}/Packages", Contents({}, 0), INDEXES)
    files = store.write(headers, 99, IndexRules())
    put_files(files, tmp_path)

    result = subprocess.run(
        ["db5.3_verify", *(path.rpartition("/")[2] for path in files)], cwd=tmp_path, capture_output=True, check=False
    )

    assert result.returncode == 0, result.stderr.decode()
    again = BdbFile(one_file(files, "Packages"), "x")
    assert (again.order, again.page_size) == (order, page)
    assert open_files(files).records == database.records


def test_keys_and_values_of_any_length_have_their_place(tmp_path: Path) -> None:
    need("db5.3_verify")
    names = ["x" * length for length in (1, 2, 3, 1000, 1007, 1008, 1009, 5000, 20_000)] + [
        f"n{n}" for n in range(3000)
    ]
    rows = [texts_entry(tags.PROVIDE_NAMES, names), text_entry(tags.SUMMARY, "y" * 9000)]
    headers = [make_header("a", "1-1", "x86_64", *rows, files=["/etc/a"]), *(make_header(f"p{n}") for n in range(300))]

    files = make_files("bdb", headers)

    put_files(files, tmp_path)
    result = subprocess.run(
        ["db5.3_verify", *(path.rpartition("/")[2] for path in files)], cwd=tmp_path, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    assert len(bdb_rows(files[f"{FOLDER}/Providename"])) == len(names)
    assert run_rpm("-q", "--whatprovides", "n2999", dbpath=tmp_path).stdout.startswith("a-1-1")


# -- CentOS 7's own rpm ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def centos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need("chroot", "mknod", root=True)
    root = tmp_path_factory.mktemp("centos7")
    with tarfile.open(fixture("el7/centos7-httpd-rpmdb-bdb.tar.xz")) as tar:
        tar.extractall(root, filter="fully_trusted")
    for name, minor in (("null", 3), ("urandom", 9)):
        if not (root / "dev" / name).exists():
            os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    yield root
    shutil.rmtree(root)


def inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["chroot", root, *command], capture_output=True, text=True, check=False)


def put_database(root: Path, files: Mapping[str, bytes | None]) -> None:
    shutil.rmtree(root / FOLDER)
    put_files(files, root / FOLDER)


def test_an_upgrade_of_centos_7_leaves_the_files_that_its_own_rpm_leaves(centos: Path) -> None:
    before = open_files(real_files("centos7"))
    newer = newer_packages(before, "el7/updates")
    put_database(centos, real_files("centos7"))
    for path, _, _ in newer.values():
        shutil.copy(path, centos / "tmp")

    result = inside(centos, "rpm", "-U", *FORCED[:-2], *(f"/tmp/{path.name}" for path, _, _ in newer.values()))

    assert result.returncode == 0, result.stderr
    theirs = got_files(centos / FOLDER)
    after = open_files({path: data for path, data in theirs.items() if "__db." not in path})
    added, removed = as_rpm_installed(before, after, newer)
    mine = before.rewrite(added, removed)
    assert open_files(mine).records == after.records
    assert len(added) == 33
    for file, data in mine.items():
        if not file.endswith("/Packages"):
            assert bdb_rows(data or b"") == bdb_rows(theirs[file]), file

    put_database(centos, mine)
    assert inside(centos, "rpmdb", "--verifydb").returncode == 0
    assert len(inside(centos, "rpm", "-qa").stdout.splitlines()) == 113
    assert inside(centos, "rpm", "-qf", "/usr/sbin/httpd").stdout.startswith("httpd-2.4.6")
    assert inside(centos, "rpm", "-e", "--justdb", "--nodeps", "httpd").returncode == 0
    some = next(path.name for path, _, old in newer.values() if old.name == "zlib")
    again = inside(centos, "rpm", "-U", "--replacepkgs", *FORCED[:-2], f"/tmp/{some}")
    assert again.returncode == 0, again.stderr
    assert inside(centos, "rpmdb", "--verifydb").returncode == 0
    assert len(inside(centos, "rpm", "-qa").stdout.splitlines()) == 112
    assert inside(centos, "rpmdb", "--rebuilddb").returncode == 0
    assert len(inside(centos, "rpm", "-qa").stdout.splitlines()) == 112


# -- trixie's rpm, for ndb -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    archive = build_root("trixie", packages=["rpm"], name="trixie-rpm", age=False)
    root = tmp_path_factory.mktemp("trixie")
    with tarfile.open(archive) as tar:
        tar.extractall(root, filter="fully_trusted")
    yield root
    shutil.rmtree(root)


def in_trixie(root: Path, *arguments: str, program: str = "rpm") -> subprocess.CompletedProcess[str]:
    loose = ["--nosignature", "--nodigest"] if program == "rpm" else []
    return inside(root, program, "--dbpath", "/var/lib/rpm", "--define", "_db_backend ndb", *loose, *arguments)


@pytest.mark.parametrize("name", NDB)
def test_rpm_goes_on_with_a_written_ndb_file(name: str, trixie: Path) -> None:
    database = open_files(real_files(name))
    zlib = named(database, "libz1") if name != "bci15" else named(database, "bash")
    files = database.rewrite([make_header("newcomer", files=["/opt/newcomer"])], [zlib])
    put_files(files, trixie / FOLDER)

    listed = in_trixie(trixie, "-qa", "--qf", "%{name}\n")
    assert sorted(listed.stdout.split()) == sorted(package.name for package in open_files(files).packages())
    assert listed.stderr == ""
    assert in_trixie(trixie, "--verifydb", program="rpmdb").returncode == 0
    assert in_trixie(trixie, "-qf", "/opt/newcomer").stdout.startswith("newcomer-1-1")
    assert in_trixie(trixie, "-q", "--whatprovides", "/bin/sh").stderr == ""
    assert in_trixie(trixie, "-e", "--justdb", "--nodeps", "newcomer", "filesystem").returncode == 0
    assert in_trixie(trixie, "--verifydb", program="rpmdb").returncode == 0
    after = open_files(got_files(trixie / FOLDER))
    assert len(after.packages()) == len(database.packages()) - 2
    shutil.rmtree(trixie / FOLDER)


def test_an_upgrade_of_suse_leaves_the_rows_that_rpm_leaves(trixie: Path) -> None:
    before = open_files(real_files("sle15"))
    before.rpm_release = (4, 20)
    newer = newer_packages(before, "rpm/sle15-hollow/repo")
    put_files(real_files("sle15"), trixie / FOLDER)
    for path, _, _ in newer.values():
        shutil.copy(path, trixie / "tmp")

    result = in_trixie(trixie, "-U", *FORCED[:4], *ANYWHERE, *(f"/tmp/{path.name}" for path, _, _ in newer.values()))

    assert result.returncode == 0, result.stderr
    theirs = got_files(trixie / FOLDER)
    after = open_files(theirs)
    added, removed = as_rpm_installed(before, after, newer)
    mine = before.rewrite(added, removed)
    assert open_files(mine).records == after.records
    assert index_rows(one_file(mine, "Index.db")) == index_rows(one_file(theirs, "Index.db"))
    assert len(added) == len(newer) > 5
    shutil.rmtree(trixie / FOLDER)


# -- rules of indexes ------------------------------------------------------------------------------------------------


def keys(header: RpmHeader, index: str, rules: IndexRules | None = None) -> list[tuple[bytes, int]]:
    return (rules or IndexRules()).rows(header, index)


def test_a_requirement_of_the_installation_alone_is_found_since_4_16_if_it_is_meta() -> None:
    flags = [0, 1 << 9, 1 << 9 | 1 << 29, 1 << 9 | 1 << 12, 1 << 24]
    names = texts_entry(tags.REQUIRE_NAMES, ["plain", "pre", "meta", "both", "rpmlib(X)"])
    header = make_header("a", "1-1", "x86_64", names, number_entry(tags.REQUIRE_FLAGS, flags))

    assert keys(header, "Requirename") == [(b"plain", 0), (b"meta", 2), (b"both", 3)]
    assert keys(header, "Requirename", IndexRules.of((4, 14))) == [(b"plain", 0), (b"both", 3)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(a or b >= 1)", [b"a", b"b"]),
        ("(a if b)", [b"a", b"!b"]),
        ("(a if b else c)", [b"a", b"b", b"c", b"!b"]),
        ("((a and lib(x)(64bit)) if (b or rpmlib(Y)))", [b"a", b"lib(x)(64bit)", b"!b"]),
    ],
)
def test_names_in_rich_dependencies_are_found_since_4_13(text: str, names: list[bytes]) -> None:
    header = make_header("a", "1-1", "x86_64", texts_entry(tags.RECOMMEND_NAMES, [text]))

    assert keys(header, "Recommendname") == [(text.encode(), 0), *((name, 0) for name in names)]
    assert keys(header, "Recommendname", IndexRules.of((4, 11))) == [(text.encode(), 0)]


def test_a_dependency_that_doubles_with_each_else_stays_small() -> None:
    text = "(a if b else c)"
    for _ in range(40):
        text = f"({text} if {text if len(text) < 300 else 'b'} else c)"
    header = make_header("a", "1-1", "x86_64", texts_entry(tags.REQUIRE_NAMES, [text]))

    assert len(keys(header, "Requirename")) < 1_000


def test_a_trigger_s_name_is_found_once_and_a_package_without_a_group_by_unknown() -> None:
    rows = [texts_entry(tags.TRIGGER_NAMES, ["b", "a", "b"]), texts_entry(tags.FILE_TRIGGER_NAMES, ["/x", "/y"])]
    numbers = number_entry(tags.FILE_TRIGGER_INDEXES, [4, 4])
    header = RpmHeader.build([text_entry(tags.NAME, "x"), *rows, numbers])

    assert keys(header, "Triggername") == [(b"b", 0), (b"a", 1)]
    assert keys(header, "Filetriggername") == [(b"/x", 4), (b"/y", 4)]
    assert keys(header, "Group") == [(b"Unknown", 0)]


@pytest.mark.parametrize(("architecture", "order"), [("x86_64", "<"), ("s390x", ">")])
def test_numbers_are_keys_in_the_order_of_the_machine_s_bytes(architecture: str, order: str) -> None:
    database = open_files(make_files("sqlite", [make_header("a", "1-1", architecture)]))

    tables = sqlite_tables(one_file(database.rewrite((), ()), "rpmdb.sqlite"))

    assert tables["Installtid"] == [(struct.pack(f"{order}I", 1_700_000_000), 1, 0)]
