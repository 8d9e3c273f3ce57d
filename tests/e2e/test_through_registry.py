# SPDX-License-Identifier: Apache-2.0
"""From registry to registry through the command line: logins, digests, and all that a registry can do wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debian import need
from support.image.images import Image, make_image, make_layer
from support.server.certificate import make_certificate
from support.server.faulty import Answer, FaultyServer, faulty_server
from support.server.registry import HTPASSWD, PASSWORD, USER, docker_registry
from support.server.scripted import Store, offer, registry

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.mark.system
@pytest.mark.parametrize("login", [False, True])
def test_a_patched_image_is_pushed_and_skopeo_sees_the_digest_that_was_printed(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str], login: bool
) -> None:
    need("skopeo", "docker-registry")
    with docker_registry(tmp_path, htpasswd=HTPASSWD if login else "") as host:
        flags = ["--creds", f"{USER}:{PASSWORD}"] if login else []
        layout = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
        copy = [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            *(f"--dest-{f[2:]}" if f == "--creds" else f for f in flags),
        ]
        subprocess.run([*copy, layout, f"docker://{host}/team/app:1"], check=True)

        code = main(
            ["patch", "-i", f"{host}/team/app:1", "--push", "--cache-dir", str(tmp_path / "cache"), "-q", *flags]
        )

        out = capsys.readouterr().out.strip()
        assert code == 0
        name, _, digest = out.partition("@")
        assert name == f"{host}/team/app:1-patched"
        raw = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", *flags, f"docker://{name}"], check=True, capture_output=True
        ).stdout
        assert json.loads(raw)["Digest"] == digest
        assert len(json.loads(raw)["Layers"]) == 2
        assert json.loads(raw)["Labels"]["sh.copa.patch.origin.name"] == "team/app"


@pytest.mark.system
def test_a_login_that_is_missing_is_named(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    need("docker-registry")
    with docker_registry(tmp_path, htpasswd=HTPASSWD) as host:
        code = main(["patch", "-i", f"{host}/team/app:1", "--push", "--no-cache", "-q"])

    assert code == 1
    assert "log in" in capsys.readouterr().err


def _refused(capsys: pytest.CaptureFixture[str], image: str, target: Path, *flags: str | Path) -> str:
    code = main(["patch", "-i", image, "--to", f"oci:{target}:1", "--no-cache", "-q", *map(str, flags)])
    out, err = capsys.readouterr()
    lines = err.strip().split("\n")
    assert (code, out, target.exists()) == (1, "", False), err
    assert [line.split(":")[0] for line in lines] in (["error"], ["error", "hint"])
    assert "defect" not in err
    return lines[0]


LAYER = make_layer({"etc/os-release": "ID=debian"})
IMAGE = make_image([LAYER])


def _replace_layer(answer: Answer) -> Callable[[FaultyServer], None]:
    path = f"/v2/team/app/blobs/{LAYER.descriptor.digest}"
    return lambda server: server.replace("GET", path, answer)


def _replace_manifest(answer: Answer) -> Callable[[FaultyServer], None]:
    return lambda server: server.replace("GET", "/v2/team/app/manifests/1", answer)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_replace_manifest(Answer(status=401)), "the login is refused"),
        (_replace_manifest(Answer(status=403)), "access is denied"),
        (_replace_manifest(Answer(status=404)), "not found"),
        (_replace_manifest(Answer(status=429, headers={"Retry-After": "3600"})), "too many requests"),
        *((_replace_manifest(Answer(status=status)), str(status)) for status in (500, 501, 502, 503, 504, 505)),
        (_replace_manifest(Answer(body=b"x" * 9_000_000)), "bytes"),
        (_replace_layer(Answer(body=LAYER.blob[:-20])), "bytes"),
        (_replace_layer(Answer(body=LAYER.blob[:40] + b"?" + LAYER.blob[41:])), str(LAYER.descriptor.digest)),
        (_replace_layer(Answer(body=LAYER.blob + b"more")), str(LAYER.descriptor.digest)),
        (_replace_layer(Answer(status=404)), "not found"),
    ],
)
def test_a_registry_that_misbehaves_is_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[FaultyServer], None],
    message: str,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with faulty_server() as server:
        _offer(server, IMAGE)
        break_it(server)
        error = _refused(capsys, f"{server.host}/team/app:1", tmp_path / "out")

    assert message in error
    assert "team/app" in error or str(LAYER.descriptor.digest) in error


def _offer(server: FaultyServer, image: Image) -> None:
    server.on("GET", "/v2/", Answer())
    offer(server, image)


UPLOADS = "/v2/team/new/blobs/uploads/"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", UPLOADS, 401, "the login is refused"),
        ("POST", UPLOADS, 403, "access is denied"),
        ("POST", UPLOADS, 413, "413"),
        ("POST", UPLOADS, 503, "503"),
        ("PUT", "/uploads/0", 403, "access is denied"),
        ("PUT", "/v2/team/new/manifests/1", 403, "access is denied"),
        ("PUT", "/v2/team/new/manifests/1", 400, "400"),
        ("PUT", "/v2/team/new/manifests/1", 502, "502"),
    ],
)
def test_a_push_that_is_refused_is_one_clear_line_and_gives_no_tag(
    tmp_path: Path,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    with registry() as server:
        Store(server)
        server.on("PUT", "/v2/team/new/manifests/1", Answer(status=201))
        server.replace(method, path, Answer(status=status))
        flags = ["--to", f"{server.host}/team/new:1", "--cache-dir", str(tmp_path / "cache"), "-q", "--jobs", "1"]
        code = main(["patch", "-i", image, *flags])

        tagged = server.count("PUT", "/v2/team/new/manifests/1")
    out, err = capsys.readouterr()
    lines = err.strip().split("\n")
    assert (code, out) == (1, "")
    assert message in lines[0]
    assert "team/new" in lines[0]
    assert [line.split(":")[0] for line in lines] in (["error"], ["error", "hint"])
    assert bool(tagged) == path.endswith("/manifests/1"), "a tag was asked for though its blobs are not there"


def test_a_registry_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with faulty_server() as server:
        gone = server.host

    assert "127.0.0.1" in _refused(capsys, f"{gone}/team/app:1", tmp_path / "out")


def test_a_certificate_that_has_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate = make_certificate(tmp_path / "tls", days=-1)
    with faulty_server(tls=certificate.server_context()) as server:
        error = _refused(capsys, f"{server.host}/team/app:1", tmp_path / "out", "--ca-cert", certificate.authority)

    assert "expired" in error
