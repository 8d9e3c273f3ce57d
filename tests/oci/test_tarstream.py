# SPDX-License-Identifier: Apache-2.0
"""Tar archives that no honest writer makes: read as containerd would, or refused."""

from __future__ import annotations

import io

import pytest

from copacetic.oci.tarstream import HostileTarError, TarEntry, TarError, TarLimits, TarReader
from support.image.rawtar import END, GNU, V7, header, long_name, member, pax


def entries(data: bytes, limits: TarLimits | None = None) -> list[TarEntry]:
    return list(TarReader(io.BytesIO(data), limits=limits))


def names(data: bytes) -> list[str]:
    return [entry.path for entry in entries(data)]


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
@pytest.mark.parametrize("size", [-1, -512, -(1 << 60), 1 << 21, b"-1000"])
def test_a_header_of_a_negative_or_huge_size_is_refused(kind: bytes, size: int | bytes) -> None:
    with pytest.raises(TarError, match="a header of|not an octal number"):
        entries(header("x", kind, size=size) + bytes(512) + END)


def test_a_negative_size_is_refused_where_content_would_follow() -> None:
    with pytest.raises(HostileTarError, match="says that it has -5 bytes"):
        entries(header("x", size=-5) + END)
    with pytest.raises(HostileTarError, match="says that it has -5 bytes"):
        entries(pax({"size": "-5"}) + header("x") + END)


def test_a_global_header_says_nothing_about_the_entries_after_it() -> None:
    stream = pax({"path": "etc/passwd", "size": "5", "uid": "7", "SCHILY.xattr.user.a": "1"}, b"g")

    one, two = entries(stream + member("a", b"xyz") + member("b") + END)

    assert [(e.path, e.size, e.uid, e.xattrs) for e in (one, two)] == [("a", 3, 0, {}), ("b", 0, 0, {})]


def test_a_global_header_takes_with_it_what_stood_before_it() -> None:
    assert names(pax({"path": "x"}) + long_name("y") + pax({}, b"g") + header("a") + END) == ["a"]


def test_the_last_pax_header_counts_alone() -> None:
    (entry,) = entries(pax({"path": "x", "uid": "7"}) + pax({"gid": "8"}) + header("a") + END)

    assert (entry.path, entry.uid, entry.gid) == ("a", 0, 8)


def test_a_long_name_goes_before_a_pax_path_wherever_it_stands() -> None:
    assert names(long_name("gnu") + pax({"path": "pax"}) + header("a") + END) == ["gnu"]
    assert names(pax({"path": "pax"}) + long_name("gnu") + header("a") + END) == ["gnu"]
    (entry,) = entries(long_name("gnu", b"K") + pax({"linkpath": "pax"}) + header("a", b"2", link="x") + END)
    assert entry.linkname == "gnu"


def test_a_long_name_ends_at_its_first_nul_and_an_empty_one_is_none() -> None:
    assert names(long_name(b"one\0two") + header("a") + END) == ["one"]
    assert names(long_name(b"") + header("a") + END) == ["a"]


def test_an_empty_pax_value_is_as_none() -> None:
    records = dict.fromkeys(("path", "size", "uid", "gid", "mtime", "linkpath"), "")

    (entry,) = entries(pax(records) + header("a", size=2, uid=3, mtime=4, link="l") + bytes(512) + END)

    assert (entry.path, entry.size, entry.uid, entry.mtime, entry.linkname) == ("a", 2, 3, 4, "l")


def test_one_block_of_zeros_ends_an_archive_only_at_its_end() -> None:
    assert names(header("a") + bytes(512)) == ["a"]
    with pytest.raises(TarError, match="after a block of zeros"):
        names(header("a") + bytes(512) + header("b") + END)


@pytest.mark.parametrize("text", [b"1_0", b"0o10", b"+10", b"-10", b"0x1", b"8", b"\xb2", b"1 0", b"1\t", b"1e1"])
def test_a_number_is_octal_digits_and_nothing_else(text: bytes) -> None:
    with pytest.raises(TarError):
        entries(header("a", size=text) + bytes(1024) + END)


@pytest.mark.parametrize("text", [b"10", b"  10 ", b"\0\x0010", b"10\0garb", b"00000000010"])
def test_octal_numbers_may_stand_between_spaces_and_nuls(text: bytes) -> None:
    assert [e.size for e in entries(header("a", size=text) + bytes(512) + END)] == [8]


@pytest.mark.parametrize("key", ["size", "uid", "gid", "mtime"])
@pytest.mark.parametrize("value", ["1_0", "0o10", "1e3", "9" * 30, "9" * 5_000, "inf", "nan", " 1", "1.5.2", "٣"])
def test_a_pax_number_is_decimal_digits_and_nothing_else(key: str, value: str) -> None:
    with pytest.raises(TarError):
        entries(pax({key: value}) + header("a") + END)


