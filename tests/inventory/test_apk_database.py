# SPDX-License-Identifier: Apache-2.0
"""apk's database, as apk itself sees and writes it, and as apko does."""

from __future__ import annotations

import gzip
import importlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.apk.stanza import checksum_of
from copacetic.apk.tools import ApkTools
from copacetic.errors import InventoryError
from copacetic.inventory.apk import ApkChange, ApkDatabase, ApkDirectory, ApkRecord, ListedFile, Owner
from copacetic.inventory.apk.installed import parse_records
from copacetic.inventory.apk.scripts import read_scripts
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.updates import InstalledPackage
from support.apk.apkoracle import ROOTS, alpine_root, run_in, upgrade
from support.apk.apks import Apk, read_index
from support.floors import accepting, refusal
from support.image.images import fixture, open_layers
from support.image.trees import Content, stack, symlink, tree
from support.value.databases import detect_database
from support.value.replacing import replace

A = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1-r0\nA:x86_64\nS:1\nI:1\nT:\nU:\nL:\n"
B = "C:Q1BBBBBBBBBBBBBBBBBBBBBBBBBBA=\nP:b\nV:1-r0\nA:noarch\nS:1\nI:1\nT:\nU:\nL:\no:origin\n"
FILES = "F:usr\nF:usr/bin\nM:0:0:711\nR:tool\na:0:0:755\nZ:Q1CCCCCCCCCCCCCCCCCCCCCCCCCCA=\n"


def database(fs: ImageFilesystem | Mapping[str, Content]) -> ApkDatabase:
    found = detect_database(tree(fs) if isinstance(fs, Mapping) else fs)
    assert isinstance(found, ApkDatabase)
    return found


def of_text(installed: str, **more: Content) -> ApkDatabase:
    return database({"lib/apk/db/installed": installed, **more})


def named(database: ApkDatabase, name: str) -> InstalledPackage:
    return next(package for package in database.packages() if package.name == name)


def rewritten(database: ApkDatabase, *changes: ApkChange, **more: object) -> dict[str, bytes]:
    arguments: dict[str, object] = {"altered": {}, "now": 1_700_000_000, **more}
    return dict(database.rewrite(changes, **arguments))  # type: ignore[arg-type]


def change(
    database: ApkDatabase | None, name: str, version: str, built: str = "1234567890", **more: object
) -> ApkChange:
    """An upgrade (or with None a new package) without files."""
    identity = checksum_of(f"{name}{version}".encode().ljust(20))
    fields = {"C": identity, "P": name, "V": version, "A": "x86_64", "t": built}
    old = named(database, name) if database is not None else None
    return ApkChange(record=ApkRecord(fields=fields), replaces=old, **more)  # type: ignore[arg-type]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_no_other_kind_of_database_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(module: str) -> object:
        loaded.append(module)
        return importlib.import_module(module)

    monkeypatch.setattr("copacetic.loader.import_module", load)
    database = detect_database(tree({"lib/apk/db/installed": A}))

    assert isinstance(database, ApkDatabase)
    assert loaded == ["copacetic.inventory.apk"]


def test_packages_are_read_with_what_apk_calls_origin() -> None:
    found = of_text(f"{A}{FILES}\n{B}\n", **{"etc/apk/arch": "x86_64\n"})

    assert [(p.name, p.version, p.architecture, p.source_name) for p in found.packages()] == [
        ("a", "1-r0", "x86_64", "a"),
        ("b", "1-r0", "noarch", "origin"),
    ]
    assert found.native_architecture == "x86_64"
    assert found.format == "apk installed"


def test_of_several_architectures_the_first_is_the_image_s() -> None:
    assert of_text(f"{A}\n", **{"etc/apk/arch": "aarch64\nx86_64\n"}).native_architecture == "aarch64"


@pytest.mark.parametrize("name", ["../../x", "a/b", "x" * 5_000, "..", "\x1b[31m"])
def test_an_architecture_that_is_no_name_is_refused_in_one_short_line(name: str) -> None:
    database = of_text(f"{A}\n", **{"etc/apk/arch": f"{name}\n"})

    with pytest.raises(InventoryError, match="etc/apk/arch names an architecture that is none") as caught:
        _ = database.native_architecture
    assert len(str(caught.value)) < 200


