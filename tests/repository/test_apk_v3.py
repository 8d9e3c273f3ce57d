# SPDX-License-Identifier: Apache-2.0
"""apk-tools 3's own indexes and packages (experimental)."""

from __future__ import annotations

import hashlib
import random
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.apk.stanza import checksum_of
from copacetic.errors import IntegrityError, PackageError, RepositoryError, SignatureError
from copacetic.repository.apk.adb import Adb, AdbError
from copacetic.repository.apk.package import is_adb, open_package
from copacetic.repository.apk.v3 import open_index, read_index
from support.apk import adbs
from support.apk.apkcontext import found, opened
from support.apk.apkrepo import KEY_NAME, ApkRepository, apk_image, make_key, public_pem, serve_apks
from support.apk.apks import Apk
from support.deb.debs import Member, file, hardlink, symlink
from support.value.replacing import replace

THIRD = frozenset({"apk-v3"})
WAYS = ("none", "ADBd", "ADBc none", "ADBc deflate", "ADBc zstd")
DEMO = Apk(
    name="demo",
    version="1.2-r3",
    files={
        "top": file("t"),
        "usr/bin/demo": file("content", mode=0o4755, uname="daemon"),
        "usr/bin/empty": file(""),
        "usr/bin/link": symlink("demo"),
        "usr/bin/other": hardlink("usr/bin/demo"),
        "usr/bin/null": Member(type=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
    },
    xattrs={"usr/bin/demo": {"user.test": "value"}},
    scripts={"post-install": "#!/bin/sh\n", "trigger": "#!/bin/sh\nexit\n"},
    triggers=("/usr/lib", "/x/*"),
    depends=("a>=1", "b", "!c<2", "d~1"),
    provides=("so:x=1", "virtual"),
    replaces=("old",),
    install_if=("e=1", "f"),
    replaces_priority=5,
)


@pytest.mark.parametrize("way", WAYS)
def test_a_package_has_the_same_face_as_one_of_the_second_format(way: str, tmp_path: Path) -> None:
    path = tmp_path / "demo.apk"
    path.write_bytes(adbs.package(DEMO, way))
    package = open_package(path, "demo")
    package.verify()

    entries = [(entry, b"".join(bytes(piece) for piece in content)) for entry, content in package.entries()]

    assert [(entry.type, entry.path, entry.link, content) for entry, content in entries] == [
        ("0", "top", "", b"t"),
        ("5", "usr", "", b""),
        ("5", "usr/bin", "", b""),
        ("0", "usr/bin/demo", "", b"content"),
        ("0", "usr/bin/empty", "", b""),
        ("2", "usr/bin/link", "demo", b""),
        ("3", "usr/bin/null", "", b""),
        ("1", "usr/bin/other", "usr/bin/demo", b""),
    ]
    demo, link, null, other = entries[3][0], entries[5][0], entries[6][0], entries[7][0]
    assert (demo.mode, demo.user, demo.group, demo.uid) == (0o4755, "daemon", "root", 65534)
    assert dict(demo.xattrs) == {"user.test": b"value"}
    assert demo.checksum == checksum_of(hashlib.sha256(b"content").digest())
    assert link.checksum == checksum_of(hashlib.sha256(b"demo").digest())
    assert (null.device, other.checksum) == ((1, 3), "")
    assert package.flags == "S"
    assert package.scripts == {"post-install": b"#!/bin/sh\n", "trigger": b"#!/bin/sh\nexit\n"}
    assert package.info.triggers == ("/usr/lib", "/x/*")


def test_the_control_part_tells_what_the_index_tells(tmp_path: Path) -> None:
    path = tmp_path / "demo.apk"
    path.write_bytes(adbs.package(DEMO))
    package = open_package(path, "demo")
    row = package.info.row(identity=package.identity, size=package.size, architecture="x86_64")
    index = read_index(open_index(adbs.index([DEMO])))

    listed = dict(line.split(":", 1) for line in index.text.decode().splitlines() if line)

    assert {letter: value for letter, value in row.items() if value and letter != "q"} == listed
    assert listed["D"] == "a>=1 b !c<2 d~1"
    assert listed["C"] == checksum_of(hashlib.sha256(adbs.package_parts(DEMO)[0]).digest())
    assert (row["q"], index.description) == ("5", "tests")


# -- repositories ----------------------------------------------------------------------------------------------------

NEW = Apk(name="a", version="2-r0", files={"usr/bin/a": file("new")})


@pytest.fixture
def served() -> Iterator[ApkRepository]:
    with serve_apks() as repository:
        publish(repository, adbs.index([NEW], way="ADBd", key=repository.key))
        name = f"{repository.folder}/x86_64/{NEW.file_name}"
        repository.files[name] = adbs.package(NEW, "ADBd", repository.key)
        yield repository


def publish(repository: ApkRepository, index: bytes) -> None:
    repository.files[f"{repository.folder}/x86_64/Packages.adb"] = index


def v3_image(repository: ApkRepository, **more: bytes) -> dict[str, bytes | str]:
    old = replace(NEW, version="1-r0")
    return {**apk_image(repository, [old]), "etc/apk/repositories": f"v3 {repository.url}\n", **more}


def test_without_the_flag_it_is_refused_by_name(served: ApkRepository, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is of apk's third format, support for which is experimental") as caught:
        found(v3_image(served), tmp_path)
    assert "--experimental-apk-v3" in (caught.value.hint or "")


def test_with_it_an_update_is_found_and_fetched(served: ApkRepository, tmp_path: Path) -> None:
    files = v3_image(served)

    (candidate,) = found(files, tmp_path, experimental=THIRD)
    repository = opened(files, tmp_path, experimental=THIRD)

    assert (candidate.version, candidate.origin.signed_by) == ("2-r0", KEY_NAME)
    path = repository.fetch([candidate])[candidate]
    assert path.read_bytes() == adbs.package(NEW, "ADBd", served.key)


def test_another_package_than_the_index_s_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    other = replace(NEW, files={"usr/bin/a": file("bad")})
    served.files[f"{served.folder}/x86_64/{NEW.file_name}"] = adbs.package(other, "ADBd", served.key)
    files = v3_image(served)
    (candidate,) = found(files, tmp_path, experimental=THIRD)
    repository = opened(files, tmp_path, experimental=THIRD)

    with pytest.raises(IntegrityError, match="expected the identity"):
        repository.fetch([replace(candidate, size=len(adbs.package(other, "ADBd", served.key)))])


def test_only_a_key_of_the_image_counts(served: ApkRepository, tmp_path: Path) -> None:
    other = v3_image(served, **{f"etc/apk/keys/{KEY_NAME}": public_pem(make_key("other"))})
    with pytest.raises(SignatureError, match="signed by none of the image's keys"):
        found(other, tmp_path, experimental=THIRD)

    publish(served, adbs.index([NEW]))
    with pytest.raises(SignatureError, match="is not signed"):
        found(v3_image(served), tmp_path, experimental=THIRD)


def test_a_changed_index_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    publish(served, adbs.index([NEW], key=served.key).replace(b"2-r0", b"9-r0"))

    with pytest.raises(SignatureError, match="is wrong"):
        found(v3_image(served), tmp_path, experimental=THIRD)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("${name}-${version}.apk", "a-2-r0.apk"), ("p/${arch}/${name}.${version}.apk", "p/x86_64/a.2-r0.apk")],
)
def test_an_index_may_say_how_packages_are_called(
    served: ApkRepository, tmp_path: Path, pattern: str, path: str
) -> None:
    publish(served, adbs.index([NEW], key=served.key, pattern=pattern))

    (candidate,) = found(v3_image(served), tmp_path, experimental=THIRD)

    assert candidate.url == f"{served.url}/{path}"


