# SPDX-License-Identifier: Apache-2.0
"""A real registry that wants signed tokens: it alone decides whether what a token server gave us is good enough."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.cli import main
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debian import need
from support.image.images import skopeo
from support.server.registry import PASSWORD, USER, docker_registry
from support.server.tokens import IDENTITY_TOKEN, PUBLIC, TokenServer, token_server

pytestmark = [pytest.mark.system]

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})
NAME = f"{PUBLIC}app"


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@dataclass(frozen=True, slots=True)
class Guarded:
    """A registry with an image in it, and its token server."""

    host: str
    tokens: TokenServer
    cache: Path

    def patch(self, *flags: str | Path) -> int:
        arguments = ["patch", "-i", f"{self.host}/{NAME}:1", "--cache-dir", self.cache, "-q", *flags]
        return main([str(argument) for argument in arguments])


@pytest.fixture
def guarded(tmp_path: Path, repository: Repository) -> Iterator[Guarded]:
    need("docker-registry", "skopeo", "openssl")
    layout = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    with token_server(tmp_path) as tokens, docker_registry(tmp_path, token=tokens.settings) as host:
        target = f"docker://{host}/{NAME}:1"
        skopeo("copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}", layout, target)
        tokens.asked.clear()
        yield Guarded(host, tokens, tmp_path / "cache")


def _digest(guarded: Guarded, name: str) -> str:
    where = f"docker://{guarded.host}/{name}"
    digest: str = json.loads(skopeo("inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", where))["Digest"]
    return digest


def test_a_password_gets_tokens_that_the_registry_takes(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded.patch("--push", "--creds", f"{USER}:{PASSWORD}") == 0

    name, _, digest = capsys.readouterr().out.strip().partition("@")
    assert (name, digest) == (f"{guarded.host}/{NAME}:1-patched", _digest(guarded, f"{NAME}:1-patched"))
    assert (USER, f"repository:{NAME}:pull") in guarded.tokens.asked
    assert any(scopes.startswith(f"repository:{NAME}:") and "push" in scopes for _, scopes in guarded.tokens.asked)


def test_an_identity_token_of_a_login_file_does_too(
    guarded: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    login = b64encode(b"<token>:").decode()
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {guarded.host: {"auth": login, "identitytoken": IDENTITY_TOKEN}}}))

    assert guarded.patch("--push", "--authfile", authfile) == 0

    assert capsys.readouterr().out.strip().endswith(_digest(guarded, f"{NAME}:1-patched"))


def test_what_is_public_is_read_without_a_login(
    guarded: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded.patch("--to", f"oci:{tmp_path / 'out'}:1") == 0

    assert capsys.readouterr().out.startswith(f"oci:{tmp_path / 'out'}:1@sha256:")
    assert {user for user, _ in guarded.tokens.asked} == {""}


def test_a_layer_of_another_repository_is_mounted_by_a_token_for_both(
    guarded: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{guarded.host}/private/mirror:2"
    assert guarded.patch("--to", target, "--creds", f"{USER}:{PASSWORD}") == 0

    assert capsys.readouterr().out.strip() == f"{target}@{_digest(guarded, 'private/mirror:2')}"
    both = [
        scopes for _, scopes in guarded.tokens.asked if f"repository:{NAME}:pull" in scopes and "private/" in scopes
    ]
    assert both, guarded.tokens.asked


@pytest.mark.parametrize(
    ("flags", "lifetime", "message"),
    [
        (["--creds", f"{USER}:wrong"], 300, "user tester from --creds"),
        ([], 300, "there are no credentials"),
        (["--creds", f"{USER}:{PASSWORD}"], -3600, "user tester from --creds"),
    ],
)
def test_a_refusal_is_one_line_without_the_secret(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], flags: list[str], lifetime: float, message: str
) -> None:
    guarded.tokens.lifetime = lifetime

    assert guarded.patch("--push", *flags) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert guarded.host in err
    assert "wrong" not in err
    assert PASSWORD not in err
    with pytest.raises(AssertionError, match=r"manifest unknown|unauthorized"):
        guarded.tokens.lifetime = 300
        _digest(guarded, f"{NAME}:1-patched")
