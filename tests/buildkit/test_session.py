# SPDX-License-Identifier: Apache-2.0
"""What a builder gets when it calls the client back: what it was meant to have, and nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from copacetic import llb
from copacetic.buildkit import schema
from copacetic.buildkit.grpc import Code, GrpcChannel, RpcError
from copacetic.buildkit.solver import BuildkitSolver
from copacetic.errors import AuthenticationError, CorruptLayerError
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import Inputs
from copacetic.oci import Descriptor, Digest, Platform
from copacetic.oci.credentials import Credentials
from copacetic.oci.transport import ByteStream
from support.builder.fakebuilder import FakeBuilder, fake_builder
from support.image.images import MemorySource, make_image, make_index, make_layer

AMD64 = Platform.parse("linux/amd64")
STATE = llb.scratch().file(MakeFile(path="/f", data=b""))
CONTENT = "/containerd.services.content.v1.Content/"
STORE = "buildkit-attachable-store-id"


@pytest.fixture
def builder() -> Iterator[FakeBuilder]:
    with fake_builder() as made:
        yield made


def _ask(builder: FakeBuilder, inputs: Inputs, ask: Callable[[GrpcChannel], None]) -> None:
    """Let the builder ask while it solves, and let a failure of `ask` be the test's."""
    solver = BuildkitSolver(builder.connect, "the builder")
    solver.capabilities()
    failures: list[BaseException] = []

    def on_solve(session: GrpcChannel) -> None:
        try:
            ask(session)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    builder.on_solve = on_solve
    with suppress(Exception), solver.solve(STATE.marshal(AMD64), inputs, lambda _event: None):
        pass
    solver.close()
    for failure in failures:
        raise failure


def _refused(
    session: GrpcChannel, method: str, request: Any, metadata: list[tuple[str, str]] | None = None
) -> RpcError:
    with pytest.raises(RpcError) as caught:
        session.unary(method, request.SerializeToString(), limit=10, metadata=metadata or [])
    return caught.value


def test_the_session_is_alive_for_who_asks(builder: FakeBuilder) -> None:
    def ask(session: GrpcChannel) -> None:
        data = session.unary("/grpc.health.v1.Health/Check", b"", limit=10)
        assert schema.session().HealthCheckResponse.FromString(data).status == 1

    _ask(builder, Inputs(), ask)


@pytest.mark.parametrize(
    "method",
    [
        "/moby.filesync.v1.FileSend/DiffCopy",
        "/moby.sshforward.v1.SSH/ForwardAgent",
        "/containerd.services.content.v1.Content/Delete",
        "/containerd.services.content.v1.Content/Write",
        "/moby.upload.v1.Upload/Pull",
        "/moby.filesync.v1.FileSync/TarStream",
        "/../../etc/passwd",
    ],
)
def test_what_was_not_offered_does_not_exist(builder: FakeBuilder, method: str) -> None:
    def ask(session: GrpcChannel) -> None:
        assert _refused(session, method, schema.session().BytesMessage()).code == Code.UNIMPLEMENTED

    _ask(builder, Inputs(), ask)


def _login(session: GrpcChannel, host: str) -> tuple[str, str]:
    request = schema.session().CredentialsRequest(host=host)
    data = session.unary("/moby.filesync.v1.Auth/Credentials", request.SerializeToString(), limit=10)
    answer = schema.session().CredentialsResponse.FromString(data)
    return answer.username, answer.secret


def test_a_registry_s_login_is_given_and_others_are_anonymous(builder: FakeBuilder) -> None:
    known = {
        "registry.example": Credentials(username="user", password="pass:word"),
        "docker.io": Credentials(identity_token="token"),
    }

    def ask(session: GrpcChannel) -> None:
        assert _login(session, "registry.example") == ("user", "pass:word")
        assert _login(session, "registry-1.docker.io") == ("", "token")
        assert _login(session, "other.example") == ("", "")

    _ask(builder, Inputs(credentials=known.get), ask)


def test_a_login_that_can_not_be_found_out_is_a_reason(builder: FakeBuilder) -> None:
    def find(registry: str) -> Credentials | None:
        raise AuthenticationError(f"the helper for {registry} failed")

    def ask(session: GrpcChannel) -> None:
        request = schema.session().CredentialsRequest(host="registry.example")
        error = _refused(session, "/moby.filesync.v1.Auth/Credentials", request)
        assert (error.code, error.message) == (Code.UNAUTHENTICATED, "the helper for registry.example failed")

    _ask(builder, Inputs(credentials=find), ask)


