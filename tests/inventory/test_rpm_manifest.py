# SPDX-License-Identifier: Apache-2.0
"""Mariner's and Azure Linux's lists of packages, read and written; a real database beside them counts more."""

from __future__ import annotations

import tarfile

import pytest

from copacetic.errors import InventoryError
from copacetic.inventory.rpm import RpmDatabase
from copacetic.rpm import tags
from copacetic.rpm.header import number_entry, text_entry
from support.image.images import fixture
from support.image.trees import Content, tree
from support.rpm.rpmdbs import make_files, make_header, named

FOLDER = "var/lib/rpmmanifest"
ROWS = (
    "glibc\t2.35-2.cm2\t1653816591\t1653628955\tMicrosoft Corporation\t(none)\t10855265\tx86_64\t0\tglibc-2.35-2.cm2.src.rpm\n"
    "certs\t2.0.0-3.cm2\t1653816591\t1653771776\tMicrosoft Corporation\t(none)\t65684\tnoarch\t1\tcerts-2.0.0-3.cm2.src.rpm\n"
)
NAMES = "glibc-2.35-2.cm2.x86_64\ncerts-2.0.0-3.cm2.noarch\n"


def manifest(rows: str = ROWS, **more: Content) -> RpmDatabase:
    found = RpmDatabase.detect(tree({f"{FOLDER}/container-manifest-2": rows, **more}))
    assert found is not None
    return found


def test_a_real_manifest_lists_its_packages() -> None:
    with tarfile.open(fixture("pkgdb/pkgdb.tar.xz")) as tar:
        file = tar.extractfile(next(member for member in tar if member.name.endswith("container-manifest-2")))
        assert file is not None
        database = manifest(file.read().decode())

    packages = {p.name: (p.version, p.architecture, p.source_name, p.source_version) for p in database.packages()}
    assert len(packages) == 12
    assert packages["openssl-libs"] == ("1.1.1k-15.cm2", "x86_64", "openssl", "1.1.1k-15.cm2")
    assert packages["prebuilt-ca-certificates-base"][0] == "1:2.0.0-3.cm2"
    assert (database.format, database.native_architecture) == ("rpm manifest", "x86_64")


def test_it_says_aloud_what_can_t_be_told() -> None:
    database = manifest()
    package = named(database, "glibc")

    assert "not which files are whose" in database.notes()[0]
    assert database.files(package) == ()
    assert database.checksums(package) == {}
    assert database.own_files(package) == (f"{FOLDER}/container-manifest-2",)
    assert database.broken_dependencies() == frozenset()
    assert not database.lists_files


def test_an_update_is_a_row_in_the_same_form_and_the_other_rows_stay() -> None:
    more = [
        text_entry(tags.VENDOR, "Microsoft Corporation"),
        number_entry(tags.BUILD_TIME, [1_660_000_000]),
        number_entry(tags.SIZE, [123]),
    ]
    database = manifest(**{f"{FOLDER}/container-manifest-1": NAMES})
    new = make_header("certs", "1:2.1.0-1.cm2", "noarch", *more)

    files = database.rewrite([new], [named(database, "certs")])

    assert files == {
        f"{FOLDER}/container-manifest-2": (
            ROWS.splitlines(keepends=True)[0]
            + "certs\t2.1.0-1.cm2\t1700000000\t1660000000\tMicrosoft Corporation\t(none)\t123\tnoarch\t1\t"
            + "certs-2.1.0-1.cm2.src.rpm\n"
        ).encode(),
        f"{FOLDER}/container-manifest-1": b"glibc-2.35-2.cm2.x86_64\ncerts-2.1.0-1.cm2.noarch\n",
    }
    again = manifest(str(files[f"{FOLDER}/container-manifest-2"] or b"", "utf-8"))
    assert named(again, "certs").version == "1:2.1.0-1.cm2"


def test_nothing_of_the_second_list_is_made_up_where_there_is_none() -> None:
    assert set(manifest().rewrite((), ())) == {f"{FOLDER}/container-manifest-2"}


def test_a_database_beside_it_counts() -> None:
    database = manifest(ROWS, **make_files("sqlite", [make_header("real")]))

    assert [package.name for package in database.packages()] == ["real"]


def test_an_empty_line_is_no_package() -> None:
    assert len(manifest(ROWS + "\n").packages()) == 2


@pytest.mark.parametrize(
    "row",
    [
        "glibc\t2.35-2.cm2",
        ROWS.replace("\t0\t", "\tzero\t"),
        ROWS.replace("2.35-2.cm2", "2.35"),
        ROWS.replace("glibc\t", "../glibc\t"),
        ROWS.replace("x86_64", "x86/64"),
        "\t" * 9,
    ],
)
def test_a_row_that_is_no_package_is_refused(row: str) -> None:
    with pytest.raises(InventoryError, match="container-manifest-2: "):
        manifest(row)


def test_only_what_stands_in_the_folder_is_described() -> None:
    database = manifest()

    assert database.describes(f"{FOLDER}/container-manifest-1", ())
    assert database.describes("var/lib/rpm/Packages", ()) is None
