# SPDX-License-Identifier: Apache-2.0
"""Payloads of rpm packages: every form that there is, and hostile ones."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from copacetic.errors import PackageError
from copacetic.oci.layerwriter import read_content
from copacetic.rpm import HeaderError, tags
from copacetic.rpm.header import number_entry, texts_entry
from copacetic.unpack.rpm.capabilities import encode_capabilities
from copacetic.unpack.rpm.package import load_package
from copacetic.unpack.rpm.payload import RpmFileEntry, digest_payload, spool_payload
from support.rpm.rpmbuilds import (
    COMPRESSORS,
    GHOST,
    Build,
    Shipped,
    a_file,
    a_folder,
    a_link,
    long_sizes,
    pack_member,
    pack_stripped,
)
from support.rpm.rpmoracle import fetched
from support.value.replacing import replace

TRAILER = pack_member(a_file("TRAILER!!!", b""), 0, b"")
BUILD = Build(
    "good",
    files=[
        a_folder("/opt"),
        a_file("/opt/one", "some content", mode=0o4755),
        a_file("/opt/two", os.urandom(30_000)),
        a_link("/opt/link", "one"),
        a_file("/opt/empty", b""),
        a_file("/opt/never", "nothing", flags=GHOST),
        a_file("/opt/name", "shared", inode=7),
        a_file("/opt/other name", "shared", inode=7),
    ],
)


def _read(build: Build, folder: Path) -> dict[str, RpmFileEntry]:
    package = load_package(fetched(build.write(folder)))
    entries = spool_payload(package, folder / f"{len(os.listdir(folder))}.spool")
    assert [entry.sha256 for entry in entries] == [entry.sha256 for entry in digest_payload(package)]
    return {entry.file.path: entry for entry in entries}


@pytest.mark.parametrize("stripped", [False, True], ids=["with names", "without names"])
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_payload_of_every_form_gives_the_files_that_the_header_lists(
    tmp_path: Path, compressor: str, stripped: bool
) -> None:
    found = _read(replace(BUILD, compressor=compressor, stripped=stripped), tmp_path)

    for shipped in BUILD.files:
        entry = found[shipped.path[1:]]
        assert entry.file.mode == shipped.full_mode
        expected = None if shipped.content is None or shipped.flags & GHOST else shipped.content
        assert (None if entry.content is None else read_content(entry.content)) == expected
    assert found["opt/other name"].first == "opt/name"
    assert found["opt/name"].first == ""


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha512"])
def test_files_are_held_against_digests_of_every_kind(tmp_path: Path, digest: str) -> None:
    assert _read(replace(BUILD, digest=digest), tmp_path)["opt/one"].content is not None

    altered = replace(BUILD, digest=digest, payload=BUILD.archive().replace(b"some content", b"evil content"))
    with pytest.raises(PackageError, match=r"'opt/one' has another digest than its header says"):
        _read(altered, tmp_path)


def _with(*members: bytes) -> bytes:
    return b"".join((*members, TRAILER))


ONE = a_file("/opt/one", "content")
HOSTILE: dict[str, tuple[Build, str]] = {
    "a stranger": (
        Build("bad", files=[ONE], payload=_with(pack_member(a_file("/opt/two"), 1, b"content"))),
        "'./opt/two' is in its payload, and not in its header's list",
    ),
    "a way out": (
        Build("bad", files=[ONE], payload=_with(pack_member(ONE, 1, b"content", name=b"../../opt/one"))),
        "is in its payload, and not in its header's list",
    ),
    "one twice": (
        Build("bad", files=[ONE], payload=_with(*2 * [pack_member(ONE, 1, b"content")])),
        "'opt/one' is there twice",
    ),
    "one missing": (Build("bad", files=[ONE], payload=TRAILER), "'opt/one' is not in its payload"),
    "a folder missing": (Build("bad", files=[a_folder("/opt")], payload=TRAILER), "'opt' is not in its payload"),
    "another size": (
        Build("bad", files=[ONE], payload=_with(pack_member(ONE, 1, b"contents"))),
        "'opt/one' has 8 bytes, and 7 by its header",
    ),
    "another target": (
        Build("bad", files=[a_link("/opt/l", "one")], payload=_with(pack_member(a_link("/opt/l", "two"), 1, b"two"))),
        "'opt/l' leads elsewhere than its header says",
    ),
    "a folder with content": (
        Build("bad", files=[a_folder("/opt")], payload=_with(pack_member(a_folder("/opt"), 1, b"x"))),
        "'opt' has content, and is no file",
    ),
    "a number too high": (
        Build("bad", files=[ONE], payload=_with(pack_stripped(1, b""))),
        "its payload has more than its header's list of files",
    ),
    "a number that is none": (
        Build("bad", files=[ONE], payload=_with(pack_member(ONE, 1, b"content").replace(b"00000007", b"0000-007", 1))),
        "a number that is none",
    ),
    "a name without end": (
        Build("bad", files=[ONE], payload=_with(pack_member(ONE, 1, b"", name=b"x" * 5000))),
        "a name of 5001 bytes",
    ),
    "cut off": (Build("bad", files=[ONE], payload=pack_member(ONE, 1, b"content")[:-4]), "its payload is cut off"),
    "no end": (Build("bad", files=[ONE], payload=pack_member(ONE, 1, b"content")), "its payload is cut off"),
    "no archive": (Build("bad", files=[ONE], payload=b"x" * 100), "its payload is not a cpio archive"),
    "more than it says": (
        Build("bad", files=[ONE], payload=pack_member(ONE, 1, b"content") + bytes(10_000_000)),
        "more than [0-9]+ bytes",
    ),
    "a bomb": (
        Build("bad", files=[a_file("/opt/one", b"")], payload=pack_member(ONE, 1, b"", size=2**32 - 1) + bytes(10**7)),
        "more than [0-9]+ bytes",
    ),
    "a giant": (
        Build("bad", files=[ONE], extra=[long_sizes([2**50])]),
        "more than [0-9]+ bytes, much larger than it is or says",
    ),
    "a whiteout": (Build("bad", files=[a_file("/opt/.wh.one")]), "is a name that image layers keep for whiteouts"),
    "an opaque folder": (Build("bad", files=[a_folder("/opt/.wh..wh..opq")]), "a name that image layers keep"),
    "behind its own link": (
        Build("bad", files=[a_link("/opt", "/etc"), a_file("/opt/passwd")]),
        "'opt/passwd' lies behind 'opt'",
    ),
    "a path twice": (Build("bad", files=[ONE, ONE]), "'opt/one' is there twice"),
    "a socket": (Build("bad", files=[Shipped("/opt/s", mode=stat.S_IFSOCK | 0o644)]), "is a socket"),
    "dots": (Build("bad", files=[a_file("/opt/../etc/passwd")]), "not a plain path"),
    "a name with a slash": (
        Build("bad", files=[ONE], extra=[texts_entry(tags.BASE_NAMES, ["../../etc/passwd"])]),
        "not a file's name",
    ),
    "a very long path": (Build("bad", files=[a_file("/" + "/".join(["x" * 200] * 30))]), "more than 4096 characters"),
    "a digest of an unknown kind": (
        Build("bad", files=[ONE], extra=[number_entry(tags.FILE_DIGEST_ALGORITHM, [99])]),
        "a digest of a kind that is not known",
    ),
    "sources": (Build("bad", files=[ONE], extra=[number_entry(tags.SOURCE_PACKAGE, [1])]), "a package of sources"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_honest_package_has_is_refused_in_words_and_in_time(tmp_path: Path, name: str) -> None:
    build, said = HOSTILE[name]
    with pytest.raises(PackageError, match=said) as caught:
        _read(build, tmp_path)
    assert "bad" in str(caught.value)


def test_a_file_of_another_package_is_refused(tmp_path: Path) -> None:
    planned = fetched(Build("good", files=[ONE]).write(tmp_path))
    other = Build("other", files=[ONE]).write(tmp_path)

    with pytest.raises(PackageError, match=r"good 1-1: the file is of 'other-1-1\.noarch'"):
        load_package(replace(planned, path=other))


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("= cap_setuid+ep", "0100000280000000000000000000000000000000"),
        ("cap_net_raw=p", "0000000200200000000000000000000000000000"),
        ("cap_chown,cap_kill=i cap_kill-i+p", "0000000220000000010000000000000000000000"),
        ("cap_bpf=ep", "0100000200000000000000008000000000000000"),
    ],
)
def test_capabilities_become_what_the_kernel_reads(text: str, encoded: str) -> None:
    assert encode_capabilities(text).hex() == encoded


@pytest.mark.parametrize("text", ["cap_flying=ep", "cap_chown", "", "x" * 5000, "=ep =ep; rm"])
def test_what_is_no_capability_is_refused(text: str) -> None:
    with pytest.raises(PackageError, match="no capabilities of a file"):
        encode_capabilities(text)


def _try(path: Path, spool: Path) -> bool:
    """Tell whether a package can be read to its end; anything but a refusal in words fails the test."""
    try:
        spool_payload(load_package(fetched(path)), spool)
    except (HeaderError, PackageError):
        return False
    finally:
        spool.unlink(missing_ok=True)
    return True


@pytest.mark.parametrize("compressor", ["identity", "gzip", "zstd"])
def test_a_package_with_bytes_of_chance_is_read_or_refused_in_words(tmp_path: Path, compressor: str) -> None:
    build = replace(BUILD, compressor=compressor, files=[one for one in BUILD.files if one.path != "/opt/two"])
    good = build.write(tmp_path)
    data, chance = good.read_bytes(), random.Random(compressor)
    assert _try(good, tmp_path / "spool")
    read = 0
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(broken))
            broken[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, broken[at] ^ (1 << chance.randrange(8))))
        if chance.random() < 0.2:
            del broken[chance.randrange(len(broken)) :]
        good.write_bytes(broken)
        read += _try(good, tmp_path / "spool")
    assert read < 400
