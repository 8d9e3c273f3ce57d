# SPDX-License-Identifier: Apache-2.0
"""Packages' lists of files, held against what rpm says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.rpm import HeaderError, RpmEntry, RpmHeader, RpmPackage, tags
from copacetic.rpm.files import FileFlag, FileState, file_paths, read_files
from copacetic.rpm.header import CHAR, INT16, number_entry, text_entry, texts_entry
from support.image.images import fixture
from support.rpm.realrpm import query_packages

ASKED = (
    "[%{filenames}|%{filemodes}|%{fileusername}|%{filegroupname}|%{longfilesizes}|%{filemtimes}|%{fileflags}|"
    "%{fileverifyflags}|%{filedigests}|%{filelinktos}|%{filerdevs}|%{fileinodes}|%{filecolors}|%{filelangs}|"
    "%{filecaps}\n]"
)


def read_header(path: Path) -> RpmHeader:
    with path.open("rb") as file:
        return RpmPackage.read(file).header


def listing(header: RpmHeader) -> list[str]:
    return [
        f"/{f.path}|{f.mode}|{f.user}|{f.group}|{f.size}|{f.mtime}|{f.flags}|{f.verify}|{f.digest}|{f.target}|"
        f"{f.device_number}|{f.inode}|{f.color}|{f.language}|{f.capabilities}"
        for f in read_files(header)
    ]


def without_colors(line: str) -> str:
    """What rpm says, where nothing stands for what isn't there; SUSE's have no colours."""
    words = line.split("|")
    words[12] = words[12].replace("(none)", "0")
    return "|".join(words).replace("(none)", "")


@pytest.mark.parametrize("folder", ["el7/updates", "rpm/el9", "rpm/sle15-hollow", "rpm/rpms/fedora42-aarch64"])
def test_real_packages_have_the_files_that_rpm_lists(folder: str) -> None:
    paths = sorted(fixture(folder).rglob("*.rpm"))

    said = list(map(without_colors, query_packages(paths, ASKED)))

    assert [line for path in paths for line in listing(read_header(path))] == said
    assert len(said) > 300


def header(*entries: RpmEntry) -> RpmHeader:
    """Two files, unless something else is said."""
    usual = [
        texts_entry(tags.BASE_NAMES, ["a", "b"]),
        texts_entry(tags.DIRECTORY_NAMES, ["/usr/", "/"]),
        number_entry(tags.DIRECTORY_INDEXES, [0, 1]),
        number_entry(tags.FILE_MODES, [0o100644, 0o40755], INT16),
    ]
    new = {entry.tag for entry in entries}
    return RpmHeader.build([*(entry for entry in usual if entry.tag not in new), *entries])


def test_what_a_header_does_not_say_is_as_rpm_takes_it() -> None:
    first, second = read_files(header())

    assert (first.path, first.algorithm, first.state, first.verify) == ("usr/a", "md5", FileState.NORMAL, 2**32 - 1)
    assert second.is_directory
    assert not first.has(FileFlag.CONFIG)


def test_the_root_has_no_name() -> None:
    assert file_paths(header(texts_entry(tags.BASE_NAMES, ["a", ""]))) == ("usr/a", "")


def test_a_very_old_header_has_whole_paths() -> None:
    assert file_paths(RpmHeader.build([texts_entry(tags.OLD_FILE_NAMES, ["/etc/a", "/"])])) == ("etc/a", "")


@pytest.mark.parametrize(
    "entry",
    [
        texts_entry(tags.DIRECTORY_NAMES, ["/usr/../etc/", "/"]),
        texts_entry(tags.DIRECTORY_NAMES, ["usr/", "/"]),
        texts_entry(tags.DIRECTORY_NAMES, ["/usr", "/"]),
        texts_entry(tags.DIRECTORY_NAMES, ["/usr//x/", "/"]),
        texts_entry(tags.DIRECTORY_NAMES, ["/usr/"]),
        texts_entry(tags.BASE_NAMES, ["..", "b"]),
        texts_entry(tags.BASE_NAMES, ["a/b", "b"]),
        texts_entry(tags.BASE_NAMES, ["a\nb", "b"]),
        texts_entry(tags.BASE_NAMES, ["a"]),
        number_entry(tags.DIRECTORY_INDEXES, [0, 2]),
        number_entry(tags.FILE_MODES, [0o100644], INT16),
        number_entry(tags.FILE_STATES, [0, 0, 0], CHAR),
        texts_entry(tags.FILE_DIGESTS, ["00"]),
        text_entry(tags.FILE_CAPABILITIES, "= cap_setuid+ep"),
    ],
)
def test_files_that_lead_elsewhere_or_are_told_of_by_halves_are_refused(entry: RpmEntry) -> None:
    with pytest.raises(HeaderError):
        read_files(header(entry))