@pytest.mark.parametrize("pattern", ["../${name}.apk", "${hash}.apk", "/etc/${name}", "http://x/${name}"])
def test_a_name_that_leads_elsewhere_is_refused(served: ApkRepository, tmp_path: Path, pattern: str) -> None:
    publish(served, adbs.index([NEW], key=served.key, pattern=pattern))

    with pytest.raises(RepositoryError, match="names packages by"):
        found(v3_image(served), tmp_path, experimental=THIRD)


def test_a_pattern_of_names_that_is_no_text_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    publish(served, adbs.index([NEW], pattern="${name}#.apk").replace(b"}#.", b"}\xff."))

    with pytest.raises(RepositoryError, match="names packages by"):
        found(v3_image(served), tmp_path, experimental=THIRD, allow_unsigned=True)


def test_a_package_of_this_format_in_an_index_of_the_second_needs_the_user_s_word_too(
    served: ApkRepository, tmp_path: Path
) -> None:
    data = adbs.package(NEW)
    identity = checksum_of(hashlib.sha256(adbs.package_parts(NEW)[0]).digest())
    served.publish([], rows=[{**NEW.row(), "C": identity, "S": str(len(data))}])
    served.files[f"{served.folder}/x86_64/{NEW.file_name}"] = data
    files = apk_image(served, [replace(NEW, version="1-r0")])
    (candidate,) = found(files, tmp_path)

    assert opened(files, tmp_path, experimental=THIRD).fetch([candidate])
    with pytest.raises(PackageError, match=r"a 2-r0 from .* is of apk's third format") as caught:
        opened(files, tmp_path).fetch([candidate])
    assert "--experimental-apk-v3" in (caught.value.hint or "")


