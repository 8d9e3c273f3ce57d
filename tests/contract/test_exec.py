# SPDX-License-Identifier: Apache-2.0
"""Processes: what they are given, what they may do, what stays of them."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from contract.solving import AMD64, PATH, Recorder, base, exported, read, shell, tree
from copacetic import llb
from copacetic.errors import ExecutionError, SolverError
from copacetic.llb.graph import MakeFile
from copacetic.llb.solver import EventKind, Inputs, Solver
from support.builder.running import count_runs, running_with


def test_arguments_reach_the_program_as_they_are(solver: Solver) -> None:
    hostile = ["a b", "$(touch /hacked)", ";", "*", "", "it's", "new\nline", "ünï"]
    script = 'for one; do printf "%s\\0" "$one"; done > /out'
    state = base().run(["/bin/sh", "-c", script, "sh", *hostile], env=PATH, network=llb.Network.NONE).root

    with solver.solve(state.marshal(AMD64), Inputs(), Recorder()) as result:
        data = result.filesystem.read("out", limit=1 << 16).decode()
        hacked = result.filesystem.lookup("hacked")

    assert data.split("\0") == [*hostile, ""]
    assert hacked is None


def test_environment_directory_user_and_host_name_are_the_graph_s(solver: Solver) -> None:
    script = "echo $A; pwd; id -u; id -g; hostname; id -u > /tmp/by-user"
    state = shell(
        f"({script}) > /tmp/out", env={**PATH, "A": "two words"}, cwd="/srv", user="daemon", hostname="here"
    ).root

    assert read(solver, state, "tmp/out") == ["two words\n/srv\n1\n1\nhere\n"]
    assert tree(solver, state, below="tmp")["tmp/by-user"].startswith("file 644 1:1")


def test_nothing_of_the_environment_comes_from_elsewhere(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COPA_TEST_LEAK", "leaked")
    # A builder adds what a shell would, and where its traces go.
    added = "^(PWD|OLDPWD|SHLVL|_|HOME|HOSTNAME|OTEL_[A-Z_]*|TRACEPARENT)="
    state = shell(f"env | grep -v -E '{added}' > /out").root

    assert read(solver, state, "out") == ["PATH=/bin\n"]


def test_another_filesystem_is_mounted_and_can_not_be_changed(solver: Solver) -> None:
    other = llb.scratch().file(MakeFile(path="/f", data=b"mounted"))
    script = "cat /mnt/f > /out; echo x > /mnt/new 2>/dev/null && exit 9; true"

    state = shell(script, mounts=[llb.Bind(dest="/mnt", source=other)]).root

    assert read(solver, state, "out") == ["mounted"]
    assert "mnt/f" not in tree(solver, state, below="mnt")


def test_a_part_of_another_filesystem_is_mounted(solver: Solver) -> None:
    mounts = [
        llb.Bind(dest="/part", source=base(), selector="/var/lib"),
        llb.Bind(dest="/etc/hello", source=base(), selector="/old/file"),
    ]

    state = shell("cat /part/data /etc/hello > /out", mounts=mounts).root

    assert read(solver, state, "out") == ["data\nold\n"]


def test_a_writable_mount_is_a_result_of_its_own(solver: Solver) -> None:
    execution = shell(
        "echo one > /z/f; echo two > /a/f; rm /z/old; echo root > /f",
        mounts=[
            llb.Bind(dest="/z", source=llb.scratch().file(MakeFile(path="/old", data=b"")), readonly=False),
            llb.Bind(dest="/a", source=None, readonly=False),
        ],
    )

    assert tree(solver, execution.output("/z")) == {"f": "file 644 0:0 one\n"}
    assert tree(solver, execution.output("/a")) == {"f": "file 644 0:0 two\n"}
    assert read(solver, execution.root, "f") == ["root\n"]


def test_what_is_written_into_a_tmpfs_stays_nowhere(solver: Solver, tmp_path: Path) -> None:
    execution = shell(
        "echo x > /var/lib/f; mount | grep -q 'on /var/lib type tmpfs'",
        mounts=[llb.Tmpfs(dest="/var/lib", size=1 << 20)],
    )

    paths = exported(solver, llb.diff(base(), execution.root), tmp_path / "layers")

    assert not [path for path in paths if path.startswith("var/lib/")]


def test_a_tmpfs_is_as_big_as_it_may_be(solver: Solver) -> None:
    script = "dd if=/dev/zero of=/small/f bs=1024 count=2048 2>/dev/null && exit 9; echo full > /out"

    state = shell(script, mounts=[llb.Tmpfs(dest="/small", size=1 << 20)]).root

    assert read(solver, state, "out") == ["full\n"]


def test_a_secret_is_a_file_for_the_process_and_nowhere_afterwards(solver: Solver, tmp_path: Path) -> None:
    secret = llb.Secret(dest="/run/token", id="token", mode=0o440)
    script = "stat -c '%a %u' /run/token; wc -c < /run/token; mount | grep -c 'on /run/token '"
    execution = shell(f"({script}) > /out", mounts=[secret])
    inputs = Inputs(secrets={"token": b"sekrit-value"})

    assert read(solver, execution.root, "out", inputs=inputs) == ["440 0\n12\n1\n"]
    paths = exported(solver, llb.diff(base(), execution.root), tmp_path / "layers", inputs=inputs)
    assert "run/token" not in paths
    assert not any(b"sekrit-value" in path.read_bytes() for path in (tmp_path / "layers").iterdir())


def test_a_secret_that_nobody_has_fails_unless_it_is_optional(solver: Solver) -> None:
    optional = shell("test ! -e /run/x", mounts=[llb.Secret(dest="/run/x", id="none", optional=True)]).root
    needed = shell("true", mounts=[llb.Secret(dest="/run/x", id="none")]).root

    with solver.solve(optional.marshal(AMD64), Inputs(), Recorder()):
        pass
    with pytest.raises(SolverError, match="none"), solver.solve(needed.marshal(AMD64), Inputs(), Recorder()):
        pass


def test_there_is_no_network_when_there_shall_be_none(solver: Solver) -> None:
    state = shell("grep -c : /proc/net/dev > /out; grep -q lo: /proc/net/dev", network=llb.Network.NONE).root

    assert read(solver, state, "out") == ["1\n"]


def test_a_process_that_fails_is_named_with_its_exit_code_and_its_last_lines(solver: Solver) -> None:
    state = shell("echo working; echo broken >&2; exit 7", name="upgrade the packages").root

    with pytest.raises(ExecutionError) as caught, solver.solve(state.marshal(AMD64), Inputs(), Recorder()):
        pass

    message = str(caught.value)
    assert "upgrade the packages" in message
    assert "exit code 7" in message
    assert "broken" in message


def test_a_program_that_is_not_there_is_named(solver: Solver) -> None:
    state = base().run(["/no/such/program"], env=PATH, network=llb.Network.NONE, name="a missing program").root

    with (
        pytest.raises(SolverError, match="a missing program"),
        solver.solve(state.marshal(AMD64), Inputs(), Recorder()),
    ):
        pass


def test_an_exit_code_that_is_expected_is_no_failure(solver: Solver) -> None:
    state = shell("echo done > /out; exit 100", valid_exit_codes=[0, 100]).root

    assert read(solver, state, "out") == ["done\n"]


def test_output_and_progress_are_told_and_a_second_run_is_cached(solver: Solver) -> None:
    name = f"say something {time.time_ns()}"
    state = shell(f"echo to stdout; echo to stderr >&2 # {name}", name=name).root
    first, second = Recorder(), Recorder()

    for recorder in (first, second):
        with solver.solve(state.marshal(AMD64), Inputs(), recorder):
            pass

    assert {EventKind.STARTED, EventKind.LOG, EventKind.COMPLETED} <= first.kinds(name)
    assert sorted(first.output(name).split()) == ["stderr", "stdout", "to", "to"]
    assert EventKind.CACHED in second.kinds(name)
    assert EventKind.COMPLETED not in second.kinds(name)


def test_a_solve_and_an_export_within_it_run_a_process_once(solver: Solver, tmp_path: Path) -> None:
    name = f"once {time.time_ns()}"
    state = shell(f"echo x > /srv/new # {name}", name=name).root
    recorder = Recorder()

    with solver.solve(state.marshal(AMD64), Inputs(), recorder) as result:
        assert result.filesystem.read("srv/new", limit=10) == b"x\n"
        (tmp_path / "layers").mkdir()
        solver.export(llb.diff(base(), state).marshal(AMD64), Inputs(), recorder, folder=tmp_path / "layers")

    assert count_runs(recorder.events, name) == 1


def _wait_for(token: str, *, running: bool) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if bool(running_with(token)) is running:
            return True
        time.sleep(0.05)
    return False


def _sleeper(token: str) -> llb.State:
    return base().run(["/bin/sleep", token], env=PATH, network=llb.Network.NONE, name=f"sleep {token}").root


def test_an_interrupt_ends_the_solve_and_the_process(solver: Solver) -> None:
    token = f"10{time.time_ns() % 10**9}"

    def interrupt() -> None:
        if _wait_for(token, running=True):
            signal.raise_signal(signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()

    with pytest.raises(KeyboardInterrupt), solver.solve(_sleeper(token).marshal(AMD64), Inputs(), Recorder()):
        pass

    interrupter.join()
    assert _wait_for(token, running=False)
    assert read(solver, base(), "old/file") == ["old\n"], "the solver is of no use any more"


def test_closing_the_solver_ends_what_runs(solver: Solver) -> None:
    token = f"11{time.time_ns() % 10**9}"

    def close() -> None:
        _wait_for(token, running=True)
        solver.close()

    closer = threading.Thread(target=close)
    closer.start()

    with pytest.raises(SolverError), solver.solve(_sleeper(token).marshal(AMD64), Inputs(), Recorder()):
        pass

    closer.join()
    assert _wait_for(token, running=False)


def test_leaving_the_context_with_an_error_leaves_nothing_running(solver: Solver) -> None:
    with pytest.raises(ZeroDivisionError), solver.solve(base().marshal(AMD64), Inputs(), Recorder()):
        _ = 1 / 0

    assert read(solver, base(), "old/file") == ["old\n"]


def test_many_graphs_are_solved_at_once(solver: Solver) -> None:
    found: dict[int, str] = {}

    def solve(number: int) -> None:
        [found[number]] = read(solver, shell(f"echo {number} > /out").root, "out")

    threads = [threading.Thread(target=solve, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: f"{number}\n" for number in range(20)}
