# SPDX-License-Identifier: Apache-2.0
"""A real buildkitd that is killed, fills its disk, is flooded, or must log in; and what only a real one can show."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from copacetic import llb
from copacetic.buildkit.solver import BuildkitSolver
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
    ExecutionError,
    SolverError,
    StorageError,
)
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import Event, Inputs
from copacetic.oci import Platform
from copacetic.oci.credentials import Credentials
from support.builder.builder import BASE, Builder, registry_with_base
from support.builder.buildkitd import Buildkitd, buildkitd
from support.builder.running import count_runs
from support.image.busybox import busybox_image
from support.image.elf import shared_object
from support.image.images import skopeo, small_disk, write_layout
from support.server.registry import HTPASSWD, PASSWORD, USER, docker_registry

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("buildkit")]

AMD64 = Platform.parse("linux/amd64")
ENV = {"PATH": "/bin"}


def _shell(script: str, *, name: str = "a script", network: llb.Network = llb.Network.NONE) -> llb.State:
    return llb.image(BASE).run(["/bin/sh", "-euc", script], env=ENV, network=network, name=name).root


@contextmanager
def _solver(daemon: Buildkitd, *, limit: float = 120) -> Iterator[BuildkitSolver]:
    solver = BuildkitSolver(daemon.connect, daemon.address, limit=limit)
    try:
        yield solver
    finally:
        solver.close()


def _solve(solver: BuildkitSolver, state: llb.State, inputs: Inputs | None = None, path: str = "") -> str:
    with solver.solve(state.marshal(AMD64), inputs or Inputs(), lambda _event: None) as result:
        return result.filesystem.read(path, limit=1 << 16).decode() if path else ""


def _failure(solver: BuildkitSolver, state: llb.State, inputs: Inputs | None = None) -> CopaError:
    with pytest.raises(CopaError) as caught:
        _solve(solver, state, inputs)
    assert "\n" not in str(caught.value)
    return caught.value


def _wait_for_child(daemon: Buildkitd, program: str) -> None:
    deadline = time.monotonic() + 20
    while not any(program in words for words in daemon.children()):
        assert time.monotonic() < deadline, daemon.children()
        time.sleep(0.02)


def _wait_for_no_child(daemon: Buildkitd, program: str) -> None:
    deadline = time.monotonic() + 20
    while any(program in words for words in daemon.children()):
        assert time.monotonic() < deadline, daemon.children()
        time.sleep(0.02)


def test_a_builder_that_is_killed_in_the_middle_is_told_with_what_it_ran() -> None:
    with registry_with_base() as (host, _), buildkitd(mirrors={"docker.io": host}) as daemon, _solver(daemon) as solver:

        def kill() -> None:
            _wait_for_child(daemon, "1234567")
            daemon.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        error = _failure(solver, _shell("sleep 1234567", name="upgrade the packages"))
        killer.join()

        assert "closed the connection" in str(error) or "broke" in str(error)
        assert str(error).endswith("while this was running: upgrade the packages")
        assert error.hint == "see the builder's log: was it stopped?"
        # On the old connection, if nobody has noticed yet that it is dead, or on none.
        with pytest.raises(BuilderUnreachableError, match="connection refused|socket broke: "):
            _solve(solver, llb.image(BASE))


def test_nothing_is_mounted_or_runs_when_a_builder_has_been_stopped() -> None:
    with registry_with_base() as (host, _), buildkitd(mirrors={"docker.io": host}) as daemon, _solver(daemon) as solver:
        _solve(solver, _shell("true"))
        folder = str(daemon.folder)

    assert folder not in Path("/proc/mounts").read_text()
    assert not Path(folder).exists()


def test_a_process_that_hangs_is_ended_when_its_time_is_over(buildkit: Builder) -> None:
    with _solver(buildkit.daemon, limit=2) as solver:
        error = _failure(solver, _shell("echo before; sleep 7654321", name="a hanging script"))

    assert "did not finish within 2 seconds, while this was running: a hanging script" in str(error)
    _wait_for_no_child(buildkit.daemon, "7654321")


def test_a_process_that_floods_its_output_neither_stops_nor_fills_the_memory(buildkit: Builder) -> None:
    state = _shell(f"head -c 60000000 /dev/zero | tr '\\0' x; echo; echo done > /out # {time.time_ns()}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with _solver(buildkit.daemon) as solver:
        assert _solve(solver, state, path="out") == "done\n"

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


def test_a_process_that_floods_and_fails_shows_its_last_lines(buildkit: Builder) -> None:
    script = f"seq 1 100000; echo 'the cause' >&2; exit 3 # {time.time_ns()}"

    with _solver(buildkit.daemon) as solver:
        error = _failure(solver, _shell(script, name="flooding"))

    assert isinstance(error, ExecutionError)
    assert str(error).startswith("flooding: failed with exit code 3")
    assert len(str(error)) < 2_100


def test_a_full_disk_is_told_as_such() -> None:
    with (
        registry_with_base() as (host, _),
        buildkitd(mirrors={"docker.io": host}, disk="48m") as daemon,
        _solver(daemon) as solver,
    ):
        error = _failure(solver, _shell("cat /dev/zero > /big", name="filling the disk"))

    assert "filling the disk" in str(error)
    assert "disk is full" in str(error)
    assert error.hint is not None
    assert "free space" in error.hint


def test_a_full_disk_here_is_told_as_ours(buildkit: Builder, tmp_path: Path) -> None:
    state = _shell("head -c 5000000 /dev/urandom > /big")
    with small_disk(tmp_path / "small") as disk, _solver(buildkit.daemon) as solver:
        (disk / "layers").mkdir()
        with pytest.raises(StorageError, match="no space left"):
            difference = llb.diff(llb.image(BASE), state)
            solver.export(difference.marshal(AMD64), Inputs(), lambda _event: None, folder=disk / "layers")


def test_a_program_for_another_processor_is_told_as_such(buildkit: Builder) -> None:
    program = shared_object(machine=183, filler=bytes(100))
    state = llb.image(BASE).file(MakeFile(path="/foreign", data=program, mode=0o755))

    with _solver(buildkit.daemon) as solver:
        error = _failure(solver, state.run(["/foreign"], network=llb.Network.NONE, name="foreign").root)

    assert "foreign" in str(error)
    assert isinstance(error, SolverError)
    assert "binfmt" in (error.hint or "")


@contextmanager
def _closed_registry(tmp_path: Path) -> Iterator[str]:
    layout = write_layout(tmp_path / "layout", {"1": busybox_image()})
    with docker_registry(tmp_path, htpasswd=HTPASSWD) as host:
        options = ("--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}", "--preserve-digests")
        skopeo("copy", *options, f"oci:{layout}:1", f"docker://{host}/closed/base:1")
        yield host


def test_a_registry_that_wants_a_login_gets_the_one_of_the_client(tmp_path: Path) -> None:
    asked: list[str] = []

    def find(registry: str) -> Credentials | None:
        asked.append(registry)
        return Credentials(username=USER, password=PASSWORD)

    with _closed_registry(tmp_path) as host, buildkitd(registries=[host]) as daemon, _solver(daemon) as solver:
        state = llb.image(f"{host}/closed/base:1")
        denied = _failure(solver, state)
        assert _solve(solver, state, Inputs(credentials=find), "old/file") == "old\n"

        assert set(asked) == {host}
        assert "401 Unauthorized" in str(denied)
        assert "log in" in (denied.hint or "")
        assert PASSWORD not in daemon.log()


def test_a_client_that_is_killed_leaves_nothing_running(buildkit: Builder) -> None:
    code = textwrap.dedent(
        f"""
        import socket, sys
        from copacetic import llb
        from copacetic.buildkit.solver import BuildkitSolver
        from copacetic.llb.solver import Inputs
        from copacetic.oci import Platform
        def connect():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect({str(buildkit.daemon.path)!r})
            return connection
        state = llb.image({BASE!r}).run(["/bin/sleep", "9876543"], network=llb.Network.NONE).root
        with BuildkitSolver(connect, "b").solve(state.marshal(Platform.parse("linux/amd64")), Inputs(), print):
            pass
        """
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_child(buildkit.daemon, "9876543")
    finally:
        client.kill()
        client.wait()

    _wait_for_no_child(buildkit.daemon, "9876543")


def test_solves_are_counted_by_what_is_told(buildkit: Builder, tmp_path: Path) -> None:
    """One solve and the export in it run the process once; the same again runs nothing."""
    name = f"counted {time.time_ns()}"
    state = _shell(f"echo x > /new # {name}", name=name)
    ran: list[int] = []
    with _solver(buildkit.daemon) as solver:
        for round_ in range(2):
            events: list[Event] = []
            folder = tmp_path / str(round_)
            folder.mkdir()
            with solver.solve(state.marshal(AMD64), Inputs(), events.append):
                solver.export(llb.diff(llb.image(BASE), state).marshal(AMD64), Inputs(), events.append, folder=folder)
            ran.append(count_runs(events, name))

    assert ran == [1, 0]
