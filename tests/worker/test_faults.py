# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while something runs: time, output, disk, and the worker itself being killed. Nothing is left."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.solving import AMD64, Recorder, base, read, shell
from copacetic import llb
from copacetic.cache import Cache
from copacetic.errors import ExecutionError, SolverError, UnsupportedBuilderError
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import EventKind, Inputs
from copacetic.oci import Platform
from copacetic.worker import WorkerSettings, WorkerSolver
from copacetic.worker.execution import Limits
from copacetic.worker.inside import server
from copacetic.worker.inside.channel import Channel
from support.builder.builder import BASE
from support.builder.processes import children_of
from support.builder.worker import mounts_in, open_worker, runs_in
from support.image.busybox import busybox_image
from support.image.images import MemorySource, small_disk

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]
LIMITS = Limits(seconds=2, output=100_000)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return (request.param,) if request.param else ()


@pytest.fixture
def solver(mode: tuple[str, ...], tmp_path: Path) -> Iterator[WorkerSolver]:
    with open_worker(tmp_path / "worker", modes=mode, images={BASE: busybox_image()}, limits=LIMITS) as worker:
        yield worker


def test_a_program_that_hangs_is_ended_with_its_children(solver: WorkerSolver) -> None:
    token = str(6_000_000 + random.randrange(900_000))
    state = shell(
        f"echo waiting; trap '' TERM INT; (trap '' TERM; sleep {token}) & wait; sleep {token}", name="hang"
    ).root
    started = time.monotonic()

    with pytest.raises(ExecutionError, match="hang: did not end within 2 seconds.*waiting"):
        read(solver, state, "out")

    assert time.monotonic() - started < 20
    assert _running(token) == []


def test_a_program_that_floods_is_ended(solver: WorkerSolver) -> None:
    recorder = Recorder()
    state = shell("yes flood", name="flood").root

    with (
        pytest.raises(ExecutionError, match="flood: said more than 100000 bytes"),
        solver.solve(state.marshal(AMD64), Inputs(), recorder),
    ):
        pass

    assert len(recorder.output("flood")) <= 100_000
    assert read(solver, base(), "old/file") == ["old\n"]


def test_the_line_that_names_the_cause_is_shown_however_much_followed(solver: WorkerSolver) -> None:
    said = "dpkg: regarding a.deb containing a, pre-dependency problem:\\n a pre-depends on b\\n"
    state = shell(f"printf '{said}' >&2; seq 1 9000; exit 1", name="install").root

    with pytest.raises(ExecutionError) as caught:
        read(solver, state, "out")

    assert str(caught.value) == (
        "install: failed with exit code 1; its last lines: dpkg: regarding a.deb containing a, pre-dependency problem: "
        "| a pre-depends on b | … | 8996 | 8997 | 8998 | 8999 | 9000"
    )


def test_an_endless_line_is_not_kept(solver: WorkerSolver) -> None:
    state = shell("head -c 90000 /dev/zero | tr '\\0' x; exit 1", name="line").root

    with pytest.raises(ExecutionError) as caught:
        read(solver, state, "out")

    assert len(str(caught.value)) < 1_000


def test_a_full_disk_is_said_to_be_full(mode: tuple[str, ...], tmp_path: Path) -> None:
    image = busybox_image()
    with (
        small_disk(tmp_path / "disk", megabytes=16) as disk,
        open_worker(disk / "worker", modes=mode, images={BASE: image}) as worker,
    ):
        state = shell("head -c 100000000 /dev/zero > /srv/big", name="fill").root
        with pytest.raises(ExecutionError, match="disk is full") as caught:
            read(worker, state, "out")
        assert "cache" in str(caught.value.hint)

        assert read(worker, shell("rm -f /srv/big; echo fine > /out").root, "out") == ["fine\n"]


def test_a_disk_that_is_too_small_for_the_image_is_said_to_be(mode: tuple[str, ...], tmp_path: Path) -> None:
    image = busybox_image()
    with (
        small_disk(tmp_path / "disk", megabytes=1) as disk,
        open_worker(disk / "worker", modes=mode, images={BASE: image}) as worker,
    ):
        with pytest.raises(SolverError, match="No space left on device") as caught:
            read(worker, base(), "old/file")
        assert caught.value.hint


