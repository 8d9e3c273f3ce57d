# SPDX-License-Identifier: Apache-2.0
"""What `scriptbox` starts in namespaces of its own: runs scripts in a root and tells what each has changed."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

VOLATILE = ("tmp", "run", "dev", "proc", "sys")


def serve(root: str) -> None:
    jobs = json.load(sys.stdin)
    libc = ctypes.CDLL(None, use_errno=True)
    for what, where, kind, data in (
        ("none", "/", None, None),
        ("tmpfs", f"{root}/dev", b"tmpfs", b""),
        ("proc", f"{root}/proc", b"proc", b""),
    ):
        flags = 0x44000 if kind is None else 0
        if libc.mount(what.encode(), where.encode(), kind, flags, data) != 0:
            raise OSError(ctypes.get_errno(), where)
    for name in ("null", "zero", "urandom"):
        path = f"{root}/dev/{name}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        if libc.mount(f"/dev/{name}".encode(), path.encode(), None, 4096, None) != 0:
            raise OSError(ctypes.get_errno(), path)
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{link}")
    for capability in (*range(9, 18), *range(19, 64)):  # what reaches beyond files
        libc.prctl(24, capability, 0, 0, 0)
    null = os.open("/dev/null", os.O_RDWR)
    keep = f"{root}.kept"
    subprocess.run(["cp", "--archive", "--one-file-system", root, keep], check=True)
    before = _survey(root)
    results = []
    for job in jobs:
        _run(root, job, null)
        after = _survey(root)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        results.append([path for path in changed if path.partition("/")[0] not in VOLATILE])
        if changed:
            before = _restore(root, keep, changed)
    json.dump(results, sys.stdout)
    shutil.rmtree(keep)


def _run(root: str, job: list[str], null: int) -> None:
    *shell, text = job
    for entry in os.scandir(f"{root}/run"):  # nobody surveys it
        shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
    with open(f"{root}/run/script", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chroot(root)
            os.chdir("/")
            for number in (0, 1, 2):
                os.dup2(null, number)
            resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
            resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            os.execve(shell[0], [*shell, "/run/script", "configure", ""], {"PATH": path, "HOME": "/root"})
        finally:
            os._exit(99)
    deadline = time.monotonic() + 10
    while True:  # whatever it has left running belongs to this process by now
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if found == 0:
            if time.monotonic() > deadline:
                os.kill(-1, signal.SIGKILL)
            time.sleep(0.0005)


def _survey(root: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    stack = [""]
    while stack:
        folder = stack.pop()
        for entry in os.scandir(f"{root}/{folder}"):
            path = f"{folder}/{entry.name}".lstrip("/")
            if path in ("dev", "proc", "run", "lib", "lib64"):
                continue
            state = entry.stat(follow_symlinks=False)
            found[path] = (state.st_ino, state.st_mtime_ns, state.st_mode, state.st_size, state.st_uid, state.st_gid)
            if entry.is_dir(follow_symlinks=False):
                stack.append(path)
    return found


def _restore(root: str, keep: str, changed: list[str]) -> dict[str, tuple[int, ...]]:
    for path in sorted(changed, reverse=True):
        target = f"{root}/{path}"
        if os.path.isdir(target) and not os.path.islink(target):
            if not os.path.isdir(f"{keep}/{path}") or os.path.islink(f"{keep}/{path}"):
                shutil.rmtree(target)
        elif os.path.lexists(target):
            os.unlink(target)
    for path in sorted(changed):
        kept, target = f"{keep}/{path}", f"{root}/{path}"
        if not os.path.lexists(kept):
            continue
        if os.path.isdir(kept) and not os.path.islink(kept):
            os.makedirs(target, exist_ok=True)
            shutil.copystat(kept, target)
        elif not os.path.lexists(target):
            shutil.copy2(kept, target, follow_symlinks=False)
    return _survey(root)


if __name__ == "__main__":
    serve(sys.argv[1])
