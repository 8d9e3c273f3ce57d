# SPDX-License-Identifier: Apache-2.0
"""Images that something else than dpkg put together: what an update changes in them, and what it never does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.errors import PackageError, UnsupportedImageError
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.pkgmgr.apt import AptPackageManager
from copacetic.updates import ScriptClass
from support.deb.chisel import (
    MANIFEST,
    STATUS,
    control,
    control_status,
    files_of,
    manifest_rows,
    package_row,
    path_row,
    stripped_status,
    unwall,
    wall,
)
from support.deb.composed import compose, open_unpacker, plan_debs, read_content
from support.deb.debs import Deb, Member, directory, file, symlink
from support.image.trees import Content, tree
from support.value.replacing import replace
from support.value.values import key

LIB = "usr/lib/libdemo.so.1"
FILES: Mapping[str, Member] = {
    LIB: file("old"),
    "usr/lib/libdemo.so": symlink("libdemo.so.1"),
    "usr/bin/demo": file("old tool", 0o755),
    "usr/share/doc/demo/copyright": file("mine"),
    "var/demo": directory(),
}
NEW_FILES: Mapping[str, Member] = {
    **FILES,
    LIB: file("new"),
    "usr/bin/demo": file("new tool", 0o755),
    "usr/bin/more": file("more"),
    "usr/share/doc/demo/changelog": file("2"),
}
FIELDS = {"Description-md5": "0", "Depends": "libabsent (>= 3)"}
OLD = Deb(name="demo", version="1.0", architecture="amd64", files=FILES, fields=FIELDS)
NEW = replace(OLD, version="2.0", files=NEW_FILES, scripts={"postinst": "#!/bin/sh\nrm -rf /opt\n"})
OTHER = Deb(name="other", version="1.0", architecture="amd64", files={"usr/bin/other": file("other")})
HERE = (LIB, "usr/lib/libdemo.so", "var/demo")
SLICES = [(OLD, HERE), (OTHER, ("usr/bin/other",))]


def chiseled(*, status: bool, manifest: bool, more: Mapping[str, Content] | None = None) -> ImageFilesystem:
    files = files_of(SLICES)
    if status:
        files[STATUS] = control_status([OLD, OTHER])
    if manifest:
        files[MANIFEST] = wall(manifest_rows(SLICES))
    return tree({**files, **(more or {})})


def changes_to(fs: ImageFilesystem, tmp_path: Path, deb: Deb = NEW) -> dict[str, bytes | str | None]:
    """Return what every path that changes becomes: content, a link's target, or None where it goes."""
    composition = compose(fs, [deb.write(tmp_path)], tmp_path / "scratch")
    found: dict[str, bytes | str | None] = {}
    for change in composition.changes.entries:
        if change.entry is None:
            found[change.path] = None
        elif change.content is not None:
            found[change.path] = read_content(change)
        elif change.entry.target:
            found[change.path] = change.entry.target
    return found


def obstacle(fs: ImageFilesystem, deb: Deb, tmp_path: Path) -> str:
    """Return why a package is refused, as planning and composing say it."""
    path = deb.write(tmp_path)
    verdicts = open_unpacker(fs).classify(plan_debs(fs, [path]))[key(f"{deb.name}:{deb.architecture}")]
    refused = [one.reason for one in verdicts if one.verdict is ScriptClass.REFUSED]
    if not refused:
        return ""
    with pytest.raises(PackageError, match="can't be brought into this image"):
        compose(fs, [path], tmp_path / "scratch")
    return refused[0]


@pytest.mark.parametrize(("status", "manifest"), [(True, False), (False, True), (True, True)])
def test_of_a_sliced_package_only_the_paths_that_are_there_change(status: bool, manifest: bool, tmp_path: Path) -> None:
    changes = changes_to(chiseled(status=status, manifest=manifest), tmp_path)

    records = {name for name, has in ((STATUS, status), (MANIFEST, manifest)) if has}
    assert changes.keys() == {LIB} | records
    assert changes[LIB] == b"new"


def test_control_files_one_after_the_other_stay_so_and_get_no_status(tmp_path: Path) -> None:
    changes = changes_to(chiseled(status=True, manifest=False), tmp_path)

    assert changes[STATUS] == f"{control(NEW)}\n\n{control(OTHER)}\n\n".encode()


def test_the_manifest_says_the_new_version_and_what_came_of_its_paths_and_nothing_else(tmp_path: Path) -> None:
    changes = changes_to(chiseled(status=False, manifest=True), tmp_path)

    expected = [row for row in manifest_rows(SLICES) if row not in (package_row(OLD), path_row(OLD, LIB))]
    expected += [package_row(NEW), path_row(NEW, LIB)]
    found = changes[MANIFEST]
    assert isinstance(found, bytes)
    assert unwall(found) == unwall(wall(expected))


