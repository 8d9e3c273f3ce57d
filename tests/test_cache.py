# SPDX-License-Identifier: Apache-2.0
"""The cache: whole entries or none, safe side by side, and smaller on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from copacetic.cache import Cache
from copacetic.errors import StorageError
from support.images import small_disk


def test_an_entry_appears_whole_when_it_is_finished(tmp_path: Path) -> None:
    bucket = Cache(tmp_path).bucket("things", version=1)

    with bucket.create("key") as file:
        file.write(b"half")
        assert bucket.read("key") is None
        file.write(b" and half")

    assert bucket.read("key") == b"half and half"
    assert bucket.path("key") == tmp_path / "things.v1" / "key"


def test_a_failed_entry_leaves_nothing(tmp_path: Path) -> None:
    bucket = Cache(tmp_path).bucket("things", version=1)

    with pytest.raises(RuntimeError), bucket.create("key") as file:
        file.write(b"half")
        raise RuntimeError

    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_another_version_of_a_format_starts_empty(tmp_path: Path) -> None:
    Cache(tmp_path).bucket("things", version=1).write("key", b"old")

    assert Cache(tmp_path).bucket("things", version=2).read("key") is None


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "x" * 201, "a\0"])
def test_a_key_is_a_name_and_nothing_else(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a cache key"):
        Cache(tmp_path).bucket("things", version=1).write(key, b"")


def test_a_lock_keeps_threads_apart(tmp_path: Path) -> None:
    bucket = Cache(tmp_path).bucket("things", version=1)
    inside: list[str] = []

    def work(name: str) -> None:
        with bucket.lock("key"):
            inside.append(name)
            time.sleep(0.02)
            inside.append(name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert inside[::2] == inside[1::2]


def test_a_lock_keeps_processes_apart(tmp_path: Path) -> None:
    code = (
        "import sys,time; from pathlib import Path; from copacetic.cache import Cache\n"
        "b = Cache(Path(sys.argv[1])).bucket('things', version=1)\n"
        "with b.lock('key'):\n print('in', flush=True); time.sleep(0.5); b.write('key', b'theirs')"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    bucket = Cache(tmp_path).bucket("things", version=1)

    with bucket.lock("key"):
        assert bucket.read("key") == b"theirs"

    other.stdout.close()
    other.wait()


def test_killed_while_writing_there_is_never_half_an_entry(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from copacetic.cache import Cache\n"
        "b = Cache(Path(sys.argv[1])).bucket('things', version=1)\n"
        "n = 0\n"
        "while True:\n n += 1\n b.write(f'k{n % 5}', bytes([n % 256]) * 3_000_000)"
    )
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
        time.sleep(0.25 + 0.03 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
    bucket = Cache(tmp_path).bucket("things", version=1)
    found = [data for n in range(5) if (data := bucket.read(f"k{n}")) is not None]

    assert found
    assert all(len(data) == 3_000_000 and len(set(data)) == 1 for data in found)


def test_pruning_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    bucket = cache.bucket("things", version=1)
    for number, key in enumerate("abc"):
        bucket.write(key, b"x" * 100)
        os.utime(tmp_path / "things.v1" / key, (number, number))
    bucket.read("a")

    assert cache.prune(keep_bytes=200) == 100
    assert sorted(p.name for p in (tmp_path / "things.v1").iterdir()) == ["a", "c"]
    assert cache.prune(unused_for=3600) == 100
    assert bucket.read("a") is not None
    assert [(u.name, u.entries, u.size) for u in cache.usage()] == [("things.v1", 1, 100)]


def test_pruning_removes_what_dead_runs_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.bucket("things", version=1).write("key", b"")
    leftover, fresh = tmp_path / "things.v1" / ".tmp-old", tmp_path / "things.v1" / ".tmp-new"
    leftover.write_bytes(b"x" * 10)
    fresh.write_bytes(b"")
    os.utime(leftover, (0, 0))

    cache.prune(keep_bytes=1 << 30)

    assert not leftover.exists()
    assert fresh.exists()


def test_a_scratch_folder_goes_with_its_use(tmp_path: Path) -> None:
    with Cache(tmp_path).scratch() as scratch:
        (scratch / "x").write_bytes(b"")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_t_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="can't use the cache folder .*: Not a directory"):
        Cache(tmp_path / "file" / "cache")


@pytest.mark.system
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        bucket = Cache(disk / "cache").bucket("things", version=1)
        with pytest.raises(StorageError, match="No space left"):
            bucket.write("key", os.urandom(2_000_000))

        assert [p for p in disk.rglob("*") if p.is_file()] == []
