# SPDX-License-Identifier: Apache-2.0
"""What an image may say about how its repositories are to be verified, and what only the user may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pysequoia import verify

from copacetic.errors import ExpiredRepositoryError, RepositoryError, SignatureError
from copacetic.repository import open_repository
from copacetic.repository.apt.keys import KEYRING_LIMIT
from copacetic.repository.apt.sources import parse_sources
from copacetic.updates import Origin, Resolution, Wanted
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import OS_RELEASE, Repository, serve_repository
from support.value.replacing import replace

PAST = {"Valid-Until": "Mon, 01 Jan 2024 00:00:00 UTC"}
ANY_KEY = "0123456789ABCDEF0123456789ABCDEF01234567"


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        served.publish([deb("a", "2")])
        yield served


def certificate(repository: Repository) -> Any:
    return repository.key.extract_certificate()


def fingerprint(repository: Repository) -> str:
    return str(certificate(repository).fingerprint).upper()


def unsign(repository: Repository) -> None:
    for name in ("InRelease", "Release.gpg"):
        repository.files.pop(f"dists/stable-security/{name}")


def image(
    tmp_path: Path,
    repository: Repository,
    options: str = "",
    files: dict[str, object] | None = None,
    **settings: object,
) -> Image:
    """An image whose definition of the repository has options."""
    line = repository.definition.replace("deb ", f"deb [{options}] " if options else "deb ")
    return Image(tmp_path, repository, deb("a", "1"), more={"etc/apt/sources.list": line, **(files or {})}, **settings)  # type: ignore[dict-item]


def origin(resolution: Resolution) -> Origin:
    assert changes(resolution) == {"a": "2"}
    (found,) = resolution.origins
    return found


# -- signatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", ["", "trusted=yes", "allow-insecure=yes", "allow-downgrade-to-insecure=yes", "allow-weak=yes"]
)
def test_no_word_of_an_image_makes_up_for_a_signature(tmp_path: Path, repository: Repository, options: str) -> None:
    unsign(repository)

    with pytest.raises(SignatureError, match="is not signed") as caught:
        image(tmp_path, repository, options).resolve()

    assert ("trusted=yes in an image is not enough" in str(caught.value.hint)) == (options == "trusted=yes")


@pytest.mark.parametrize("setting", ["Acquire::AllowInsecureRepositories", "APT::Get::AllowUnauthenticated"])
def test_nor_does_any_in_its_configuration(tmp_path: Path, repository: Repository, setting: str) -> None:
    unsign(repository)

    with pytest.raises(SignatureError, match="is not signed"):
        image(tmp_path, repository, files={"etc/apt/apt.conf.d/x": f'{setting} "true";'}).resolve()


def test_a_trusted_repository_that_is_signed_needs_no_flag_and_says_who_signed(
    tmp_path: Path, repository: Repository
) -> None:
    found = origin(image(tmp_path, repository, "trusted=yes").resolve())

    assert (found.signed_by, found.doubt) == (fingerprint(repository), "")


def test_the_user_s_flag_does_and_the_origin_says_so(tmp_path: Path, repository: Repository) -> None:
    unsign(repository)

    found = origin(image(tmp_path, repository, allow_unsigned=True).resolve())

    assert found.signed_by == ""
    assert "is not signed" in found.doubt
    assert found.doubt.endswith("allowed by --allow-unsigned-repository")


def test_with_that_flag_what_is_signed_is_verified_all_the_same(tmp_path: Path, repository: Repository) -> None:
    found = origin(image(tmp_path, repository, allow_unsigned=True).resolve())

    assert (found.signed_by, found.doubt) == (fingerprint(repository), "")


def test_what_the_user_names_as_trusted_needs_no_flag_and_is_not_verified(
    tmp_path: Path, repository: Repository
) -> None:
    unsign(repository)
    named = (repository.definition.replace("deb ", "deb [trusted=yes] "),)

    found = origin(image(tmp_path, repository, definitions=named).resolve())

    assert found.doubt.endswith("allowed by what --repository says")


def test_what_is_never_to_be_trusted_takes_the_flag_although_it_is_signed(
    tmp_path: Path, repository: Repository
) -> None:
    with pytest.raises(SignatureError, match=r"not to be trusted, says etc/apt/sources.list:1 \(trusted=no\)"):
        image(tmp_path, repository, "trusted=no").resolve()

    assert origin(image(tmp_path, repository, "trusted=no", allow_unsigned=True).resolve()).doubt


# -- dates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "configuration"),
    [
        ("", ""),
        ("check-valid-until=no", ""),
        ("", 'Acquire::Check-Valid-Until "false";'),
        ("", 'Acquire { Check-Valid-Until "0"; };'),
    ],
)
def test_an_expired_release_takes_a_flag_whatever_the_image_says(
    tmp_path: Path, repository: Repository, options: str, configuration: str
) -> None:
    repository.publish(release=PAST)
    files: dict[str, object] = {"etc/apt/apt.conf.d/99dates": configuration}

    with pytest.raises(ExpiredRepositoryError, match="has expired on 2024-01-01") as caught:
        image(tmp_path, repository, options, files).resolve()
    found = origin(image(tmp_path, repository, options, files, allow_expired=True).resolve())

    assert ("in an image is not enough" in str(caught.value.hint)) == bool(options or configuration)
    assert found.signed_by == fingerprint(repository)
    assert found.doubt.endswith("has expired on 2024-01-01: allowed by --allow-expired-repository")


def test_what_the_user_names_says_whether_its_date_counts(tmp_path: Path, repository: Repository) -> None:
    repository.publish(release=PAST)
    named = (repository.definition.replace("deb ", "deb [check-valid-until=no] "),)

    found = origin(image(tmp_path, repository, definitions=named).resolve())

    assert found.doubt.endswith("allowed by what --repository says")


# -- Signed-By -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deb822", [False, True])
@pytest.mark.parametrize(
    "word", ["b.gpg", "keys/b.gpg", "9DD2FE1A", "0123456789ABCDEF", "me@example.com", f"{ANY_KEY}?", ","]
)
def test_a_restriction_that_cannot_be_read_is_an_error(word: str, deb822: bool) -> None:
    text = f"Types: deb\nURIs: http://h.example/d\nSuites: s\nComponents: main\nSigned-By: {word}\n"
    line = f"deb [signed-by={word}] http://h.example/d s main\n"

    with pytest.raises(RepositoryError, match="which is no fingerprint and no absolute path"):
        parse_sources(text if deb822 else line, "list", deb822=deb822)


@pytest.mark.parametrize("between", [",", ", ", " ", " , ", ",,"])
def test_several_words_stand_between_commas_or_blanks(between: str) -> None:
    text = f"Types: deb\nURIs: http://h.example/d\nSuites: s\nComponents: main\nSigned-By: /k.gpg{between}{ANY_KEY}\n"

    ((source,), _) = parse_sources(text, "list", deb822=True)

    assert source.signed_by == ("/k.gpg", ANY_KEY)


@pytest.mark.parametrize("files", [[], ["/usr/share/keyrings/k.gpg"]])
def test_a_fingerprint_restricts_whatever_else_is_named(
    tmp_path: Path, repository: Repository, files: list[str]
) -> None:
    keys: dict[str, object] = {path.lstrip("/"): repository.certificate for path in files}
    mine, other = (",".join([*files, key]) for key in (fingerprint(repository), ANY_KEY))

    assert origin(image(tmp_path, repository, f"signed-by={mine}", keys).resolve()).doubt == ""
    assert origin(image(tmp_path, repository, f"signed-by={mine.lower()}", keys).resolve()).doubt == ""
    with pytest.raises(SignatureError, match="Signed-By does not name the key"):
        image(tmp_path, repository, f"signed-by={other}", keys).resolve()


def test_an_exclamation_mark_admits_that_very_subkey_alone(tmp_path: Path, repository: Repository) -> None:
    (signature,) = verify(bytes=repository.files["dists/stable-security/InRelease"], store=lambda _: [certificate(repository)]).valid_sigs  # fmt: skip
    subkey = str(signature.signing_key).upper()
    assert subkey != fingerprint(repository)

    for named in (subkey, f"{subkey}!"):
        assert origin(image(tmp_path, repository, f"signed-by={named}").resolve()).doubt == ""
    with pytest.raises(SignatureError, match="Signed-By does not name the key"):
        image(tmp_path, repository, f"signed-by={fingerprint(repository)}!").resolve()


def test_a_key_that_the_user_adds_counts_beside_what_signed_by_names(tmp_path: Path, repository: Repository) -> None:
    keyring = tmp_path / "k.gpg"
    keyring.write_bytes(repository.certificate)

    assert origin(image(tmp_path, repository, f"signed-by={ANY_KEY}", keyrings=(keyring,)).resolve()).doubt == ""


def test_a_keyring_of_the_user_s_has_a_limit(tmp_path: Path, repository: Repository) -> None:
    keyring = tmp_path / "k.gpg"
    keyring.touch()
    os.truncate(keyring, KEYRING_LIMIT + 1)

    with pytest.raises(RepositoryError, match="has more than"):
        image(tmp_path, repository, keyrings=(keyring,)).resolve()


# -- this machine's keys -------------------------------------------------------------------------------------


def with_host(tmp_path: Path, repository: Repository, signed_by: str, files: dict[str, str | bytes]) -> Resolution:
    """Resolve in an image without keys, on a machine that has these files."""
    host = tmp_path / "host"
    for path, data in {"etc/os-release": OS_RELEASE, **files}.items():
        (host / path).parent.mkdir(parents=True, exist_ok=True)
        (host / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    options = f"signed-by={signed_by}" if signed_by else ""
    there = image(tmp_path, repository, options, {"etc/apt/trusted.gpg.d/tests.gpg": ""})
    context = replace(there.context, settings=replace(there.context.settings, host_root=host))
    wanted = [Wanted(package=package) for package in there.installed]
    return open_repository(context).resolve(wanted, exhaustive=True)


@pytest.mark.parametrize("place", ["usr/share/keyrings/k.gpg", "etc/apt/keyrings/k.asc", "etc/apt/trusted.gpg.d/k.gpg"])
def test_a_key_that_the_image_names_and_lacks_may_be_this_machine_s_and_the_plan_says_so(
    tmp_path: Path, repository: Repository, place: str
) -> None:
    resolution = with_host(tmp_path, repository, f"/{place}", {place: repository.certificate})

    assert origin(resolution).doubt == ""
    assert resolution.notes == (f"the image lacks keys for its repositories; this machine's are trusted: /{place}",)


def test_an_image_without_any_key_gets_this_machine_s_and_the_plan_says_so(
    tmp_path: Path, repository: Repository
) -> None:
    resolution = with_host(tmp_path, repository, "", {"etc/apt/trusted.gpg.d/k.gpg": repository.certificate})

    assert "this machine's are trusted: /etc/apt/trusted.gpg.d/k.gpg" in resolution.notes[0]


@pytest.mark.parametrize(
    "named",
    [
        "/home/somebody/k.gpg",
        "/../host/usr/share/keyrings/../../../home/somebody/k.gpg",
        "/usr/share/keyrings/../../../home/somebody/k.gpg",
        "/usr/share/keyrings/sub/k.gpg",
        "//usr/share/keyrings//k",
        "/usr/share/keyrings/.k.gpg",
        "/etc/apt/trusted.gpg",
    ],
)
def test_nothing_else_of_this_machine_is_ever_a_key(tmp_path: Path, repository: Repository, named: str) -> None:
    files: dict[str, str | bytes] = dict.fromkeys(
        ("home/somebody/k.gpg", "usr/share/keyrings/sub/k.gpg", "usr/share/keyrings/k", "usr/share/keyrings/.k.gpg",
         "etc/apt/trusted.gpg"), repository.certificate,
    )  # fmt: skip

    with pytest.raises(SignatureError, match="the image trusts no key for it"):
        with_host(tmp_path, repository, named, files)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_key_of_this_machine_is_a_file_in_such_a_folder(tmp_path: Path, repository: Repository, kind: str) -> None:
    folder = tmp_path / "host/usr/share/keyrings"
    folder.mkdir(parents=True)
    (tmp_path / "host/secret.gpg").write_bytes(repository.certificate)
    os.mkfifo(folder / "k.gpg") if kind == "fifo" else (folder / "k.gpg").symlink_to("/secret.gpg")

    with pytest.raises(SignatureError, match="the image trusts no key for it"):
        with_host(tmp_path, repository, "/usr/share/keyrings/k.gpg", {})


def test_a_machine_of_another_distribution_lends_no_key(tmp_path: Path, repository: Repository) -> None:
    place = "usr/share/keyrings/k.gpg"
    files: dict[str, str | bytes] = {
        place: repository.certificate,
        "etc/os-release": OS_RELEASE.replace("ID=debian", "ID=ubuntu"),
    }

    with pytest.raises(SignatureError, match="the image trusts no key for it"):
        with_host(tmp_path, repository, f"/{place}", files)
