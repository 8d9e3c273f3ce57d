# SPDX-License-Identifier: Apache-2.0
"""Indexes that are small and stand for much: refused by what they weigh, not by what they say."""

from __future__ import annotations

import lzma
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysequoia import SignatureMode, sign

from copacetic.errors import RepositoryError, SignatureError
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import Repository, serve_repository

pytestmark = pytest.mark.costly

SHA256 = "0" * 64


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        served.endings = (".xz",)
        yield served


def row(name: str, version: str, more: str = "") -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nSize: 1\nSHA256: {SHA256}\n"
        f"Filename: pool/{name}_{version}.deb{more}"
    )


BOMBS = {
    "nothing but names": "Package: a\n\n" * 400_000,
    "one endless stanza": row("a", "2", "\nDescription: " + "x" * (2 << 20)),
    "very many versions": "\n\n".join(row("a", f"2.{number}") for number in range(6_000)),
    "very long versions": "\n\n".join(row("a", f"2.{number}", "\nX: " + "x" * 400_000) for number in range(90)),
    "spaces": " " * (80 << 20),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", BOMBS)
def test_an_index_that_is_a_bomb_is_refused_with_its_address(tmp_path: Path, repository: Repository, name: str) -> None:
    repository.publish([], packages=BOMBS[name] + "\n")
    image = Image(tmp_path, repository, deb("a", "1"))
    started = time.process_time()

    with pytest.raises(RepositoryError, match=r"stand for|a stanza of more than|too many versions of a") as caught:
        image.resolve()

    assert repository.address in str(caught.value)
    assert time.process_time() - started < 5


@pytest.mark.no_cover
def test_a_compressed_message_is_no_inrelease(tmp_path: Path, repository: Repository) -> None:
    repository.publish([deb("a", "2")])
    path = "dists/stable-security/InRelease"
    message = sign(repository.key.signer(), bytes(64 << 20), mode=SignatureMode.INLINE, armor=False)
    packed = b"\x02" + zlib.compress(bytes(message), 9)
    repository.files[path] = b"\xc8\xff" + len(packed).to_bytes(4, "big") + packed
    started = time.process_time()

    with pytest.raises(SignatureError, match="InRelease is not a signed text"):
        Image(tmp_path, repository, deb("a", "1")).resolve()
    assert len(repository.files[path]) < 100_000
    assert time.process_time() - started < 1


def test_many_versions_of_a_package_are_no_bomb(tmp_path: Path, repository: Repository) -> None:
    stanzas = [row("a", f"2.{number}", f"\nMD5sum: {number * 7919:032x}") for number in range(1_000)]
    repository.publish([], packages="\n\n".join(stanzas) + "\n")

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2.999"}


@pytest.mark.no_cover
def test_a_stanza_that_provides_a_name_ten_thousand_times_is_looked_at_once(
    tmp_path: Path, repository: Repository
) -> None:
    provides = "\nProvides: virtual" * 10_000
    repository.publish([deb("a", "2", Depends="virtual")])
    own = repository.files["dists/stable-security/main/binary-amd64/Packages.xz"]
    text = lzma.decompress(own).decode().strip()
    repository.publish([], packages=f"{text}\n\n{row('p', '1', provides)}\n")
    started = time.process_time()

    resolution = Image(tmp_path, repository, deb("a", "1")).resolve()
    (note,) = [note for note in resolution.notes if note.startswith("left out: ")]
    assert note.endswith("p can't be read: line 8: a second Provides")
    assert changes(resolution) == {}
    assert time.process_time() - started < 5