@pytest.mark.parametrize("field", ["uid", "gid"])
def test_an_owner_that_linux_has_no_number_for_is_refused(field: str) -> None:
    assert entries(pax({field: str(2**32 - 2)}) + header("a") + END)
    for value in (2**32 - 1, 2**63 - 1, -1):
        with pytest.raises(HostileTarError, match="owner"):
            entries(pax({field: str(value)}) + header("a") + END)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7.9", 7), ("-7.0", -7), ("-7.5", -8), ("7.", 7), ("+7", 7), ("9007199254740993.9", 2**53 + 1)],
)
def test_a_time_of_a_pax_header_is_whole_seconds_downwards(text: str, seconds: int) -> None:
    assert [e.mtime for e in entries(pax({"mtime": text}) + header("a") + END)] == [seconds]


@pytest.mark.parametrize(
    "path", ["a" * 256, "é" * 128, "a/" * 256 + "b", ("a" * 200 + "/") * 21, "x/" + "b" * 256 + "/y"]
)
def test_a_path_that_linux_can_t_hold_is_hostile(path: str) -> None:
    with pytest.raises(HostileTarError):
        entries(pax({"path": path}) + header("x") + END)
    with pytest.raises(HostileTarError):
        entries(long_name(path) + header("x") + END)
    with pytest.raises(HostileTarError):
        entries(pax({"linkpath": path}) + header("x", b"1") + END)


@pytest.mark.parametrize("path", ["a" * 255, "é" * 127, "a/" * 255 + "b", ("a" * 200 + "/") * 20 + "b"])
def test_the_longest_paths_of_linux_are_read(path: str) -> None:
    assert names(pax({"path": path}) + header("x") + END) == [path]


def test_a_target_of_more_than_linux_takes_is_hostile() -> None:
    assert entries(pax({"linkpath": "../" * 1_365}) + header("x", b"2") + END)
    with pytest.raises(HostileTarError, match="target"):
        entries(pax({"linkpath": "é" * 2_048}) + header("x", b"2") + END)


def test_attributes_beyond_linux_own_limits_are_hostile() -> None:
    assert entries(pax({"SCHILY.xattr.user." + "n" * 250: b"\0" * 65_536}) + header("x") + END)
    for name, value in (("user." + "n" * 251, b"1"), ("user.n", b"\0" * 65_537)):
        records: dict[str, str | bytes] = {f"SCHILY.xattr.{name}": value}
        with pytest.raises(HostileTarError, match="extended attribute"):
            entries(pax(records) + header("x") + END)


def test_names_and_headers_are_bounded_together() -> None:
    limits = TarLimits(metadata=100_000)
    streams: list[bytes] = [
        (pax({}) + pax({"comment": "x" * 1_000})) * 100,
        pax({f"{n}": "" for n in range(4_000)}),
        pax([("a", "")] * 4_000),
        pax([("a", "")] * 4_000, b"g"),
        b"".join(pax({"path": f"{n}/" + "a/" * 200}) + header("x") for n in range(200)),
        header("a") * 200,
        b"".join(pax({"linkpath": f"{n}/" + "a/" * 1_000}) + header("x", b"2") for n in range(50)),
    ]
    for stream in streams:
        with pytest.raises(HostileTarError, match="more than 100000 bytes"):
            entries(stream + header("x") + END, limits)


@pytest.mark.parametrize("data", [b"5 a=", b"6 a=b", b"4 =\n", b"7 a\0=b\n", b"99 a=b\n", b"x a=b\n", b"0 a=b\n"])
def test_a_broken_pax_header_is_an_error(data: bytes) -> None:
    for kind in (b"x", b"g"):
        with pytest.raises(TarError, match="pax"):
            entries(member("pax", data, kind) + header("a") + END)


def test_a_name_with_a_slash_is_a_folder_only_where_files_have_no_type() -> None:
    assert [(e.path, e.type) for e in entries(header("a/", b"\0") + header("b/", b"0") + END)] == [
        ("a", "5"),
        ("b", "0"),
    ]


def test_odd_but_honest_archives_are_read() -> None:
    attributes: dict[str, str | bytes] = {"SCHILY.xattr.security.capability": b"\x01\0\0\x02="}
    stream = (
        header("./", b"5")
        + header("./a/", b"5", magic=GNU)
        + header(".//a///b", size=3, uid=2**31, magic=GNU)
        + b"abc".ljust(512, b"\0")
        + header("/a/c", b"1", link="/a/b", magic=V7)
        + header("d", prefix=b"x/y")
        + pax(attributes | {"mtime": "1700000000.123456789"})
        + header("x/cap")
        + header("x/signed\xff", checksum=None)
        + END
    )

    assert [(e.path, e.type, e.linkname) for e in entries(stream)] == [
        ("", "5", ""),
        ("a", "5", ""),
        ("a/b", "0", ""),
        ("a/c", "1", "a/b"),
        ("x/y/d", "0", ""),
        ("x/cap", "0", ""),
        ("x/signed\xff", "0", ""),
    ]
    assert entries(stream)[5].mtime == 1_700_000_000
    assert entries(stream)[5].xattrs == {"security.capability": b"\x01\0\0\x02="}


def test_a_checksum_over_signed_bytes_is_one() -> None:
    block = bytearray(header(b"\xff\xfe"))
    total = sum(byte - 256 if byte > 127 else byte for byte in block) - sum(block[148:156]) + 8 * 32
    block[148:156] = b"%06o\0 " % total

    assert names(bytes(block) + END) == ["\udcff\udcfe"]
