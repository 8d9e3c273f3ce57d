# SPDX-License-Identifier: Apache-2.0
"""Builders that lack something, lie, or fall silent: each ends in one line that says so, and nothing is left."""

from __future__ import annotations

import io
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from copacetic import llb
from copacetic.buildkit import build, schema
from copacetic.buildkit.grpc import Code, GrpcChannel, Handler, ServerCall
from copacetic.buildkit.solver import BuildkitSolver
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
    ExecutionError,
    ImageError,
    SolverError,
    UnsupportedBuilderError,
)
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import Inputs
from copacetic.oci import Digest, Platform
from copacetic.oci.filesystem import FileType
from support.builder.fakebuilder import CAPS, CONTROL, GATEWAY, FakeBuilder, answer, fake_builder, refuse
from support.image.images import Image, encode, make_image, make_layer

AMD64 = Platform.parse("linux/amd64")
FILE = llb.scratch().file(MakeFile(path="/f", data=b""))
DIFF = llb.diff(llb.image("docker.io/library/base:1"), llb.image("docker.io/library/base:1").run(["x"]).root)


@pytest.fixture
def builder() -> Iterator[FakeBuilder]:
    with fake_builder() as made:
        yield made


def _solver(builder: FakeBuilder, **options: Any) -> BuildkitSolver:
    return BuildkitSolver(builder.connect, "the builder", **options)


def _solve(solver: BuildkitSolver, state: llb.State = FILE) -> None:
    with solver.solve(state.marshal(AMD64), Inputs(), lambda _event: None):
        pass


def _failure(builder: FakeBuilder, state: llb.State = FILE, **options: Any) -> CopaError:
    """Return the error that a solve ends in, and make sure that nothing of it is left."""
    solver = _solver(builder, **options)
    try:
        with pytest.raises(CopaError) as caught:
            _solve(solver, state)
        deadline = time.monotonic() + 5
        while builder.open_streams and time.monotonic() < deadline:
            time.sleep(0.01)
        assert builder.open_streams == 0
    finally:
        solver.close()
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_honest_answer_is_taken(builder: FakeBuilder) -> None:
    solver = _solver(builder)

    with solver.solve(FILE.marshal(AMD64), Inputs(), lambda _event: None) as result:
        assert result.filesystem.iterdir("") == ()
    capabilities = solver.capabilities()
    solver.close()

    assert (capabilities.merge_diff, capabilities.platforms) == (True, (AMD64,))


def test_a_builder_whose_image_store_can_not_merge_is_told_apart(builder: FakeBuilder) -> None:
    reason = "only enabled with containerd image store backend"
    builder.caps.update(mergeop=reason, diffop=reason)

    error = _failure(builder, DIFF)
    solver = _solver(builder)
    capabilities = solver.capabilities()
    solver.close()

    assert isinstance(error, UnsupportedBuilderError)
    assert str(error) == f"the builder can't do diffop: {reason}"
    assert error.hint is not None
    assert "containerd image store" in error.hint
    assert (capabilities.merge_diff, reason in capabilities.reason) == (False, True)


def test_a_builder_too_old_to_know_merge_is_told_apart() -> None:
    with fake_builder(caps=[cap for cap in CAPS if cap not in {"mergeop", "diffop"}]) as builder:
        error = _failure(builder, DIFF)

    assert isinstance(error, UnsupportedBuilderError)
    assert str(error) == "the builder does not know diffop"


def test_what_a_graph_does_not_need_is_not_asked_of_the_builder() -> None:
    with fake_builder(caps=["file.base", "constraints", "platform"]) as builder:
        solver = _solver(builder)
        _solve(solver)
        solver.close()


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (f"{CONTROL}ListWorkers", BuilderUnreachableError),
        (f"{GATEWAY}Ping", SolverError),
        (f"{GATEWAY}Solve", SolverError),
    ],
)
def test_bytes_that_are_no_message_are_an_error(builder: FakeBuilder, method: str, kind: type[CopaError]) -> None:
    builder.methods[method] = answer(b"\xff" * 50)

    error = _failure(builder)

    assert isinstance(error, kind)
    assert "can't be read" in str(error)


def test_something_else_that_speaks_grpc_is_no_builder(builder: FakeBuilder) -> None:
    del builder.methods[f"{CONTROL}ListWorkers"]

    error = _failure(builder)

    assert isinstance(error, UnsupportedBuilderError)
    assert error.hint == "is that BuildKit? see `copa builders`"


