# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import stat
import threading
import time
from base64 import b64encode, encodebytes
from pathlib import Path

import pytest

from copacetic.errors import AuthenticationError
from copacetic.oci.credentialhelper import run_helper
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.reference import DEFAULT_REGISTRY

SECRET = "s3cret-w0rd"


def encode(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": b64encode(f"{user}:{password}".encode()).decode()}


def write_config(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def write_helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def user_of(found: Credentials | None) -> str | None:
    return found.username if found else None


# ---- files


def test_lines_that_base64_has_broken_are_joined(config: Path) -> None:
    auth = encodebytes(f"ann:{SECRET * 20}".encode()).decode()
    assert auth.count("\n") > 1
    found = Keychain([write_config(config, {"auths": {"registry.example": {"auth": auth}}})]).find(
        "registry.example", "a"
    )
    assert found is not None
    assert found.password == SECRET * 20


@pytest.mark.parametrize(
    "key",
    [
        "registry.example",
        "Registry.Example",
        "https://registry.example",
        "https://registry.example/",
        "https://registry.example/v1/",
        "http://registry.example/v2/",
        "registry.example/",
        "registry.example/v2",
    ],
)
def test_a_registry_is_found_however_a_program_wrote_its_key(config: Path, key: str) -> None:
    write_config(config, {"auths": {key: encode("ann")}})
    found = Keychain([config]).find("registry.example", "team/app")
    assert found is not None
    assert (found.username, found.password, found.origin) == ("ann", SECRET, str(config))


@pytest.mark.parametrize("key", ["{}", "index.{}", "https://index.{}/v1/", "registry-1.{}"])
def test_the_default_registry_has_old_names(config: Path, key: str) -> None:
    write_config(config, {"auths": {key.format(DEFAULT_REGISTRY): encode("ann")}})
    assert user_of(Keychain([config]).find(DEFAULT_REGISTRY, "library/debian")) == "ann"


@pytest.mark.parametrize(
    "key", ["registry.example:5000", "example", "xregistry.example", "registry.example/other", "registry.example/tea"]
)
def test_another_registry_or_namespace_is_not_meant(config: Path, key: str) -> None:
    write_config(config, {"auths": {key: encode("ann")}})
    assert Keychain([config]).find("registry.example", "team/app") is None


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("team/app", "of-app"),
        ("team/other", "of-team"),
        ("team/app/sub", "of-app"),
        ("team2/app", "of-registry"),
    ],
)
def test_the_most_specific_entry_of_a_file_wins(config: Path, repository: str, user: str) -> None:
    entries = {
        "registry.example": encode("of-registry"),
        "registry.example/team": encode("of-team"),
        "registry.example/team/app": encode("of-app"),
    }
    write_config(config, {"auths": entries})
    assert user_of(Keychain([config]).find("registry.example", repository)) == user


def test_files_are_asked_in_their_order(tmp_path: Path) -> None:
    first = write_config(tmp_path / "1", {"auths": {"a.example": encode("first"), "b.example": {}}})
    second = write_config(tmp_path / "2", {"auths": {"a.example": encode("second"), "b.example": encode("second")}})
    keychain = Keychain([tmp_path / "absent", first, second])
    assert user_of(keychain.find("a.example", "x")) == "first"
    assert user_of(keychain.find("b.example", "x")) == "second"
    assert keychain.find("c.example", "x") is None


def test_given_credentials_go_before_files_and_to_their_registry_only(config: Path) -> None:
    write_config(config, {"auths": {"a.example": encode("file"), "b.example": encode("file")}})
    keychain = Keychain([config], given={"a.example": Credentials(username="flag", password="x")})
    assert user_of(keychain.find("a.example", "x")) == "flag"
    assert user_of(keychain.find("b.example", "x")) == "file"