def test_the_same_manifest_comes_out_each_time(tmp_path: Path) -> None:
    fs = chiseled(status=False, manifest=True)
    path = NEW.write(tmp_path)

    first, second = (
        {c.path: c for c in compose(fs, [path], tmp_path / name).changes.entries}[MANIFEST] for name in "ab"
    )

    assert read_content(first) == read_content(second)


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"usr/lib/libdemo.so": symlink("libdemo.so.1.2"), "usr/lib/libdemo.so.1.2": file("x")}, "a link to libdemo.so.1.2, which is not in the image"),
        ({LIB: symlink("libdemo.so.1.2"), "usr/lib/libdemo.so.1.2": file("x")}, "is a file in the image and would have to become a symlink"),
        ({LIB: directory()}, "is a file in the image and would have to become a directory"),
        ({"var/demo": file("x")}, "is a directory in the image and would have to become a file"),
    ],
)  # fmt: skip
def test_an_update_that_needs_another_set_of_paths_is_refused_by_name(
    files: Mapping[str, Member], reason: str, manifest: bool, tmp_path: Path
) -> None:
    fs = chiseled(status=not manifest, manifest=manifest)

    assert reason in obstacle(fs, replace(NEW, files={**NEW_FILES, **files}), tmp_path)


def test_a_link_may_become_one_to_something_that_is_there(tmp_path: Path) -> None:
    fs = chiseled(status=False, manifest=True, more={"usr/lib/libdemo.so.2": "theirs"})
    deb = replace(NEW, files={**NEW_FILES, "usr/lib/libdemo.so": symlink("libdemo.so.2")})

    changes = changes_to(fs, tmp_path, deb)

    assert changes["usr/lib/libdemo.so"] == "libdemo.so.2"
    manifest = changes[MANIFEST]
    assert isinstance(manifest, bytes)
    assert path_row(deb, "usr/lib/libdemo.so") in unwall(manifest)


def test_a_file_that_would_stay_as_it_was_is_never_taken_for_fixed(tmp_path: Path) -> None:
    fs = chiseled(status=False, manifest=True)
    moved = {path: member for path, member in NEW_FILES.items() if path != LIB} | {"usr/lib/libdemo.so.2": file("new")}

    assert f"{LIB} is not in the new version, and would stay" in obstacle(fs, replace(NEW, files=moved), tmp_path)


def test_without_a_manifest_a_package_of_which_no_file_is_there_is_refused(tmp_path: Path) -> None:
    fs = chiseled(status=True, manifest=False)
    moved = {"usr/lib/libdemo.so.2": file("new"), "usr/share/doc/demo/copyright": file("mine")}

    assert "none of the new version's files is in the image" in obstacle(fs, replace(NEW, files=moved), tmp_path)


def test_a_file_that_chisel_made_out_of_another_is_not_made_anew(tmp_path: Path) -> None:
    rows = [row for row in manifest_rows(SLICES) if row != path_row(OLD, LIB)]
    mutated = {**path_row(OLD, LIB), "final_sha256": "0" * 64}
    fs = tree({**files_of(SLICES), MANIFEST: wall([*rows, mutated])})

    assert f"{LIB} was made from the old version by chisel" in obstacle(fs, NEW, tmp_path)


def test_no_further_package_comes_into_a_chiseled_image(tmp_path: Path) -> None:
    fs = chiseled(status=False, manifest=True)

    assert "no further package comes in" in obstacle(fs, replace(OTHER, name="third"), tmp_path)


def test_another_package_s_slice_is_left_alone(tmp_path: Path) -> None:
    files = {**NEW_FILES, "usr/bin/other": file("taken over")}

    changes = changes_to(chiseled(status=False, manifest=True), tmp_path, replace(NEW, files=files))

    assert changes.keys() == {LIB, MANIFEST}


BARE = {"status": f"{control(OLD)}\n".replace("Version", "Status: install ok installed\nVersion")}


@pytest.mark.parametrize("status", [stripped_status([OLD, OTHER]), f"{BARE['status']}\n"])
def test_a_status_without_lists_is_rewritten_and_nothing_else_is_invented(status: str, tmp_path: Path) -> None:
    files = {**files_of([(OLD, [LIB])]), STATUS: status}

    changes = changes_to(tree(files), tmp_path)

    assert changes.keys() == {LIB, "usr/lib/libdemo.so", "usr/bin/demo", "usr/bin/more", STATUS}
    text = changes[STATUS]
    assert isinstance(text, bytes)
    assert b"Status: install ok installed\n" in text
    assert b"Version: 2.0\n" in text
    untouched = status.split("\n\n", 1)[1]
    assert text.endswith(untouched.encode())