def test_nobody_at_the_address_is_the_connection_s_own_error() -> None:
    def connect() -> Any:
        raise BuilderUnreachableError("nobody there")

    with pytest.raises(BuilderUnreachableError, match="nobody there"):
        BuildkitSolver(connect, "the builder").capabilities()


def test_a_connection_that_is_refused_is_no_traceback() -> None:
    def connect() -> Any:
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(BuilderUnreachableError, match="^the builder: connection refused$"):
        BuildkitSolver(connect, "the builder").capabilities()


def test_control_characters_of_a_builder_are_shown_and_not_sent(builder: FakeBuilder) -> None:
    builder.methods[f"{GATEWAY}Solve"] = refuse(message="\x1b[31mred\nline\x07")

    assert str(_failure(builder)) == "the builder: \\x1b[31mred\\x0aline\\x07"


def _details(**kinds: bytes) -> bytes:
    status = schema.types().Status(code=2)
    for kind, value in kinds.items():
        status.details.add(type_url=f"github.com/moby/buildkit/{kind}+json", value=value)
    data: bytes = status.SerializeToString()
    return data


def _log(builder: FakeBuilder, digest: bytes, name: bytes, *lines: bytes) -> None:
    """Let the builder tell of a vertex that failed after it had printed this."""

    def status(call: ServerCall) -> None:
        call.receive()
        message = schema.control().StatusResponse()
        vertex = message.vertexes.add(digest=digest, name=name, error=b"failed")
        vertex.started.seconds = 1
        for line in lines:
            message.logs.add(vertex=digest, msg=line)
        call.send(message.SerializeToString())

    builder.methods[f"{CONTROL}Status"] = status


def test_a_failed_process_is_named_with_its_code_and_its_last_lines(builder: FakeBuilder) -> None:
    details = _details(**{"errdefs.Vertex": b'{"digest":"sha256:a"}', "gatewayapi.ExitMessage": b'{"Code":100}'})
    builder.methods[f"{GATEWAY}Solve"] = refuse(message="process did not complete", details=details)
    _log(builder, b"sha256:a", b"upgrade", *(f"line {number}\n".encode() for number in range(30)))

    error = _failure(builder)

    assert isinstance(error, ExecutionError)
    assert (
        str(error)
        == "upgrade: failed with exit code 100; its last lines: line 25 | line 26 | line 27 | line 28 | line 29"
    )


def test_the_line_that_names_the_cause_is_shown_however_much_followed(builder: FakeBuilder) -> None:
    details = _details(**{"errdefs.Vertex": b'{"digest":"sha256:a"}', "gatewayapi.ExitMessage": b'{"Code":1}'})
    builder.methods[f"{GATEWAY}Solve"] = refuse(message="failed", details=details)
    _log(builder, b"sha256:a", b"upgrade", b"E: the ca", b"use\n", *(f"line {n}\n".encode() for n in range(90)))

    assert str(_failure(builder)) == (
        "upgrade: failed with exit code 1; its last lines: "
        "E: the cause | … | line 85 | line 86 | line 87 | line 88 | line 89"
    )


def test_a_line_without_end_and_bytes_that_are_no_text_are_bounded(builder: FakeBuilder) -> None:
    details = _details(**{"errdefs.Vertex": b'{"digest":"sha256:a"}', "gatewayapi.ExitMessage": b'{"Code":1}'})
    builder.methods[f"{GATEWAY}Solve"] = refuse(message="failed", details=details)
    _log(builder, b"sha256:a", b"\xff\xfe", *([b"\xff" * 100_000] * 20))

    assert len(str(_failure(builder))) < 500


@pytest.mark.parametrize("details", [b"\xff\xff", _details(**{"errdefs.Vertex": b"[" * 10_000}), _details(x=b"7")])
def test_details_that_are_none_do_no_harm(builder: FakeBuilder, details: bytes) -> None:
    builder.methods[f"{GATEWAY}Solve"] = refuse(message="it failed", details=details)

    assert str(_failure(builder)) == "the builder: it failed"


@pytest.mark.parametrize(
    ("message", "kind", "hint"),
    [
        ("write /x: no space left on device", SolverError, "free space on the builder"),
        ("no match for platform in manifest", UnsupportedBuilderError, "no such platform"),
        ("unknown API capability", UnsupportedBuilderError, "newer builder"),
        ("unexpected status from HEAD request: 401 Unauthorized", SolverError, "docker login"),
        ("base: failed to resolve source metadata for x: not found", SolverError, "reaches the registry"),
    ],
)
def test_known_causes_come_with_what_can_be_done(
    builder: FakeBuilder, message: str, kind: type[CopaError], hint: str
) -> None:
    builder.methods[f"{GATEWAY}Solve"] = refuse(message=message)

    error = _failure(builder)

    assert type(error) is kind
    assert hint in (error.hint or "")