def test_all_ways_to_write_an_entry(config: Path) -> None:
    entries = {
        "plain.example": {"username": "ann", "password": SECRET},
        "token.example": {**encode("ann", ""), "identitytoken": "idt"},
        "bearer.example": {"registrytoken": "rgt"},
        "colon.example": encode("ann", "a:b:c"),
        "padded.example": encode("ann", "pw\0\0"),
        "unicode.example": encode("änn", "pässwörd"),
    }
    write_config(config, {"auths": entries})
    keychain = Keychain([config])

    def find(host: str) -> Credentials:
        found = keychain.find(host, "x")
        assert found is not None
        return found

    assert (find("plain.example").username, find("plain.example").password) == ("ann", SECRET)
    assert find("token.example").identity_token == "idt"
    assert find("bearer.example").registry_token == "rgt"
    assert find("colon.example").password == "a:b:c"
    assert find("padded.example").password == "pw"
    assert find("unicode.example").password == "pässwörd"


def test_the_oldest_format_has_no_auths(config: Path) -> None:
    write_config(config, {"https://registry.example": {**encode("ann"), "email": "ann@example.com"}})
    assert user_of(Keychain([config]).find("registry.example", "x")) == "ann"


@pytest.mark.parametrize("document", ["", "word", "[]", "null", "[" * 100_000, '{"auths": []}', '{"credsStore": 3}'])
def test_a_broken_file_is_named(config: Path, document: str) -> None:
    write_config(config, document)
    with pytest.raises(AuthenticationError, match=str(config)):
        Keychain([config]).find("registry.example", "x")


@pytest.mark.parametrize(
    "entry", [{"auth": "%%%"}, {"auth": "bm9jb2xvbg=="}, {"auth": "//8="}, {"auth": 5}, {"username": ["x"]}]
)
def test_a_broken_entry_is_named_without_its_content(config: Path, entry: dict[str, object]) -> None:
    write_config(config, {"auths": {"registry.example": entry, "other.example": encode("ann")}})
    with pytest.raises(AuthenticationError, match=r"the entry for registry\.example") as caught:
        Keychain([config]).find("registry.example", "x")
    assert "bm9jb" not in str(caught.value)
    assert user_of(Keychain([config]).find("other.example", "x")) == "ann"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError, match=str(tmp_path)):
        Keychain([tmp_path]).find("registry.example", "x")


def test_nothing_shows_a_secret() -> None:
    made = Credentials(username="ann", password=SECRET, identity_token=SECRET, registry_token=SECRET)
    assert SECRET not in repr(made)


def test_files_are_read_when_credentials_are_wanted_and_not_before(config: Path) -> None:
    keychain = Keychain([config])
    write_config(config, {"auths": {"registry.example": encode("ann")}})
    assert user_of(keychain.find("registry.example", "x")) == "ann"


# ---- helpers


def test_a_helper_is_asked_for_its_registry(config: Path, helpers: Path, tmp_path: Path) -> None:
    write_helper(helpers, "vault", f'cat > {tmp_path}/asked; echo \'{{"Username":"ann","Secret":"{SECRET}"}}\'')
    write_config(
        config, {"credHelpers": {"https://registry.example": "vault"}, "auths": {"registry.example": encode("stale")}}
    )
    found = Keychain([config]).find("registry.example", "team/app")
    assert found is not None
    assert (found.username, found.password) == ("ann", SECRET)
    assert (tmp_path / "asked").read_text() == "registry.example"
    assert "docker-credential-vault" in found.origin


def test_a_store_serves_every_registry_that_has_no_entry(config: Path, helpers: Path, tmp_path: Path) -> None:
    write_helper(helpers, "store", f'cat >> {tmp_path}/asked; echo \'{{"Username":"stored","Secret":"x"}}\'')
    write_config(
        config,
        {"credsStore": "store", "auths": {"a.example": encode("entry"), f"https://index.{DEFAULT_REGISTRY}/v1/": {}}},
    )
    keychain = Keychain([config])
    assert user_of(keychain.find("a.example", "x")) == "entry"
    assert user_of(keychain.find(DEFAULT_REGISTRY, "x/y")) == "stored"
    assert (tmp_path / "asked").read_text() == f"https://index.{DEFAULT_REGISTRY}/v1/"


