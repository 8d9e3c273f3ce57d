# SPDX-License-Identifier: Apache-2.0
"""
A small root with shells and everyday programs in it, and a box in which many scripts are run, one after the other.

The box is a process in namespaces of its own that may not do more to the machine than to files of that root. It tells
of each script which paths are different afterwards, and puts everything back.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.deb.debian import need

__all__ = ["PROGRAMS", "SHELLS", "build_box", "run_all"]

SHELLS = {"dash": ["/bin/dash"], "bash": ["/bin/bash"], "busybox": ["/bin/busybox", "sh"]}
PROGRAMS = (
    *("awk", "basename", "bash", "busybox", "cat", "chgrp", "chmod", "chown", "cp", "cut", "dash", "date"),
    *("dd", "dirname", "env", "expr", "find", "grep", "gzip", "head", "id", "install", "ln", "ls", "mkdir"),
    *("mkfifo", "mktemp", "mv", "nice", "nohup", "od", "printf", "readlink", "rm", "rmdir", "sed", "seq"),
    *("setsid", "sort", "stat", "stdbuf", "sync", "tail", "tar", "tee", "test", "timeout", "touch", "tr"),
    *("truncate", "uniq", "unlink", "wc", "xargs", "ionice", "gunzip", "file", "cmp", "comm", "join"),
    *("paste",),
)
_MARK = "#!/bin/sh\necho x >> /etc/marker\n"
OWN = (
    "usr/lib/tool/stat",
    "usr/lib/tool/service",
    "usr/lib/tool/id",
    "opt/bin/mytool",
    "opt/bin/id",
    "usr/lib/tool/db_x",
)
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nold:x:100:100::/:/bin/sh\n",
    "etc/group": "root:x:0:\nold:x:100:\n",
    "etc/conf": "a\nb\nc\n",
    "etc/more": "x y\n",
    "var/lib/there": "1\n",
    "etc/packed.gz.txt": "z\n",
}
INSIDE = Path(__file__).with_name("scriptrunner.py")


def build_box(root: Path) -> Path:
    """Make the root; skips where this machine lacks what belongs in it."""
    need("dash", "bash", "busybox", "unshare", "ldd", root=True)
    for folder in ("usr/bin", "etc", "tmp", "run", "dev", "proc", "sys", "root", "var/tmp", "usr/local/bin"):
        (root / folder).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "sbin").symlink_to("usr/bin")
    for folder in ("lib", "lib64"):
        (root / folder).mkdir()
    libraries: set[str] = set()
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin")
        if found is None:
            continue
        shutil.copy(Path(found).resolve(), root / "usr/bin" / name)
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        libraries |= {word for word in listed.split() if word.startswith("/")}
    for library in libraries:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(library).resolve(), root / library[1:])
    (root / "usr/bin/sh").symlink_to("dash")
    for path, text in (*FILES.items(), *((path, _MARK) for path in OWN)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o755 if path in OWN else 0o644)
    return root


def run_all(root: Path, scripts: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Run each script, given with its shell, with the arguments of a first configuration; returns what each changed."""
    jobs = json.dumps([[*SHELLS[shell], text] for shell, text in scripts])
    command = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
    done = subprocess.run(
        [*command, sys.executable, "-S", "-E", str(INSIDE), str(root)],
        input=jobs,
        capture_output=True,
        text=True,
        check=True,
    )
    changed: list[list[str]] = json.loads(done.stdout)
    return changed