def test_the_job_s_own_failure_is_told_when_the_gateway_only_knows_that_the_job_is_gone(builder: FakeBuilder) -> None:
    builder.methods[f"{GATEWAY}Ping"] = refuse(Code.NOT_FOUND, "forwarding Ping: no such job x")
    builder.methods[f"{CONTROL}Solve"] = refuse(message="the real reason")

    assert "the real reason" in str(_failure(builder))


def test_a_solve_that_takes_too_long_ends_with_what_was_running(builder: FakeBuilder) -> None:
    def status(call: ServerCall) -> None:
        call.receive()
        message = schema.control().StatusResponse()
        message.vertexes.add(digest=b"sha256:a", name=b"upgrade the packages").started.seconds = 1
        call.send(message.SerializeToString())
        _until_cancelled(threading.Event())(call)

    builder.methods[f"{CONTROL}Status"] = status
    builder.methods[f"{GATEWAY}Solve"] = _until_cancelled(threading.Event())

    error = _failure(builder, limit=1.5)

    assert str(error) == "the builder did not finish within 1.5 seconds, while this was running: upgrade the packages"


def test_a_builder_that_falls_silent_ends_in_a_reason(builder: FakeBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_SILENCE", 1.5)
    builder.methods[f"{GATEWAY}Solve"] = _until_cancelled(threading.Event())

    assert str(_failure(builder)).startswith("the builder has said nothing for 1.5 seconds")


def test_a_connection_that_breaks_in_the_middle_ends_the_solve_and_the_next_one_makes_a_new_one(
    builder: FakeBuilder,
) -> None:
    gone = threading.Event()

    def vanish(call: ServerCall) -> None:
        call.receive()
        builder.close()
        gone.set()

    honest = builder.methods[f"{GATEWAY}Solve"]
    builder.methods[f"{GATEWAY}Solve"] = vanish
    solver = _solver(builder)
    with pytest.raises(SolverError, match="closed the connection|broke|ended the connection"):
        _solve(solver)
    assert gone.wait(10)

    builder.methods[f"{GATEWAY}Solve"] = honest
    _solve(solver)
    solver.close()


def _until_cancelled(cancelled: threading.Event, started: threading.Event | None = None) -> Handler:
    """Return a handler that answers only when its client has lost interest, by then with nobody to hear it."""

    def handle(call: ServerCall) -> None:
        call.receive()
        if started:
            started.set()
        for _ in range(400):
            if call._stream.reset_code is not None:
                cancelled.set()
                return
            time.sleep(0.05)

    return handle


def test_an_interrupt_and_a_second_one_cancel_everything(builder: FakeBuilder) -> None:
    cancelled, started = threading.Event(), threading.Event()
    builder.methods[f"{GATEWAY}Solve"] = _until_cancelled(cancelled, started)
    solver = _solver(builder)
    solver.capabilities()

    def interrupt_twice() -> None:
        started.wait(10)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)

    interrupter = threading.Thread(target=interrupt_twice)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        try:
            _solve(solver)
        finally:
            with suppress(KeyboardInterrupt):
                interrupter.join()

    assert cancelled.wait(5)
    deadline = time.monotonic() + 5
    while builder.open_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    assert builder.open_streams == 0
    solver.close()


def test_a_listener_that_fails_does_not_end_the_solve(builder: FakeBuilder) -> None:
    _log(builder, b"sha256:a", b"x", b"text")
    solver = _solver(builder)

    def listen(_event: object) -> None:
        raise ZeroDivisionError

    with solver.solve(FILE.marshal(AMD64), Inputs(), listen):
        pass
    solver.close()


def test_twenty_solves_at_once_share_one_connection(builder: FakeBuilder) -> None:
    connections: list[object] = []

    def connect() -> Any:
        connections.append(1)
        return builder.connect()

    solver = BuildkitSolver(connect, "the builder")
    solver.capabilities()
    barrier, failures = threading.Barrier(20), list[BaseException]()

    def solve() -> None:
        try:
            barrier.wait(10)
            with solver.solve(FILE.marshal(AMD64), Inputs(), lambda _event: None) as result:
                assert result.filesystem.iterdir("") == ()
                solver.capabilities()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=solve) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    solver.close()

    assert failures == []
    assert len(connections) == 1


# What a builder says of files.


