# SPDX-License-Identifier: Apache-2.0
"""
A folder of derived data that may vanish at any time.

Entries appear whole or not at all (written beside their place, then renamed), under the name of their bucket and
its format version: another version of the program sees nothing of them. Runs side by side are safe; `lock` keeps
them from doing the same work twice. What a killed run leaves behind is a temporary file that `prune` removes.

What is in it is believed, for signatures were checked before it was written. So nobody else may write there: the
folder is made for its owner alone, one that others could have filled or could exchange is refused, and an entry that
isn't a file of the owner's, or has other bytes than were written, counts as absent.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct

from copacetic.cachefolder import check_folder, is_own_file, make_folder
from copacetic.errors import StorageError, storage_errors

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TEMPORARY = ".tmp-"
_SUM = 16
"""Bytes at the end of an entry that was written at once: of the SHA-256 of those before."""
_STALE = 24 * 3600.0
"""After how many seconds a temporary file can't belong to a living run any more."""

# flock keeps processes apart; threads of one process need a lock of their own.
_THREAD_LOCKS: dict[str, threading.Lock] = {}
_THREAD_LOCKS_GUARD = threading.Lock()
_TEMPORARY_FOLDERS: set[Path] = set()


class BucketUsage(Struct, frozen=True):
    """What one bucket holds."""

    name: str
    entries: int
    size: int
    """In bytes on disk."""


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a private empty directory (in the system's folder for such by default), removed afterwards."""
    with storage_errors(f"can't use the folder {parent or tempfile.gettempdir()}"):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    _TEMPORARY_FOLDERS.add(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _TEMPORARY_FOLDERS.discard(path)


def remove_temporary_folders() -> None:
    """Remove all of them at once, for a process that is about to end although threads still use them."""
    for path in tuple(_TEMPORARY_FOLDERS):
        shutil.rmtree(path, ignore_errors=True)


class Bucket:
    """One kind of entry. Keys are digests or other names of `[A-Za-z0-9._-]`, checked. All methods are thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """Return an entry that was written at once and mark it as used, or None when it isn't there, or another one."""
        path = self.path(key)
        if path is None:
            return None
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"can't read the cache entry {path}: {error.strerror}") from error
        data = stored[:-_SUM]
        return data if _sum(data) == stored[-_SUM:] else None

    def write(self, key: str, data: bytes) -> None:
        """Write an entry at once."""
        with self.create(key) as file:
            file.write(data)
            file.write(_sum(data))

    def path(self, key: str) -> Path | None:
        """Return the entry's file, marked as used, or None. It stays readable once opened, whatever happens."""
        path = self._folder / _checked(key)
        try:
            if not is_own_file(path):
                return None
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:
            pass  # a cache that only others may write is still good for reading
        return path

    def discard(self, key: str) -> None:
        """Remove an entry that turned out to be damaged, where it is there and may be removed."""
        with contextlib.suppress(OSError):
            os.unlink(self._folder / _checked(key))

    @contextlib.contextmanager
    def create(self, key: str) -> Iterator[BinaryIO]:
        """Write an entry as a stream; it appears when the context ends without an exception."""
        target = self._folder / _checked(key)
        with storage_errors(f"can't write the cache entry {target}"):
            make_folder(self._folder)
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                yield cast("BinaryIO", _Guarded(file, target))
                with storage_errors(f"can't write the cache entry {target}"):
                    file.flush()
            with storage_errors(f"can't write the cache entry {target}"):
                os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold an entry for this thread of this process, against all others."""
        path = self._folder / ".locks" / _checked(key)
        with _THREAD_LOCKS_GUARD:
            thread_lock = _THREAD_LOCKS.setdefault(str(path), threading.Lock())
        with thread_lock:
            with storage_errors(f"can't lock the cache entry {path}"):
                make_folder(path.parent)
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                with storage_errors(f"can't lock the cache entry {path}"):
                    fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)


class _Guarded:
    """A file whose write errors say which entry they were about."""

    def __init__(self, file: BinaryIO, target: Path) -> None:
        self._file = file
        self._target = target
        self.name = file.name

    def write(self, data: bytes, /) -> int:
        with storage_errors(f"can't write the cache entry {self._target}"):
            return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        with storage_errors(f"can't write the cache entry {self._target}"):
            self._file.flush()


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_SUM]


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a cache key: {key!r}")
    return key


class Cache:
    """The folder. One that can't be used, or isn't the user's own, raises `StorageError`, with the reason."""

    def __init__(self, root: Path, *, temporary: bool = False) -> None:
        """Of a `temporary` folder, which this process has just made, the surroundings don't matter."""
        self.root = root.absolute()
        """A path that means the same to helper processes, whose working directory is another."""
        with storage_errors(f"can't use the cache folder {root}"):
            make_folder(root)
            if not temporary:
                check_folder(root)

    def bucket(self, name: str, *, version: int) -> Bucket:
        """Return one kind of entries; another version of their format starts empty."""
        return Bucket(self.root / f"{_checked(name)}.v{version}")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a private empty directory on the same disk, removed afterwards (or by `prune`, after a kill)."""
        with temporary_folder(_TEMPORARY, self.root) as path:
            try:
                yield path
            except OSError as error:
                if error.filename is not None and str(error.filename).startswith(str(path)):
                    raise StorageError(f"can't write to {error.filename}: {error.strerror}") from error
                raise

    def usage(self) -> tuple[BucketUsage, ...]:
        """Return what each bucket holds, of all format versions."""
        rows = []
        for folder in sorted(self._folders()):
            files = [entry.stat().st_size for entry in _files(folder)]
            rows.append(BucketUsage(name=folder.name, entries=len(files), size=sum(files)))
        return tuple(rows)

    def prune(self, *, keep_bytes: int = 0, unused_for: float | None = None) -> int:
        """
        Remove entries until at most `keep_bytes` remain, longest unused first; with `unused_for` (seconds) only
        those not used since. Leftovers of dead runs go in any case. Returns the bytes freed.
        """
        now = time.time()
        freed = self._remove_leftovers(now)
        entries = []
        for folder in self._folders():
            for entry in _files(folder):
                info = entry.stat()
                entries.append((info.st_mtime, info.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if total <= keep_bytes or (unused_for is not None and now - used < unused_for):
                break
            with storage_errors(f"can't remove {path}"), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                freed += size
            total -= size
        return freed

    def _folders(self) -> list[Path]:
        return [entry for entry in self.root.iterdir() if entry.is_dir() and re.search(r"\.v\d+$", entry.name)]

    def _remove_leftovers(self, now: float) -> int:
        freed = 0
        for path in [*self.root.glob(f"{_TEMPORARY}*"), *self.root.glob(f"*.v*/{_TEMPORARY}*")]:
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                if now - info.st_mtime < _STALE:
                    continue
                if path.is_dir():
                    freed += sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    freed += info.st_size
                    path.unlink()
        return freed


def _files(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
