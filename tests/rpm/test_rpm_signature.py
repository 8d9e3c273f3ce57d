# SPDX-License-Identifier: Apache-2.0
"""Whose signatures count: today's library first, then RSA by the letter, for keys that are trusted anyway."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime

import pytest
from pysequoia import Tsk

from copacetic.errors import SignatureError
from copacetic.rpm.openpgp import OpenPgpError, dearmor, read_keys, read_signatures
from copacetic.rpm.signature import RpmKeys, Verified
from support.rpm.rpmsigners import (
    CREATED,
    ModernSigner,
    RsaSigner,
    Signer,
    claim,
    modern_signer,
    packet,
    rsa_key,
    subpacket,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATA = b"header and payload"


def keys(*signers: Signer) -> RpmKeys:
    return RpmKeys((f"key {number}", signer.public) for number, signer in enumerate(signers))


def verify(trusted: RpmKeys, *signatures: bytes, modern: bool = False, data: bytes = DATA) -> Verified:
    # In two parts, as a file comes.
    return trusted.verify(signatures, lambda: [data[:5], data[5:]], "it", now=NOW, modern=modern)


def test_what_the_library_accepts_has_no_objection() -> None:
    signer = ModernSigner(Tsk.generate("early <early@example.com>"))
    found = RpmKeys([("key", signer.public)]).verify(
        [signer.sign(DATA)], lambda: [DATA], "it", now=datetime.now(UTC), modern=True
    )

    assert found == Verified(signer.fingerprint)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_rsa_that_the_library_refuses_counts_with_its_objection(version: int, hash_name: str) -> None:
    signer = RsaSigner(rsa_key(), version=version, hash_name=hash_name)

    found = verify(keys(signer), signer.sign(DATA))

    assert (found.fingerprint, found.expired) == (signer.fingerprint, None)
    assert ("version 3" in found.objection) == (version == 3)
    assert found.objection


def test_it_can_be_forbidden() -> None:
    signer = RsaSigner(rsa_key())

    with pytest.raises(SignatureError, match="right by RSA alone, which --require-modern-signatures forbids"):
        verify(keys(signer), signer.sign(DATA), modern=True)


@pytest.mark.parametrize("version", [3, 4])
def test_other_bytes_are_refused(version: int) -> None:
    signer = RsaSigner(rsa_key(), version=version)
    signature = signer.sign(DATA)

    with pytest.raises(SignatureError, match=f"the signature by {signer.fingerprint} is wrong"):
        verify(keys(signer), signature, data=b"something else")
    for at in (-1, 8, 20):
        altered = bytearray(signature)
        altered[at] ^= 1
        with pytest.raises(SignatureError):
            verify(keys(signer), bytes(altered))


def test_so_is_a_key_that_nobody_trusts_and_one_without_any() -> None:
    signer, other = RsaSigner(rsa_key()), RsaSigner(rsa_key("other"))

    with pytest.raises(SignatureError, match="is not among them"):
        verify(keys(other), signer.sign(DATA))
    with pytest.raises(SignatureError, match="is signed, and no key is trusted for it"):
        verify(RpmKeys([("broken", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n")]), signer.sign(DATA))
    with pytest.raises(SignatureError):
        verify(keys(modern_signer()), modern_signer("other").sign(DATA))


@pytest.mark.parametrize(
    ("signer", "words"),
    [
        (RsaSigner(rsa_key(), hash_name="sha1"), "weak or unknown digest 2"),
        (RsaSigner(rsa_key(), version=4, hash_name="sha1"), "weak or unknown digest 2"),
        (RsaSigner(rsa_key("short", bits=1024)), "an RSA key of 1024 bits"),
        (RsaSigner(rsa_key(), kind=1), "a signature of the kind 0x1, not of a file"),
    ],
)
def test_weak_ones_count_for_nothing(signer: RsaSigner, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        verify(keys(signer), signer.sign(DATA))


def test_one_good_signature_of_several_is_enough() -> None:
    signer, other = RsaSigner(rsa_key()), RsaSigner(rsa_key("other"))
    unknown = packet(2, b"\x06\x00\x63\x0a" + bytes(60))  # of an algorithm that nobody here knows

    found = verify(keys(signer), unknown, b"no packet", other.sign(DATA), signer.sign(DATA))

    assert found.fingerprint == signer.fingerprint


def test_a_key_that_says_it_is_revoked_counts_for_nothing() -> None:
    signer = RsaSigner(rsa_key(), claims=claim(0x20))

    with pytest.raises(SignatureError, match=f"the key {signer.fingerprint} is revoked"):
        verify(keys(signer), signer.sign(DATA))


def test_a_key_that_had_ended_when_it_signed_counts_for_nothing_and_one_that_ended_later_does() -> None:
    ending = claim(0x13, subpacket(9, struct.pack(">I", 100)))
    early, late = (RsaSigner(rsa_key(), claims=ending, signs_at=CREATED + after) for after in (99, 101))

    assert verify(keys(early), early.sign(DATA)).expired == datetime.fromtimestamp(CREATED + 100, UTC)
    with pytest.raises(SignatureError, match="had expired when it signed"):
        verify(keys(late), late.sign(DATA))


def test_of_a_file_with_several_blocks_all_count() -> None:
    one, two = RsaSigner(rsa_key()), RsaSigner(rsa_key("other"))
    trusted = RpmKeys([("both", one.public + b"\nsome words\n" + two.public)])

    assert trusted.fingerprints == {one.fingerprint, two.fingerprint}
    assert verify(trusted, two.sign(DATA)).fingerprint == two.fingerprint


def test_hostile_keys_and_signatures_end_in_one_error() -> None:
    chosen = random.Random(7)
    signer = RsaSigner(rsa_key(), version=4)
    signature, public = signer.sign(DATA), dearmor(signer.public)
    trusted = keys(signer)
    for _ in range(400):
        for good, read in ((signature, read_signatures), (public, read_keys)):
            data = bytearray(good)
            for _ in range(chosen.randint(1, 3)):
                data[chosen.randrange(len(data))] = chosen.randrange(256)
            data = data[: chosen.randint(0, len(data))]
            try:
                read(bytes(data))
            except OpenPgpError:
                pass
            if read is read_signatures:
                with pytest.raises(SignatureError):
                    verify(trusted, bytes(data), data=b"other")
