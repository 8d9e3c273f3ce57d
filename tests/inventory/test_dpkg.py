# SPDX-License-Identifier: Apache-2.0
"""dpkg's database, regular and distroless, as dpkg itself sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copacetic.deb.deb822 import parse_stanza
from copacetic.errors import InventoryError
from copacetic.inventory.dpkg import Conffile, DebRecord, DpkgDatabase, PathFilters
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.updates import InstalledPackage
from support.deb.debian import build_root, need
from support.deb.oracle import extract
from support.image.trees import symlink, tree
from support.value.databases import detect_database

STATUS = """\
Package: a
Status: install ok installed
Architecture: amd64
Version: 1
Conffiles:
 /etc/a d41d8cd98f00b204e9800998ecf8427e
 /etc/old d41d8cd98f00b204e9800998ecf8427e obsolete

Package: b
Status: hold ok installed
Architecture: all
Source: src-b (2:1.0)
Version: 2.0+b1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

"""


def database(files: dict[str, bytes | str]) -> DpkgDatabase:
    found = DpkgDatabase.detect(tree(files))
    assert found is not None
    return found


def named(database: DpkgDatabase, name: str) -> InstalledPackage:
    return next(p for p in database.packages() if p.name == name)


def record(control: str, replaces: InstalledPackage | None = None, **files: str) -> DebRecord:
    return DebRecord(
        control=parse_stanza(control),
        control_files={name: text.encode() for name, text in files.items()},
        files=("", "usr", "usr/x"),
        replaces=replaces,
    )


@pytest.mark.parametrize("word", ["newconffile", "nonexistent", "-", "d41d8cd98f00b204e9800998ecf8427e"])
def test_dpkg_has_words_for_a_checksum_that_there_is_none_of(word: str) -> None:
    """Of what was listed and never shipped, shipped as a link, or to be removed and no file."""
    opened = database({"var/lib/dpkg/status": STATUS.replace("d41d8cd98f00b204e9800998ecf8427e", word, 1)})

    conffile = opened.conffiles(named(opened, "a"))["etc/a"]

    assert (conffile.md5, conffile.format()) == (word, f"/etc/a {word}")


@pytest.mark.parametrize("word", ["none", "--", "D41D8CD98F00B204E9800998ECF8427E", "nonexistent2"])
def test_any_other_word_is_none(word: str) -> None:
    opened = database({"var/lib/dpkg/status": STATUS.replace("d41d8cd98f00b204e9800998ecf8427e", word, 1)})

    with pytest.raises(InventoryError, match="not a configuration file"):
        opened.conffiles(named(opened, "a"))


def test_only_what_is_installed_counts_and_sources_and_holds_are_known() -> None:
    db = database({"var/lib/dpkg/status": STATUS})

    assert [(p.name, p.source_name, p.source_version, p.held) for p in db.packages()] == [
        ("a", "a", "1", False),
        ("b", "src-b", "2:1.0", True),
    ]
    assert db.native_architecture == "amd64"
    assert db.conffiles(named(db, "a"))["etc/old"] == Conffile(
        "etc/old", "d41d8cd98f00b204e9800998ecf8427e", obsolete=True
    )


def test_the_database_is_found_through_the_image_s_links() -> None:
    db = database({"usr/lib/dpkg-db/status": STATUS, "var/lib/dpkg": symlink("../../usr/lib/dpkg-db")})  # type: ignore[dict-item]

    assert len(db.packages()) == 2


def test_a_distroless_image_has_a_stanza_for_each_package() -> None:
    files: dict[str, bytes | str] = {
        "var/lib/dpkg/status.d/a": "Package: a\nVersion: 1\nArchitecture: amd64\nMaintainer: x\n",
        "var/lib/dpkg/status.d/a.md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/a\n",
    }
    db = database(files)
    (package,) = db.packages()

    assert (db.format, db.regular) == ("dpkg status.d", False)
    assert db.files(package) == ("usr/share/a",)
    changes = db.rewrite([record("Package: a\nVersion: 2\nArchitecture: amd64\n", package, md5sums="x")])
    assert changes == {
        "var/lib/dpkg/status.d/a": b"Package: a\nVersion: 2\nArchitecture: amd64\n",
        "var/lib/dpkg/status.d/a.md5sums": b"x",
    }


def test_packages_of_both_kinds_are_one_database_and_status_speaks_first() -> None:
    other = "Package: c\nVersion: 1\nArchitecture: amd64\n"
    db = database(
        {
            "var/lib/dpkg/status": STATUS,
            "var/lib/dpkg/info/a.list": "/.\n",
            "var/lib/dpkg/status.d/c": other,
            "var/lib/dpkg/status.d/a": other.replace("Package: c", "Package: a"),
        }
    )

    assert [p.name for p in db.packages()] == ["a", "b", "c"]
    assert not db.is_regular(named(db, "c"))
    assert db.is_regular(named(db, "a"))


def test_an_unchanged_stanza_stays_byte_for_byte_and_a_new_one_goes_to_its_place() -> None:
    db = database(
        {"var/lib/dpkg/status": STATUS, "var/lib/dpkg/info/a.list": "/.\n", "var/lib/dpkg/info/a.postinst": "x"}
    )
    new = record("Package: aa\nVersion: 3\nArchitecture: amd64\nDescription: d\nHomepage: h\nSection: s\n")

    changes = db.rewrite([record("Package: a\nVersion: 2\nArchitecture: amd64\n", named(db, "a")), new])

    status = (changes["var/lib/dpkg/status"] or b"").decode()
    assert [line for line in status.splitlines() if line.startswith("Package")] == [
        "Package: a", "Package: aa", "Package: b", "Package: gone",
    ]  # fmt: skip
    assert STATUS[STATUS.index("Package: b") :] == status[status.index("Package: b") :]
    assert (
        "Status: install ok installed\nSection: s\nArchitecture: amd64\nVersion: 3\nDescription: d\nHomepage: h\n"
        in status
    )
    assert changes["var/lib/dpkg/info/a.postinst"] is None
    assert changes["var/lib/dpkg/info/aa.list"] == b"/.\n/usr\n/usr/x\n"


def test_triggers_follow_a_package_s_interests() -> None:
    db = database(
        {
            "var/lib/dpkg/status": STATUS,
            "var/lib/dpkg/info/a.list": "/.\n",
            "var/lib/dpkg/triggers/File": "/usr/old a\n/usr/kept b\n",
            "var/lib/dpkg/triggers/ldconfig": "b\n",
        }
    )
    triggers = "interest-noawait /usr/new\ninterest ldconfig\nactivate other\n"

    changes = db.rewrite([record("Package: a\nVersion: 2\nArchitecture: amd64\n", named(db, "a"), triggers=triggers)])

    assert changes["var/lib/dpkg/triggers/File"] == b"/usr/kept b\n/usr/new a/noawait\n"
    assert changes["var/lib/dpkg/triggers/ldconfig"] == b"b\na\n"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("Package: a\nnonsense\n", "var/lib/dpkg/status: line 2"),
        ("Package: -a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n", "not a package name"),
        ("Package: a\nStatus: install ok installed\nVersion: 1 0\nArchitecture: all\n", "has the version"),
        ("Package: a\nVersion: 1\nStatus: installed\n", "no usable Status"),
        ("Package: a\nVersion: 1\n\nPackage: b\nStatus: install ok installed\nVersion: 1\n", "no usable Status"),
        (STATUS + STATUS, "stands there twice"),
    ],
)
def test_a_broken_database_names_the_place(status: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        detect_database(tree({"var/lib/dpkg/status": status}))


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_database_or_refused(text: str) -> None:
    try:
        detect_database(tree({"var/lib/dpkg/status": text}))
    except InventoryError as error:
        assert "var/lib/dpkg/status" in str(error)


def test_filters_decide_as_dpkg_does() -> None:
    filters = PathFilters.parse(
        [
            "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n# path-exclude=/usr/*\npath-exclude /usr/share/man/*"
        ]
    )

    assert filters.excludes("usr/share/doc/a/changelog.gz", directory_or_link=False)
    assert not filters.excludes("usr/share/doc/a/copyright", directory_or_link=False)
    assert not filters.excludes("usr/share/doc/a", directory_or_link=True), "an include may bring back files in it"
    assert filters.excludes("usr/share/man/man1/a.1.gz", directory_or_link=False)
    assert filters.excludes("usr/share/man/man1", directory_or_link=True)
    assert not filters.excludes("usr/bin/a", directory_or_link=False)


@pytest.mark.system
def test_dpkg_query_sees_the_same_packages_files_and_scripts(tmp_path: Path) -> None:
    need("dpkg-query", root=True)
    root = extract(build_root("bookworm"), tmp_path / "root")
    admin = root / "var/lib/dpkg"

    def query(*arguments: str) -> list[str]:
        command = ["dpkg-query", f"--admindir={admin}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    db = DpkgDatabase.detect(DirectoryFilesystem(root))
    assert db is not None

    form = "${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\\n"
    ours = [f"{p.name} {p.version} {p.architecture} {p.source_name} {p.source_version}" for p in db.packages()]
    assert sorted(query("-W", "-f", form)) == sorted(ours)
    for name in ("libc6", "base-files", "passwd", "login"):
        package = named(db, name)
        assert [f"/{path}" if path else "/." for path in db.files(package)] == query("-L", name)
        assert set(db.scripts(package)) <= set(query("--control-list", name))
    assert db.broken_dependencies() == frozenset()