def test_a_secret_is_given_by_its_name_only(builder: FakeBuilder) -> None:
    def ask(session: GrpcChannel) -> None:
        method, request = "/moby.buildkit.secrets.v1.Secrets/GetSecret", schema.session().GetSecretRequest
        data = session.unary(method, request(id="token").SerializeToString(), limit=10)
        assert schema.session().GetSecretResponse.FromString(data).data == b"\0value"
        assert _refused(session, method, request(id="other")).code == Code.NOT_FOUND

    _ask(builder, Inputs(secrets={"token": b"\0value"}), ask)


def test_bytes_that_are_no_request_are_refused(builder: FakeBuilder) -> None:
    def ask(session: GrpcChannel) -> None:
        with pytest.raises(RpcError, match="can't be read"):
            session.unary("/moby.buildkit.secrets.v1.Secrets/GetSecret", b"\xff" * 20, limit=10)

    _ask(builder, Inputs(secrets={"token": b"value"}), ask)


# Directories.


def _synchronise(session: GrpcChannel, name: str, wanted: dict[int, str] | None = None, **patterns: str) -> list[Any]:
    """Take a directory as a builder does; `wanted` gives what numbers of files are asked for, by the packet's type."""
    packet = schema.session().Packet
    metadata = [("dir-name", name), *((key.replace("_", "-"), value) for key, value in patterns.items())]
    call = session.call("/moby.filesync.v1.FileSync/DiffCopy", metadata)
    told = []
    while True:
        message = packet.FromString(call.receive(10) or b"")
        if not message.stat.path:
            break
        told.append(message.stat)
    contents: dict[int, bytes] = {}
    for number in wanted or {}:
        call.send(packet(type=1, id=number).SerializeToString())
        contents[number] = b""
        while data := packet.FromString(call.receive(10) or b"").data:
            contents[number] += data
    call.send(packet(type=3).SerializeToString())
    assert packet.FromString(call.receive(10) or b"").type == 3
    assert call.receive(10) is None
    for number, expected in (wanted or {}).items():
        assert contents[number].decode() == expected
    return told


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "a").write_text("content of a")
    (folder / "b/c").write_text("x" * 500_000)
    (folder / "b-first").write_text("")
    (folder / "secret").symlink_to("/etc/shadow")
    os.mkfifo(folder / "fifo")
    (folder / "a").chmod(0o4755)
    return folder


def test_a_directory_is_told_in_order_and_files_are_sent_when_they_are_asked_for(
    builder: FakeBuilder, tmp_path: Path
) -> None:
    def ask(session: GrpcChannel) -> None:
        told = _synchronise(session, "folder", {0: "content of a", 2: "x" * 500_000})
        assert [one.path for one in told] == [b"a", b"b", b"b/c", b"b-first", b"fifo", b"secret"]
        assert {(one.uid, one.gid) for one in told} == {(0, 0)}
        assert told[0].mode == 0o755 | 1 << 23
        assert told[1].mode >> 31 == 1
        assert told[4].mode & 1 << 25
        assert (told[5].mode & 1 << 27, told[5].linkname) == (1 << 27, b"/etc/shadow")

    _ask(builder, Inputs(directories={"folder": _folder(tmp_path)}), ask)


@pytest.mark.parametrize("key", ["include_patterns", "exclude_patterns", "followpaths"])
def test_a_builder_that_wants_a_part_of_a_directory_is_told_that_it_gets_the_whole(
    builder: FakeBuilder, tmp_path: Path, key: str
) -> None:
    def ask(session: GrpcChannel) -> None:
        with pytest.raises(RpcError, match="sent whole"):
            _synchronise(session, "folder", None, **{key: "b/*"})

    _ask(builder, Inputs(directories={"folder": _folder(tmp_path)}), ask)


@pytest.mark.parametrize(
    "request_number", [1, 4, 5, 6, 4_000_000_000], ids=["a directory", "a fifo", "a link", "the next", "far away"]
)
def test_a_builder_gets_no_file_that_it_was_not_told_of(
    builder: FakeBuilder, tmp_path: Path, request_number: int
) -> None:
    def ask(session: GrpcChannel) -> None:
        packet = schema.session().Packet
        call = session.call("/moby.filesync.v1.FileSync/DiffCopy", [("dir-name", "folder")])
        while packet.FromString(call.receive(10) or b"").stat.path:
            pass
        call.send(packet(type=1, id=request_number).SerializeToString())
        with pytest.raises(RpcError):
            while call.receive(10) is not None:
                pass

    _ask(builder, Inputs(directories={"folder": _folder(tmp_path)}), ask)