def test_a_package_s_files_owners_and_checksums_are_known() -> None:
    found = of_text(f"{A}{FILES}F:etc\nR:a.conf\nZ:Q1DDDDDDDDDDDDDDDDDDDDDDDDDDA=\nF:\nR:top\n\n")
    package = named(found, "a")

    assert found.files(package) == ("usr", "usr/bin", "usr/bin/tool", "etc", "etc/a.conf", "", "top")
    assert found.own_files(package) == ("usr/bin/tool", "etc/a.conf", "top")
    assert found.record(package).directories[1] == ApkDirectory(
        "usr/bin", Owner(0, 0, 0o711), (ListedFile("tool", Owner(0, 0, 0o755), "Q1CCCCCCCCCCCCCCCCCCCCCCCCCCA="),)
    )
    assert dict(found.checksums(package)) == {"usr/bin/tool": ("sha1", "0820820820820820820820820820820820820820")}


def test_checksums_of_a_package_of_the_third_format_are_cut_sha_256() -> None:
    found = of_text(f"{A}f:S\n{FILES}\n")

    assert dict(found.checksums(named(found, "a"))) == {
        "usr/bin/tool": ("sha256", "0820820820820820820820820820820820820820")
    }


def test_the_database_is_found_through_the_image_s_links() -> None:
    merged = database({"lib": symlink("usr/lib"), "usr/lib/apk/db/installed": f"{A}\n"})
    apko = database({"usr/lib/apk/db/installed": f"{A}\n"})

    assert merged.path == "usr/lib/apk/db/installed"
    assert apko.path == "usr/lib/apk/db/installed"


def test_an_image_without_packages_has_no_database() -> None:
    assert detect_database(tree({"lib/apk/db/installed": ""})) is None
    assert detect_database(tree({"etc/apk/world": "a"})) is None


