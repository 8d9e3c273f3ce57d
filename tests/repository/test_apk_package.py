# SPDX-License-Identifier: Apache-2.0
"""Package files of apk v2: what is in them, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.compression import DecompressionError, DecompressionLimitError
from copacetic.errors import PackageError
from copacetic.repository.apk.container import BytesReader, iter_members
from copacetic.repository.apk.package import ApkEntry, open_package
from support.apk.apkrepo import make_key, sign
from support.apk.apks import Apk, Item, member, q1, read_index
from support.deb.debs import Member, directory, file, hardlink, symlink
from support.image.images import fixture
from support.value.replacing import replace

DEMO = Apk(
    name="demo",
    version="1.2-r3",
    files={
        "usr/bin/demo": file("content", mode=0o755),
        "usr/bin/link": symlink("demo"),
        "usr/bin/other": hardlink("usr/bin/demo"),
    },
    xattrs={"usr/bin/demo": {"user.test": "value"}},
    scripts={"post-install": "#!/bin/sh\n", "trigger": "#!/bin/sh\nexit\n"},
    triggers=("/usr/lib", "/x/*"),
    depends=("a>=1", "b"),
    replaces=("old",),
    replaces_priority=5,
)


def read(data: bytes, tmp_path: Path, *, identity: str = "") -> list[tuple[ApkEntry, bytes]]:
    """Open, verify and read everything."""
    path = tmp_path / "demo.apk"
    path.write_bytes(data)
    package = open_package(path, "demo 1.2-r3", identity=identity)
    package.verify()
    return [(entry, b"".join(bytes(piece) for piece in content)) for entry, content in package.entries()]


def test_a_package_s_payload_comes_in_its_order_with_all_attributes(tmp_path: Path) -> None:
    entries = read(DEMO.to_bytes(), tmp_path)

    assert [(entry.type, entry.path, entry.link, content) for entry, content in entries] == [
        ("5", "usr", "", b""),
        ("5", "usr/bin", "", b""),
        ("0", "usr/bin/demo", "", b"content"),
        ("2", "usr/bin/link", "demo", b""),
        ("1", "usr/bin/other", "usr/bin/demo", b""),
    ]
    demo, link = entries[2][0], entries[3][0]
    assert (demo.mode, demo.user, demo.checksum, dict(demo.xattrs)) == (
        0o755, "root", q1(b"content"), {"user.test": b"value"},
    )  # fmt: skip
    assert link.checksum == q1(b"demo")


def test_the_control_part_tells_what_an_index_tells(tmp_path: Path) -> None:
    path = DEMO.write(tmp_path)
    package = open_package(path, "demo")

    row = package.info.row(identity=package.identity, size=package.size, architecture="x86_64")

    assert row == {**DEMO.row(), "r": "old", "q": "5"}
    assert package.info.triggers == ("/usr/lib", "/x/*")
    assert package.scripts == {"post-install": b"#!/bin/sh\n", "trigger": b"#!/bin/sh\nexit\n"}


@pytest.mark.parametrize("folder", ["repo-3.18.9", "repo-3.10.9", "repo-3.19-signed"])
def test_the_control_part_of_a_real_package_tells_what_the_index_tells(folder: str) -> None:
    repository = fixture(f"alpine/{folder}")
    index = read_index(repository)
    for path in sorted((repository / "x86_64").glob("*.apk")):
        package = open_package(path, path.name)
        package.verify()
        row = package.info.row(identity=package.identity, size=package.size, architecture="x86_64")
        if row["V"] != index[row["P"]]["V"]:
            continue
        listed = index[row["P"]]
        # For a package without files an index may say that it has no size.
        same = {letter: value for letter, value in row.items() if letter not in "rqI" and value}
        assert same == {letter: value for letter, value in listed.items() if letter != "I" and value}, path.name
        assert listed["I"] in {row["I"], "0"}


def test_a_signature_in_front_is_read_and_no_part_of_the_identity(tmp_path: Path) -> None:
    signed = DEMO.to_bytes(lambda control: sign(control, make_key()))

    assert len(read(signed, tmp_path, identity=DEMO.row()["C"])) == 5


def test_names_that_begin_with_a_dot_are_apk_s_own(tmp_path: Path) -> None:
    def alter(entries: list[Item]) -> None:
        entries.insert(0, ("./", Member(type=tarfile.DIRTYPE), {}))
        entries.append((".dummy", Member(content=b"x"), {}))

    entries = read(replace(DEMO, alter=alter).to_bytes(), tmp_path)

    assert len(entries) == 5


def _entry(path: str, item: Member, **records: str) -> Callable[[list[Item]], None]:
    """Put an entry at the end of a payload."""
    return lambda entries: entries.append((path, item, records))


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (_entry("/etc/passwd", file("x")), "a name that is not relative and plain: '/etc/passwd'"),
        (_entry("usr/../../etc/passwd", file("x")), "a name that is not relative and plain"),
        (_entry("usr/./x", file("x")), "a name that is not relative and plain"),
        (_entry("usr//x", file("x")), "a name that is not relative and plain"),
        (_entry("usr/x", file("x", uid=2**33)), "'usr/x' has an impossible owner"),
        (_entry("usr/x", file("x", gid=2**32 - 1)), "'usr/x' has an impossible owner"),
        (_entry("usr/a\nR:b", file("x")), "a name with control characters"),
        (_entry("usr/x", hardlink("../../etc/passwd")), "a name that is not relative and plain"),
        (
            _entry("usr/x", file("x"), **{"APK-TOOLS.checksum.SHA1": "00" * 20}),
            "usr/x is not what its checksum says",
        ),
        (
            _entry("usr/x", symlink("y"), **{"APK-TOOLS.checksum.SHA1": "00" * 20}),
            "usr/x is not what its checksum says",
        ),
        (_entry("usr/x", file("x"), **{"APK-TOOLS.checksum.SHA1": "xyz"}), "usr/x has the checksum b'xyz'"),
    ],
)
def test_a_hostile_payload_is_refused_by_name(
    alter: Callable[[list[Item]], None], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PackageError) as caught:
        read(replace(DEMO, alter=alter).to_bytes(), tmp_path)

    assert str(caught.value).startswith("demo 1.2-r3")
    assert message in str(caught.value)


def _parts() -> tuple[bytes, bytes]:
    data = member(DEMO.entries(), last=True)
    return DEMO.control(data), data


def test_another_control_part_than_the_index_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="expected the identity Q1AAAA.*, the file has Q1"):
        read(DEMO.to_bytes(), tmp_path, identity="Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=")


def test_another_payload_than_the_control_part_s_is_refused(tmp_path: Path) -> None:
    control, _ = _parts()
    other = member(Apk(files={"etc/evil": file("x")}).entries(), last=True)

    with pytest.raises(PackageError, match="expected the data part"):
        read(control + other, tmp_path)


@pytest.mark.parametrize("cut", [1, 10, 100, 300])
def test_a_truncated_package_is_refused(cut: int, tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        read(DEMO.to_bytes()[:-cut], tmp_path)


@pytest.mark.parametrize("extra", [b"\0", b"garbage", gzip.compress(b"", mtime=0)], ids=["zero", "text", "member"])
def test_nothing_may_follow_the_payload(extra: bytes, tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        read(DEMO.to_bytes() + extra, tmp_path)


def test_several_data_parts_are_refused_by_name(tmp_path: Path) -> None:
    data = member(DEMO.entries()[:2], last=False) + member(DEMO.entries()[2:], last=True)
    control = DEMO.control(data)
    path = tmp_path / "demo.apk"
    path.write_bytes(control + data)
    package = open_package(path, "demo")
    package.verify()

    with pytest.raises(PackageError, match="several data parts"):
        list(package.entries())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "there is no control part"),
        (b"no gzip", "no gzip member at byte 0"),
        (gzip.compress(b"no tar" * 200), "demo"),
        (member([("x", file("y"), {})], last=True), "no .PKGINFO where the control part should be"),
        (member([(".PKGINFO", file("pkgname = x\n"), {})], last=True), "no usable datahash"),
        (member([(".SIGN.RSA.x.pub", file("x"), {})], last=False), "there is no control part"),
    ],
    ids=["empty", "text", "no tar", "another file", "no datahash", "a signature only"],
)
def test_what_is_no_package_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=message):
        read(data, tmp_path)


def test_a_control_part_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)

    with pytest.raises(PackageError, match="more than 16777216 bytes"):
        read(bomb, tmp_path)


def test_members_are_told_apart_with_the_digests_of_their_compressed_bytes() -> None:
    parts = [gzip.compress(bytes([n]) * 100_000 * n, 9) for n in range(4)]

    found = []
    for one in iter_members(BytesReader(b"".join(parts)), limit=1 << 20):
        plain = one.read_all()
        found.append((one.offset, one.size, one.sha1, one.sha256, zlib.crc32(plain)))

    at = 0
    for part, row in zip(parts, found, strict=True):
        digests = hashlib.sha1(part).digest(), hashlib.sha256(part).digest()
        assert row == (at, len(part), *digests, zlib.crc32(gzip.decompress(part)))
        at += len(part)


def test_what_is_not_read_of_a_member_is_skipped() -> None:
    data = gzip.compress(b"a" * 1_000_000) + gzip.compress(b"b")

    first = [one.read(1) for one in iter_members(BytesReader(data), limit=1 << 20)]

    assert first == [b"a", b"b"]


def test_a_stream_that_gives_single_bytes_is_read_all_the_same() -> None:
    class Slow(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(1)

    members = [one.read_all() for one in iter_members(Slow(gzip.compress(b"one") + gzip.compress(b"two")), limit=10)]

    assert members == [b"one", b"two"]


def test_members_have_a_limit_each_and_in_number() -> None:
    with pytest.raises(DecompressionLimitError, match="more than 10 bytes"):
        next(iter_members(BytesReader(gzip.compress(b"x" * 11)), limit=10)).read_all()
    with pytest.raises(DecompressionLimitError, match="more than 16 gzip members"):
        list(iter_members(BytesReader(gzip.compress(b"") * 17), limit=10))


def test_a_truncated_member_is_an_error() -> None:
    with pytest.raises(DecompressionError, match="truncated"):
        next(iter_members(BytesReader(gzip.compress(b"x" * 1000)[:-3]), limit=10_000)).read_all()


def test_a_directory_may_be_spelled_with_a_slash(tmp_path: Path) -> None:
    entries = read(replace(DEMO, alter=_entry("usr/share/", directory())).to_bytes(), tmp_path)

    assert entries[-1][0].path == "usr/share"


@pytest.mark.parametrize("count", [500, pytest.param(30_000, marks=pytest.mark.soak)])
def test_any_damage_to_a_package_that_an_index_vouches_for_is_found(count: int, tmp_path: Path) -> None:
    chance = random.Random(11)
    good, identity = DEMO.to_bytes(), DEMO.row()["C"]
    for _ in range(count):
        at, bit = chance.randrange(len(good)), 1 << chance.randrange(8)
        data = good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :]

        with pytest.raises(PackageError):
            read(data, tmp_path, identity=identity)
