# SPDX-License-Identifier: Apache-2.0
"""apk's indexes: whose signature counts, what is fetched again, and what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.apk.stanza import parse_fields
from copacetic.distro import Distro
from copacetic.errors import CopaError, PackageUnavailableError, RepositoryError, SignatureError
from copacetic.repository import open_repository
from copacetic.repository.apk import ApkRepository as ApkRepositories
from copacetic.updates import Resolution, SkipReason, Wanted
from support.apk.apkcontext import context, found, opened
from support.apk.apkrepo import KEY_NAME, OS_RELEASE, ApkRepository, apk_image, make_key, public_pem, serve_apks, sign
from support.apk.apks import Apk, member
from support.deb.debs import Member, file
from support.image.trees import Content
from support.value.replacing import replace

OLD = Apk(name="a", version="1-r0", files={"usr/bin/a": file("old")})
ROW = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:2-r0\nA:x86_64\nS:1\n"
"""Of an index, without an installed size."""
NEW = Apk(name="a", version="2-r0", files={"usr/bin/a": file("new")})


@pytest.fixture
def served() -> Iterator[ApkRepository]:
    with serve_apks([NEW]) as repository:
        yield repository


def image(served: ApkRepository | None, **more: Content) -> dict[str, Content]:
    return {**apk_image(served, [OLD]), **more}


# -- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RSA", "RSA256", "RSA512"])
def test_an_index_that_a_key_of_the_image_signed_is_used(served: ApkRepository, tmp_path: Path, algorithm: str) -> None:
    served.publish([NEW], algorithm=algorithm)

    (candidate,) = found(image(served), tmp_path)

    assert (candidate.name, candidate.version, candidate.sha256) == ("a", "2-r0", "")
    assert candidate.origin.signed_by == KEY_NAME
    assert candidate.origin.defined_in == "etc/apk/repositories:1"
    assert (candidate.origin.suite, candidate.origin.component) == ("v3.19", "main")


def test_a_key_of_apk_3_s_own_folder_counts(served: ApkRepository, tmp_path: Path) -> None:
    files = image(served)
    files[f"usr/lib/apk/keys/{KEY_NAME}"] = files.pop(f"etc/apk/keys/{KEY_NAME}")

    assert len(found(files, tmp_path)) == 1


def test_a_key_that_the_user_names_counts_whatever_its_file_is_called(served: ApkRepository, tmp_path: Path) -> None:
    key = tmp_path / "my.pem"
    key.write_bytes(public_pem(served.key))
    files = image(served)
    del files[f"etc/apk/keys/{KEY_NAME}"]

    (candidate,) = found(files, tmp_path / "cache", keyrings=(key,))

    assert candidate.origin.signed_by == "my.pem"


def test_without_a_key_of_that_name_there_is_no_trust(served: ApkRepository, tmp_path: Path) -> None:
    files = image(served)
    files["etc/apk/keys/other.rsa.pub"] = files.pop(f"etc/apk/keys/{KEY_NAME}")

    with pytest.raises(SignatureError, match=f"is signed by {KEY_NAME}, and the image has no key of that name"):
        found(files, tmp_path)


def test_a_signature_by_another_key_of_the_same_name_is_wrong(served: ApkRepository, tmp_path: Path) -> None:
    files = image(served, **{f"etc/apk/keys/{KEY_NAME}": public_pem(make_key("other"))})

    with pytest.raises(SignatureError, match=r"the signature by .* is wrong \(etc/apk/keys/"):
        found(files, tmp_path)


def test_the_first_signature_whose_key_is_known_decides(served: ApkRepository, tmp_path: Path) -> None:
    index = gzip_part(served)
    good = sign(index, served.key)
    unknown = sign(index, make_key("other"), name="unknown.rsa.pub")
    bad = sign(index, make_key("other"), name="bad.rsa.pub")
    files = image(served, **{"etc/apk/keys/bad.rsa.pub": public_pem(served.key)})

    served.files[served.index_path] = unknown + good + index
    assert len(found(files, tmp_path / "1")) == 1
    served.files[served.index_path] = bad + good + index
    with pytest.raises(SignatureError, match=r"bad\.rsa\.pub is wrong"):
        found(files, tmp_path / "2")


def gzip_part(served: ApkRepository) -> bytes:
    """The index without its signature."""
    served.publish([NEW], signed=False)
    return served.files[served.index_path]


def test_an_unsigned_index_is_used_only_when_the_user_says_so(served: ApkRepository, tmp_path: Path) -> None:
    served.publish([NEW], signed=False)

    with pytest.raises(SignatureError, match="is not signed"):
        found(image(served), tmp_path / "1")
    (candidate,) = found(image(served), tmp_path / "2", allow_unsigned=True)
    assert candidate.origin.signed_by == ""
    assert "is not signed" in candidate.origin.doubt
    assert candidate.origin.doubt.endswith("allowed by --allow-unsigned-repository")


def test_what_is_signed_is_verified_although_the_user_allows_less(served: ApkRepository, tmp_path: Path) -> None:
    (candidate,) = found(image(served), tmp_path, allow_unsigned=True)

    assert (candidate.origin.signed_by, candidate.origin.doubt) == (KEY_NAME, "")


def test_a_changed_index_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    def evil(data: bytes) -> bytes:
        signature = sign(gzip_part(ApkRepository()), served.key)
        return data[: len(signature)] + member([("APKINDEX", Member(content=b"P:evil\n"), {})], last=True)

    served.publish([NEW], alter=evil)

    with pytest.raises(SignatureError, match="is wrong"):
        found(image(served), tmp_path)


def test_a_verdict_that_is_remembered_is_about_these_bytes_and_this_key(served: ApkRepository, tmp_path: Path) -> None:
    assert len(found(image(served), tmp_path)) == 1
    assert len(found(image(served), tmp_path)) == 1
    files = image(served, **{f"etc/apk/keys/{KEY_NAME}": public_pem(make_key("other"))})

    with pytest.raises(SignatureError, match="is wrong"):
        found(files, tmp_path)


ED25519 = b"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "holds no public key"),
        ("short", "is no RSA key of at least 2048 bits"),
        ("ed25519", "is no RSA key of at least 2048 bits"),
    ],
)
def test_a_key_that_is_none_is_named(served: ApkRepository, tmp_path: Path, kind: str, message: str) -> None:
    key = {
        "text": b"no key",
        "short": public_pem(make_key("short", 1024)),
        "ed25519": b"-----BEGIN PUBLIC KEY-----\n" + ED25519 + b"\n-----END PUBLIC KEY-----\n",
    }[kind]

    with pytest.raises(SignatureError, match=f"etc/apk/keys/{KEY_NAME} {message}"):
        found(image(served, **{f"etc/apk/keys/{KEY_NAME}": key}), tmp_path)


def test_a_kind_of_signature_that_nobody_uses_is_refused_by_name(served: ApkRepository, tmp_path: Path) -> None:
    index = gzip_part(served)
    signature = member([(f".SIGN.DSA.{KEY_NAME}", Member(content=b"x"), {})], last=False)
    served.files[served.index_path] = signature + index

    with pytest.raises(SignatureError, match="a signature of the kind DSA, which is not supported"):
        found(image(served), tmp_path)


# -- fetching --------------------------------------------------------------------------------------------------------


def test_an_index_that_did_not_change_is_not_sent_again(served: ApkRepository, tmp_path: Path) -> None:
    first = found(image(served), tmp_path)
    sent = len(served.requests)

    assert found(image(served), tmp_path) == first
    assert served.requests[sent:] == [served.index_path]
    assert served.answers[sent:] == [304]


def test_of_a_large_index_only_the_rows_that_an_image_reaches_are_parsed(
    served: ApkRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = Apk(name="needed", version="1-r0")
    others = [{**OLD.row(), "P": f"other{number}"} for number in range(2_000)]
    served.publish([replace(NEW, depends=("needed",)), needed], rows=others)
    parsed: list[str] = []

    def recorded(text: str) -> dict[str, str]:
        fields = parse_fields(text)
        parsed.append(fields["P"])
        return fields

    monkeypatch.setattr("copacetic.repository.apk.index.parse_fields", recorded)

    assert [candidate.name for candidate in found(image(served), tmp_path)] == ["needed", "a"]
    assert sorted(parsed) == ["a", "needed"]


def test_a_new_index_is_seen_at_once(served: ApkRepository, tmp_path: Path) -> None:
    found(image(served), tmp_path)
    served.publish([replace(NEW, version="3-r0")])

    assert [candidate.version for candidate in found(image(served), tmp_path)] == ["3-r0"]


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_repository_that_is_gone_is_an_error_and_never_passed_over(
    served: ApkRepository, tmp_path: Path, status: int
) -> None:
    served.statuses[served.index_path] = status

    with pytest.raises(
        RepositoryError, match=r"v3\.19/main \(etc/apk/repositories:1\) has no index for x86_64"
    ) as caught:
        found(image(served), tmp_path)
    assert "archive" in (caught.value.hint or "")


def test_of_several_repositories_one_that_fails_stops_everything(served: ApkRepository, tmp_path: Path) -> None:
    lines = f"{served.url}\n{served.address}/alpine/v3.19/community\n"

    with pytest.raises(RepositoryError, match="community"):
        found(image(served, **{"etc/apk/repositories": lines}), tmp_path)


def test_a_tagged_repository_that_nobody_asks_for_is_not_even_looked_at(served: ApkRepository, tmp_path: Path) -> None:
    lines = f"{served.url}\n@edge {served.address}/alpine/edge/main\n"

    assert len(found(image(served, **{"etc/apk/repositories": lines}), tmp_path)) == 1
    assert not any("edge" in request for request in served.requests)


def test_the_state_of_repositories_changes_with_what_they_publish(served: ApkRepository, tmp_path: Path) -> None:
    def state() -> str:
        return ApkRepositories.open(context(image(served), tmp_path)).state()

    first, same = state(), state()
    served.publish([replace(NEW, version="3-r0")])

    assert first == same
    assert state() != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:2-r0\nA:x86_64\nS:-1\n", "a 2-r0 has no usable identity and size"),
        (b"C:Q1no\nP:a\nV:2-r0\nA:x86_64\nS:1\n", "a 2-r0 has no usable identity and size"),
        (b"C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:../../x\nA:x86_64\nS:1\n", "offers 'a' '../../x'"),
        (b"C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:2\nA:../x\nS:1\n", "for '../x'"),
        (f"{ROW}I:x\n".encode(), "a 2-r0 has no usable installed size: 'x'"),
        (f"{ROW}I:{'1' * 16}\n".encode(), "a 2-r0 has no usable installed size: '1111111111111111'"),
        (ROW.encode(), "a 2-r0 has no usable installed size: ''"),
        (b"C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:2\nA:x86_64\nS:1\nI:0\nD:=b\n", "can't read what a 2 depends on"),
    ],
)
def test_a_row_that_can_t_be_used_is_left_out_by_name(
    served: ApkRepository, tmp_path: Path, text: bytes, message: str
) -> None:
    served.publish([], text=text)
    here = context(image(served), tmp_path)
    wanted = [Wanted(package=package) for package in here.installed]

    resolution = ApkRepositories.open(here).resolve(wanted, exhaustive=True)

    assert resolution.updates == ()
    (skipped,) = resolution.skipped
    assert (skipped.package.name, skipped.reason) == ("a", SkipReason.BROKEN)
    assert message in skipped.detail
    assert "\n" not in skipped.detail


def test_a_row_that_can_t_be_used_and_is_no_newer_keeps_nothing_back(served: ApkRepository, tmp_path: Path) -> None:
    old = {letter: text for letter, text in replace(NEW, version="1-r0").row().items() if letter != "S"}
    served.publish([NEW], rows=[old])
    here = context(image(served), tmp_path)
    wanted = [Wanted(package=package) for package in here.installed]

    resolution = ApkRepositories.open(here).resolve(wanted, exhaustive=True)

    assert [update.candidate.version for update in resolution.updates] == [NEW.version]
    assert resolution.skipped == ()
    assert [note for note in resolution.notes if "no usable identity and size" in note]


def test_rows_for_other_architectures_are_none(served: ApkRepository, tmp_path: Path) -> None:
    rows = [
        {**replace(NEW, version="3-r0").row(), "A": "aarch64"},
        {**replace(NEW, version="2-r1").row(), "A": "noarch"},
    ]
    served.publish([], rows=rows)

    (candidate,) = found(image(served), tmp_path)
    assert (candidate.version, candidate.architecture) == ("2-r1", "noarch")
    assert candidate.url.endswith("/noarch/a-2-r1.apk")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        gzip.compress(b""),
        member([("DESCRIPTION", Member(content=b"x"), {})], last=True),
        gzip.compress(b"x" * 5000),
    ],
    ids=["empty", "a page", "an empty member", "no APKINDEX", "no tar"],
)
def test_what_is_no_index_is_refused(served: ApkRepository, tmp_path: Path, body: bytes) -> None:
    served.files[served.index_path] = body

    with pytest.raises(RepositoryError):
        found(image(served), tmp_path, allow_unsigned=True)


def test_a_truncated_index_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    served.publish([NEW], alter=lambda data: data[:-20])

    with pytest.raises(CopaError):
        found(image(served), tmp_path / "1")
    with pytest.raises(RepositoryError, match="truncated"):
        found(image(served), tmp_path / "2", allow_unsigned=True)


def test_a_list_of_wanted_packages_that_can_t_be_read_is_named(served: ApkRepository, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="etc/apk/world: not a dependency: '=broken'"):
        found(image(served, **{"etc/apk/world": "a\n=broken\n"}), tmp_path)


# -- packages --------------------------------------------------------------------------------------------------------


def fetched(served: ApkRepository, cache: Path) -> bytes:
    repository = opened(image(served), cache)
    (candidate,) = found(image(served), cache)
    return repository.fetch([candidate])[candidate].read_bytes()


def test_a_package_is_fetched_once_and_checked(served: ApkRepository, tmp_path: Path) -> None:
    data = fetched(served, tmp_path)
    served.requests.clear()

    assert data == NEW.to_bytes()
    assert fetched(served, tmp_path) == data
    assert not any(request.endswith(".apk") for request in served.requests)


def test_a_package_that_is_another_one_is_refused_and_not_kept(served: ApkRepository, tmp_path: Path) -> None:
    path = f"{served.folder}/x86_64/{NEW.file_name}"
    good = served.files[path]
    other = replace(NEW, files={"usr/bin/a": file("bad")}).to_bytes()
    served.files[path] = other[: len(good)].ljust(len(good), b"\0")

    with pytest.raises(CopaError, match=r"a 2-r0 from http://.*: expected the identity"):
        fetched(served, tmp_path)
    served.files[path] = good
    assert fetched(served, tmp_path) == good


def test_a_package_that_was_renamed_is_refused(served: ApkRepository, tmp_path: Path) -> None:
    row = {**replace(NEW, name="b").row(), "P": "a"}
    served.publish([replace(NEW, name="b")], rows=[row])
    served.files[f"{served.folder}/x86_64/a-2-r0.apk"] = served.files[f"{served.folder}/x86_64/b-2-r0.apk"]

    with pytest.raises(CopaError, match="the file is b 2-r0"):
        fetched(served, tmp_path)


def test_a_package_that_the_repository_lost_is_named(served: ApkRepository, tmp_path: Path) -> None:
    del served.files[f"{served.folder}/x86_64/{NEW.file_name}"]

    with pytest.raises(PackageUnavailableError, match=r"a 2-r0: 127\.0\.0\.1 answers 404"):
        fetched(served, tmp_path)


# -- where repositories come from ------------------------------------------------------------------------------------


def test_an_image_that_names_no_repository_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"Alpine Linux v3\.19 names no repository") as caught:
        found(image(None), tmp_path)

    assert "v3.19" in (caught.value.hint or "")
    assert "--repository" in (caught.value.hint or "")


def test_repositories_of_the_user_replace_the_image_s(served: ApkRepository, tmp_path: Path) -> None:
    files = image(served, **{"etc/apk/repositories": "https://nowhere.invalid/x\n"})
    definition = f"{served.address}/${{OS_ID}}/${{OS_BRANCH}} main"

    (candidate,) = found(files, tmp_path, definitions=(definition,))

    assert candidate.origin.defined_in == "--repository"
    assert candidate.origin.uri == served.url


def test_a_mirror_takes_the_place_of_what_it_mirrors(served: ApkRepository, tmp_path: Path) -> None:
    files = image(served, **{"etc/apk/repositories": "https://dl.invalid/alpine/v3.19/main\n"})

    assert len(found(files, tmp_path, mirrors=(("https://dl.invalid", served.address),))) == 1


def from_host(served: ApkRepository, folder: Path, os_release: str, path: str, *, write_key: bool = True) -> Resolution:
    """Update an image without repositories from a machine of its distribution."""
    host = folder / "host"
    (host / "etc/apk/keys").mkdir(parents=True, exist_ok=True)
    (host / "etc/os-release").write_text(os_release)
    (host / "etc/apk/repositories").write_text(f"{served.address}/{path}\n")
    if write_key:
        (host / f"etc/apk/keys/{KEY_NAME}").write_bytes(public_pem(served.key))
    files = {path: data for path, data in image(served).items() if "/keys/" not in path and "repositories" not in path}
    here = context(files, folder / "cache")
    there = replace(here, settings=replace(here.settings, host_root=host))
    wanted = [Wanted(package=package) for package in here.installed]
    return open_repository(there).resolve(wanted, exhaustive=True)


def test_this_machine_s_repositories_serve_an_image_of_the_same_distribution(
    served: ApkRepository, tmp_path: Path
) -> None:
    resolution = from_host(served, tmp_path, OS_RELEASE.replace("3.19.1", "3.22.0"), "alpine/v3.22/main")

    origin = resolution.updates[0].candidate.origin
    assert resolution.notes == (f"the image lacks keys for its repositories; this machine's are trusted: {KEY_NAME}",)
    assert origin.defined_in == f"this machine's {tmp_path / 'host'}/etc/apk/repositories:1"
    assert origin.suite == "v3.19"


def test_a_key_of_this_machine_is_a_file_in_a_folder_of_keys(served: ApkRepository, tmp_path: Path) -> None:
    keys = tmp_path / "host/etc/apk/keys"
    (tmp_path / "host/home").mkdir(parents=True)
    (tmp_path / "host/home/k.pub").write_bytes(public_pem(served.key))
    keys.mkdir(parents=True)
    (keys / KEY_NAME).symlink_to("/home/k.pub")

    with pytest.raises(SignatureError, match="the image has no keys"):
        from_host(served, tmp_path, OS_RELEASE, "alpine/v3.19/main", write_key=False)


def test_only_the_part_of_an_address_that_is_the_branch_follows_the_image(
    served: ApkRepository, tmp_path: Path
) -> None:
    served.folder = "edge-mirror/v3.19/main"
    served.publish([NEW])

    (update,) = from_host(served, tmp_path, OS_RELEASE, "edge-mirror/edge/main").updates

    assert update.candidate.origin.uri == served.url


def test_repositories_of_another_branch_are_pointed_out(served: ApkRepository, tmp_path: Path) -> None:
    here = context(image(served, **{"etc/os-release": OS_RELEASE}), tmp_path)
    older = replace(here, distro=Distro.parse(OS_RELEASE.replace("3.19.1", "3.18.2").encode()))
    wanted = [Wanted(package=package) for package in here.installed]

    resolution = open_repository(older).resolve(wanted, exhaustive=True)

    assert resolution.notes == ("the image is of the branch v3.18, its repositories are of v3.19",)
