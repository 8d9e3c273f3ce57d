# SPDX-License-Identifier: Apache-2.0
"""Payloads that are decompressed in the background: each once, and nothing after the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.budget import Slots
from copacetic.errors import PackageError
from copacetic.unpack.spooler import Spooler


def test_a_job_begins_at_once_and_is_done_only_once(tmp_path: Path) -> None:
    begun = threading.Event()
    runs: list[Path] = []

    def job(path: Path) -> tuple[str, ...]:
        begun.set()
        runs.append(path)
        path.write_text("payload")
        return ("an entry",)

    spooler: Spooler[str] = Spooler(Slots("test", 2))
    spooler.start({"a": job}, tmp_path, limit=1000)
    assert begun.wait(10), "nothing begins before it is waited for"
    spooler.start({"a": job, "b": job}, tmp_path, limit=1000)

    assert spooler.wait("a") == spooler.wait("b") == ("an entry",)
    assert len(runs) == len(set(runs)) == 2
    assert {path.read_text() for path in runs} == {"payload"}
    spooler.close()


def test_what_has_not_begun_is_done_in_the_order_of_the_latest_call(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()
    done: list[str] = []

    def job(name: str) -> Callable[[Path], tuple[str, ...]]:
        def run(_path: Path) -> tuple[str, ...]:
            begun.set()
            assert gate.wait(10)
            done.append(name)
            return (name,)

        return run

    spooler: Spooler[str] = Spooler(Slots("test", 1))
    spooler.start({"first": job("first")}, tmp_path, limit=1000)
    assert begun.wait(10)
    spooler.start({"small": job("small")}, tmp_path, limit=1000)
    spooler.start({name: job(name) for name in ("large", "small", "first")}, tmp_path, limit=1000)
    gate.set()

    assert [spooler.wait(name) for name in ("small", "large", "first")] == [("small",), ("large",), ("first",)]
    assert done == ["first", "large", "small"]
    spooler.close()


def test_nothing_is_written_after_it_was_closed(tmp_path: Path) -> None:
    gate = threading.Event()

    def job(path: Path) -> tuple[str, ...]:
        gate.wait(10)
        path.write_text("late")
        return ()

    spooler: Spooler[str] = Spooler(Slots("test", 2))
    spooler.start({str(number): job for number in range(50)}, tmp_path, limit=1000)
    threading.Timer(0.2, gate.set).start()
    spooler.close()

    written = len(list(tmp_path.iterdir()))
    assert written < 50, "what hadn't begun was done all the same"
    gate.wait(10)
    assert len(list(tmp_path.iterdir())) == written


def test_an_error_comes_where_the_payload_is_needed(tmp_path: Path) -> None:
    def job(_path: Path) -> tuple[str, ...]:
        raise PackageError("it is broken")

    spooler: Spooler[str] = Spooler(Slots("test", 2))
    spooler.start({"a": job}, tmp_path, limit=1000)
    with pytest.raises(PackageError, match="it is broken"):
        spooler.wait("a")
    spooler.close()


def test_what_all_jobs_write_together_has_a_limit(tmp_path: Path) -> None:
    def job(path: Path) -> tuple[str, ...]:
        path.write_bytes(bytes(400))
        return ()

    spooler: Spooler[str] = Spooler(Slots("test", 2))
    spooler.start({str(number): job for number in range(50)}, tmp_path, limit=1000)
    with pytest.raises(PackageError, match="more than 1000 bytes together"):
        for number in range(50):
            spooler.wait(str(number))
    spooler.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
