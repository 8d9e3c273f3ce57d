# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while an image's programs run: one clear line, nothing published, nothing left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builder.buildkitd import Buildkitd, buildkitd
from support.builder.running import Run, copa, open_builder
from support.deb.aptrepo import Deb, Repository, file, serve_repository
from support.deb.debian import build_root, need
from support.deb.debs import Member
from support.image.realimage import image_on
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("exec-faults")]

FOO = Deb(name="foo", version="1.0", files={"usr/bin/foo": file("old", 0o755)})


def upgrade(*lines: str) -> Deb:
    script = "\n".join(["#!/bin/sh", "set -e", "wc -c /usr/bin/foo >/usr/share/foo.size", *lines, ""])
    return replace(FOO, version="1.1", files={"usr/bin/foo": file("new", 0o755)}, scripts={"postinst": script})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([upgrade()]) as served:
        yield served


@pytest.fixture(scope="module", params=["worker", "buildkit"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need(root=True)
    with open_builder(request.param) as found:
        yield found


class Case:
    """One image, and a run that is going to fail."""

    def __init__(self, folder: Path, cache: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.cache, self.repository, self.capsys = folder, cache, repository, capsys

    def patch(self, address: str, *flags: str) -> Run:
        image = image_on(build_root("bookworm"), self.folder / "layout", self.repository, [FOO])
        target = f"oci:{self.folder / 'out'}:1"
        arguments = ["patch", "-i", image, "--to", target, "--addr", address, "--cache-dir", str(self.cache)]
        return copa(self.capsys, *arguments, *flags)

    def refused(self, address: str, *flags: str) -> str:
        """Return the one line."""
        run = self.patch(address, *flags)
        assert run.code != 0
        assert run.out == ""
        assert not (self.folder / "out").exists()
        lines = [line for line in run.error.splitlines() if not line.startswith("hint: ")]
        assert len(lines) == 1, run.error
        assert "Traceback" not in run.err
        return lines[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It knows the base image; a run that fails leaves nothing in it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def case(tmp_path: Path, cache: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> Case:
    return Case(tmp_path, cache, repository, capsys)


def test_a_builder_that_isnt_there(case: Case) -> None:
    need(root=True)
    gone = case.folder / "nothing.sock"

    assert str(gone) in case.refused(f"unix://{gone}", "--strategy", "exec")
    assert "--strategy exec" not in case.refused(f"unix://{gone}")


@pytest.mark.parametrize("address", ["carrier-pigeon://x", "tcp://", "unix:relative", "worker://somewhere"])
def test_an_address_that_is_none(case: Case, address: str) -> None:
    need(root=True)
    assert "--addr" in case.refused(address)


def test_a_script_that_makes_a_way_to_a_disk_fails(case: Case) -> None:
    need(root=True)
    case.repository.publish([upgrade("mknod /dev/evil b 7 0", "head -c 1 /dev/evil >/usr/share/stolen")])

    assert "it said: mknod: /dev/evil: Operation not permitted" in case.refused("worker://")


def test_a_package_that_brings_a_device_is_not_installed_in_the_sandbox(case: Case) -> None:
    need(root=True)
    bad = upgrade()
    case.repository.publish([replace(bad, files={**bad.files, "usr/lib/evil": Member(type=tarfile.BLKTYPE)})])

    assert "error creating device './usr/lib/evil': Operation not permitted" in case.refused("worker://")


def test_a_script_that_hangs_ends_with_the_time_that_was_given(case: Case, address: str) -> None:
    seconds = str(100_000 + os.getpid())
    case.repository.publish([upgrade(f"sleep {seconds}")])
    started = time.monotonic()

    assert "not finished after 12 s" in case.refused(address, "--timeout", "12s")
    assert time.monotonic() - started < 40
    assert _ended(seconds), "something still runs in the sandbox"


def test_an_impatient_interruption_leaves_nothing(case: Case, address: str) -> None:
    seconds = str(200_000 + os.getpid())
    case.repository.publish([upgrade(f"sleep {seconds}")])
    image = image_on(build_root("bookworm"), case.folder / "layout", case.repository, [FOO])
    target, cache = f"oci:{case.folder / 'out'}:1", str(case.cache)
    command = [sys.executable, "-m", "copacetic", "patch", "-i", image, "--to", target, "--cache-dir", cache, "-q"]
    with subprocess.Popen([*command, "--addr", address], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        _wait_for(seconds)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        said = process.stderr.read()
        code = process.wait(timeout=60)

    assert (code, said) == (130, "interrupted; nothing was published\n")
    assert not (case.folder / "out").exists()
    assert _ended(seconds), "something still runs in the sandbox"


def _wait_for(word: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if any(word.encode() in words for words in _commands()):
            return
        time.sleep(0.1)
    pytest.fail("the script never ran")


def _ended(word: str) -> bool:
    """Tell whether no process has this argument any more, soon."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if not any(word.encode() in words for words in _commands()):
            return True
        time.sleep(0.2)
    return False


def _commands() -> Iterator[list[bytes]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                yield (folder / "cmdline").read_bytes().split(b"\0")


def test_a_builder_that_is_killed_in_the_middle(case: Case) -> None:
    case.repository.publish([upgrade("sleep 600")])
    with buildkitd() as doomed:
        killer = threading.Thread(target=_kill_when_busy, args=(doomed,))
        killer.start()
        line = case.refused(doomed.address)
        killer.join()

    assert doomed.address in line or "apt-get install" in line


def _kill_when_busy(daemon: Buildkitd) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if any("sleep" in words for words in daemon.children()):
            break
        time.sleep(0.1)
    daemon.kill()


def test_a_script_that_floods_its_output_does_no_harm(case: Case, address: str) -> None:
    case.repository.publish([upgrade(f"yes 'a line that nobody reads' | head -c 60000000 # {address}")])

    run = case.patch(address)

    assert run.code == 0, run.error
    assert len(run.err) < 1_000_000


def test_a_script_that_fills_what_it_may_write_to(case: Case, address: str) -> None:
    case.repository.publish([upgrade("head -c 3000000000 /dev/zero >/tmp/much")])

    line = case.refused(address)

    assert "exit code 100" in line


def test_a_verdict_about_the_result_is_the_same_whoever_made_it(case: Case, address: str) -> None:
    """A script that changes what its own package ships ends at the gate."""
    case.repository.publish([upgrade("echo other >/usr/bin/foo")])

    line = case.refused(address, "--strategy", "exec")

    assert "foo: usr/bin/foo has the md5" in line


def test_nothing_is_looked_for_when_nothing_has_to_be_run(case: Case) -> None:
    need(root=True)
    case.repository.publish([replace(upgrade(), scripts={})])
    gone = case.folder / "nothing.sock"

    run = case.patch(f"unix://{gone}", "-o", str(case.folder / "o.json"))

    assert run.code == 0
    assert json.loads((case.folder / "o.json").read_text())["platforms"][0]["plan"]["strategy"] == "unpack"