def test_lists_that_apko_printed_are_read_as_lists() -> None:
    found = of_text("P:a\nV:1\ni:[]\nD:[b c]\np:\nC:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n")

    assert (found.records[0].fields["i"], found.records[0].fields["D"]) == ("", "b c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("V:1\n", "not a package name: ''"),
        ("P:../../etc\nV:1\n", "not a package name"),
        ("P:a\n", "a has the version ''"),
        ("P:a\nV:1 2\n", "a has the version '1 2'"),
        (f"{A}\n{A}", "a stands there twice"),
        (f"{A}F:usr\nM:root:0:755\n", "a: not an owner and a mode: 'root:0:755'"),
        (f"{A}F:usr\nR:x\na:0:0:999\n", "a: not an owner and a mode: '0:0:999'"),
        (f"{A}F:usr\nZ:Q1\n", "a: not a line of a file list"),
        (f"{A}F:usr\nR:x\nX:unknown\n", "a: not a line of a file list: 'X:unknown'"),
        (f"{A}F:usr\nnonsense\n", "a: not a line of a file list: 'nonsense'"),
        (f"{A}F:usr\nM:4294967296:0:755\n", "a: not an owner and a mode: '4294967296:0:755'"),
        *(
            (f"{A}{lines}\n", f"a: not a path inside the image: {lines.splitlines()[-1]!r}")
            for lines in (
                *("F:../../etc", "F:/etc", "F:usr//bin", "F:usr/./bin", "F:usr/..", "F:.", "F:a\tb"),
                *("F:usr\nR:../../etc/shadow", "F:usr\nR:a/b", "F:usr\nR:..", "F:usr\nR:.", "F:usr\nR:"),
                *("F:usr\nR:a\x1bb", "F:usr\nR:a\x7f"),
            )
        ),
    ],
)
def test_a_broken_database_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InventoryError) as caught:
        of_text(text)

    assert str(caught.value).startswith("lib/apk/db/installed: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_s_last_slash_and_a_mode_s_kind_of_file_are_left_out() -> None:
    found = of_text(f"{A}F:usr/bin/\nM:0:0:40711\nR:tool\n\n")

    assert found.files(named(found, "a")) == ("usr/bin", "usr/bin/tool")
    assert found.record(named(found, "a")).directories[0].owner == Owner(0, 0, 0o711)


def test_scripts_and_triggers_are_found_by_a_package_s_identity_however_it_is_spelled() -> None:
    identity = bytes(range(20))
    for spelled in (checksum_of(identity), checksum_of(identity)[2:], f"X1{identity.hex()}"):
        scripts = make_scripts({f"a-1-r0.{spelled}.trigger": b"#!/bin/sh\n"})
        text = A.replace("Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=", checksum_of(identity))
        more: dict[str, Content] = {"lib/apk/db/scripts.tar": scripts, "lib/apk/db/triggers": f"{spelled} /lib /x/*\n"}
        found = of_text(f"{text}\n", **more)

        assert found.scripts(named(found, "a")) == {"trigger": b"#!/bin/sh\n"}
        assert found.triggers(named(found, "a")) == ("/lib", "/x/*")


def make_scripts(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def test_a_truncated_script_archive_is_refused() -> None:
    data = make_scripts({"a-1-r0.Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=.trigger": b"x" * 2000})[:1536]

    with pytest.raises(InventoryError, match=r"scripts\.tar is truncated"):
        read_scripts(data, "lib/apk/db/scripts.tar")


# -- lower layers ----------------------------------------------------------------------------------------------------

LOWER: Mapping[str, Content] = {
    "lib/apk/db/installed": f"{A}F:usr/bin\nR:tool\n\n{B}p:so:b=1\nF:usr/lib\nR:b\n\n",
    "usr/bin/tool": "x",
    "usr/lib/b": "x",
}


def test_a_database_that_another_one_hides_counts_for_dependencies_and_is_named() -> None:
    upper = {"lib/apk/db/installed": "C:Q1CCCCCCCCCCCCCCCCCCCCCCCCCCA=\nP:c\nV:1\nD:so:b\n\n"}
    found = database(tree(LOWER, upper))

    assert [package.name for package in found.packages()] == ["c"]
    assert [package.name for package in found.assumed()] == ["a", "b"]
    assert found.broken_dependencies() == frozenset()
    assert found.notes() == (
        "lib/apk/db/installed hides the database of a lower layer: a, b are taken for installed, and can't be updated",
    )


def test_what_was_removed_is_not_taken_for_installed() -> None:
    upper: Mapping[str, Content] = {
        "lib/apk/db/installed": f"{A}F:usr/bin\nR:tool\n\n",
        "usr/lib/.wh.b": "",
    }
    found = database(tree(LOWER, upper))

    assert found.assumed() == ()
    assert found.notes() == ()


ABOVE = "C:Q1CCCCCCCCCCCCCCCCCCCCCCCCCCA=\nP:c\nV:1\nD:so:b\n"
THINNED = str(LOWER["lib/apk/db/installed"]).replace("R:b\n", "R:b\nF:usr/share/doc\nR:b.txt\n")


def test_a_hidden_package_whose_documentation_was_deleted_still_counts() -> None:
    lower = {**LOWER, "lib/apk/db/installed": THINNED, "usr/share/doc/b.txt": "x"}
    found = database(tree(lower, {"lib/apk/db/installed": f"{ABOVE}\n", "usr/share/doc/.wh.b.txt": ""}))

    assert [package.name for package in found.assumed()] == ["a", "b"]
    assert found.broken_dependencies() == frozenset()


def test_a_database_beside_the_one_in_effect_counts_for_dependencies_and_is_named() -> None:
    """apk reads `lib/apk/db`, and apko's image had its own in `usr/lib/apk/db`."""
    lower = {"usr/" + path if path.startswith("lib/") else path: content for path, content in LOWER.items()}
    found = database(tree(lower, {"lib/apk/db/installed": f"{ABOVE}\n"}))

    assert [package.name for package in found.packages()] == ["c"]
    assert [package.name for package in found.assumed()] == ["a", "b"]
    assert found.broken_dependencies() == frozenset()
    (note,) = found.notes()
    assert note.startswith("lib/apk/db/installed is in effect, and not usr/lib/apk/db/installed: a, b are taken")


def test_configuration_that_outlived_a_removed_package_is_no_sign_of_it() -> None:
    text = str(LOWER["lib/apk/db/installed"]).replace("R:b\n", "R:b\nF:etc\nR:b.conf\n")
    lower = {**LOWER, "lib/apk/db/installed": text, "etc/b.conf": "edited"}
    upper: Mapping[str, Content] = {"lib/apk/db/installed": f"{A}F:usr/bin\nR:tool\n\n", "usr/lib/.wh.b": ""}

    assert database(tree(lower, upper)).assumed() == ()


def test_a_package_of_configuration_alone_counts_while_all_of_it_is_there() -> None:
    text = str(LOWER["lib/apk/db/installed"]).replace("F:usr/lib\nR:b\n", "F:etc\nR:one\nR:two\n")
    lower = {**LOWER, "lib/apk/db/installed": text, "etc/one": "1", "etc/two": "2"}
    upper: Mapping[str, Content] = {"lib/apk/db/installed": f"{A}F:usr/bin\nR:tool\n\n"}

    assert [package.name for package in database(tree(lower, upper)).assumed()] == ["b"]
    assert database(tree(lower, {**upper, "etc/.wh.two": ""})).assumed() == ()


def test_a_package_all_of_whose_files_another_has_taken_over_is_gone() -> None:
    """The other one spells the directory as a merged /usr has it."""
    lower = {**LOWER, "lib": symlink("usr/lib"), "usr/lib/apk/db/installed": LOWER["lib/apk/db/installed"]}
    del lower["lib/apk/db/installed"]
    upper = {"usr/lib/apk/db/installed": f"{A}F:usr/bin\nR:tool\n\n{ABOVE}F:lib\nR:b\n\n"}

    assert database(tree(lower, upper)).assumed() == ()


def test_an_older_version_of_a_package_is_not_taken_for_installed() -> None:
    text = str(LOWER["lib/apk/db/installed"]).replace("V:1-r0", "V:2-r0")

    assert database(tree(LOWER, {"lib/apk/db/installed": text})).assumed() == ()


def test_packages_without_files_follow_the_others_of_their_database() -> None:
    virtual = "C:Q1EEEEEEEEEEEEEEEEEEEEEEEEEEA=\nP:.deps\nV:0\n\n"
    lower = {**LOWER, "lib/apk/db/installed": str(LOWER["lib/apk/db/installed"]) + virtual}
    upper = {"lib/apk/db/installed": "C:Q1CCCCCCCCCCCCCCCCCCCCCCCCCCA=\nP:c\nV:1\n\n"}
    gone: Mapping[str, Content] = {**upper, "usr/bin/.wh.tool": "", "usr/lib/.wh.b": ""}

    assert [package.name for package in database(tree(lower, upper)).assumed()] == [".deps", "a", "b"]
    assert database(tree(lower, gone)).assumed() == ()


def test_the_description_of_an_apko_build_that_updates_make_stale_is_named() -> None:
    assert of_text(f"{A}\n", **{"etc/apko.json": "{}"}).notes() == (
        "etc/apko.json says what the image was built from, and doesn't follow updates",
    )


# -- real databases --------------------------------------------------------------------------------------------------


def layout(name: str, tmp_path: Path) -> ImageFilesystem:
    (fs,) = open_layers(f"oci:{fixture(f'images/apko/{name}')}", tmp_path)
    return fs


def test_an_apko_image_without_apk_is_read_and_written_back_unchanged(tmp_path: Path) -> None:
    fs = layout("out", tmp_path)
    found = database(fs)

    assert [package.name for package in found.packages()] == [
        "ca-certificates-bundle", "glibc", "glibc-locale-posix", "ld-linux", "wolfi-baselayout",
    ]  # fmt: skip
    assert found.triggers(named(found, "glibc")) == ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
    assert found.scripts(named(found, "glibc")) == {"trigger": b"#!/bin/busybox sh\n/sbin/ldconfig\n"}
    assert found.broken_dependencies() == frozenset()
    for path, data in rewritten(found).items():
        assert fs.read(path, limit=1 << 20) == data, path


def test_in_an_apko_image_only_the_changed_package_s_record_changes(tmp_path: Path) -> None:
    fs = layout("out", tmp_path)
    found = database(fs)
    new = change(found, "glibc", "9.9-r0", scripts={"trigger": b"new"}, triggers=("/lib",))
    before = fs.read(found.path, limit=1 << 20).decode().split("\n\n")

    files = rewritten(found, new)

    after = files["lib/apk/db/installed"].decode().split("\n\n")
    position = next(n for n, text in enumerate(before) if "\nV:2.38-r11\n" in text and "P:glibc\n" in text)
    assert after[:position] + after[position + 1 :] == before[:position] + before[position + 1 :]
    assert after[position].startswith(f"C:{new.record.identity}\nP:glibc\nV:9.9-r0\nA:x86_64\n")
    assert files["lib/apk/db/triggers"].decode() == f"{new.record.identity} /lib\n"
    scripts = read_scripts(files["lib/apk/db/scripts.tar"], "").scripts
    assert scripts == {new.record.identity_bytes: {"trigger": b"new"}}
    assert set(files) == {f"lib/apk/db/{name}" for name in ("installed", "triggers", "scripts.tar")}


def test_the_lower_database_of_a_real_image_is_seen_below_the_upper(tmp_path: Path) -> None:
    found = database(layout("out_on_top", tmp_path))

    assert [package.name for package in found.packages()] == [
        "libcrypto3", "libssl3", "openssl", "openssl-config", "openssl-provider-legacy",
    ]  # fmt: skip
    assert [package.name for package in found.assumed()] == [
        "ca-certificates-bundle", "glibc", "glibc-locale-posix", "ld-linux", "wolfi-baselayout",
    ]  # fmt: skip
    assert found.broken_dependencies() == frozenset()


APK = "apk --repositories-file /dev/null"


@pytest.mark.system
@pytest.mark.parametrize("release", ROOTS)
def test_a_real_database_is_the_one_that_apk_sees(release: str, tmp_path: Path) -> None:
    root = alpine_root(release, tmp_path / "root")
    found = database(DirectoryFilesystem(root))

    listed = run_in(root, f"{APK} info -v").output.split()
    assert sorted(f"{p.name}-{p.version}" for p in found.packages()) == sorted(listed)
    for package in found.packages():
        shown = run_in(root, f"{APK} info -q -L {package.name}").output.split("\n")
        assert sorted(found.own_files(package)) == sorted(path for path in shown if path), package.name
    assert found.broken_dependencies() == frozenset()


def test_a_database_of_another_architecture_is_read_as_well() -> None:
    archive = fixture("alpine/alpine-minirootfs-3.20.3-aarch64.tar.gz")
    fs = stack(gzip.decompress(archive.read_bytes()))
    found = database(fs)

    assert found.native_architecture == "aarch64"
    assert {package.architecture for package in found.packages()} == {"aarch64"}
    assert found.broken_dependencies() == frozenset()
    for record in found.records:
        assert replace(record, text="").format() == record.text


@pytest.mark.system
@pytest.mark.parametrize("release", ROOTS)
def test_every_record_is_written_as_apk_wrote_it(release: str, tmp_path: Path) -> None:
    root = alpine_root(release, tmp_path / "root")
    found = database(DirectoryFilesystem(root))

    text = "".join(f"{replace(record, text='').format()}\n" for record in found.records)

    assert text.encode("utf-8", "surrogateescape") == (root / "lib/apk/db/installed").read_bytes()


UPGRADES = {"3.10.2": "repo-3.10.9", "3.18.2": "repo-3.18.9", "3.20.3": "repo-3.20.6", "3.22.0": "repo-3.22.1"}


@pytest.mark.system
@pytest.mark.parametrize("release", UPGRADES)
def test_the_database_after_an_upgrade_is_apk_s(release: str, tmp_path: Path) -> None:
    root = alpine_root(release, tmp_path / "root")
    repository = fixture(f"alpine/{UPGRADES[release]}")
    (root / "etc/apk/world").write_text("zlib\n" + (root / "etc/apk/world").read_text())
    before = tree({path: (root / path).read_bytes() for path in DATABASE if (root / path).exists()})
    run = upgrade(root, repository)
    after = database(DirectoryFilesystem(root))
    index = read_index(repository)
    old = database(before)
    # What was installed is taken from apk's own result; how all of it is written down is what is looked at.
    changes = [
        ApkChange(
            record=replace(after.record(named(after, name)), text=""),
            scripts=after.scripts(named(after, name)),
            triggers=after.triggers(named(after, name)),
            replaces=named(old, name),
        )
        for _, name in run.commits
    ]

    files = old.rewrite(changes, altered={}, now=script_time(root))

    assert set(run.commits) == {("Upgrading", name) for name in index if index[name]["V"] != named(old, name).version}
    for path in DATABASE:
        assert files[path] == (root / path).read_bytes(), path


DATABASE = ("lib/apk/db/installed", "lib/apk/db/scripts.tar", "lib/apk/db/triggers", "etc/apk/world")


def script_time(root: Path) -> int:
    """What an old apk has put on its scripts: when it ran."""
    with tarfile.open(root / "lib/apk/db/scripts.tar") as tar:
        return int(next(iter(tar)).mtime)


# -- writing ---------------------------------------------------------------------------------------------------------

TOOLS = "C:Q1FFFFFFFFFFFFFFFFFFFFFFFFFFA=\nP:apk-tools\nV:{}-r0\n"
NAMES = re.compile(rb"^P:(.*)$", re.MULTILINE)


def with_tools(release: str, built: str = "8") -> ApkDatabase:
    """Packages b, apk-tools, a, in this order; b and a have scripts and triggers."""
    scripts = {
        "b-1-r0.Q1BBBBBBBBBBBBBBBBBBBBBBBBBBA=.post-install": b"b",
        "a-1-r0.Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=.trigger": b"a",
        "gone-1-r0.Q1GGGGGGGGGGGGGGGGGGGGGGGGGGA=.trigger": b"gone",
    }
    more: dict[str, Content] = {
        "lib/apk/db/scripts.tar": make_scripts(scripts),
        "lib/apk/db/triggers": "Q1BBBBBBBBBBBBBBBBBBBBBBBBBBA= /b\nbroken /x\nQ1AAAAAAAAAAAAAAAAAAAAAAAAAAA= /a\n",
        "etc/apk/world": "b  a=1\n!c",
    }
    return of_text(
        f"{B}t:7\n\n{TOOLS.format(release)}\n{A}t:{built}\n\n",
        **more,
    )


@pytest.mark.parametrize(
    ("release", "order", "scripts"),
    [
        ("2.10.6", ["apk-tools", "a", "b"], ["a-1-r0.Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=.trigger", "b-2-r0.Q1%s.trigger"]),
        ("2.12.9", ["apk-tools", "a", "b"], ["a-1-r0.Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=.trigger", "b-2-r0.Q1%s.trigger"]),
        ("2.14.4", ["a", "apk-tools", "b"], ["a-1-r0.Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=.trigger", "b-2-r0.Q1%s.trigger"]),
        ("3.0.0", ["a", "apk-tools", "b"], ["a-1-r0.X1" + "00" * 20 + ".trigger", "b-2-r0.X1%s.trigger"]),
    ],
)
def test_the_order_and_the_names_are_those_of_the_installed_apk(
    release: str, order: list[str], scripts: list[str]
) -> None:
    found = with_tools(release)
    new = change(found, "b", "2-r0", scripts={"trigger": b"new"}, triggers=("/n",))

    files = rewritten(found, new)

    assert [name.decode() for name in NAMES.findall(files["lib/apk/db/installed"])] == order
    identity = new.record.identity_bytes.hex() if "X1" in scripts[0] else new.record.identity[2:]
    with tarfile.open(fileobj=io.BytesIO(files["lib/apk/db/scripts.tar"])) as tar:
        assert [member.name for member in tar] == [name.replace("%s", identity) for name in scripts]
    assert files["lib/apk/db/triggers"].decode() == f"Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA= /a\n{new.record.identity} /n\n"
    assert files["etc/apk/world"] == b"a=1\nb\n!c\n"


@pytest.mark.parametrize(("release", "times"), [("2.14.0", [1_700_000_000] * 2), ("2.14.1", [8, 1_234_567_890])])
def test_scripts_have_the_clock_before_2_14_1_and_the_build_time_after(release: str, times: list[int]) -> None:
    found = with_tools(release)
    new = change(found, "b", "2-r0", scripts={"trigger": b"new"})

    data = rewritten(found, new)["lib/apk/db/scripts.tar"]

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [member.mtime for member in tar] == times


@pytest.mark.parametrize(
    "built", ["99999999999", "9" * 5000, "-1", "\u0663"], ids=["11 digits", "5000 digits", "negative", "not ASCII"]
)
@pytest.mark.parametrize("release", ["2.10.6", "2.14.4", "3.0.0"])
def test_a_build_time_without_room_in_a_header_leaves_the_scripts_whole(release: str, built: str) -> None:
    found = with_tools(release, built=built)
    new = change(found, "b", "2-r0", built=built, scripts={"trigger": b"new"})

    path, data = next(item for item in rewritten(found, new, now=8**12).items() if "scripts.tar" in item[0])

    assert len(data) % 512 == 0
    assert [*read_scripts(data, path).scripts.values()] == [{"trigger": b"a"}, {"trigger": b"new"}]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {member.mtime for member in tar} <= {0, 3}


@pytest.mark.system
@pytest.mark.parametrize("release", ROOTS)
def test_a_world_of_nothing_is_written_as_apk_writes_it(release: str, tmp_path: Path) -> None:
    root = alpine_root(release, tmp_path / "root")
    found = database(tree({path: (root / path).read_bytes() for path in DATABASE[:1]} | {"etc/apk/world": ""}))
    (root / "etc/apk/world").write_bytes(b"")
    run = run_in(root, f"{APK} --no-network upgrade")  # removes all that nothing asks for

    assert rewritten(found)["etc/apk/world"] == (root / "etc/apk/world").read_bytes(), run.output


def test_the_new_apk_writes_when_apk_upgrades_itself() -> None:
    found = with_tools("2.12.9")

    files = rewritten(found, change(found, "apk-tools", "2.14.4-r0"), change(found, "b", "2-r0"))

    assert NAMES.findall(files["lib/apk/db/installed"]) == [b"a", b"apk-tools", b"b"]


def test_apk_3_keeps_scripts_compressed_unless_they_are_plain_already() -> None:
    found = of_text(f"{TOOLS.format('3.0.1')}\n{A}\n")

    files = rewritten(found, change(found, "a", "2-r0", scripts={"trigger": b"x"}))

    assert "lib/apk/db/scripts.tar" not in files
    assert len(read_scripts(files["lib/apk/db/scripts.tar.gz"], "").scripts) == 1


def test_a_package_that_lost_a_file_is_written_anew_in_its_place() -> None:
    found = of_text(f"{TOOLS.format('2.14.4')}\n{A.replace('S:1', 'x:odd')}{FILES}\n{B}\n")
    package = named(found, "a")
    record = found.record(package)
    directories = (record.directories[0], replace(record.directories[1], files=()))

    files = rewritten(found, altered={package: replace(record, directories=directories)})

    stanzas = files["lib/apk/db/installed"].decode().split("\n\n")
    assert [name for text in stanzas for name in re.findall(r"^P:(.*)$", text, re.MULTILINE)] == ["a", "apk-tools", "b"]
    assert stanzas[0].endswith("F:usr\nF:usr/bin\nM:0:0:711")
    assert stanzas[2] == B.rstrip("\n")


def test_a_new_package_is_added() -> None:
    found = of_text(f"{A}\n{B}\n")

    files = rewritten(found, change(None, "aa", "1-r0"))

    assert NAMES.findall(files["lib/apk/db/installed"]) == [b"a", b"b", b"aa"]


def test_a_record_has_every_field_in_apk_s_order_and_no_empty_ones() -> None:
    fields = {
        "P": "x", "V": "1", "C": "Q1x=", "k": "0", "t": "0", "q": "10", "r": "a  b", "D": "c=~1  d", "m": "",
        "s": "edge", "L": "MIT", "A": "x86_64", "o": "x", "i": "y=1 z", "p": "so:x=1",
    }  # fmt: skip
    record = ApkRecord(fields=fields, directories=(ApkDirectory("", Owner(0, 0, 0o700), (ListedFile("init"),)),))

    assert record.format().splitlines() == [
        "C:Q1x=", "P:x", "V:1", "A:x86_64", "S:0", "I:0", "T:", "U:", "L:MIT", "o:x", "D:c~1 d", "p:so:x=1",
        "i:y=1 z", "r:a b", "q:10", "s:edge", "F:", "R:init",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "scheme"), [("2.14.4-r0", "apk2"), ("3.0.0_rc5-r2", "apk"), ("2.10.6-r0", "apk2"), (None, "apk")]
)
def test_the_order_of_versions_is_that_of_the_installed_apk(version: str | None, scheme: str) -> None:
    packages = [Apk(name="apk-tools", version=version)] if version else []

    assert ApkTools.of(packages).version_scheme == scheme


# -- any text --------------------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    ["P:a", "P:b", "V:1", "C:Q1x=", "A:x86_64", "F:usr", "F:", "R:x", "R:y z", "M:0:0:755", "a:1:2:4755:Q1x", "Z:Q1x",
     "", "", "r:x", "q:1", "F", ":", "\udcff:x", "i:[a b]"]
)  # fmt: skip


