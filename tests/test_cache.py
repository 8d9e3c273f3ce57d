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
from support.image.images import small_disk


def test_an_entry_appears_whole_when_it_is_finished(tmp_path: Path) -> None:
    bucket = Cache(tmp_path).bucket("things", version=1)

    with bucket.create("key") as file:
        file.write(b"half")
        assert bucket.path("key") is None
        file.write(b" and half")

    assert bucket.path("key") == tmp_path / "things.v1" / "key"
    assert (tmp_path / "things.v1" / "key").read_bytes() == b"half and half"


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
        "while True:\n n += 1\n b.write(f'k{n % 5}', bytes([n % 256]) * 3_000_000)\n n == 1 and print('in', flush=True)"
    )
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.03 * round_)
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()
    bucket = Cache(tmp_path).bucket("things", version=1)
    entries = [path for n in range(5) if (path := bucket.path(f"k{n}")) is not None]
    found = [bucket.read(path.name) or b"" for path in entries]

    assert found
    assert all(len(data) == 3_000_000 and len(set(data)) == 1 for data in found)


def test_pruning_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    bucket = cache.bucket("things", version=1)
    for number, key in enumerate("abc"):
        bucket.write(key, b"x" * 100)
        os.utime(tmp_path / "things.v1" / key, (number, number))
    bucket.read("a")

    size = (tmp_path / "things.v1" / "a").stat().st_size
    assert cache.prune(keep_bytes=2 * size) == size
    assert sorted(p.name for p in (tmp_path / "things.v1").iterdir()) == ["a", "c"]
    assert cache.prune(unused_for=3600) == size
    assert bucket.read("a") is not None
    assert [(u.name, u.entries, u.size) for u in cache.usage()] == [("things.v1", 1, size)]


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


# -- whose it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_a_new_cache_is_its_owner_s_alone_with_all_that_had_to_be_made(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        bucket = Cache(tmp_path / "new" / "cache").bucket("things", version=1)
        bucket.write("key", b"data")
        with bucket.lock("key"):
            pass
    finally:
        os.umask(before)

    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {modes[path] for path in ("new", "new/cache", "new/cache/things.v1", "new/cache/things.v1/.locks")} == {
        0o700
    }
    assert modes["new/cache/things.v1/key"] == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757, 0o775])
def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    os.chown(folder, -1, 7) if os.geteuid() == 0 else None
    folder.chmod(mode)

    with pytest.raises(StorageError, match=rf"may be written to by others \(mode {mode:04o}\)") as caught:
        Cache(folder)

    assert "--cache-dir" in str(caught.value.hint)
    assert "--no-cache" in str(caught.value.hint)


def test_so_is_one_below_a_folder_that_others_may_write_to(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "mine" / "cache").mkdir(parents=True)
    shared.chmod(0o777)

    with pytest.raises(StorageError, match=r"shared, above the cache folder .*, may be written to by others"):
        Cache(shared / "mine" / "cache")
    shared.chmod(0o1777)
    Cache(shared / "mine" / "cache")


def test_so_is_one_that_a_link_in_such_a_folder_leads_to(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    (own / "cache").mkdir(parents=True)
    shared.mkdir()
    (shared / "link").symlink_to(own)
    shared.chmod(0o777)

    with pytest.raises(StorageError, match="shared, above the cache folder"):
        Cache(shared / "link" / "cache")
    shared.chmod(0o700)
    Cache(shared / "link" / "cache")
    own.chmod(0o777)
    with pytest.raises(StorageError, match="own, above the cache folder"):
        Cache(shared / "link" / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives things away")
@pytest.mark.parametrize("whose", ["cache", "above", "link"])
def test_one_that_belongs_to_somebody_else_is_refused(tmp_path: Path, whose: str) -> None:
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    os.chown(
        {"cache": folder, "above": folder.parent, "link": tmp_path / "link"}[whose], 4242, -1, follow_symlinks=False
    )

    with pytest.raises(StorageError, match=r"belongs to somebody else \(user 4242\)"):
        Cache(tmp_path / "link" if whose == "link" else folder)


def test_a_temporary_one_is_not_asked_for_its_surroundings(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    tmp_path.chmod(0o777)

    Cache(tmp_path / "cache", temporary=True)


@pytest.mark.parametrize("change", ["bytes", "end", "empty", "link", "mode", "fifo"])
def test_an_entry_that_is_not_what_was_written_counts_as_absent_and_is_made_anew(tmp_path: Path, change: str) -> None:
    bucket = Cache(tmp_path / "cache").bucket("things", version=1)
    bucket.write("key", b"what was found right")
    file = tmp_path / "cache/things.v1/key"
    stored = file.read_bytes()
    if change in {"link", "fifo"}:
        file.unlink()
        (tmp_path / "elsewhere").write_bytes(stored)
        os.mkfifo(file) if change == "fifo" else file.symlink_to(tmp_path / "elsewhere")
    elif change == "mode":
        file.chmod(0o602)
    else:
        file.write_bytes({"bytes": stored.replace(b"right", b"wrong"), "end": stored[:-1], "empty": b""}[change])

    assert bucket.read("key") is None
    bucket.write("key", b"anew")
    assert bucket.read("key") == b"anew"


def test_an_entry_that_another_run_removes_meanwhile_does_not_end_the_pruning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    cache.bucket("things", version=1).write("key", b"text")
    unlink = os.unlink

    def twice(path: str) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr("copacetic.cache.os.unlink", twice)

    cache.prune()

    assert cache.bucket("things", version=1).read("key") is None


def test_an_entry_that_is_discarded_is_gone_and_one_that_is_not_there_too(tmp_path: Path) -> None:
    bucket = Cache(tmp_path).bucket("things", version=1)
    bucket.write("key", b"text")

    bucket.discard("key")
    bucket.discard("key")

    assert bucket.read("key") is None