def _stat(path: bytes, **fields: Any) -> Any:
    return schema.types().Stat(path=path, **fields)


def _with_listing(builder: FakeBuilder, listing: dict[bytes, list[Any]]) -> tuple[BuildkitSolver, Any]:
    builder.listing = listing
    solver = _solver(builder)
    return solver, solver.solve(FILE.marshal(AMD64), Inputs(), lambda _event: None)


def test_names_that_lead_elsewhere_are_left_out(builder: FakeBuilder) -> None:
    names = [b"", b".", b"..", b"a\0b", b"fine", b"socket"]
    listing = {b"/": [_stat(name, mode=1 << 24 if name == b"socket" else 0o644) for name in names]}
    solver, solving = _with_listing(builder, listing)

    with solving as result:
        assert result.filesystem.iterdir("") == ("fine",)
        assert result.filesystem.lookup("..") == result.filesystem.lookup("")
    solver.close()


def test_links_of_a_result_lead_nowhere_but_inside(builder: FakeBuilder) -> None:
    listing = {
        b"/": [
            _stat(b"up", mode=1 << 27, linkname=b"../../../../etc/passwd"),
            _stat(b"loop", mode=1 << 27, linkname=b"loop"),
            _stat(b"etc", mode=1 << 31 | 0o755),
        ],
        b"/etc": [_stat(b"passwd", mode=0o644, size=3)],
    }
    solver, solving = _with_listing(builder, listing)
    asked: list[bytes] = []

    def read_file(call: ServerCall) -> None:
        request = schema.gateway().ReadFileRequest.FromString(call.receive() or b"")
        asked.append(request.path)
        call.send(schema.gateway().ReadFileResponse(data=b"abc").SerializeToString())

    builder.methods[f"{GATEWAY}ReadFile"] = read_file
    with solving as result:
        assert result.filesystem.read("up", limit=10) == b"abc"
        with pytest.raises(ImageError, match="too many levels"):
            result.filesystem.lookup("loop")
    solver.close()

    assert asked == [b"/etc/passwd"]


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd", bytes(2 << 20)], ids=["nothing", "less", "more", "far more"])
def test_a_file_that_is_not_as_long_as_it_was_said_is_refused(builder: FakeBuilder, data: bytes) -> None:
    solver, solving = _with_listing(builder, {b"/": [_stat(b"f", mode=0o644, size=3)]})
    builder.methods[f"{GATEWAY}ReadFile"] = answer(schema.gateway().ReadFileResponse(data=data).SerializeToString())

    with pytest.raises(SolverError, match="the builder returned"), solving as result:
        result.filesystem.read("f", limit=10)
    solver.close()


def test_a_size_below_zero_and_odd_kinds_are_refused_or_named(builder: FakeBuilder) -> None:
    listing = {
        b"/": [_stat(b"device", mode=1 << 26 | 1 << 21 | 0o600, devmajor=1, devminor=3), _stat(b"fifo", mode=1 << 25)],
        b"/device": [],
    }
    solver, solving = _with_listing(builder, listing)
    with solving as result:
        device, fifo = result.filesystem.lookup("device"), result.filesystem.lookup("fifo")
        assert device is not None
        assert fifo is not None
        assert (device.type, device.device, fifo.type) == (FileType.CHARACTER_DEVICE, (1, 3), FileType.FIFO)
    builder.listing = {b"/": [_stat(b"f", mode=0o644, size=-1)]}
    with (
        pytest.raises(SolverError, match="-1 bytes"),
        solver.solve(FILE.marshal(AMD64), Inputs(), lambda _event: None) as result,
    ):
        result.filesystem.iterdir("")
    solver.close()