STANZAS = st.sampled_from(["C:Q1x=\nP:a\nV:1\nA:x86_64", "P:b\nV:1", "F:usr\nR:x", "F:\nM:0:0:755", "i:[a b]\n"])


@accepting(0.05)
@given(st.lists(STANZAS, max_size=6), LINES, st.integers(0, 20))
def test_any_text_is_read_or_refused_and_what_is_read_is_written_back(
    stanzas: list[str], line: str, position: int
) -> None:
    lines = "\n".join(stanzas).split("\n")
    data = "\n".join([*lines[:position], line, *lines[position:]]).encode("utf-8", "surrogateescape")
    with refusal(InventoryError):
        records = parse_records(data, "installed")
        written = "".join(f"{replace(record, text='').format()}\n" for record in records)

        again = parse_records(written.encode("utf-8", "surrogateescape"), "installed")

        assert [record.name for record in again] == [record.name for record in records]
        assert [list(record.files()) for record in again] == [list(record.files()) for record in records]
        assert "".join(f"{record.format()}\n" for record in again) == written


# -- what apk itself doesn't take ------------------------------------------------------------------------------------

APK_TOOLS = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:apk-tools\nV:{}\nA:x86_64\nS:1\nI:1\n"


@pytest.mark.parametrize("version", ["2.14.4-r0", "3.0.8-r0"])
@pytest.mark.parametrize("line", ["R:x", "a:0:0:755", "Z:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "M:0:0:755"])
def test_a_file_list_without_a_directory_is_noted(version: str, line: str) -> None:
    found = of_text(f"{APK_TOOLS.format(version)}\n{A}{line}\nF:bin\n\n", **{"etc/apk/world": "a\n"})

    (note,) = found.notes()
    assert note == (
        "lib/apk/db/installed: a has files without a directory, so the image's own apk refuses the whole database; "
        "it is updated all the same"
    )


@pytest.mark.parametrize(("version", "noted"), [("2.14.4-r0", False), ("3.0.8-r0", True)])
def test_a_last_record_that_apk_doesn_t_see_is_noted(version: str, noted: bool) -> None:
    text = f"{APK_TOOLS.format(version)}\n{A}".rstrip("\n")
    found = of_text(text, **{"etc/apk/world": "a\n"})

    assert [package.name for package in found.packages()] == ["a", "apk-tools"]
    assert [("doesn't see a;" in note) for note in found.notes()] == [True] * noted
    assert of_text(f"{text}\n", **{"etc/apk/world": "a\n"}).notes() == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("s", "a script of it failed"),
        ("fs", "not all of its files could be put in their places and a script of it failed"),
        ("Sx", "not all attributes of its files could be set"),
        ("S", ""),
    ],
)
def test_a_package_that_was_broken_before_is_named(flags: str, words: str) -> None:
    found = of_text(f"{A}f:{flags}\n\n")

    assert [package.name for package in found.broken()] == ["a"] * bool(words)
    assert [note for note in found.notes() if "broken" in note] == [
        f"a 1-r0 has been broken since it was installed: {words} (f: in lib/apk/db/installed)"
    ] * bool(words)
