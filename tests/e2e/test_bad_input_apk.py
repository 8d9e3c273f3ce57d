# SPDX-License-Identifier: Apache-2.0
"""apk's bad input ends in one clear line, a documented exit code, no traceback, and nothing written."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.apk.apkrepo import ApkRepository, apk_image, make_key, serve_apks
from support.apk.apks import Apk, Item, member
from support.deb.debs import Member, directory, file, hardlink, symlink
from support.image.images import make_image, make_layer, write_layout
from support.value.replacing import replace

FOO = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Apk(name="foo", version="2-r0", files={"usr/bin/foo": file("new", 0o755)})
PACKAGE = "alpine/v3.19/main/x86_64/foo-2-r0.apk"
Refuse = Callable[..., str]


@pytest.fixture
def repository() -> Iterator[ApkRepository]:
    with serve_apks([FOO2]) as served:
        yield served


def write(folder: Path, files: Mapping[str, bytes | str]) -> str:
    write_layout(folder, {"1": make_image([make_layer(dict(files))])})
    return f"oci:{folder}:1"


@pytest.fixture
def image(tmp_path: Path, repository: ApkRepository) -> str:
    return write(tmp_path / "layout", apk_image(repository, [FOO]))


# -- indexes -------------------------------------------------------------------------------------------------


def test_an_index_without_a_signature(repository: ApkRepository, image: str, refuse: Refuse) -> None:
    repository.publish([FOO2], signed=False)
    assert "is not signed" in refuse(1, "-i", image)


def test_an_index_that_another_key_of_this_name_has_signed(
    repository: ApkRepository, image: str, refuse: Refuse
) -> None:
    repository.key = make_key("somebody else's")
    repository.publish([FOO2])
    line = refuse(1, "-i", image)
    assert f"the signature by {repository.key_name} is wrong" in line


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda data: data[:-40], "signature"),
        (lambda data: data[:5], "can't be read"),
        (lambda _: b"", "has no content"),
        (lambda _: b"<html>not found</html>", "can't be read"),
        (lambda data: data[:200] + b"x" + data[201:], "can't be read"),
    ],
)
def test_an_index_that_is_damaged(
    repository: ApkRepository, image: str, refuse: Refuse, alter: Callable[[bytes], bytes], message: str
) -> None:
    repository.publish([FOO2], alter=alter)
    assert message in refuse(1, "-i", image)


@pytest.mark.parametrize(
    "row",
    [
        {"V": "2-r0/../../../etc"},
        {"V": ""},
        {"A": "../x86_64"},
        {"C": "Q1"},
        {"C": ""},
        {"S": "-1"},
        {"S": "9" * 5000},
        {"D": "bar>=>1"},
    ],
)
def test_a_row_that_can_t_be_used(
    repository: ApkRepository, image: str, refuse: Refuse, row: Mapping[str, str]
) -> None:
    repository.publish([], rows=[{**FOO2.row(), **row}])
    line = refuse(4, "-i", image)
    assert line.startswith("error: foo 1-r0 can't be updated: ")
    assert len(line) < 500
    assert line.isprintable()


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_index_that_the_server_keeps(repository: ApkRepository, image: str, refuse: Refuse, status: int) -> None:
    repository.statuses[repository.index_path] = status
    assert "/alpine/v3.19/main" in refuse(1, "-i", image)


# -- packages ------------------------------------------------------------------------------------------------


def _renamed(data: bytes) -> bytes:
    return replace(FOO2, name="bar").to_bytes() if data else b""


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="truncated"),
        pytest.param(lambda data: data[:100], id="cut off"),
        pytest.param(lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:], id="one bit"),
        pytest.param(lambda data: data + b"more", id="longer"),
        pytest.param(lambda data: bytes(len(data)), id="zeros"),
        pytest.param(_renamed, id="renamed"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_a_package_that_is_not_what_the_index_says(
    repository: ApkRepository, image: str, refuse: Refuse, damage: Callable[[bytes], bytes]
) -> None:
    repository.files[PACKAGE] = damage(repository.files[PACKAGE])
    assert "foo" in refuse(1, "-i", image)


def test_a_package_with_files_of_which_the_index_says_that_it_has_none(
    repository: ApkRepository, image: str, refuse: Refuse
) -> None:
    """apk would delete the old version's files, install nothing, and record the new version."""
    repository.publish([], rows=[{**FOO2.row(), "I": "0"}])
    assert refuse(4, "-i", image) == (
        "error: foo 1-r0 can't be updated: "
        "foo 2-r0: the index says that nothing is installed, and the package has files"
    )


