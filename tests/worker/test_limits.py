# SPDX-License-Identifier: Apache-2.0
"""What a program may take of this machine, tried by programs that take more: one clear line, and nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract.solving import AMD64, Recorder, exported, read, shell
from copacetic import llb
from copacetic.cache import Cache
from copacetic.cli.sandbox import worker_limits
from copacetic.errors import ExecutionError, SolverError
from copacetic.llb.graph import MakeFile, Mount
from copacetic.llb.solver import Inputs
from copacetic.progress import Silent
from copacetic.session import Settings, open_solver
from copacetic.worker.execution import Limits
from copacetic.worker.inside import guard
from support.builder.builder import BASE
from support.builder.running import running_with
from support.builder.worker import compile_c, open_worker
from support.image.busybox import busybox_image
from support.image.images import MemorySource

pytestmark = pytest.mark.system
MODES = ["root", "all", "chroot"] if os.geteuid() == 0 else [""]
MIB = 1 << 20
every_mode = pytest.mark.parametrize("mode", MODES)


def attempt(folder: Path, mode: str, limits: Limits, script: str, program: bytes = b"") -> str:
    """Run a script, with a program at /tool, that must not end well; return the error, and see that nothing is left."""
    token = str(8_000_000 + os.getpid())
    tool = llb.scratch().file(MakeFile(path="/tool", data=program, mode=0o755))
    mounts: list[Mount] = [
        llb.Bind(dest="/tool", source=tool, selector="/tool"),
        llb.Bind(dest="/written", source=None, readonly=False),
    ]
    state = shell(script.replace("TOKEN", token), name="greedy", mounts=mounts).root
    with open_worker(folder, modes=[mode] if mode else [], images={BASE: busybox_image()}, limits=limits) as worker:
        with pytest.raises(ExecutionError) as caught, worker.solve(state.marshal(AMD64), Inputs(), Recorder()):
            pass
        assert running_with(token) == []
        assert read(worker, shell("echo well > /out").root, "out") == ["well\n"], "it is of no use any more"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_mode
def test_a_program_that_multiplies_is_ended(mode: str, tmp_path: Path) -> None:
    limits = Limits(seconds=60, processes=50)

    said = attempt(tmp_path, mode, limits, "while true; do setsid sleep TOKEN & done")

    ended = said.startswith("greedy: had more than 50 processes and threads, and was ended")
    assert ended or "can't fork: Resource temporarily unavailable" in said  # the kernel was first


FORKS = """
    #include <stdio.h>
    #include <sys/mman.h>
    #include <unistd.h>
    int main(int arguments, char **argument) {
        int *tried = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), made = 0;
        while (__sync_add_and_fetch(tried, 1) < MOST) {
            int pid = fork();
            if (pid == 0 && arguments < 2) for (;;) pause();
            if (pid > 0) { printf("%d\\n", ++made); fflush(stdout); }
        }
        sleep(50);
    }"""
"""Each child waits; with an argument it has children, too. No more than MOST: who shares this machine needs some."""


def _is_bound_by_the_kernel(mode: str) -> bool:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return mode != "chroot" and (release >= (6, 14) or os.geteuid() != 0)


@every_mode
def test_nobody_multiplies_faster_than_anybody_looks(mode: str, tmp_path: Path) -> None:
    """The kernel stops it at some hundreds more; where it can't, all are ended at once."""
    most = 3000 if _is_bound_by_the_kernel(mode) else 600

    said = attempt(tmp_path, mode, Limits(seconds=40, processes=100), "/tool", compile_c(FORKS, MOST=most))

    assert "had more than 100 processes and threads" in said
    assert int(said.rpartition(" ")[2]) < 100 + 600


@every_mode
def test_what_doubles_itself_is_ended(mode: str, tmp_path: Path) -> None:
    most = 3000 if _is_bound_by_the_kernel(mode) else 600

    said = attempt(tmp_path, mode, Limits(seconds=40, processes=200), "/tool all", compile_c(FORKS, MOST=most))

    assert "had more than 200 processes and threads" in said


TAKE = """
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <unistd.h>
    int main(int count, char **arguments) {
        int shared = count > 1 && arguments[1][0] == 's';
        for (int child = 0; count > 2 && child < 6; child++) if (fork() == 0) break;
        for (int i = 0; i < (count > 2 ? 20 : 300); i++) {
            void *one = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
            memset(one, 1, 1 << 20);
        }
        pause();
    }"""


@every_mode
@pytest.mark.parametrize("how", ["private", "shared", "private many"])
def test_a_program_that_takes_too_much_memory_is_ended(mode: str, how: str, tmp_path: Path) -> None:
    limits = Limits(seconds=60, memory=64 * MIB)

    said = attempt(tmp_path, mode, limits, f"/tool {how}", compile_c(TAKE))

    assert said.startswith("greedy: took more than 64 MiB of memory, and was ended")


@every_mode
def test_memory_that_is_shared_counts_once(mode: str, tmp_path: Path) -> None:
    program = compile_c("""
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            memset(mmap(0, 20 << 20, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0), 1, 20 << 20);
            for (int child = 0; child < 8; child++) if (fork() == 0) { usleep(400000); return 0; }
            while (wait(0) > 0) {}
        }""")
    tool = llb.scratch().file(MakeFile(path="/tool", data=program, mode=0o755))
    mounts = [llb.Bind(dest="/tool", source=tool, selector="/tool")]
    limits = Limits(memory=64 * MIB)

    with open_worker(tmp_path, modes=[mode] if mode else [], images={BASE: busybox_image()}, limits=limits) as worker:
        assert read(worker, shell("/tool; echo well > /out", mounts=mounts).root, "out") == ["well\n"]


