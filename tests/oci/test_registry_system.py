# SPDX-License-Identifier: Apache-2.0
"""Against a real registry (docker-registry), with skopeo as the other client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from copacetic.errors import AuthenticationError, NotFoundError, UnreachableError
from copacetic.http import HttpClient, HttpSettings, Response
from copacetic.oci.credentials import Credentials, Keychain
from copacetic.oci.descriptor import Descriptor
from copacetic.oci.reference import Reference
from copacetic.oci.registry import RegistryDestination, RegistrySource
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import RegistryConfig
from copacetic.oci.registrysettings import RegistrySettings
from support.image.images import (
    Image,
    MemoryDestination,
    MemorySource,
    copy_image,
    describe,
    make_attestation,
    make_image,
    make_index,
    make_layer,
    skopeo,
    write_layout,
)
from support.server.certificate import make_certificate
from support.server.faulty import cutting_proxy
from support.server.registry import HTPASSWD, PASSWORD, USER, docker_registry

pytestmark = pytest.mark.system

LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB


class Recording(HttpClient):
    """Notes what is sent, and doesn't sleep long."""

    def __init__(self, settings: HttpSettings) -> None:
        super().__init__(settings, sleep=lambda _: None)
        self.sent: list[tuple[str, str]] = []

    def open(self, method: str, url: str, **options: Any) -> Response:
        self.sent.append((method, url))
        return super().open(method, url, **options)

    def count(self, method: str) -> int:
        return sum(1 for sent, _ in self.sent if sent == method)


@pytest.fixture
def http() -> Iterator[Recording]:
    with Recording(HttpSettings()) as client:
        yield client


def connect(http: HttpClient, keychain: Keychain | None = None, **settings: Any) -> RegistryClient:
    return RegistryClient(http, RegistryConfig(RegistrySettings(**settings)), keychain or Keychain())


def make_test_image(kind: str = "oci", platform: str = "linux/amd64") -> Image:
    layers = [
        make_layer({"etc/os-release": f"ID=debian # {platform}\n"}, kind=kind),
        make_layer({"large": LARGE}, kind=kind),
    ]
    return make_image(layers, kind=kind, platform=platform)


def make_test_index(kind: str = "oci") -> Image:
    images = [make_test_image(kind, platform) for platform in ("linux/amd64", "linux/arm64/v8")]
    return make_index([*images, make_attestation(images[0])] if kind == "oci" else images, kind=kind)