def test_a_failed_run_is_no_result_for_the_next_one(solver: WorkerSolver, tmp_path: Path) -> None:
    flag = tmp_path / "inputs"
    flag.mkdir()
    state = shell("test -e /in/go && echo went > /out", mounts=[llb.Bind(dest="/in", source=llb.local("in"))]).root
    inputs = Inputs(directories={"in": flag})

    with pytest.raises(ExecutionError):
        read(solver, state, "out", inputs=inputs)
    (flag / "go").touch()

    assert read(solver, state, "out", inputs=inputs) == ["went\n"]


def test_another_state_of_a_directory_is_another_run(solver: WorkerSolver, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "f").write_text("one")
    state = shell("cp /in/f /out", mounts=[llb.Bind(dest="/in", source=llb.local("in"))]).root
    inputs = Inputs(directories={"in": folder})

    first = read(solver, state, "out", inputs=inputs)
    (folder / "f").write_text("two")

    assert (first, read(solver, state, "out", inputs=inputs)) == (["one"], ["two"])


def test_programs_for_another_architecture_are_refused_in_words(solver: WorkerSolver) -> None:
    state = shell("true").root.marshal(Platform.parse("linux/mips64le"))  # of which nobody knows an emulator

    with pytest.raises(SolverError, match="mips64le"), solver.solve(state, Inputs(), Recorder()):
        pass


def test_exporting_into_a_folder_that_is_not_there_is_one_line(solver: WorkerSolver, tmp_path: Path) -> None:
    state = llb.scratch().file(MakeFile(path="/f", data=b"x"))

    with pytest.raises(SolverError, match=r"can't write the layer .*nowhere"):
        solver.export(state.marshal(AMD64), Inputs(), Recorder(), folder=tmp_path / "nowhere")


def test_a_closed_worker_says_so(solver: WorkerSolver) -> None:
    solver.close()
    solver.close()

    with pytest.raises(SolverError, match="closed"):
        read(solver, base(), "old/file")


def test_twenty_solves_with_writes_do_not_meet(mode: tuple[str, ...], tmp_path: Path) -> None:
    found: list[str] = []
    script = "test ! -e /srv/n; echo {0} > /srv/n; sleep 0.1; cp /srv/n /out"

    def solve(first: int) -> None:
        for number in range(first, 20, 4):
            found.extend(read(worker, shell(script.format(number)).root, "out"))

    threads = [threading.Thread(target=solve, args=(first,)) for first in range(4)]
    with open_worker(tmp_path, modes=mode, images={BASE: busybox_image()}) as worker:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(found) == sorted(f"{number}\n" for number in range(20))


def test_what_was_solved_long_ago_is_removed(mode: tuple[str, ...], tmp_path: Path) -> None:
    from copacetic.worker.results import Results

    with open_worker(tmp_path, modes=mode, images={BASE: busybox_image()}) as worker:
        worker.capabilities()
        assert worker._workshop is not None
        worker._workshop.results = Results(keep=3)
        for number in range(8):
            read(worker, shell(f"echo {number} > /out").root, "out")
        uppers = [path for path in runs_in(tmp_path) if path.is_dir()]
        kept = [path for run in uppers for path in run.iterdir() if (path / "out").exists()]

        assert len(kept) <= 3


_VICTIM = """
import sys
import tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from contract.solving import Recorder, AMD64, shell, base
from copacetic import llb
from copacetic.cache import Cache
from copacetic.llb.solver import Inputs
from copacetic.worker import WorkerSettings, WorkerSolver
from support.image.busybox import busybox_image
from support.image.images import MemorySource
image = busybox_image()
modes = tuple(filter(None, sys.argv[3].split()))
worker = WorkerSolver(WorkerSettings(cache=Cache(Path(sys.argv[2])), modes=modes, open_image=lambda name: MemorySource(image, name)))
token = sys.argv[4]
script = f"(setsid sleep {token} &); i=0; while true; do i=$((i+1)); echo $i > /srv/$i; sleep 0.01; done; sleep {token}"
print("go", flush=True)
for number in range(1000):
    mounts = [llb.Tmpfs(dest="/tmp/t"), llb.Bind(dest="/ro", source=base())]
    state = shell(f"sleep 0.02; echo {number} > /out", mounts=mounts).root if number < 3 else shell(script, mounts=mounts).root
    with worker.solve(state.marshal(AMD64), Inputs(), Recorder()):
        pass
"""


