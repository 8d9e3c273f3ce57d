# SPDX-License-Identifier: Apache-2.0
"""A run that ends before it is done ends soon, says so, and leaves nothing: a signal, or its time is over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.cli.ending import Ending, restore_signals
from copacetic.oci.layout import LayoutDestination
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
NEW = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def silence() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class Waiting:
    """A `copa` that waits in a thread for a repository that never answers."""

    def __init__(self, folder: Path, silence: str, *flags: str) -> None:
        image = write_image(folder / "layout", debian_image(Repository(address=f"http://{silence}"), [FOO]))
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.target = folder / "out"
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "copacetic", "patch", "-i", image, "--to", f"oci:{self.target}:1", "--no-cache",
             "-q", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(self.temporary)},
        )  # fmt: skip

    def until_it_waits(self, silence: str) -> None:
        port = f":{int(silence.rpartition(':')[2]):04X} 01"
        while time.monotonic() - self.started < 30:
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            if any(f"{row[2][-5:]} {row[3]}" == port for row in rows):
                return
            time.sleep(0.05)
        pytest.fail("it never asked the repository")

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=30)
        assert out == ""
        assert not self.target.exists()
        assert list(self.temporary.iterdir()) == []
        return self.process.returncode, err


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_it_although_a_thread_waits(
    tmp_path: Path, silence: str, number: signal.Signals, code: int, message: str
) -> None:
    run = Waiting(tmp_path, silence)
    run.until_it_waits(silence)
    sent = time.monotonic()
    run.process.send_signal(number)

    assert run.end() == (code, f"{message}; nothing was published\n")
    assert time.monotonic() - sent < 10


def test_a_second_signal_is_not_kept_waiting(tmp_path: Path, silence: str) -> None:
    run = Waiting(tmp_path, silence)
    run.until_it_waits(silence)
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sent = time.monotonic()
    run.process.send_signal(signal.SIGINT)

    assert run.end()[0] == 130
    assert time.monotonic() - sent < 1.5


def test_the_timeout_is_kept_although_a_thread_waits(tmp_path: Path, silence: str) -> None:
    run = Waiting(tmp_path, silence, "--timeout", "2s")

    assert run.end() == (1, "error: not finished after 2 s (see --timeout); nothing was published\n")
    assert time.monotonic() - run.started < 15


def test_a_process_that_goes_on_after_a_run_has_its_signals_back(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr("copacetic.api.inspect", lambda *_args, **_more: time.sleep(30))

    assert main(["inspect", "oci:nowhere", "--timeout", "1s"]) == 1

    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class Interrupted:
    """A run that gets a signal when its destination's method has done its work."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        work = getattr(LayoutDestination, method)
        self.target = f"oci:{folder / 'out'}:1"

        def interrupted(*arguments: object) -> object:
            result = work(*arguments)
            os.kill(os.getpid(), signal.SIGINT)
            return result

        monkeypatch.setattr(LayoutDestination, method, interrupted)
        with serve_repository([NEW]) as repository, restore_signals():
            Ending().catch_signals()
            image = write_image(folder / "layout", debian_image(repository, [FOO]))
            self.code = main(["patch", "-i", image, "--to", self.target, "--cache-dir", str(folder / "cache"), "-q"])


def test_a_signal_while_publishing_is_not_said_to_come_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Interrupted(tmp_path, monkeypatch, "publish")

    assert (run.code, capsys.readouterr().err) == (130, f"interrupted; {run.target} may have been published\n")
    assert (tmp_path / "out/index.json").exists()


def test_a_signal_after_publishing_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Interrupted(tmp_path, monkeypatch, "__exit__")

    said = capsys.readouterr().err
    assert run.code == 130
    assert said.startswith(f"interrupted; {run.target}@sha256:")
    assert said.endswith(" was published\n")


def test_a_failure_after_publishing_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device", "out.json")

    monkeypatch.setattr("copacetic.cli.outputs.write_outputs", full)
    with serve_repository([NEW]) as repository:
        image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
        target = f"oci:{tmp_path / 'out'}:1"
        code = main(["patch", "-i", image, "--to", target, "--cache-dir", str(tmp_path / "cache"), "-q"])

    error, note = capsys.readouterr().err.splitlines()
    assert (code, error) == (1, "error: out.json: No space left on device")
    assert note.startswith(f"note: {target}@sha256:")
    assert note.endswith(" was published")


def test_a_later_run_of_the_process_speaks_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Interrupted(tmp_path, monkeypatch, "__exit__")
    capsys.readouterr()

    assert main(["patch", "-i", f"oci:{tmp_path / 'nothing'}:1", "--no-such-flag"]) == 2
    assert "published" not in capsys.readouterr().err