def raw_manifest(name: str, *options: str) -> bytes:
    return skopeo("inspect", "--tls-verify=false", "--raw", *options, f"docker://{name}").encode()


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_skopeo_reads_what_we_push(http: Recording, tmp_path: Path, kind: str) -> None:
    image = make_test_image(kind)
    with docker_registry(tmp_path) as host:
        destination = RegistryDestination(Reference.parse(f"{host}/team/app:1"), connect(http))
        published = copy_image(MemorySource(image), destination)
        assert published.reference == f"{host}/team/app:1@{image.descriptor.digest}"
        assert raw_manifest(f"{host}/team/app:1") == image.raw
        assert raw_manifest(f"{host}/team/app@{image.descriptor.digest}") == image.raw
        skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{host}/team/app:1", f"dir:{tmp_path}/copy")
    for layer in image.layers:
        assert (tmp_path / "copy" / layer.descriptor.digest.encoded).read_bytes() == layer.blob


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_skopeo_reads_an_index_that_we_push(http: Recording, tmp_path: Path, kind: str) -> None:
    index = make_test_index(kind)
    with docker_registry(tmp_path) as host:
        copy_image(MemorySource(index), RegistryDestination(Reference.parse(f"{host}/team/app:1"), connect(http)))
        assert raw_manifest(f"{host}/team/app:1") == index.raw
        skopeo("copy", "-q", "--all", "--src-tls-verify=false", f"docker://{host}/team/app:1", f"dir:{tmp_path}/copy")
    copied = {path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert set(index.blobs.values()) <= copied


def test_we_read_what_skopeo_pushes(http: Recording, tmp_path: Path) -> None:
    index = make_test_index()
    layout = write_layout(tmp_path / "layout", {"1": index})
    with docker_registry(tmp_path) as host:
        target = f"docker://{host}/team/app:1"
        skopeo("copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:1", target)
        copy = MemoryDestination()
        copy_image(RegistrySource(Reference.parse(f"{host}/team/app:1"), connect(http)), copy)
        assert copy.blobs == index.blobs
        copy = MemoryDestination()
        by_digest = Reference.parse(f"{host}/team/app@{index.descriptor.digest}")
        copy_image(RegistrySource(by_digest, connect(http)), copy)
    assert copy.blobs == index.blobs


def test_blobs_are_mounted_within_a_registry(http: Recording, tmp_path: Path) -> None:
    image = make_test_image()
    with docker_registry(tmp_path) as host:
        client = connect(http)
        copy_image(MemorySource(image), RegistryDestination(Reference.parse(f"{host}/team/app:1"), client))
        http.sent.clear()
        source = RegistrySource(Reference.parse(f"{host}/team/app:1"), client)
        copy_image(source, RegistryDestination(Reference.parse(f"{host}/other/app:2"), client))
        assert raw_manifest(f"{host}/other/app:2") == image.raw
    assert {url.partition("?")[2][:13] for method, url in http.sent if method == "POST"} == {"mount=sha256%"}
    assert http.count("PUT") == 1  # the manifest
    assert not any(method == "GET" and "/blobs/" in url for method, url in http.sent)


def test_a_second_push_sends_nothing_but_the_manifest(http: Recording, tmp_path: Path) -> None:
    image = make_test_image()
    with docker_registry(tmp_path) as host:
        for _ in range(2):
            http.sent.clear()
            copy_image(MemorySource(image), RegistryDestination(Reference.parse(f"{host}/team/app:1"), connect(http)))
    assert (http.count("POST"), http.count("PATCH"), http.count("PUT")) == (0, 0, 1)


def test_large_blobs_go_in_chunks(http: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.oci.upload.CHUNK", 1 << 20)
    with docker_registry(tmp_path) as host:
        descriptor = push_file(http, host, tmp_path)
        assert http.count("PATCH") == 3
        assert read_blob(http, host, descriptor) == LARGE


@pytest.mark.parametrize("chunk", [1 << 20, 1 << 26])
def test_uploads_survive_cut_connections(
    http: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("copacetic.oci.upload.CHUNK", chunk)
    cuts = [1_500_000, 700_000, 100_000]
    with docker_registry(tmp_path) as host, cutting_proxy(host, cuts) as proxy:
        descriptor = push_file(http, proxy, tmp_path)
        assert read_blob(http, host, descriptor) == LARGE
    assert cuts == []


def push_file(http: HttpClient, host: str, folder: Path) -> Descriptor:
    (folder / "blob").write_bytes(LARGE)
    descriptor = describe(LARGE, "application/octet-stream")
    with RegistryDestination(Reference.parse(f"{host}/team/app:1"), connect(http)) as destination:
        destination.write_blob(descriptor, folder / "blob")
    return descriptor


def read_blob(http: HttpClient, host: str, descriptor: Descriptor) -> bytes:
    data = bytearray()
    with RegistrySource(Reference.parse(f"{host}/team/app:1"), connect(http)).open_blob(descriptor) as stream:
        while part := stream.read(1 << 18):
            data += part
    return bytes(data)


def test_what_was_not_published_has_no_name(http: Recording, tmp_path: Path) -> None:
    image = make_test_image()
    with docker_registry(tmp_path) as host:
        with RegistryDestination(Reference.parse(f"{host}/team/app:1"), connect(http)) as destination:
            for layer in image.layers:
                destination.copy_blob(layer.descriptor, MemorySource(image))
        with pytest.raises(NotFoundError, match=f"{host}/team/app:1: not found .*MANIFEST_UNKNOWN"):
            RegistrySource(Reference.parse(f"{host}/team/app:1"), connect(http)).root()


# ---- logins


def test_a_login_opens_the_registry_for_reading_and_writing(http: Recording, tmp_path: Path) -> None:
    image = make_test_image()
    with docker_registry(tmp_path, htpasswd=HTPASSWD) as host:
        authfile = tmp_path / "auth.json"
        skopeo("login", "--tls-verify=false", "--authfile", authfile, "-u", USER, "-p", PASSWORD, host)
        client = connect(http, Keychain([authfile]))
        published = copy_image(MemorySource(image), RegistryDestination(Reference.parse(f"{host}/team/app:1"), client))
        copy = MemoryDestination()
        copy_image(RegistrySource(Reference.parse(published.reference), client), copy)
        assert copy.blobs == image.blobs
        assert raw_manifest(f"{host}/team/app:1", "--authfile", str(authfile)) == image.raw


@pytest.mark.parametrize(
    ("password", "message"),
    [(None, "wants a login, and there are no credentials"), ("wrong", "the login is refused.*tried user tester from")],
)
def test_a_wrong_or_missing_login_is_explained(
    http: Recording, tmp_path: Path, password: str | None, message: str
) -> None:
    with docker_registry(tmp_path, htpasswd=HTPASSWD) as host:
        given = {host: Credentials(username=USER, password=password)} if password else {}
        client = connect(http, Keychain(given=given))
        reference = Reference.parse(f"{host}/team/app:1")
        with pytest.raises(AuthenticationError, match=f"{host}/team/app:1: .*{message}"):
            RegistrySource(reference, client).root()
        with pytest.raises(AuthenticationError, match=message):
            copy_image(MemorySource(make_test_image()), RegistryDestination(reference, client))


# ---- TLS


def test_a_private_authority_in_certs_d_is_trusted(http: Recording, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    image = make_test_image()
    with docker_registry(tmp_path, tls=certificate) as host:
        folder = tmp_path / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(certificate.authority.read_bytes())
        client = connect(http, certs_dirs=(tmp_path / "certs.d",))
        copy_image(MemorySource(image), RegistryDestination(Reference.parse(f"{host}/team/app:1"), client))
        raw = skopeo("inspect", "--raw", "--cert-dir", folder, f"docker://{host}/team/app:1")
        assert raw.encode() == image.raw


def test_an_unknown_authority_is_refused_unless_told_otherwise(http: Recording, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    image = make_test_image()
    with docker_registry(tmp_path, tls=certificate) as host:
        reference = Reference.parse(f"{host}/team/app:1")
        with pytest.raises(UnreachableError, match=f"{host}/team/app:1: .*signed by an unknown authority"):
            RegistrySource(reference, connect(http)).root()
        client = connect(http, tls_verify=False)
        copy_image(MemorySource(image), RegistryDestination(reference, client))
        assert RegistrySource(reference, client).root()[1] == image.raw


def test_an_expired_certificate_is_named(http: Recording, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls", days=-1)
    with docker_registry(tmp_path, tls=certificate) as host:
        client = connect(http, cert_dir=certificate.authority.parent)
        for work in (
            lambda: RegistrySource(Reference.parse(f"{host}/team/app:1"), client).root(),
            lambda: copy_image(
                MemorySource(make_test_image()), RegistryDestination(Reference.parse(f"{host}/team/app:1"), client)
            ),
        ):
            with pytest.raises(UnreachableError, match="its certificate has expired") as caught:
                work()
            assert "new certificate" in (caught.value.hint or "")


# ---- several registries


def test_a_mirror_serves_and_the_origin_gets_the_push(http: Recording, tmp_path: Path) -> None:
    image = make_test_image()
    with ExitStack() as stack:
        origin = stack.enter_context(docker_registry(tmp_path, htpasswd=HTPASSWD, name="origin"))
        mirror = stack.enter_context(docker_registry(tmp_path, name="mirror"))
        copy_image(
            MemorySource(image), RegistryDestination(Reference.parse(f"{mirror}/cache/team/app:1"), connect(http))
        )
        keychain = Keychain(given={origin: Credentials(username=USER, password=PASSWORD)})
        client = connect(http, keychain, mirrors=((origin, f"{mirror}/cache"),))
        http.sent.clear()
        source = RegistrySource(Reference.parse(f"{origin}/team/app:1"), client)
        published = copy_image(source, RegistryDestination(Reference.parse(f"{origin}/team/new:1"), client))
        assert published.name == f"{origin}/team/new:1"
        read = {url.split("/")[2] for method, url in http.sent if method == "GET" and "/v2/cache" in url}
        written = {url.split("/")[2] for method, url in http.sent if method == "PUT"}
        assert (read, written) == ({mirror}, {origin})
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {}}))
        copy = MemoryDestination()
        copy_image(RegistrySource(Reference.parse(published.reference), client), copy)
        assert copy.blobs == image.blobs
