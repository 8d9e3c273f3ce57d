# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what becomes of each, by what the old and the new package say and what is on disk."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.rpm.files import RpmFile, read_files
from copacetic.unpack.rpm.fate import Fate, Present, choose_fate, choose_unowned
from copacetic.unpack.rpm.install import RpmInstaller
from copacetic.unpack.rpm.omissions import Omissions
from copacetic.unpack.rpm.owners import Decisions, InstalledFiles
from copacetic.unpack.rpm.package import load_package
from copacetic.unpack.rpm.payload import spool_payload
from support.rpm.rpmbuilds import CONFIG, GHOST, MISSING_OK, NO_REPLACE, Build, Shipped, a_file, a_folder, a_link
from support.rpm.rpmoracle import RpmRoot, differences, fetched, installed_as

FLAGS: Mapping[str, int | None] = {
    "plain": 0,
    "config": CONFIG,
    "noreplace": CONFIG | NO_REPLACE,
    "ghost": GHOST,
    "ghostconfig": GHOST | CONFIG,
    "missingok": CONFIG | MISSING_OK,
    "absent": None,
}
DISKS = ("same", "edited", "deleted", "new")
KINDS = ("file-file", "link-link", "file-link", "link-file")
Case = tuple[str, str, str, bool, str]


def _cases() -> list[Case]:
    """Every way in which old and new flags, the disk, the content and the type can come together."""
    return [
        case
        for case in itertools.product(FLAGS, FLAGS, DISKS, (False, True), KINDS)
        if case[:2] != ("absent", "absent") and (case[3] or case[4] in ("file-file", "link-link"))
    ]


def _name(case: Case) -> str:
    old, new, disk, changes, kind = case
    return f"{old}.{new}.{disk}.{'changes' if changes else 'stays'}.{kind}"


def _shipped(case: Case, side: int) -> Shipped | None:
    flags = FLAGS[case[1] if side else case[0]]
    if flags is None:
        return None
    word = "new" if side and case[3] else "old"
    path = f"/etc/t/{_name(case)}"
    is_link = case[4].split("-")[side] == "link"
    return a_link(path, word, flags=flags) if is_link else a_file(path, f"{word}\n", flags=flags)


def _build(side: int) -> Build:
    files = [one for case in _cases() if (one := _shipped(case, side)) is not None]
    return Build("cfg", version=str(side + 1), files=[a_folder("/etc/t"), *files])


def _edit(root: Path) -> None:
    """Make of the disk what each case says."""
    for case in _cases():
        path = root / "etc/t" / _name(case)
        disk, changes, kind = case[2:]
        if disk == "same":
            continue
        path.unlink(missing_ok=True)
        word = "edited" if disk == "edited" else "new" if changes else "old"
        if disk == "deleted":
            continue
        if kind.split("-")[disk == "new"] == "link":
            path.symlink_to(word)
        else:
            path.write_text(f"{word}\n")


@pytest.mark.system
def test_every_case_of_a_configuration_file_ends_as_with_the_real_rpm(tmp_path: Path) -> None:
    old, new = _build(0).write(tmp_path), _build(1).write(tmp_path)
    root = RpmRoot(tmp_path / "root")
    root.install([old])
    _edit(root.path)
    real = root.copy(tmp_path / "real")
    real.install([new])

    tree = TreeBuilder(root.filesystem)
    package = load_package(fetched(new, installed := installed_as(old)))
    before = InstalledFiles(installed, read_files(_build(0).header()), goes=True)
    decisions = Decisions(tree, [before], Omissions())
    decisions.decide([package])
    installer = RpmInstaller(tree, decisions)
    installer.install(package, spool_payload(package, tmp_path / "spool"))
    installer.erase(before)

    assert len(_cases()) == 1152
    assert differences(root.filesystem, tree, real.filesystem) == {}
    states = real.run("-q", "--qf", "[%{FILESTATES}]", "cfg").stdout
    assert [int(state) for state in states] == list(decisions.by_key[package.key].states())


def _file(flags: int, content: str = "new") -> RpmFile:
    one = a_folder("/etc/a") if content == "" else a_file("/etc/a", content, flags=flags)
    return read_files(Build("cfg", files=[one]).header())[0]


EDITED, AS_OLD, AS_NEW = (
    Present(FileType.FILE),
    Present(FileType.FILE, is_old=True),
    Present(FileType.FILE, is_new=True),
)


@pytest.mark.parametrize(
    ("new", "old", "present", "fate"),
    [
        (_file(0), _file(0, "old"), EDITED, Fate.CREATE),
        (_file(CONFIG | GHOST), _file(CONFIG, "old"), EDITED, Fate.SKIP),
        (_file(CONFIG), _file(CONFIG, "old"), None, Fate.CREATE),
        (_file(CONFIG | MISSING_OK), _file(CONFIG, "old"), None, Fate.SKIP),
        (_file(CONFIG), _file(CONFIG, "old"), AS_NEW, Fate.TOUCH),
        (_file(CONFIG), _file(CONFIG, "old"), AS_OLD, Fate.CREATE),
        (_file(0), _file(CONFIG, "old"), EDITED, Fate.SAVE),
        (_file(CONFIG), _file(CONFIG), EDITED, Fate.SKIP),
        (_file(CONFIG | NO_REPLACE), _file(CONFIG, "old"), EDITED, Fate.OFFER),
        (_file(CONFIG), _file(CONFIG, "old"), EDITED, Fate.SAVE),
        (_file(CONFIG), _file(0, ""), EDITED, Fate.CREATE),
    ],
)
def test_a_row_of_the_table_decides(new: RpmFile, old: RpmFile, present: Present | None, fate: Fate) -> None:
    assert choose_fate(new, old, present) is fate


@pytest.mark.parametrize(
    ("flags", "present", "fate"),
    [
        (CONFIG | NO_REPLACE, EDITED, Fate.OFFER),
        (CONFIG, EDITED, Fate.BACK_UP),
        (CONFIG, AS_NEW, Fate.CREATE),
        (CONFIG, None, Fate.CREATE),
        (0, EDITED, Fate.CREATE),
        (GHOST, None, Fate.SKIP),
    ],
)
def test_what_nobody_owned_is_kept_beside_a_configuration_file(flags: int, present: Present | None, fate: Fate) -> None:
    assert choose_unowned(_file(flags), present) is fate
