# SPDX-License-Identifier: Apache-2.0
"""
This test program again, as somebody with fewer rights: a user without any, or root in a pod.

The user exists only in a mount namespace of the child's: accounts and subordinate ids are bound over the system's
files, and what the tests need is bound to where it is, though the way there may be closed for the user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UID = 12_345
_SUBORDINATE = "200000:65536"
_ENTER = r"""
set -e
for name in passwd group subuid subgid; do
  [ -e /etc/$name ] || { echo "this machine has no /etc/$name"; exit 77; }
  mount --bind "$COPA_ACCOUNTS/$name" /etc/$name
done
while IFS="	" read -r closed path; do
  mkdir -p "$COPA_ACCOUNTS/ways/$closed/${path#$closed/}"
  mount --rbind "$path" "$COPA_ACCOUNTS/ways/$closed/${path#$closed/}"
done < "$COPA_ACCOUNTS/closed"
cut -f1 "$COPA_ACCOUNTS/closed" | sort -u | while read -r closed; do mount --rbind "$COPA_ACCOUNTS/ways/$closed" "$closed"; done
exec setpriv --reuid="$COPA_UID" --regid="$COPA_UID" --clear-groups --inh-caps=-all -- env -i PATH=/usr/bin:/bin HOME="$COPA_ACCOUNTS/home" \
  TMPDIR="$COPA_ACCOUNTS/home" PYTHONDONTWRITEBYTECODE=1 "$@"
"""
_POD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from copacetic.worker.inside import linux, seccomp
linux.limit_capabilities({int(number) for number in sys.argv[2].split(",")})
linux.forbid_new_privileges()
for call in ("mknod", "mknodat"):
    seccomp._LOOKED_AT[call] = (None,) * 6  # engines let their containers make nodes
linux.filter_system_calls(seccomp.build_filter(seccomp.machine(), owners="change", sockets="old ways"))
os.execv(sys.argv[3], sys.argv[3:])
"""
DOCKER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)


def run_as_user(arguments: Sequence[str | Path], *, subordinate_ids: bool) -> subprocess.CompletedProcess[str]:
    """Run this Python as a user, in a private folder of the user's. Skips where that can't be arranged."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    for program in ("unshare", "setpriv", "newuidmap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with tempfile.TemporaryDirectory(prefix="copa-user-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", UID, UID)
        for name, line in (("passwd", f"tester:x:{UID}:{UID}::/:/bin/sh"), ("group", f"tester:x:{UID}:")):
            (folder / name).write_text(f"{Path('/etc', name).read_text()}{line}\n")
        for name in ("subuid", "subgid"):
            (folder / name).write_text(f"tester:{_SUBORDINATE}\n" if subordinate_ids else "")
        (folder / "closed").write_text("".join(f"{closed}\t{path}\n" for closed, path in _closed_ways()))
        result = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", _ENTER, "bash", sys.executable, *arguments],
            env={**os.environ, "COPA_ACCOUNTS": str(folder), "COPA_UID": str(UID)}, cwd=ROOT,
            capture_output=True, text=True, check=False, timeout=580,
        )  # fmt: skip
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    return result


def _closed_ways() -> list[tuple[Path, Path]]:
    """Return what is needed below a folder that others may not enter, with that folder."""
    found = []
    for path in {ROOT, Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), (ROOT / ".cache").resolve()}:
        closed = next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None)
        if closed is not None and path.exists():
            found.append((closed, path))
    return sorted(found)


def run_in_pod(
    arguments: Sequence[str | Path], *, capabilities: Sequence[int] = DOCKER_CAPABILITIES
) -> subprocess.CompletedProcess[str]:
    """Run this Python as root with what a container has by default: no mounts, no namespaces, few capabilities."""
    if os.geteuid() != 0:
        pytest.skip("root in a pod needs root here")
    numbers = ",".join(str(number) for number in capabilities)
    command = [sys.executable, "-c", _POD, ROOT / "src", numbers, sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