TIMES = [2, pytest.param(20, marks=pytest.mark.soak)]
"""How often something is stopped, each time at another moment."""


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_leaves_nothing_running_and_nothing_mounted(
    mode: tuple[str, ...], tmp_path: Path, number: signal.Signals, times: int
) -> None:
    folder = tmp_path / "worker"
    chance = random.Random(20 + times)
    for _ in range(times):
        token = str(5_000_000 + chance.randrange(900_000))
        arguments = [str(Path(__file__).parents[1]), str(folder), " ".join(mode), token]
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, *arguments], stdout=subprocess.PIPE, start_new_session=True
        )  # fmt: skip
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"go\n"
        time.sleep(chance.random() * 1.2)
        helpers = children_of(victim.pid)
        victim.send_signal(number)
        victim.wait()
        victim.stdout.close()

        assert _until(lambda token=token: _running(token) == [])
        assert _until(lambda helpers=helpers: not any(Path(f"/proc/{pid}").exists() for pid in helpers))
        assert _until(lambda: mounts_in(folder) == [])

    with open_worker(folder, modes=mode, images={BASE: busybox_image()}) as worker:
        assert read(worker, shell("echo works > /out").root, "out") == ["works\n"]
        mine = [path for path in runs_in(folder) if path.suffix != ".lock"]
        assert len(mine) == 1, "what dead runs have left was not removed"


def test_a_worker_whose_helper_is_killed_says_so_and_leaves_nothing(mode: tuple[str, ...], tmp_path: Path) -> None:
    token = str(4_000_000 + random.randrange(900_000))
    worker = WorkerSolver(WorkerSettings(cache=Cache(tmp_path), modes=mode, open_image=_open))
    worker.capabilities()

    def kill() -> None:
        _until(lambda: _running(token) != [])
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SolverError, match="helper process"):
        read(worker, shell(f"exec sleep {token}").root, "out")
    killer.join()
    worker.close()

    assert _until(lambda: _running(token) == [])
    assert mounts_in(tmp_path) == []


def _open(name: str) -> MemorySource:
    return MemorySource(busybox_image(), name)


@pytest.mark.parametrize("times", TIMES)
def test_an_interrupt_during_any_moment_leaves_nothing(mode: tuple[str, ...], tmp_path: Path, times: int) -> None:
    """Ctrl-C, twice: the second one while the first one is being cleaned up after."""
    chance = random.Random(7 + times)
    for _ in range(times):
        token = str(3_000_000 + chance.randrange(900_000))
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM.replace("for number", "try:\n  for number").replace("\n    ", "\n      ")
             + "\nfinally:\n  worker.close()\n", str(Path(__file__).parents[1]), str(tmp_path), " ".join(mode), token],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"go\n"
        time.sleep(chance.random())
        os.killpg(victim.pid, signal.SIGINT)
        time.sleep(chance.random() * 0.05)
        os.killpg(victim.pid, signal.SIGINT)
        assert victim.wait(30) != 0
        victim.stdout.close()

        assert _until(lambda token=token: _running(token) == [])
        assert _until(lambda: mounts_in(tmp_path) == [])


def test_no_mode_at_all_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBuilderError) as caught:
        WorkerSolver(WorkerSettings(cache=Cache(tmp_path), modes=("none",))).capabilities()

    assert "unpack" in str(caught.value.hint)
    assert runs_in(tmp_path) == []


def test_an_exported_layer_that_fails_half_way_is_no_layer(solver: WorkerSolver, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        (disk / "layers").mkdir()
        with pytest.raises(SolverError, match=r"can't write the layer .*No space left on device"):
            solver.export(base().marshal(AMD64), Inputs(), Recorder(), folder=disk / "layers")


def test_a_run_that_was_cached_is_told_as_such_and_a_failed_one_is_told_once(solver: WorkerSolver) -> None:
    recorder = Recorder()
    state = shell("exit 1", name="fails").root

    with pytest.raises(ExecutionError), solver.solve(state.marshal(AMD64), Inputs(), recorder):
        pass

    kinds = [event.kind for event in recorder.events if event.name == "fails"]
    assert kinds == [EventKind.STARTED, EventKind.FAILED]


def _running(token: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if token.encode() in words and b"sleep" in words[0]:
            found.append(path.parent.name)
    return found


def _until(condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_machine_that_has_no_process_to_spare_refuses_one_job_and_keeps_its_helper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        job = Channel(ours)
        job.send({"a": "request"}, [file.fileno()])
        monkeypatch.setattr(os, "fork", no_more)

        assert server._fork(theirs.fileno()) == -1

        received = job.receive()
        assert received is not None
        assert received[0]["refused"] == "storage"
        assert received[0]["reason"] == "Resource temporarily unavailable"