def test_directories_without_end_are_refused(builder: FakeBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copacetic.buildkit.filesystem._MAX_DEPTH", 200)

    def read_dir(call: ServerCall) -> None:
        call.receive()
        response = schema.gateway().ReadDirResponse(entries=[_stat(b"d", mode=1 << 31 | 0o755)])
        call.send(response.SerializeToString())

    builder.methods[f"{GATEWAY}ReadDir"] = read_dir
    solver = _solver(builder)

    with (
        pytest.raises(ImageError, match="nested too deep"),
        solver.solve(FILE.marshal(AMD64), Inputs(), lambda _event: None) as result,
    ):
        for _ in result.filesystem.walk():
            pass
    solver.close()


# What a builder exports.


def _export(builder: FakeBuilder, archive: bytes, folder: Path, **options: Any) -> tuple[Any, ...]:
    folder.mkdir()

    def export(session: GrpcChannel) -> None:
        call = session.call("/moby.filesync.v1.FileSend/DiffCopy")
        message = schema.session().BytesMessage
        for start in range(0, len(archive), 50_000):
            call.send(message(data=archive[start : start + 50_000]).SerializeToString(), 10)
        call.end()
        call.receive(10)

    solver = _solver(builder, **options)
    solver.capabilities()
    builder.on_solve = export
    try:
        return solver.export(FILE.marshal(AMD64), Inputs(), lambda _event: None, folder=folder)
    finally:
        solver.close()


def _archive(image: Image, *, index: bytes | None = None, drop: str = "", swap: bytes | None = None) -> bytes:
    """An OCI archive as a builder sends it, or one with something wrong."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        members = {f"blobs/sha256/{digest.encoded}": data for digest, data in image.blobs.items()}
        members["index.json"] = index or encode({"schemaVersion": 2, "manifests": [image.descriptor.to_json()]})
        members["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        for name, data in members.items():
            if drop and drop in name:
                continue
            content = swap if swap is not None and name.startswith("blobs/") else data
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _two_layers() -> Image:
    return make_image([make_layer({"a": "1"}, compression="none"), make_layer({"b": "2" * 9_999}, compression="zstd")])


def test_layers_come_as_plain_tars_whatever_they_were_compressed_with(builder: FakeBuilder, tmp_path: Path) -> None:
    image = _two_layers()

    layers = _export(builder, _archive(image), tmp_path / "out")

    assert [layer.path.read_bytes() for layer in layers] == [layer.plain for layer in image.layers]
    assert [layer.digest for layer in layers] == [layer.diff_id for layer in image.layers]
    assert {layer.path for layer in layers} == set((tmp_path / "out").iterdir())


def _lying_diff_id() -> bytes:
    image = _two_layers()
    return _archive(
        make_image(image.layers, config={"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"x"))] * 2}})
    )


def _one_diff_id() -> bytes:
    image = _two_layers()
    ids = [str(image.layers[0].diff_id)]
    return _archive(make_image(image.layers, config={"rootfs": {"type": "layers", "diff_ids": ids}}))


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (b"", "."),
        (b"no tar at all" * 100, "archive is broken"),
        (_archive(_two_layers())[:30_000][:3_000], "truncated|lacks|index"),
        (_archive(_two_layers(), swap=b"other bytes"), "not what its name says"),
        (_archive(_two_layers(), drop=_two_layers().layers[1].descriptor.digest.encoded), "archive lacks"),
        (_archive(_two_layers(), index=encode({"schemaVersion": 2, "manifests": []})), "exported 0 images"),
        (_archive(_two_layers(), index=b"{"), "."),
        (_archive(_two_layers(), drop="index.json"), "."),
        (_lying_diff_id(), "can't be unpacked|not what its diff_id says"),
        (_one_diff_id(), "different numbers of layers"),
    ],
    ids=["empty", "no tar", "cut", "swapped", "a layer less", "no image", "no JSON", "no index", "diff_id", "diff_ids"],
)
def test_an_archive_that_lies_is_refused(builder: FakeBuilder, tmp_path: Path, archive: bytes, problem: str) -> None:
    with pytest.raises(SolverError, match=problem) as caught:
        _export(builder, archive, tmp_path / "out")

    assert "\n" not in str(caught.value)


def test_an_archive_without_end_is_cut_off(builder: FakeBuilder, tmp_path: Path) -> None:
    with pytest.raises(SolverError, match="exports more than 100000 bytes"):
        _export(builder, _archive(_two_layers()) + bytes(1 << 20), tmp_path / "out", export_limit=100_000)


def test_a_layer_that_grows_without_end_is_cut_off(builder: FakeBuilder, tmp_path: Path) -> None:
    bomb = make_image([make_layer(bytes(20 << 20), compression="zstd")])

    with pytest.raises(SolverError, match="can't be unpacked"):
        _export(builder, _archive(bomb), tmp_path / "out", export_limit=5 << 20)


def test_names_in_an_archive_never_become_paths_here(builder: FakeBuilder, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("../escaped", "/absolute", "blobs/sha256/../../escaped"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))

    with pytest.raises(CopaError):
        _export(builder, stream.getvalue(), tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_builder_that_exports_nothing_is_an_error(builder: FakeBuilder, tmp_path: Path) -> None:
    solver = _solver(builder)

    with pytest.raises(CopaError):
        solver.export(FILE.marshal(AMD64), Inputs(), lambda _event: None, folder=tmp_path)
    solver.close()
