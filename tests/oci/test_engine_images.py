# SPDX-License-Identifier: Apache-2.0
"""Images of real engines, read and written by their API: both of Docker's image stores, and podman."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from copacetic.connect.address import UnixAddress
from copacetic.connect.dockercontext import EngineKind, EnginePlace
from copacetic.connect.engine import EngineClient, open_engine
from copacetic.errors import (
    CopaError,
    DaemonUnreachableError,
    ImageError,
    NotFoundError,
    RegistryError,
    StorageError,
    UsageError,
)
from copacetic.oci import Digest, ImageConfig, Manifest, Reference
from copacetic.oci.engine import EngineDestination, EngineSource
from copacetic.oci.manifest import layer_media_type
from copacetic.oci.selection import PlatformSource, read_config
from copacetic.oci.transport import Source
from support.builder.dockerd import dockerd
from support.image.images import (
    Image,
    Layer,
    MemoryDestination,
    MemorySource,
    copy_image,
    describe,
    make_image,
    make_layer,
)
from support.server.faulty import Answer, FaultyServer, Seen, faulty_server, json_answer
from support.value.replacing import replace

BASE = make_image([make_layer({"etc/": "", "etc/name": "old"}), make_layer({"big": bytes(range(256)) * 4_000})])
NEW = make_layer({"etc/": "", "etc/name": "new"})
NAME = Reference.parse("registry.example/team/web:1")
PATCHED = Reference.parse("registry.example/team/web:1-patched")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A real one; `digests` says whether it knows an image by its manifest."""

    kind: EngineKind
    client: EngineClient
    digests: bool = False

    def source(self, reference: Reference = NAME) -> EngineSource:
        return EngineSource(self.kind, reference, self.client)

    def destination(self, reference: Reference) -> EngineDestination:
        return EngineDestination(self.kind, reference, self.client)

    def inspect(self, reference: Reference) -> Any:
        return self.client.get(f"/images/{reference}/json").document