def test_a_package_that_is_gone(repository: ApkRepository, image: str, refuse: Refuse) -> None:
    del repository.files[PACKAGE]
    assert "foo-2-r0.apk" in refuse(4, "-i", image)


def _outside(entries: list[Item]) -> None:
    entries.append(("../../etc/cron.d/x", Member(content=b"x"), {}))


def _absolute(entries: list[Item]) -> None:
    entries.append(("/etc/cron.d/x", Member(content=b"x"), {}))


def _wrong_content(entries: list[Item]) -> None:
    path, item, records = entries[-1]
    entries[-1] = (path, replace(item, content=b"bad"), records)


@pytest.mark.parametrize("alter", [_outside, _absolute, _wrong_content])
def test_a_package_whose_payload_is_hostile(
    repository: ApkRepository, image: str, refuse: Refuse, alter: Callable[[list[Item]], None]
) -> None:
    repository.publish([replace(FOO2, alter=alter)])
    assert "foo 2-r0" in refuse(4, "-i", image)


USR = {"usr": directory(), "usr/bin": directory()}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"usr": directory(), "usr/bin": symlink("/etc"), "usr/bin/foo": file("x")}, "which is not a directory"),
        ({**USR, "usr/bin/foo": hardlink("etc/shadow")}, "etc/shadow"),
        ({**USR, "usr/bin/foo": Member(type=b"Z")}, "usr/bin/foo"),
        ({**USR, "usr/bin/foo": file("x"), "usr/bin/foo/x": file("x")}, "which is not a directory"),
    ],
    ids=["through its own link", "a link to another's file", "no known type", "a file as a directory"],
)
def test_a_package_that_reaches_for_what_is_not_its_own(
    repository: ApkRepository, image: str, refuse: Refuse, files: Mapping[str, Member], message: str
) -> None:
    repository.publish([replace(FOO2, files=files, raw_order=True)])
    line = refuse(4, "-i", image)
    assert "foo 2-r0: " in line
    assert message in line


# -- the image -----------------------------------------------------------------------------------------------

INSTALLED = "lib/apk/db/installed"
SCRIPTS = gzip.decompress(member([(f"foo-1-r0.{FOO.row()['C']}.trigger", Member(content=bytes(600)), {})], last=True))


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (INSTALLED, "", "has no package database"),
        (INSTALLED, "P:foo\n\n", "foo"),
        (INSTALLED, "no database\n\n", "lib/apk/db/installed"),
        (INSTALLED, "P:../foo\nV:1-r0\nA:x86_64\n\n", "'../foo'"),
        (INSTALLED, "P:foo\nV:1 r0;reboot\nA:x86_64\n\n", "foo"),
        (INSTALLED, b"P:\xff\xfe\nV:1-r0\n\n", "lib/apk/db/installed"),
        ("lib/apk/db/scripts.tar", SCRIPTS[:700], "lib/apk/db/scripts.tar is truncated"),
        ("lib/apk/db/scripts.tar.gz", gzip.compress(SCRIPTS, mtime=0)[:-9], "lib/apk/db/scripts.tar.gz: "),
        ("etc/apk/world", "foo>=>1\n", "etc/apk/world"),
        ("etc/apk/repositories", "", "names no repository"),
        ("etc/apk/repositories", "ftp://x/y\n", "etc/apk/repositories"),
        ("etc/apk/repositories", "http://\x1b[2J/x\n", "etc/apk/repositories"),
    ],
)
def test_a_file_of_apk_s_that_can_t_be_used(
    tmp_path: Path, repository: ApkRepository, refuse: Refuse, path: str, content: bytes | str, message: str
) -> None:
    image = write(tmp_path / "layout", {**apk_image(repository, [FOO]), path: content})
    line = refuse(3 if path.startswith("lib/") else 1, "-i", image)
    assert message in line
    assert line.isprintable()
