# SPDX-License-Identifier: Apache-2.0
"""
The worker's part of the cache folder: unpacked layers, and what runs are working on.

    worker.v1/root/                 by whose ids the files' owners are
      layers/<chain>/tree           a layer directory; complete when <chain>.json is there
      runs/<random>                 of one solver, gone when it is closed; <random>.lock is held as long as it lives

Unpacked layers are not synchronised to the disk, so they are good for as long as the machine runs: another boot
doesn't trust them. Only this user may enter, since images bring setuid programs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from pathlib import Path

from msgspec import Struct

from copacetic.errors import storage_errors

__all__ = ["TREE", "Kept", "Run", "Store"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FOLDERS = ("layers", "runs")
_SETTLED = 60.0
"""Seconds after which a run surely has taken its lock, or is dead."""
_KEPT = 7 * 24 * 3600.0
"""Seconds for which a layer is kept that nobody uses."""
TREE = "tree"
"""Below a folder of this user's: a root directory of somebody else's could not be renamed by this process."""


class Run(Struct, frozen=True):
    """One solver's own folder, and the lock that says that it lives."""

    folder: Path
    lock: int

    def new_folder(self) -> Path:
        """Make another private one in it."""
        path = self.folder / secrets.token_hex(8)
        with storage_errors(f"can't write to {self.folder}"):
            path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Give up the lock. A folder that is still there is removed by a later run."""
        if not self.folder.exists():
            with contextlib.suppress(OSError):
                os.unlink(f"{self.folder}.lock")
        os.close(self.lock)


class Kept(Struct, frozen=True):
    """A layer that stays between runs. `size` is in bytes."""

    path: Path
    used: float
    size: int
    current: bool
    """Whether it is good for anything."""


class Store:
    """Everything below one folder. Raises `StorageError` when it can't be used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with storage_errors(f"can't use {root}"):
            root.parent.mkdir(parents=True, exist_ok=True)
            root.parent.chmod(0o700)
            for name in _FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def open_run(self) -> Run:
        """Make a folder for one solver."""
        folder = self.root / "runs" / secrets.token_hex(8)
        with storage_errors(f"can't use {folder}"):
            # It gets its name when it is held: there is no time in which it looks forgotten.
            lock = os.open(f"{folder}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(f"{folder}.new", f"{folder}.lock")
                folder.mkdir(mode=0o700)
            except BaseException:
                os.close(lock)
                raise
        return Run(folder, lock)

    def take_dead_runs(self) -> list[Run]:
        """Return the runs whose process is gone, held now by this one: remove their folders, and close them."""
        with storage_errors(f"can't look into {self.root}"):
            locks = list((self.root / "runs").glob("*.lock"))
            for new in (self.root / "runs").glob("*.new"):
                if _is_older(new, time.time() - _SETTLED):
                    new.unlink(missing_ok=True)
        found = []
        for lock in locks:
            handle = _lock_at_once(lock)
            if handle is not None:
                found.append(Run(lock.with_suffix(""), handle))
        return found

    def kept(self) -> list[Kept]:
        """Return all layers, the longest unused first."""
        found = []
        for meta in (self.root / "layers").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                size = int(json.loads(meta.read_bytes()).get("size", 0))
                found.append(Kept(meta.with_suffix(""), meta.stat().st_mtime, size, self._is_current(meta)))
        return sorted(found, key=lambda one: one.used)

    def take_unused(self, run: Run) -> None:
        """Move layers that nobody will use again into a run's folder, with which they are removed."""
        for one in self.kept():
            if not one.current or time.time() - one.used > _KEPT:
                self.take(one, run)

    def take(self, one: Kept, run: Run) -> bool:
        """Move a layer into a run's folder, unless somebody uses it; tell whether it was moved."""
        handle = self._try_lock(one.path.name)
        if handle is None:
            return False
        try:
            with storage_errors(f"can't remove {one.path}"), contextlib.suppress(FileNotFoundError):
                one.path.with_suffix(".json").unlink()
                os.rename(one.path, run.folder / f"unused-{one.path.name}")
                return True
        finally:
            os.close(handle)
        return False

    def layer(self, chain: str) -> tuple[Path | None, int]:
        """
        Return a layer directory, and a descriptor that keeps it from being removed while it is open.

        Without a layer (None) the descriptor keeps everybody else from making it, until `add_layer`.
        """
        with storage_errors(f"can't lock the layer {chain}"):
            handle = os.open(self._lock_file(chain), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
                    fcntl.flock(handle, kind)
                    meta = self.root / "layers" / f"{chain}.json"
                    if self._is_current(meta):
                        os.utime(meta)
                        fcntl.flock(handle, fcntl.LOCK_SH)
                        return meta.with_suffix("") / TREE, handle
            except BaseException:
                os.close(handle)
                raise
        return None, handle

    def add_layer(self, chain: str, folder: Path, handle: int, *, size: int) -> Path:
        """Take a folder whose `TREE` was filled with so many bytes; `handle` comes from `layer`."""
        target = self.root / "layers" / chain
        with storage_errors(f"can't keep the layer {chain}"):
            if target.exists():  # of a machine that went down between two steps
                os.rename(target, folder.with_name(f"{folder.name}-old"))
            os.rename(folder, target)
            partial = target.with_suffix(".new")
            partial.write_text(json.dumps({"boot": _boot(), "size": size}))
            os.rename(partial, target.with_suffix(".json"))
            fcntl.flock(handle, fcntl.LOCK_SH)
        return target / TREE

    def _is_current(self, meta: Path) -> bool:
        """Tell whether a layer is complete, and from this boot."""
        try:
            document = json.loads(meta.read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and document.get("boot") == _boot()

    def _lock_file(self, name: str) -> Path:
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder / name

    def _try_lock(self, name: str) -> int | None:
        with storage_errors(f"can't lock {name}"):
            self._lock_file(name).touch(mode=0o600)
        return _lock_at_once(self._lock_file(name))


def _is_older(path: Path, limit: float) -> bool:
    try:
        return path.stat().st_mtime < limit
    except OSError:
        return False


def _lock_at_once(path: Path) -> int | None:
    """Return a descriptor that holds a lock alone, None when others do or it is gone."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