@pytest.mark.parametrize("name", ["", "other", "../folder", "/etc"])
def test_a_directory_that_was_not_offered_is_refused(builder: FakeBuilder, tmp_path: Path, name: str) -> None:
    def ask(session: GrpcChannel) -> None:
        call = session.call("/moby.filesync.v1.FileSync/DiffCopy", [("dir-name", name)])
        with pytest.raises(RpcError, match="no access allowed") as caught:
            call.receive(10)
        assert caught.value.code == Code.NOT_FOUND

    _ask(builder, Inputs(directories={"folder": _folder(tmp_path)}), ask)


# Images.


class _Counting(MemorySource):
    """Counts what is opened and what is still open."""

    opened = 0
    closed = 0

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
        self.opened += 1
        with super().open_blob(descriptor) as stream:
            yield stream
        self.closed += 1


def _read(session: GrpcChannel, digest: object, *, offset: int = 0, size: int = 0, store: str = "oci:one") -> bytes:
    request = schema.session().ReadContentRequest(digest=str(digest), offset=offset, size=size)
    call = session.call(f"{CONTENT}Read", [(STORE, store)])
    call.send(request.SerializeToString())
    call.end()
    data = b""
    while (message := call.receive(10)) is not None:
        piece = schema.session().ReadContentResponse.FromString(message)
        assert piece.offset == offset + len(data)
        data += piece.data
    return data


def test_an_image_is_served_from_its_root_down(builder: FakeBuilder) -> None:
    image = make_image([make_layer({"a": os.urandom(2_000_000).hex()})])
    index = make_index([image])
    source = _Counting(index)
    layer = image.layers[0].descriptor

    def ask(session: GrpcChannel) -> None:
        method, request = f"{CONTENT}Info", schema.session().ContentInfoRequest
        assert _refused(session, method, request(digest=str(layer.digest)), [(STORE, "oci:one")]).code == Code.NOT_FOUND
        assert _read(session, index.descriptor.digest) == index.raw
        assert _read(session, image.descriptor.digest) == image.raw
        assert source.opened == 0
        data = session.unary(
            method, request(digest=str(layer.digest)).SerializeToString(), limit=10, metadata=[(STORE, "oci:one")]
        )
        assert schema.session().ContentInfoResponse.FromString(data).info.size == layer.size
        assert source.opened == 0
        assert _read(session, layer.digest) == image.layers[0].blob

    _ask(builder, Inputs(images={"one": source}), ask)
    assert source.opened == source.closed == 1


def test_a_blob_that_is_read_in_pieces_is_opened_once(builder: FakeBuilder) -> None:
    image = make_image([make_layer({"a": os.urandom(1_000_000).hex()})])
    source = _Counting(image)
    layer = image.layers[0]

    def ask(session: GrpcChannel) -> None:
        _read(session, image.descriptor.digest)
        pieces = [
            _read(session, layer.descriptor.digest, offset=start, size=100_000)
            for start in range(0, layer.descriptor.size, 100_000)
        ]
        assert b"".join(pieces) == layer.blob
        assert source.opened == 1
        assert _read(session, layer.descriptor.digest, offset=7, size=5) == layer.blob[7:12]

    _ask(builder, Inputs(images={"one": source}), ask)
    assert source.closed == source.opened == 2


def test_what_is_no_part_of_an_image_is_not_found(builder: FakeBuilder) -> None:
    image = make_image([make_layer({"a": "b"})])

    def ask(session: GrpcChannel) -> None:
        for digest, store in ((Digest.of(b"x"), "oci:one"), (image.descriptor.digest, "oci:two"), ("../x", "oci:one")):
            with pytest.raises(RpcError) as caught:
                _read(session, digest, store=store)
            assert caught.value.code == Code.NOT_FOUND
        for offset, size in ((-1, 0), (10**9, 0), (0, -5)):
            with pytest.raises(RpcError) as caught:
                _read(session, image.descriptor.digest, offset=offset, size=size)
            assert caught.value.code == Code.INVALID_ARGUMENT

    _ask(builder, Inputs(images={"one": MemorySource(image)}), ask)


def test_a_source_that_fails_says_so(builder: FakeBuilder) -> None:
    image = make_image([make_layer({"a": "b"})])

    class Failing(MemorySource):
        @contextmanager
        def open_blob(self, descriptor: Descriptor) -> Iterator[ByteStream]:
            if descriptor.size:
                raise CorruptLayerError("the layer is gone")
            yield io.BytesIO()

    def ask(session: GrpcChannel) -> None:
        _read(session, image.descriptor.digest)
        with pytest.raises(RpcError, match="the layer is gone"):
            _read(session, image.layers[0].descriptor.digest)

    _ask(builder, Inputs(images={"one": Failing(image)}), ask)