@every_mode
@pytest.mark.parametrize("place", ["srv", "written"])
def test_a_program_that_fills_the_disk_is_ended(mode: str, place: str, tmp_path: Path) -> None:
    script = f"i=0; while true; do head -c 4000000 /dev/zero > /{place}/$i; i=$((i + 1)); done"

    said = attempt(tmp_path, mode, Limits(seconds=60, disk=40 * MIB), script)

    assert said.startswith("greedy: took more than 40 MiB of the disk, and was ended")


@every_mode
def test_a_program_that_makes_files_without_end_is_ended(mode: str, tmp_path: Path) -> None:
    script = "i=0; while true; do : > /srv/$i; i=$((i + 1)); done"

    said = attempt(tmp_path, mode, Limits(seconds=60, files=500), script)

    assert said.startswith("greedy: made more than 500 files, and was ended")


@every_mode
def test_one_file_does_not_grow_over_the_limit(mode: str, tmp_path: Path) -> None:
    said = attempt(
        tmp_path, mode, Limits(seconds=60, disk=8 * MIB), "head -c 100000000 /dev/zero > /srv/x; sleep TOKEN"
    )

    assert "greedy: " in said
    known = ("signal 25", "File too large", "File size limit exceeded", "exit code 153")
    assert any(words in said for words in known)


@every_mode
def test_a_file_of_holes_does_not_become_a_disk_of_zeros(mode: str, tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5 6; do truncate -s 7M /srv/$i; done"
    limits = Limits(disk=8 * MIB)

    with (
        open_worker(
            tmp_path / "w", modes=[mode] if mode else [], images={BASE: busybox_image()}, limits=limits
        ) as worker,
        pytest.raises(SolverError, match=f"it has more than {8 * MIB} bytes"),
    ):
        exported(worker, llb.diff(llb.image(BASE), shell(script).root), tmp_path / "layers")
    assert sum(path.stat().st_size for path in (tmp_path / "layers").iterdir()) <= 9 * MIB


@every_mode
def test_a_program_that_listens_to_no_signal_ends_with_its_time(mode: str, tmp_path: Path) -> None:
    script = (
        "trap '' TERM INT HUP QUIT XCPU XFSZ; (trap '' TERM HUP; setsid sleep TOKEN &); while true; do sleep 0.1; done"
    )

    said = attempt(tmp_path, mode, Limits(seconds=1), script)

    assert said.startswith("greedy: did not end within 1 seconds, and was ended")


@every_mode
def test_a_program_that_says_words_without_end_is_ended(mode: str, tmp_path: Path) -> None:
    said = attempt(tmp_path, mode, Limits(seconds=60, output=100_000), "(setsid sleep TOKEN &); yes")

    assert said.startswith("greedy: said more than 100000 bytes, and was ended")


def test_an_address_says_how_much_a_program_may_take() -> None:
    said = worker_limits("worker://?memory=16G&disk=50M&output=1M&processes=9000&files=10&time=1h30m", "--addr")

    assert said == Limits(seconds=5400, output=MIB, processes=9000, memory=16 << 30, disk=50 * MIB, files=10)
    assert worker_limits("worker://", "--addr") == worker_limits("worker://?", "--addr") == Limits()


def test_what_a_run_takes_is_bound_by_the_settings(tmp_path: Path) -> None:
    image = busybox_image()
    state = llb.oci_layout("client/image", image.descriptor.digest, store="it")
    bomb = shell("while true; do sleep 9 & done", on=state, name="greedy").root.marshal(AMD64)
    settings = Settings(builder=None, worker_limits=Limits(processes=20))

    solver = open_solver(settings, Cache(tmp_path), Silent())
    try:
        with (
            pytest.raises(ExecutionError, match="more than 20 processes|can't fork") as caught,
            solver.solve(bomb, Inputs(images={"it": MemorySource(image)}), Recorder()),
        ):
            pass
    finally:
        solver.close()
    assert "worker://?" in (caught.value.hint or "")


@every_mode
def test_what_the_sandbox_refused_is_said_to_be_perhaps_the_reason(mode: str, tmp_path: Path) -> None:
    with (
        open_worker(tmp_path, modes=[mode] if mode else [], images={BASE: busybox_image()}) as worker,
        pytest.raises(ExecutionError, match="mknod: /srv/disk: Operation not permitted") as caught,
    ):
        read(worker, shell("mknod /srv/disk b 7 0", name="greedy").root, "out")

    assert "device nodes" in (caught.value.hint or "")


def test_the_last_of_a_machine_s_memory_is_not_taken_by_what_is_in_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = [(8 << 30, 16 << 30)]
    monkeypatch.setattr(guard, "_memory_left", lambda: left[-1])
    limits = {"processes": 4096, "memory": 1 << 30, "disk": 1 << 40, "files": 1 << 20}
    watched = guard.Guard(limits, [str(tmp_path)])

    assert watched.complaint() == ""
    left.append((600 * MIB, 16 << 30))
    assert watched.complaint() == ""
    left.append((500 * MIB, 16 << 30))
    assert watched.complaint() == "took the last of this machine's memory"

    little_from_the_start = guard.Guard(limits, [str(tmp_path)])
    left.append((200 * MIB, 16 << 30))
    assert little_from_the_start.complaint() == ""