def test_documentation_goes_where_there_is_some(tmp_path: Path) -> None:
    files = {**files_of([(OLD, [LIB, "usr/share/doc/demo/copyright"])]), STATUS: stripped_status([OLD])}

    assert "usr/share/doc/demo/changelog" in changes_to(tree(files), tmp_path)


def test_configuration_files_are_recorded_where_they_were_and_kept_where_they_were_changed(tmp_path: Path) -> None:
    old = replace(OLD, files={**FILES, "etc/demo.conf": file("1")}, conffiles=["/etc/demo.conf"])
    new = replace(NEW, files={**NEW_FILES, "etc/demo.conf": file("2")}, conffiles=["/etc/demo.conf"])
    recorded = "Conffiles:\n /etc/demo.conf c4ca4238a0b923820dcc509a6f75849b"
    files = {**files_of([(old, [LIB, "etc/demo.conf"])]), STATUS: f"{BARE['status'].rstrip()}\n{recorded}\n\n"}

    unchanged = changes_to(tree(files), tmp_path, new)
    changed = changes_to(tree({**files, "etc/demo.conf": "mine"}), tmp_path / "again", new) if _again(tmp_path) else {}

    assert unchanged["etc/demo.conf"] == b"2"
    assert b" /etc/demo.conf c81e728d9d4c2f636f067f89cc14862c" in (unchanged[STATUS] or b"")
    assert "etc/demo.conf" not in changed


def _again(tmp_path: Path) -> bool:
    (tmp_path / "again").mkdir()
    return True


@pytest.mark.parametrize(
    ("manifest", "content", "kept"),
    [
        (True, "1", ""),
        (True, "mine", "kept etc/demo.conf, which was changed in the image"),
        (False, "1", "kept etc/demo.conf, which may have been changed in the image"),
    ],
)
def test_a_slice_s_configuration_file_is_kept_unless_it_is_known_to_be_the_old_one(
    manifest: bool, content: str, kept: str, tmp_path: Path
) -> None:
    old = replace(OLD, files={**FILES, "etc/demo.conf": file("1")}, conffiles=["/etc/demo.conf"])
    new = replace(NEW, files={**NEW_FILES, "etc/demo.conf": file("2")}, conffiles=["/etc/demo.conf"])
    slices = [(old, (LIB, "etc/demo.conf"))]
    record: dict[str, Content] = (
        {MANIFEST: wall(manifest_rows(slices))} if manifest else {STATUS: control_status([old])}
    )
    fs = tree({**files_of(slices), **record, "etc/demo.conf": content})

    composition = compose(fs, [new.write(tmp_path)], tmp_path / "scratch")

    changed = {change.path: change for change in composition.changes.entries}
    assert composition.notes == ((kept,) if kept else ())
    assert ("etc/demo.conf" in changed) == (not kept)
    if manifest:
        rows = unwall(read_content(changed[MANIFEST]))
        assert path_row(old if kept else new, "etc/demo.conf") in rows


def test_scripts_are_judged_where_only_dpkg_s_records_were_removed(tmp_path: Path) -> None:
    fs = tree({**files_of([(OLD, [LIB])]), STATUS: f"{BARE['status']}\n", "bin/sh": "shell", "usr/bin/frobnicate": "x"})
    deb = replace(NEW, scripts={"postinst": "#!/bin/sh\nfrobnicate\n"}).write(tmp_path)

    (verdict,) = open_unpacker(fs).classify(plan_debs(fs, [deb]))[key("demo:amd64")]

    assert verdict.verdict is ScriptClass.NEEDS_EXECUTION
    assert "frobnicate" in verdict.reason


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({STATUS: control_status([OLD])}, "chisel status"),
        ({MANIFEST: wall(manifest_rows(SLICES))}, "chisel manifest.wall"),
        ({STATUS: stripped_status([OLD])}, "dpkg status without info"),
    ],
)
def test_the_format_has_a_name_and_what_cannot_be_known_is_said(files: Mapping[str, Content], name: str) -> None:
    fs = tree(files)
    database = DpkgDatabase.detect(fs)

    assert database is not None
    assert database.format == name
    (note,) = database.notes()
    assert note.startswith(f"{name}: ")
    with pytest.raises(UnsupportedImageError, match=f"{name}: no dpkg can work with such records"):
        AptPackageManager.open(fs, database)