def test_a_helper_is_run_once_per_registry(config: Path, helpers: Path, tmp_path: Path) -> None:
    write_helper(helpers, "store", f'echo >> {tmp_path}/runs; echo \'{{"Username":"u","Secret":"x"}}\'')
    write_config(config, {"credsStore": "store"})
    keychain = Keychain([config])
    for repository in ("a", "b", "c"):
        keychain.find("registry.example", repository)
    assert (tmp_path / "runs").read_text() == "\n"


def test_the_user_token_means_an_identity_token(config: Path, helpers: Path) -> None:
    write_helper(helpers, "cloud", 'echo \'{"Username":"<token>","Secret":"idt"}\'')
    write_config(config, {"credHelpers": {"registry.example": "cloud"}})
    found = Keychain([config]).find("registry.example", "x")
    assert found is not None
    assert (found.identity_token, found.username, found.password) == ("idt", "", "")


@pytest.mark.parametrize(
    "script",
    [
        "echo 'credentials not found in native keychain'; exit 1",
        'echo \'{"Username":"","Secret":""}\'',
    ],
)
def test_a_helper_that_knows_nothing_is_no_error(config: Path, helpers: Path, script: str) -> None:
    write_helper(helpers, "store", script)
    write_config(config, {"credsStore": "store"})
    assert Keychain([config]).find("registry.example", "x") is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'the vault is sealed'; exit 3", "failed with status 3: the vault is sealed"),
        ("exit 1", "failed with status 1: it says nothing"),
        ("echo nonsense", "not a JSON object"),
        ("echo '[]'", "not a JSON object"),
        ('echo \'{"Username":1,"Secret":"x"}\'', "without a usable Username and Secret"),
        ("yes x | head -c 1000000", "writes more than"),
        ("yes", "writes more than"),
        ("printf 'a\\033[31mb'; exit 1", r"a\\x1b\[31mb"),
    ],
)
def test_a_helper_that_fails_is_named_with_what_it_says(helpers: Path, script: str, message: str) -> None:
    write_helper(helpers, "store", script)
    with pytest.raises(AuthenticationError, match=message) as caught:
        run_helper("store", "registry.example")
    assert "docker-credential-store" in str(caught.value)


def test_a_missing_helper_is_named() -> None:
    with pytest.raises(AuthenticationError, match="docker-credential-nowhere is not installed") as caught:
        run_helper("nowhere", "registry.example")
    assert "install the helper" in (caught.value.hint or "")


def test_a_helper_that_cannot_be_run_is_named(helpers: Path) -> None:
    (helpers / "docker-credential-text").write_text("not a program")
    with pytest.raises(AuthenticationError, match="can't be run"):
        run_helper("text", "registry.example")


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "a b", "-x", "a;b", "a\nb", "x" * 80])
def test_only_names_are_run(name: str) -> None:
    with pytest.raises(AuthenticationError, match="not the name of a credential helper"):
        run_helper(name, "registry.example")


@pytest.mark.parametrize("script", ["exec sleep 30", "sleep 30 & exec sleep 30", "exec 1>&-; exec sleep 30"])
def test_a_helper_that_hangs_is_killed(helpers: Path, script: str) -> None:
    write_helper(helpers, "slow", script)
    started = time.monotonic()
    with pytest.raises(AuthenticationError, match="no answer within"):
        run_helper("slow", "registry.example", time_limit=0.3)
    assert time.monotonic() - started < 10


def test_a_helper_that_hangs_leaves_no_pipe_and_no_thread_behind(helpers: Path) -> None:
    write_helper(helpers, "slow", "sleep 30 & exec sleep 30")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    with pytest.raises(AuthenticationError, match="no answer within"):
        run_helper("slow", "registry.example", time_limit=0.3)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
