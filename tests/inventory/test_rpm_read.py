# SPDX-License-Identifier: Apache-2.0
"""rpm's databases of real images, in each format, as rpm itself reads them; and what is said about their packages."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from pathlib import Path

import pytest

from copacetic.errors import InventoryError
from copacetic.inventory.rpm import RpmDatabase, record_of
from copacetic.inventory.rpm.sqlitepages import SqlitePages
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.rpm import RpmEntry, tags
from copacetic.rpm.files import FileFlag, FileState
from copacetic.rpm.header import CHAR, INT16, number_entry, text_entry, texts_entry
from copacetic.updates import Finding, Fix
from support.image.images import fixture
from support.image.trees import symlink, tree
from support.rpm.realrpm import run_rpm
from support.rpm.rpmdbs import (
    BDB,
    EVERY,
    FOLDER,
    KINDS,
    SQLITE,
    make_files,
    make_header,
    named,
    open_files,
    put_files,
    real_files,
)

pytestmark = pytest.mark.xdist_group("rpmdbs")


def all_of(database: RpmDatabase) -> list[str]:
    return sorted(f"{p.name} {p.version} {p.architecture} {p.source_name}" for p in database.packages())


# -- real ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SQLITE, *BDB])
def test_the_packages_are_those_that_rpm_lists(name: str, tmp_path: Path) -> None:
    files = real_files(name)
    asked = "%{name} %|epoch?{%{epoch}:}:{}|%{version}-%{release} %{arch} %{sourcerpm}\n"

    said = run_rpm(
        "-qa", "--nosignature", "--nodigest", "--qf", asked, dbpath=put_files(files, tmp_path)
    ).stdout.splitlines()

    found = [
        f"{p.name} {p.version} {p.architecture} {record_of(p).header.text(tags.SOURCE_RPM, '(none)')}"
        for p in open_files(files).packages()
    ]
    assert sorted(found) == sorted(line.replace(" 0:", " ") for line in said)
    assert len(said) > 20


@pytest.mark.parametrize(
    ("name", "folder", "refused"), [("rocky9.2", "rocky-9.2-sqlite", 0), ("sles15.4", "sles-15.4-zypper-ndb", 16)]
)
def test_the_packages_are_those_that_a_newer_rpm_listed(name: str, folder: str, refused: int) -> None:
    """rpm 4.20 leaves out what was signed as one did long ago; with `--nosignature --nodigest` it lists them, too."""
    rows = [row.split("\t") for row in fixture(f"rpm/rpmdb/{folder}/rpm-qa.tsv").read_text().splitlines()]
    listed = {(row[0], f"{'' if row[1] == '0' else f'{row[1]}:'}{row[2]}-{row[3]}", row[4]) for row in rows}

    found = {(p.name, p.version, p.architecture) for p in open_files(real_files(name)).packages()}

    assert listed <= found
    assert len(found - listed) == refused


@pytest.mark.parametrize(
    ("name", "kind", "count", "architecture", "release"),
    [
        ("centos7", "rpm Berkeley DB", 113, "x86_64", (4, 11)),
        ("alma9.0", "rpm Berkeley DB", 22, "aarch64", (4, 16)),
        ("alma9.3", "rpm sqlite", 23, "aarch64", (4, 16)),
        ("el9", "rpm sqlite", 23, "aarch64", (4, 16)),
        ("al2023", "rpm sqlite", 102, "x86_64", (4, 16)),
        ("mariner2", "rpm sqlite", 127, "x86_64", (4, 17)),
        ("sle15", "rpm ndb", 116, "x86_64", (4, 14)),
        ("rocky9.2", "rpm sqlite", 141, "x86_64", (4, 16)),
        ("sles15.4", "rpm ndb", 137, "x86_64", (4, 14)),
        ("amazon2023", "rpm sqlite", 103, "x86_64", (4, 16)),
        ("mariner", "rpm sqlite", 129, "x86_64", (4, 17)),
        ("bci15", "rpm ndb", 36, "x86_64", (4, 14)),
    ],
)
def test_a_real_database_says_what_image_it_is_of(
    name: str, kind: str, count: int, architecture: str, release: tuple[int, int]
) -> None:
    database = open_files(real_files(name))

    assert (database.format, len(database.packages())) == (kind, count)
    assert (database.native_architecture, database.checksum_algorithm) == (architecture, "sha256")
    assert database.rpm_release == release
    assert len({package.key for package in database.packages()}) == count


@pytest.mark.parametrize("name", EVERY)
def test_installed_headers_still_have_the_digest_that_was_signed(name: str) -> None:
    checked = 0
    for record in open_files(real_files(name)).records:
        said = record.header.text(tags.SHA1_HEADER)
        if said:
            assert hashlib.sha1(record.header.signed_bytes, usedforsecurity=False).hexdigest() == said
            checked += 1
    assert checked > 15


def test_what_a_real_set_lacks_is_what_rpm_says_that_it_lacks(tmp_path: Path) -> None:
    files = real_files("centos7")
    folder = put_files(files, tmp_path)

    said = run_rpm("-Va", "--nofiles", "--noscripts", "--nosignature", "--nodigest", dbpath=folder).stdout

    lacking = {line.split(" is needed by")[0].strip() for line in said.splitlines() if "needed by" in line}
    broken = open_files(files).broken_dependencies()
    assert {line.partition(" needs ")[2].partition(", which")[0] for line in broken} == lacking
    assert len(broken) == 8


# -- a log of sqlite's -----------------------------------------------------------------------------------------------


def with_log(folder: Path, *, size: int = 4096) -> tuple[bytes, bytes]:
    """A database and its log, as they are while somebody writes: the file itself is older than what is in the log."""
    path = folder / "rpmdb.sqlite"
    path.write_bytes(make_files("sqlite", [make_header("old")])[f"{FOLDER}/rpmdb.sqlite"])
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma page_size={size}")
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=0")
    for number in range(3):
        connection.execute("insert into Packages(blob) values(?)", (make_header(f"new{number}").blob,))
    connection.execute("delete from Packages where hnum=1")
    data, log = path.read_bytes(), (folder / "rpmdb.sqlite-wal").read_bytes()
    connection.close()
    return data, log


def names_in(data: bytes, log: bytes) -> list[str]:
    files = {f"{FOLDER}/rpmdb.sqlite": data, f"{FOLDER}/rpmdb.sqlite-wal": log}
    return [package.name for package in open_files(files).packages()]


def test_what_is_only_in_the_log_counts(tmp_path: Path) -> None:
    data, log = with_log(tmp_path)

    assert names_in(data, log) == ["new0", "new1", "new2"]
    assert names_in(data, b"") == ["old"]


@pytest.mark.parametrize("change", ["cut", "flipped", "none", "header"])
def test_a_damaged_log_counts_as_far_as_sqlite_believes_it(change: str, tmp_path: Path) -> None:
    data, log = with_log(tmp_path)
    spoiled = bytearray(log)
    if change == "cut":
        del spoiled[-1:]
    elif change != "none":
        spoiled[8 if change == "header" else -2000] ^= 1
    (tmp_path / "rpmdb.sqlite").write_bytes(data)
    (tmp_path / "rpmdb.sqlite-wal").write_bytes(spoiled)
    (tmp_path / "rpmdb.sqlite-shm").unlink(missing_ok=True)

    with sqlite3.connect(tmp_path / "rpmdb.sqlite") as connection:
        theirs = connection.execute("select hnum, blob from Packages order by hnum").fetchall()

    pages = SqlitePages(data, "x", bytes(spoiled))
    assert [(number, row[1]) for number, row in pages.rows("Packages")] == theirs


def test_a_database_that_was_left_in_the_middle_of_a_change_is_refused() -> None:
    files = make_files("sqlite", [make_header("a")]) | {f"{FOLDER}/rpmdb.sqlite-journal": b"\xd9\xd5\x05\xf9" * 200}

    with pytest.raises(InventoryError, match="rpmdb.sqlite: it was left while something was written"):
        open_files(files)


# -- places ----------------------------------------------------------------------------------------------------------


def moved(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    return {f"{folder}/{path.rpartition('/')[2]}": data for path, data in files.items()}


def detect(fs: ImageFilesystem) -> RpmDatabase | None:
    return RpmDatabase.detect(fs)


@pytest.mark.parametrize("folder", ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_is_found_wherever_a_distribution_has_it(kind: str, folder: str) -> None:
    found = detect(tree(moved(make_files(kind, [make_header("a")]), folder)))

    assert found is not None
    assert found.path.startswith(folder)


def test_a_link_from_the_old_place_is_no_second_database() -> None:
    files = moved(make_files("ndb", [make_header("a")]), "usr/lib/sysimage/rpm")
    found = detect(tree({**files, "var/lib/rpm": symlink("../../usr/lib/sysimage/rpm")}))

    assert found is not None
    assert found.path == "usr/lib/sysimage/rpm/Packages.db"
    assert set(found.rewrite((), ())) == {"usr/lib/sysimage/rpm/Packages.db", "usr/lib/sysimage/rpm/Index.db"}
    assert found.notes() == ()


def test_an_image_without_a_package_has_no_database() -> None:
    assert detect(tree({"var/lib/rpm/Packages": b"", "var/lib/rpm/.rpm.lock": b""})) is None
    assert detect(tree(make_files("sqlite", []))) is None


@pytest.mark.parametrize(("backend", "name"), [("sqlite", "new"), ("bdb", "old")])
def test_of_two_formats_the_one_counts_that_rpm_is_told_to_use(backend: str, name: str) -> None:
    files = make_files("bdb", [make_header("old")]) | make_files("sqlite", [make_header("new")])
    macros = "# comment\n%_dbpath\t\t%{_var}/lib/rpm\n%_db_backend\tndb\n"
    own = f"%_db_backend      {backend}\n"

    found = detect(tree({**files, "usr/lib/rpm/macros": macros, "etc/rpm/macros.db": own}))

    assert found is not None
    assert [package.name for package in found.packages()] == [name]
    assert any("is in effect, and not" in note for note in found.notes())


def test_of_two_places_the_one_counts_that_rpm_is_told_to_use() -> None:
    old = make_files("sqlite", [make_header("old")])
    new = moved(make_files("sqlite", [make_header("new")]), "usr/lib/sysimage/rpm")

    found = detect(tree({**old, **new, "usr/lib/rpm/macros": "%_dbpath %{_usr}/lib/sysimage/rpm\n"}))

    assert found is not None
    assert found.path == "usr/lib/sysimage/rpm/rpmdb.sqlite"


def test_where_nothing_tells_which_of_two_counts_it_is_refused() -> None:
    files = make_files("bdb", [make_header("old")]) | make_files("sqlite", [make_header("new")])

    with pytest.raises(InventoryError, match="rpmdb.sqlite and .*Packages are package databases"):
        detect(tree(files))


def test_an_empty_one_beside_it_is_passed_over() -> None:
    files = make_files("bdb", [make_header("old")]) | make_files("sqlite", [])

    found = detect(tree(files))

    assert found is not None
    assert found.format == "rpm Berkeley DB"


# -- what is said of packages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_several_of_one_name_are_told_apart_by_their_versions(kind: str) -> None:
    keys = [make_header("gpg-pubkey", "b86b3716-61e69f29", ""), make_header("gpg-pubkey", "8483c65d-5ccc5b19", "")]
    headers = [*keys, make_header("kernel", "5-1"), make_header("kernel", "5-2"), make_header("bash", "1:5-1")]

    packages = open_files(make_files(kind, headers)).packages()

    assert [(p.name, p.version, p.architecture, p.instance) for p in packages] == [
        ("bash", "1:5-1", "x86_64", ""),
        ("gpg-pubkey", "8483c65d-5ccc5b19", "(none)", "8483c65d-5ccc5b19"),
        ("gpg-pubkey", "b86b3716-61e69f29", "(none)", "b86b3716-61e69f29"),
        ("kernel", "5-1", "x86_64", "5-1"),
        ("kernel", "5-2", "x86_64", "5-2"),
    ]


def test_what_is_there_twice_is_two_packages() -> None:
    found = open_files(make_files("sqlite", [make_header("a"), make_header("a")]))

    assert [package.instance for package in found.packages()] == ["1-1", "1-1#1"]
    assert len(set(found.packages())) == 2


FLAGS = [0, FileFlag.CONFIG, FileFlag.GHOST, 0, 0, FileFlag.DOC, 0, FileFlag.MISSING_OK, 0]
MODES = [0o100644, 0o100644, 0o100644, 0o40755, 0o120777, 0o100644, 0o100644, 0o100644, 0o100644]
STATES = [0, 0, 0, 0, 0, FileState.NOT_INSTALLED, FileState.REPLACED, 0, 0]
DIGESTS = ["ab" * 32, "cd" * 32, "", "", "", "ab" * 32, "ab" * 32, "ab" * 32, "ab" * 32]
NAMES = ["bin", "conf", "log", "dir", "link", "doc", "lost", "maybe", "cache"]


def various(*more: RpmEntry) -> RpmDatabase:
    """A package with a file of every sort."""
    rows = [
        *more,
        texts_entry(tags.FILE_DIGESTS, DIGESTS),
        number_entry(tags.FILE_MODES, MODES, INT16),
        number_entry(tags.FILE_FLAGS, [int(flag) for flag in FLAGS]),
        number_entry(tags.FILE_VERIFY_FLAGS, [2**32 - 1] * 8 + [2**32 - 2]),
        number_entry(tags.FILE_STATES, [int(state) for state in STATES], CHAR),
    ]
    rows = list({entry.tag: entry for entry in reversed(rows)}.values())
    return open_files(
        make_files("sqlite", [make_header("a", "1-1", "x86_64", *rows, files=[f"/opt/{n}" for n in NAMES])])
    )


def test_the_proof_of_content_asks_for_what_has_to_be_there_and_nothing_else() -> None:
    database = various()
    package = named(database, "a")

    assert database.checksums(package) == {"opt/bin": ("sha256", "ab" * 32)}
    assert database.bare_paths(package) == ("opt/dir", "opt/link", "opt/cache")
    assert database.files(package) == tuple(f"opt/{n}" for n in NAMES if n not in {"doc", "lost"})
    assert database.own_files(package) == ("opt/bin", "opt/conf", "opt/maybe", "opt/cache")
    assert database.is_configuration("opt/conf", package)
    assert not database.is_configuration("opt/bin", package)


def test_a_digest_that_is_none_is_not_held_against_a_file() -> None:
    database = various(texts_entry(tags.FILE_DIGESTS, ["", *DIGESTS[1:]]))

    assert database.checksums(named(database, "a")) == {}
    assert "opt/bin" in database.bare_paths(named(database, "a"))


def test_a_directory_may_be_what_a_record_makes_it() -> None:
    users = texts_entry(tags.FILE_USERS, ["apache"] * 9)
    files = make_files(
        "sqlite",
        [
            make_header(
                "a",
                "1-1",
                "x86_64",
                number_entry(tags.FILE_MODES, MODES, INT16),
                users,
                files=[f"/opt/{n}" for n in NAMES],
            )
        ],
    )
    database = detect(tree({**files, "etc/passwd": "root:x:0:0::/:\napache:x:48:48::/:\n", "etc/group": "root:x:0:\n"}))

    assert database is not None
    assert database.grants("opt/dir", (48, 0, 0o755))
    assert not database.grants("opt/dir", (0, 0, 0o755))
    assert not database.grants("opt/bin", (48, 0, 0o644))
    assert not database.grants("opt", (0, 0, 0o755))


def test_the_files_that_rpm_writes_are_described() -> None:
    database = open_files(make_files("bdb", [make_header("a")]))

    for name in ("Packages", "Basenames", "__db.001", ".rpm.lock", "rpmdb.sqlite-wal"):
        assert database.describes(f"{FOLDER}/{name}", ())
    assert database.describes(FOLDER, ())
    assert database.describes(f"{FOLDER}/evil", ()) is None
    assert database.describes("etc/passwd", ()) is None


def test_a_finding_is_meant_by_its_architecture() -> None:
    database = open_files(make_files("sqlite", [make_header("a"), make_header("b", "1-1", "noarch")]))

    assert database.is_meant(named(database, "a"), "x86_64")
    assert not database.is_meant(named(database, "a"), "i686")
    assert database.is_meant(named(database, "b"), "x86_64")


@pytest.mark.parametrize(
    ("installed", "fix", "fixed"),
    [
        ("1:1.1.1k-9.el8", "1:1.1.1k-9.el8_7", False),
        ("1:1.1.1k-9.el8_7", "1:1.1.1k-9.el8_7", True),
        ("1:1.1.1k-9.el8", "1.1.1k-10.el8", False),
        ("1.0~rc1-1", "1.0-1", False),
        ("1.0^git1-1", "1.0-1", True),
        ("2-1", "0:1-5", True),
    ],
)
def test_a_fix_is_reached_by_rpm_s_order_of_versions(installed: str, fix: str, fixed: bool) -> None:
    database = open_files(make_files("sqlite", [make_header("a", installed)]))
    finding = Finding(
        vulnerability_id="CVE-2024-1",
        package="a",
        installed_version=installed,
        fixes=(Fix(version=fix, is_source=False),),
        package_type="rpm",
    )

    assert database.is_fixed(named(database, "a"), finding) is fixed


def test_a_source_package_is_the_one_that_is_named() -> None:
    source = text_entry(tags.SOURCE_RPM, "openssl-1.1.1k-9.el8.src.rpm")
    database = open_files(make_files("sqlite", [make_header("openssl-libs", "1:1.1.1k-9.el8", "x86_64", source)]))
    package = named(database, "openssl-libs")

    assert (package.source_name, package.source_version) == ("openssl", "1:1.1.1k-9.el8")


# -- broken ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_header_is_named_with_its_file(kind: str) -> None:
    header = make_header("a", "1-1", "x86_64", text_entry(tags.VERSION, "../../etc"))

    with pytest.raises(InventoryError, match=rf"{FOLDER}/\w+.*: package 1: a has the version"):
        open_files(make_files(kind, [header]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_database_is_refused(kind: str) -> None:
    files = make_files(kind, [make_header(f"p{number}") for number in range(20)])
    path, data = next(iter(files.items()))

    with pytest.raises(InventoryError, match=path.rpartition("/")[2]):
        open_files({**files, path: data[: len(data) // 2 // 16 * 16]})


def test_pages_that_lead_in_a_circle_are_read_once() -> None:
    data = bytearray(
        make_files(
            "sqlite", [make_header(f"p{n}", "1-1", "x86_64", text_entry(tags.SUMMARY, "x" * 900)) for n in range(60)]
        )[f"{FOLDER}/rpmdb.sqlite"]
    )
    root = SqlitePages(bytes(data), "x").tables["Packages"]
    start = (root - 1) * 4096
    assert data[start] == 5
    struct.pack_into(">I", data, start + 8, root)

    with pytest.raises(InventoryError, match=f"page {root} is used twice"):
        open_files({f"{FOLDER}/rpmdb.sqlite": bytes(data)})


def test_a_view_in_the_place_of_the_packages_is_not_carried_out() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "create view Packages(hnum, blob) as with recursive a(x) as (select 1 union all select x from a) select x, x from a"
    )

    with pytest.raises(InventoryError, match="it has no table Packages"):
        open_files({f"{FOLDER}/rpmdb.sqlite": connection.serialize()})