def test_an_index_that_unpacks_to_more_than_one_can_have_is_refused_before_it_is_unpacked(
    served: ApkRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copacetic.repository.apk.v3.INDEX_LIMIT", 100)
    publish(served, adbs.index([NEW], way="ADBd", key=served.key))

    with pytest.raises(RepositoryError, match="more than 100 bytes"):
        found(v3_image(served), tmp_path, experimental=THIRD)


# -- hostile bytes ---------------------------------------------------------------------------------------------------

PACKAGE = int.from_bytes(b"pckg", "little")


def test_what_is_a_container_is_told_from_its_first_bytes() -> None:
    assert [is_adb(data) for data in (b"ADB.", b"ADBd", b"ADBc", b"ADB", b"ADBx", b"\x1f\x8b\x08\0")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ADB.pckg",
        b"ADB.indx" + adbs.block(0, bytes(8)),
        b"ADB.pckg" + adbs.block(1, bytes(20)),
        b"ADB.pckg" + adbs.block(0, bytes(8)) * 2,
        b"ADB.pckg" + adbs.block(0, b"\1" + bytes(7)),
        b"ADB.pckg" + struct.pack("<I", 2) + bytes(4),
        b"ADB.pckg" + struct.pack("<I", 1000) + bytes(4),
        b"ADB.pckg" + adbs.block(0, bytes(8)) + adbs.block(2, b"x"),
        b"ADB.pckg" + adbs.block(0, bytes(8)) + adbs.block(2, bytes(9)) + adbs.block(1, bytes(20)),
        b"ADBdnonsense",
        b"ADBc\7\0xxxx",
        b"ADBc\2\0xxxx",
    ],
    ids=range(13),
)
def test_a_broken_container_is_refused(data: bytes) -> None:
    with pytest.raises(AdbError):
        Adb(data, schema=PACKAGE)


@pytest.mark.parametrize(
    "word",
    [0xE0000FFF, 0xE0000004, 0x80000FFF, 0x20000FFF, 0x50000000, 0xD0000000],
    ids=["beyond", "too many slots", "a blob beyond", "a number beyond", "an unknown type", "an empty list"],
)
def test_a_value_that_leads_nowhere_is_refused(word: int) -> None:
    body = struct.pack("<II", 0, word)
    adb = Adb(adbs.container(b"pckg", body), schema=PACKAGE)

    with pytest.raises(AdbError):
        for value in (adb.root.items, adb.root.text, adb.root.number):
            value()


def _broken(tree: adbs.Tree, data: list[bytes], tmp_path: Path) -> str:
    path = tmp_path / "demo.apk"
    path.write_bytes(adbs.container(b"pckg", adbs.payload(tree), data=data))
    package = open_package(path, "demo")
    with pytest.raises(PackageError) as caught:
        package.verify()
    return str(caught.value)


DIGEST = hashlib.sha256(b"x").digest()


@pytest.mark.parametrize(
    ("name", "directory", "message"),
    [
        ("../x", "usr", "a name that is not relative and plain"),
        ("x", "/etc", "a name that is not relative and plain"),
        ("a\tb", "usr", "a name that is not relative and plain"),
    ],
)
def test_a_hostile_name_is_refused(name: str, directory: str, message: str, tmp_path: Path) -> None:
    tree: adbs.Tree = [["demo", "1"], [[directory, None, [[name, None, 1, None, DIGEST]]]]]

    assert message in _broken(tree, [adbs.block(2, struct.pack("<II", 1, 1) + b"x")], tmp_path)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (struct.pack("<II", 1, 1) + b"y", "is not what its checksum says"),
        (struct.pack("<II", 1, 2) + b"x", "is not where it should be"),
        (struct.pack("<II", 1, 1) + b"xx", "is not where it should be"),
    ],
)
def test_content_that_is_not_the_file_s_is_refused(block: bytes, message: str, tmp_path: Path) -> None:
    tree: adbs.Tree = [["demo", "1"], [["usr", None, [["x", None, 1, None, DIGEST]]]]]

    assert message in _broken(tree, [adbs.block(2, block)], tmp_path)


def test_content_without_a_file_is_refused(tmp_path: Path) -> None:
    assert "content without a file" in _broken(
        [["demo", "1"], None], [adbs.block(2, struct.pack("<II", 1, 1) + b"x")], tmp_path
    )


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.soak)])
def test_any_damage_is_refused_or_harmless(count: int, tmp_path: Path) -> None:
    chance = random.Random(3)
    good = adbs.package(DEMO)
    path = tmp_path / "demo.apk"
    refused = 0
    for _ in range(count):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            open_package(path, "demo").verify()
        except PackageError:
            refused += 1

    assert refused > count // 3
