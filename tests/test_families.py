# SPDX-License-Identifier: Apache-2.0
"""A family of packages is one row: what it names is found by everybody, and nothing else knows of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from copacetic import families
from copacetic.budget import Slots
from copacetic.errors import InvalidVersionError, UnsupportedImageError
from copacetic.families import Family, Located
from copacetic.keep import KeepRule
from copacetic.loader import load
from copacetic.oci.layered import LayeredFilesystem
from copacetic.pipeline.plan.policy import Policy, select
from copacetic.pkgmgr import open_package_manager
from copacetic.report import parse_report
from copacetic.repository import open_repository
from copacetic.unpack import open_unpacker
from copacetic.version import compare_versions
from support.image.images import make_image, make_layer, make_tar, open_layers, tar_file, write_layout
from support.image.trees import stack, tree
from support.value.databases import detect_database


class Opened:
    """Whatever a made-up family opens."""

    def __init__(self, *given: object) -> None:
        self.given = given

    @classmethod
    def open(cls, *given: object) -> Opened:
        return cls(*given)


class MadeDatabase:
    package_type = "made"

    @classmethod
    def detect(cls, fs: LayeredFilesystem) -> MadeDatabase | None:
        return cls() if fs.read("var/lib/made/db", limit=9) == b"1" else None


MADE_DATABASE: Any = MadeDatabase()


class MadeRepository(Opened): ...


class MadeUnpacker(Opened): ...


class Manager(Opened): ...


class OtherManager(Opened): ...


MADE = Family(
    package_type="made",
    databases=(Located(f"{__name__}:MadeDatabase", ("var/lib/made",)),),
    schemes=(("made-old", "builtins:int"),),
    repository=f"{__name__}:MadeRepository",
    unpacker=f"{__name__}:MadeUnpacker",
    package_managers=(
        Located(f"{__name__}:Manager", ("usr/bin/made",)),
        Located(f"{__name__}:OtherManager", ("usr/bin/other", "bin/other")),
    ),
    keep=(KeepRule("var/lib/made/", 10), KeepRule("var/lib/made/log", 0)),
    report_names=("made",),
)
FILES = {"etc/os-release": "ID=made\n", "var/lib/made/db": "1", "var/lib/made/big": "x" * 11, "var/lib/made/log": "l"}


def test_every_row_names_what_there_is_and_nothing_twice() -> None:
    rows = families.FAMILIES
    located = [row for family in rows for row in (*family.databases, *family.package_managers)]
    entries = [entry for family in rows for entry in (family.repository, family.unpacker) if entry]
    names = [name for family in rows for name in family.report_names]
    schemes = dict(row for family in rows for row in family.schemes)

    for entry in (*entries, *schemes.values(), *(row.entry for row in located)):
        assert load(entry).__name__ == entry.partition(":")[2]
    assert len({family.package_type for family in rows}) == len(rows)
    assert len(schemes) == sum(len(family.schemes) for family in rows)
    assert sorted(set(names)) == sorted(names)
    assert all(name == name.lower() for name in names)
    for family in rows:
        assert not family.databases or (family.repository and family.unpacker and family.keep)


def test_the_table_imports_nothing_that_it_names() -> None:
    code = "import sys, copacetic.families; print(*(name for name in sys.modules if name.startswith('copacetic')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert set(loaded) == {"copacetic", "copacetic._version", "copacetic.families", "copacetic.keep"}


@pytest.fixture(autouse=True)
def _made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, MADE))


def test_its_database_is_detected_and_its_unpacker_and_repository_are_opened() -> None:
    fs = tree(FILES)
    database: Any = detect_database(fs)
    context: Any = SimpleNamespace(package_type=database.package_type)
    processors = Slots("test", 1)
    unpacker: Any = open_unpacker(fs, database, processors)
    repository: Any = open_repository(context)

    assert isinstance(database, MadeDatabase)
    assert isinstance(unpacker, MadeUnpacker)
    assert isinstance(repository, MadeRepository)
    assert (unpacker.given, repository.given) == ((fs, database, processors), (context,))


def test_what_it_reads_of_layers_is_kept_and_the_layers_of_others_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = make_layer({"var/lib/dpkg/status": "x" * 100, "etc/passwd": "root"})
    its = make_layer(FILES)
    write_layout(tmp_path / "layout", {"1": make_image([theirs, its])})

    def opened() -> LayeredFilesystem:
        (fs,) = open_layers(f"oci:{tmp_path}/layout:1", tmp_path / "cache")
        return fs

    def lose(layer: Any) -> None:
        (tmp_path / "layout/blobs" / str(layer.descriptor.digest).replace(":", "/")).unlink()

    with monkeypatch.context() as before:
        before.setattr(families, "FAMILIES", families.FAMILIES[:-1])
        opened()
    lose(theirs)
    opened()
    lose(its)
    fs = opened()

    assert fs.read("var/lib/made/db", limit=9) == b"1"
    assert fs.read("var/lib/dpkg/status", limit=100) == b"x" * 100
    for path in ("var/lib/made/big", "var/lib/made/log"):
        with pytest.raises(Exception, match=str(its.descriptor.digest)):
            fs.read(path, limit=99)


@pytest.mark.parametrize(
    ("program", "expected"),
    [("usr/bin/made", Manager), ("usr/bin/other", OtherManager), ("bin/other", OtherManager), ("usr/bin/x", Manager)],
)
def test_of_its_package_managers_the_image_has_the_one_whose_program_it_has(program: str, expected: type) -> None:
    fs = stack(make_tar([tar_file(program, "ELF", mode=0o755)]))
    manager: Any = open_package_manager(fs, MADE_DATABASE)

    assert type(manager).__name__ == expected.__name__
    assert manager.given == (fs, MADE_DATABASE)


def test_a_family_without_a_package_manager_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", (Family(package_type="made"),))

    with pytest.raises(UnsupportedImageError, match="made packages"):
        open_package_manager(tree(FILES), MADE_DATABASE)


def test_its_versions_are_compared_by_its_own_scheme() -> None:
    assert compare_versions("made-old", "10", "9") > 0
    with pytest.raises(InvalidVersionError, match="'made'"):
        compare_versions("made", "10", "9")


def test_findings_are_its_own_by_what_a_report_calls_its_distribution() -> None:
    row = {"VulnerabilityID": "CVE-1", "PkgName": "p", "InstalledVersion": "1", "FixedVersion": "2"}
    results = [{"Class": "os-pkgs", "Type": name, "Vulnerabilities": [row]} for name in ("Made Linux", "nothing")]
    data = json.dumps({"SchemaVersion": 2, "Results": results}).encode()

    (report,) = parse_report(data, "r.json")

    assert [finding.package_type for finding in report.findings] == ["made", "os"]
    assert len(select(report.findings, Policy())[0]) == 2
