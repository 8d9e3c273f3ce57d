# SPDX-License-Identifier: Apache-2.0
"""Whose word counts for rpm packages: keys, signatures of packages and of metadata, and what the user allows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from copacetic.errors import (
    CopaError,
    ExpiredRepositoryError,
    IntegrityError,
    PackageError,
    RolledBackRepositoryError,
    SignatureError,
)
from copacetic.inventory.rpm.record import RpmRecord
from copacetic.repository.rpm import RpmRepository
from copacetic.repository.rpm.verify import PackageVerifier
from copacetic.rpm.openpgp import dearmor
from copacetic.updates import Candidate, InstalledPackage
from support.image.trees import Content
from support.rpm.rpmfiles import BUILT, Rpm, key_header
from support.rpm.rpmrepo import DEFINITION, KEY, RpmServer, changes, context, resolution, rpm_image, serve_rpms
from support.rpm.rpmsigners import RsaSigner, Signer, claim, modern_signer, rsa_key, subpacket
from support.value.replacing import replace

OLD, NEW = Rpm(name="a"), Rpm(name="a", version="2")
LEGACY = RsaSigner(rsa_key())
FILE = "el9/BaseOS/Packages/a-2-1.x86_64.rpm"


@pytest.fixture
def served() -> Iterator[RpmServer]:
    with serve_rpms([NEW]) as repository:
        yield repository


def prepared(
    served: RpmServer, cache: Path, rpm: Rpm = NEW, image: dict[str, Content] | None = None, **settings: object
) -> tuple[RpmRepository, Candidate]:
    """Publish a package, and resolve it."""
    served.publish([rpm])
    files = rpm_image(served) if image is None else image
    (update,) = resolution(files, [OLD], cache, **settings).updates
    return RpmRepository.open(context(files, [OLD], cache, **settings)), update.candidate


def fetched(served: RpmServer, cache: Path, rpm: Rpm = NEW, **settings: object) -> tuple[str, ...]:
    """Fetch a package; returns how it was verified."""
    repository, candidate = prepared(served, cache, rpm, **settings)  # type: ignore[arg-type]
    (path,) = repository.fetch([candidate]).values()
    assert path.read_bytes() == served.files[FILE]
    return repository.remarks()


# -- packages --------------------------------------------------------------------------------------------------------


def test_a_package_that_a_trusted_key_has_signed_is_used(served: RpmServer, tmp_path: Path) -> None:
    assert fetched(served, tmp_path) == ("signatures of 1 package verified",)


@pytest.mark.parametrize("covers", ["both", "whole"])
def test_so_is_one_as_el_7_has_it_and_the_result_says_how(served: RpmServer, tmp_path: Path, covers: str) -> None:
    served.signer = LEGACY

    (remark,) = fetched(served, tmp_path, replace(NEW, covers=covers, payload_digest=False))

    assert remark == (
        "signatures of 1 package verified by RSA alone, as pysequoia refuses them "
        "(signatures of version 3 are not considered secure): a"
    )


def test_which_the_user_may_forbid(served: RpmServer, tmp_path: Path) -> None:
    served.signer = LEGACY
    repository, candidate = prepared(served, tmp_path, require_modern=True)

    with pytest.raises(IntegrityError, match="right by RSA alone, which --require-modern-signatures forbids"):
        repository.fetch([candidate])


@pytest.mark.parametrize(
    ("rpm", "words"),
    [
        (replace(NEW, covers=""), "a 2-1 from .* is not signed"),
        (replace(NEW, payload_digest=False), "nothing that is signed covers its payload"),
        (replace(NEW, alter=lambda data: data[:-1] + bytes([data[-1] ^ 1])), "its payload has another SHA256"),
        (replace(NEW, alter=lambda data: data.replace(b"Tests", b"Tasts")), "its header has another SHA256"),
        (replace(NEW, alter=lambda data: data[:300]), "the file can't be read: the signature header is truncated"),
        (replace(NEW, alter=lambda _data: b"<html>"), "the file can't be read: it is not an rpm package"),
    ],
    ids=["unsigned", "payload uncovered", "payload altered", "header altered", "truncated", "another thing"],
)
def test_what_nobody_trusted_vouches_for_as_a_whole_is_refused(
    served: RpmServer, tmp_path: Path, rpm: Rpm, words: str
) -> None:
    # The metadata says that it has to be this very file: nobody has signed that.
    repository, candidate = prepared(served, tmp_path, rpm)

    with pytest.raises(IntegrityError, match=words):
        repository.fetch([candidate])


def test_a_signature_of_the_whole_over_another_payload_is_refused(served: RpmServer, tmp_path: Path) -> None:
    served.signer = LEGACY
    flipped = replace(NEW, covers="both", payload_digest=False, alter=lambda data: data[:-1] + b"x")
    repository, candidate = prepared(served, tmp_path, flipped)

    with pytest.raises(IntegrityError, match=f"the signature by {LEGACY.fingerprint} is wrong"):
        repository.fetch([candidate])


@pytest.mark.parametrize("signer", [modern_signer("other"), RsaSigner(rsa_key("other"))])
def test_a_package_that_another_key_has_signed_is_refused(served: RpmServer, tmp_path: Path, signer: Signer) -> None:
    image = rpm_image(served)
    served.signer = signer
    repository, candidate = prepared(served, tmp_path, image=image)

    with pytest.raises(IntegrityError, match="is signed by no key that is trusted for it") as caught:
        repository.fetch([candidate])
    assert "--keyring" in str(caught.value.hint)


def test_a_file_that_isn_t_what_the_metadata_says_is_refused(served: RpmServer, tmp_path: Path) -> None:
    repository, candidate = prepared(served, tmp_path)
    data = served.files[FILE]
    served.files[FILE] = data[:-1] + bytes([data[-1] ^ 1])

    with pytest.raises(IntegrityError, match="expected the SHA-256"):
        repository.fetch([candidate])


def test_an_older_package_under_a_newer_one_s_name_is_refused(served: RpmServer, tmp_path: Path) -> None:
    class Older(Rpm):
        def to_bytes(self, signer: Signer | None = None) -> bytes:
            return OLD.to_bytes(signer)

    repository, candidate = prepared(served, tmp_path, Older(name="a", version="2"))

    with pytest.raises(PackageError, match="the file is a-1-1.x86_64"):
        repository.fetch([candidate])


def test_a_digest_that_proves_little_is_checked_and_the_signature_with_it(served: RpmServer, tmp_path: Path) -> None:
    served.publish([NEW], checksum="sha")
    files = rpm_image(served)
    (update,) = resolution(files, [OLD], tmp_path).updates
    repository = RpmRepository.open(context(files, [OLD], tmp_path))
    assert update.candidate.sha256 == ""

    (path,) = repository.fetch([update.candidate]).values()
    assert path.read_bytes() == served.files[FILE]
    again = RpmRepository.open(context(files, [OLD], tmp_path, keyrings=()))
    assert again.fetch([update.candidate]) == {update.candidate: path}
    data = served.files[FILE]
    served.files[FILE] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(IntegrityError, match="expected the SHA1"):
        RpmRepository.open(context(files, [OLD], tmp_path / "new")).fetch([update.candidate])


# -- keys ------------------------------------------------------------------------------------------------------------


def database_key(public: bytes) -> InstalledPackage:
    record = RpmRecord(key_header(public), 99)
    return InstalledPackage(
        name="gpg-pubkey", version="0a1b2c3d-4e5f6071", architecture="(none)", source_name="gpg-pubkey",
        source_version="0a1b2c3d-4e5f6071", record=record,
    )  # fmt: skip


def test_keys_are_the_definition_s_the_database_s_and_the_user_s(served: RpmServer, tmp_path: Path) -> None:
    assert served.signer is not None
    bare = {key: value for key, value in rpm_image(served).items() if key != KEY}
    file = tmp_path / "mine.asc"
    file.write_bytes(served.signer.public)

    with pytest.raises(SignatureError, match="no key is trusted for its packages"):
        resolution(bare, [OLD], tmp_path / "none")
    assert changes(resolution(bare, [OLD], tmp_path / "1", keyrings=(file,))) == {"a": "2-1"}
    elsewhere = {**bare, "usr/lib/rpm/gnupg/keys/suse.asc": served.signer.public}
    elsewhere[DEFINITION] = served.definition(gpgkey="")
    assert changes(resolution(elsewhere, [OLD], tmp_path / "2")) == {"a": "2-1"}
    here = context(bare, [OLD], tmp_path / "3")
    here = replace(here, installed=(*here.installed, database_key(dearmor(served.signer.public))))
    repository = RpmRepository.open(here)
    (origin,) = repository.resolve([], exhaustive=True).origins
    assert "nothing tells" in origin.doubt


def test_a_definition_with_keys_has_no_others_of_the_image(served: RpmServer, tmp_path: Path) -> None:
    assert served.signer is not None
    image = rpm_image(served, **{"etc/pki/rpm-gpg/other": modern_signer("other").public})
    image[DEFINITION] = served.definition(gpgkey="file:///etc/pki/rpm-gpg/other")
    repository, candidate = prepared(served, tmp_path, image=image)

    with pytest.raises(IntegrityError, match="is signed by no key that is trusted"):
        repository.fetch([candidate])


def test_a_key_that_is_only_on_the_network_is_not_fetched(served: RpmServer, tmp_path: Path) -> None:
    image = rpm_image(served)
    image[DEFINITION] = served.definition(gpgkey=f"{served.address}/key")

    with pytest.raises(SignatureError, match="no key is trusted"):
        resolution(image, [OLD], tmp_path)
    assert "key" not in served.requests
    found = resolution(image, [OLD], tmp_path, allow_unsigned=True)
    assert any(f"fetch {served.address}/key yourself" in note for note in found.notes)


def test_this_machine_s_key_is_borrowed_where_the_image_lacks_it(served: RpmServer, tmp_path: Path) -> None:
    assert served.signer is not None
    bare = {key: value for key, value in rpm_image(served).items() if key != KEY}
    host = tmp_path / "host"
    (host / KEY).parent.mkdir(parents=True)
    (host / KEY).write_bytes(served.signer.public)
    (host / "etc/os-release").write_text("ID=almalinux\n")

    found = resolution(bare, [OLD], tmp_path / "cache", host_root=host)

    assert changes(found) == {"a": "2-1"}
    assert f"the image lacks keys for its repositories; this machine's are trusted: /{KEY}" in found.notes


# -- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_that_a_trusted_key_has_signed_says_so(served: RpmServer, tmp_path: Path) -> None:
    assert served.signer is not None
    served.metadata_signer = served.signer
    served.publish([NEW])

    (origin,) = resolution(rpm_image(served), [OLD], tmp_path).origins

    assert (origin.signed_by, origin.doubt, origin.suite) == (served.signer.fingerprint, "", "tests")


@pytest.mark.parametrize("signer", [None, modern_signer("other")])
def test_where_metadata_has_to_be_signed_nothing_else_is_used(
    served: RpmServer, tmp_path: Path, signer: Signer | None
) -> None:
    served.metadata_signer = signer
    served.publish([NEW])
    image = rpm_image(served, **{DEFINITION: served.definition(repo_gpgcheck="1")})

    with pytest.raises(SignatureError, match=r"repo_gpgcheck=1") as caught:
        resolution(image, [OLD], tmp_path)
    assert "is not signed" in str(caught.value) if signer is None else "is signed by no key" in str(caught.value)
    (origin,) = resolution(image, [OLD], tmp_path, allow_unsigned=True).origins
    assert origin.doubt.endswith("allowed by --allow-unsigned-repository")


def test_metadata_that_was_changed_after_it_was_signed_is_no_better_than_unsigned(
    served: RpmServer, tmp_path: Path
) -> None:
    served.metadata_signer = served.signer
    served.publish([NEW])
    served.files["el9/BaseOS/repodata/repomd.xml"] += b"\n"

    with pytest.raises(SignatureError):
        resolution(rpm_image(served, **{DEFINITION: served.definition(repo_gpgcheck="1")}), [OLD], tmp_path)
    (origin,) = resolution(rpm_image(served), [OLD], tmp_path).origins
    assert (origin.signed_by, "is signed by no key that is trusted" in origin.doubt) == ("", True)


def test_a_key_past_its_date_vouches_for_metadata_where_the_user_says_so(served: RpmServer, tmp_path: Path) -> None:
    ended = replace(LEGACY, claims=claim(0x13, subpacket(9, (100).to_bytes(4, "big"))))
    served.signer = served.metadata_signer = ended
    served.publish([NEW])
    strict = rpm_image(served, **{DEFINITION: served.definition(repo_gpgcheck="1")})

    with pytest.raises(ExpiredRepositoryError, match=f"the key {ended.fingerprint} has expired on 2020-09-13"):
        resolution(strict, [OLD], tmp_path)
    (origin,) = resolution(strict, [OLD], tmp_path, allow_expired=True).origins
    assert origin.signed_by == ended.fingerprint
    assert origin.doubt.endswith("allowed by --allow-expired-repository")
    (origin,) = resolution(rpm_image(served), [OLD], tmp_path).origins
    assert (origin.signed_by, "has expired" in origin.doubt) == ("", True)


def test_an_image_s_word_that_packages_need_no_signature_is_not_enough(served: RpmServer, tmp_path: Path) -> None:
    image = rpm_image(served, **{DEFINITION: served.definition(gpgcheck="0")})
    unsigned = replace(NEW, covers="")
    served.publish([unsigned])

    with pytest.raises(SignatureError, match=r"says that its packages aren't either \(gpgcheck=0\)") as caught:
        resolution(image, [OLD], tmp_path)
    assert "--allow-unsigned-repository uses it as it is" in str(caught.value.hint)
    assert fetched(served, tmp_path, unsigned, image=image, allow_unsigned=True) == (
        "signatures of 1 package not verified, which --allow-unsigned-repository allows: a",
    )


def test_the_user_s_own_word_is(served: RpmServer, tmp_path: Path) -> None:
    served.publish([replace(NEW, covers="")])
    definition = served.definition(gpgcheck="0")

    found = resolution(rpm_image(None), [OLD], tmp_path, definitions=(definition,))

    assert changes(found) == {"a": "2-1"}
    assert found.origins[0].doubt.endswith("allowed by what --repository says")


@pytest.mark.parametrize(("place", "settings"), [("etc/yum.repos.d/x.repo", "0"), ("etc/zypp/repos.d/x.repo", "")])
def test_signed_metadata_vouches_for_packages_where_its_definition_says_so(
    served: RpmServer, tmp_path: Path, place: str, settings: str
) -> None:
    served.metadata_signer = served.signer
    image = rpm_image(served)
    del image[DEFINITION]
    image[place] = served.definition(gpgcheck=settings)

    assert fetched(served, tmp_path, replace(NEW, covers=""), image=image) == ()


def test_going_back_to_older_signed_metadata_takes_a_flag(served: RpmServer, tmp_path: Path) -> None:
    served.metadata_signer = served.signer
    served.publish([Rpm(name="a", version="3")], date=BUILT + 100)
    assert changes(resolution(rpm_image(served), [OLD], tmp_path)) == {"a": "3-1"}
    served.publish([NEW], date=BUILT)

    with pytest.raises(RolledBackRepositoryError, match=r"el9/BaseOS tests is of .*, and was of .* before"):
        resolution(rpm_image(served), [OLD], tmp_path)
    found = resolution(rpm_image(served), [OLD], tmp_path, allow_rollback=True)
    assert changes(found) == {"a": "2-1"}
    assert found.origins[0].doubt.endswith("allowed by --allow-repository-rollback")


def test_hostile_packages_end_in_errors(served: RpmServer, tmp_path: Path) -> None:
    chosen = random.Random(3)
    _, candidate = prepared(served, tmp_path / "cache")
    verifier = PackageVerifier(now=datetime.now(UTC), modern=False)
    good = served.files[FILE]
    path = tmp_path / "package"
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chosen.randint(1, 4)):
            data[chosen.randrange(96, len(data))] ^= chosen.randrange(1, 256)  # nobody reads the lead
        path.write_bytes(data)
        if signed_part(bytes(data)) != signed_part(good):
            with pytest.raises(CopaError):
                verifier.check(candidate, path)
        else:
            with suppress(CopaError):
                verifier.check(candidate, path)


def signed_part(data: bytes) -> bytes:
    """What a signature covers, itself or by a digest: the header and the payload."""
    return data[data.rindex(b"\x8e\xad\xe8\x01") :] if data.count(b"\x8e\xad\xe8\x01") == 2 else b""