@pytest.fixture(scope="module", params=["containerd", "classic", "podman"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "podman":
        with podman_service(tmp_path_factory.mktemp("podman")) as socket:
            yield Engine(kind="podman", client=client(socket))
        return
    with dockerd(containerd_store=request.param == "containerd") as running:
        yield Engine(kind="docker", client=client(running.path), digests=request.param == "containerd")


def client(socket: Path) -> EngineClient:
    return open_engine(EnginePlace(host=UnixAddress(path=str(socket))), 10, name=f"engine at {socket}")


@contextmanager
def podman_service(folder: Path) -> Iterator[Path]:
    """Run podman's service with a storage of its own, and yield its socket."""
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman is not installed, or a storage of its own needs root here")
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    containers = folder / "containers.conf"
    containers.write_text(f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "{folder}/tmp"\n')
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(containers)}
    socket = folder / "podman.sock"
    command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if not socket.exists():
            pytest.skip(f"podman's service doesn't start here: {(folder / 'log').read_text()[-500:]}")
        yield socket
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def base(engine: Engine) -> Engine:
    """The engine, with the image in it."""
    copy_image(MemorySource(BASE), engine.destination(NAME))
    return engine


def patch(source: Source, destination: EngineDestination, layer: Layer, scratch: Path) -> Manifest:
    """Add a layer, as a patch run does it."""
    root, raw = source.root()
    manifest = Manifest.parse(raw, root.media_type)
    row = {"created": "2025-01-01T00:00:00Z", "created_by": "test"}
    config = read_config(source, manifest.config).with_layer(
        layer.diff_id, history=row, created="2025-01-01T00:00:00Z", labels={}
    )
    described = describe(config.raw, manifest.config.media_type)
    added = replace(layer.descriptor, media_type=layer_media_type(manifest, "gzip"))
    result = manifest.with_layer(described, added, annotations={})
    (scratch / "config").write_bytes(config.raw)
    (scratch / "layer").write_bytes(layer.blob)
    with destination:
        for old in manifest.layers:
            destination.copy_blob(old, source)
        destination.write_blob(added, scratch / "layer")
        destination.write_blob(described, scratch / "config")
        destination.publish(describe(result.raw, result.media_type), result.raw)
    return result


def files(source: Source) -> dict[str, bytes]:
    """The files of an image, by name; later layers win."""
    found = {}
    copy = MemoryDestination()
    copy_image(source, copy)
    for layer in Manifest.parse(source.root()[1]).layers:
        with tarfile.open(fileobj=io.BytesIO(copy.blobs[layer.digest])) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    found[member.name] = file.read()
    return found


@pytest.mark.system
@pytest.mark.xdist_group("dockerd")
class TestRealEngines:
    def test_an_image_comes_back_as_it_went(self, base: Engine) -> None:
        source = base.source()
        root, raw = source.root()
        config = read_config(source, Manifest.parse(raw, root.media_type).config)
        assert config.raw == BASE.blobs[Digest.parse(BASE.document["config"]["digest"])]
        assert (root.digest == BASE.descriptor.digest) == base.digests
        assert files(source) == {"etc/name": b"old", "big": bytes(range(256)) * 4_000}

    def test_an_engine_s_own_layers_are_not_sent_back(
        self, base: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[int] = []
        load = EngineDestination._load

        def noted(destination: EngineDestination) -> None:
            sent.append(destination._path.stat().st_size)
            load(destination)

        monkeypatch.setattr(EngineDestination, "_load", noted)
        patch(PlatformSource(base.source()), base.destination(PATCHED), NEW, tmp_path)
        assert files(base.source(PATCHED))["etc/name"] == b"new"
        assert (sent[0] < 20_000) == (base.kind == "docker")
        assert len(base.inspect(PATCHED)["RootFS"]["Layers"]) == 3
        assert files(base.source())["etc/name"] == b"old"

    def test_an_image_from_elsewhere_is_sent_whole(self, engine: Engine, tmp_path: Path) -> None:
        other = Reference.parse("registry.example/other:1")
        result = patch(MemorySource(BASE), engine.destination(other), NEW, tmp_path)
        assert files(engine.source(other)) == {"etc/name": b"new", "big": bytes(range(256)) * 4_000}
        identity = engine.inspect(other)["Id"].removeprefix("sha256:")
        assert identity in {result.config.digest.encoded, Digest.of(result.raw).encoded}

    def test_a_name_that_is_there_already_leads_to_the_new_image(self, base: Engine, tmp_path: Path) -> None:
        again = make_image([make_layer({"only": "this"})])
        copy_image(MemorySource(again), base.destination(NAME))
        assert files(base.source()) == {"only": b"this"}

    def test_an_image_that_is_not_there_is_not_found(self, engine: Engine) -> None:
        with pytest.raises(NotFoundError, match=f"^{engine.kind}:registry.example/none:1: ") as caught:
            engine.source(Reference.parse("registry.example/none:1")).root()
        assert "docker images" in str(caught.value.hint)


# ---- engines that answer as told


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


def told(server: FaultyServer, seconds: float = 5) -> EngineClient:
    import socket

    from copacetic.connect.stream import SocketStream

    return EngineClient(
        lambda _: SocketStream(socket.create_connection(("127.0.0.1", server.port))),
        name="docker at x",
        seconds=seconds,
    )


GET = "/images/registry.example/team/web:1/get"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (json_answer({"message": "reference does not exist"}, 404), NotFoundError, "reference does not exist"),
        (json_answer({"message": "no space"}, 500), RegistryError, "no space"),
        (Answer(status=418), RegistryError, "answers with status 418"),
        (Answer(body=b"no tar" * 1_000), CopaError, "not a usable tar"),
        (Answer(body=b""), CopaError, "is not a docker archive"),
        (Answer(body=b"x" * 10_000, cut=5_000), DaemonUnreachableError, "the connection broke"),
    ],
)
def test_what_can_t_be_read_is_said(server: FaultyServer, answer: Answer, error: type[CopaError], message: str) -> None:
    server.on("GET", GET, answer)
    with pytest.raises(error, match=message):
        EngineSource("docker", NAME, told(server)).root()


def test_an_image_is_asked_for_once_and_kept_under_no_name(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.on("GET", GET, Answer(body=saved(BASE)))
    source = EngineSource("docker", NAME, told(server))
    assert files(source)["etc/name"] == b"old"
    assert server.count("GET", GET) == 1
    assert list(tmp_path.iterdir()) == []


def saved(image: Image) -> bytes:
    """What `docker save` gave until version 24."""
    config = image.document["config"]["digest"].removeprefix("sha256:")
    row = {
        "Config": f"{config}.json",
        "RepoTags": [str(NAME)],
        "Layers": [f"{n}.tar" for n in range(len(image.layers))],
    }
    members = {f"{config}.json": json.dumps(image.config).encode(), "manifest.json": json.dumps([row]).encode()}
    members |= {f"{n}.tar": layer.plain for n, layer in enumerate(image.layers)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def test_an_engine_that_never_stops_is_stopped(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.oci.engine._SAVED_LIMIT", 1_000_000)
    server.on("GET", GET, Answer(body=bytes(3_000_000)))
    with pytest.raises(ImageError, match="the engine sends more than 1000000 bytes"):
        EngineSource("docker", NAME, told(server)).root()


def test_a_full_disk_is_said(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/full/no")
    server.on("GET", GET, Answer(body=saved(BASE)))
    with pytest.raises(StorageError, match="can't keep docker:registry.example/team/web:1 while it is read"):
        EngineSource("docker", NAME, told(server)).root()


@pytest.mark.parametrize(
    ("load", "inspect", "message"),
    [
        (json_answer({"message": "go away"}, 500), json_answer({}), "go away"),
        (Answer(body=b'{"stream":"x"}\r\n{"error":"no space left"}\r\n'), json_answer({}), "can't load.*no space left"),
        (Answer(body=b"{}"), json_answer({"Id": f"sha256:{'0' * 64}"}), "another one: sha256:000"),
        (Answer(body=b"{}"), json_answer({"message": "No such image"}, 404), "another one: No such image"),
        (Answer(body=b"[" * 100_000), json_answer({"Id": 5}), "another one: 5"),
    ],
)
def test_an_image_that_an_engine_did_not_take_is_no_success(
    server: FaultyServer, load: Answer, inspect: Answer, message: str
) -> None:
    server.on("POST", "/images/load", load)
    server.on("GET", "/images/registry.example/team/web:1/json", inspect)
    with pytest.raises(RegistryError, match=f"^docker:registry.example/team/web:1: .*{message}"):
        copy_image(MemorySource(BASE), EngineDestination("docker", NAME, told(server)))


def test_nothing_is_told_to_an_engine_before_everything_is_there(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(NEW.blob[:-1] + b"?")
    with EngineDestination("docker", NAME, told(server)) as destination:
        destination.copy_blob(BASE.layers[0].descriptor, MemorySource(BASE))
        with pytest.raises(CopaError):
            destination.write_blob(NEW.descriptor, tmp_path / "layer")
    assert server.requests == []


def test_an_archive_has_both_forms_and_the_short_name_that_docker_shows(server: FaultyServer) -> None:
    name = Reference.parse("web:1")
    received: list[bytes] = []

    def load(seen: Seen) -> Answer:
        received.append(seen.body)
        return Answer(body=b'{"stream":"Loaded"}')

    server.on("POST", "/images/load", load)
    server.on("GET", "/images/web:1/json", json_answer({"Id": str(BASE.descriptor.digest)}))
    published = copy_image(MemorySource(BASE), EngineDestination("docker", name, told(server)))
    assert published.reference == f"docker:docker.io/library/web:1@{BASE.descriptor.digest}"
    with tarfile.open(fileobj=io.BytesIO(received[0])) as archive:
        (row,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        (entry,) = json.load(archive.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
        config = archive.extractfile(row["Config"]).read()  # type: ignore[union-attr]
        assert set(row["Layers"]) < set(archive.getnames())
    assert row["RepoTags"] == ["web:1"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/web:1"
    assert ImageConfig.parse(config).diff_ids == tuple(layer.diff_id for layer in BASE.layers)


def test_an_engine_takes_one_image_by_a_tag(server: FaultyServer) -> None:
    with pytest.raises(UsageError, match="can't be written to a digest"):
        EngineDestination("docker", NAME.with_digest(BASE.descriptor.digest), told(server))
    several = pytest.raises(UsageError, match="has several platforms")
    with EngineDestination("docker", NAME, told(server)) as destination, several:
        destination.write_manifest(BASE.descriptor, BASE.raw)
