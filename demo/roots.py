# SPDX-License-Identifier: Apache-2.0
"""
Real Debian and Ubuntu roots with pending updates, made from the distribution's own packages.

The addresses of Debian's repositories come from this machine's apt configuration, those of Ubuntu's from mmdebstrap. A
root is *aged*: every package is put back to the oldest version that the configured suites still have, so that updates
are pending even right after a point release. Ubuntu's have those of the release itself, so nothing has to be put back.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from isal import isal_zlib

CACHE = Path(__file__).parents[1] / ".cache" / "images"

_AGE = r"""
set -e
apt-get -qq update
rows=$(dpkg-query -W -f '${db:Status-Status}/${Package}=${Version}\n' | sed -n 's,^installed/,,p')
old=""
# The last row that madison prints of a package is its oldest version.
oldest=$(apt-cache madison $(echo "$rows" | sed 's,=.*,,') | awk '{v[$1] = $3} END {for (n in v) print n "=" v[n]}')
for row in $oldest; do
  if ! echo "$rows" | grep -qxF "$row"; then old="$old $row"; fi
done
if [ -n "$old" ]; then apt-get -y -qq --allow-downgrades --no-install-recommends install $old >/dev/null; fi
"""


UBUNTU = ("jammy", "noble")

_UNKNOWN_KEYS = ("Acquire::AllowInsecureRepositories", "APT::Get::AllowUnauthenticated")
"""
Debian has no package with Ubuntu's keys: the first packages, the keys among them, are taken as they come. From then on
the root's own apt checks everything, and so does whatever patches it.
"""


class NotPossibleError(Exception):
    """This machine can't make such a root; the message says why."""


@lru_cache(maxsize=1)
def mirrors() -> tuple[str, str]:
    """Return this machine's addresses of the main and of the security archive."""
    if shutil.which("apt-get") is None:
        raise NotPossibleError("apt-get is not installed")
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], check=True, capture_output=True, text=True
    ).stdout
    rows = [(words[0], words[1]) for line in listed.splitlines() if len(words := line.split()) == 2]
    security = next((site for site, suite in rows if suite.endswith("-security")), "")
    main = next((site for site, suite in rows if "-" not in suite and site.rstrip("/").endswith("/debian")), "")
    if not main or not security:
        raise NotPossibleError("this machine has no Debian archive configured, or `apt-get update` never ran")
    return main, security


def sources(suite: str) -> str:
    """Return a sources.list with the main, updates and security suites."""
    main, security = mirrors()
    suites = ((main, suite), (main, f"{suite}-updates"), (security, f"{suite}-security"))
    return "".join(f"deb {uri} {name} main\n" for uri, name in suites)


def build_root(suite: str, *, packages: Sequence[str] = (), name: str = "", age: bool = True) -> Path:
    """Return the tar of a minbase root of a suite; it is kept for a week under `.cache/`."""
    if shutil.which("mmdebstrap") is None:
        raise NotPossibleError("mmdebstrap is not installed")
    target = CACHE / f"{name or suite}-{time.strftime('%G-%V')}.tar"
    with locked(target):
        if target.exists():
            return target
        partial = target.with_suffix(".partial.tar")
        script = CACHE / f"{target.stem}.age"
        script.write_text(_AGE)
        hooks = [f'copy-in "{script}" /tmp', f'chroot "$1" sh "/tmp/{script.name}"', f'rm "$1/tmp/{script.name}"'] * age
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--components=main"]
        more = [*packages, *(("apt", "ubuntu-keyring") if suite in UBUNTU else ())]
        command += [f"--include={','.join(more)}"] if more else []
        last: list[str] = []
        if suite in UBUNTU:
            command += [f'--aptopt={option} "true"' for option in _UNKNOWN_KEYS]
            command += ['--setup-hook=cd "$1/etc/apt"; cp sources.list all.list; sed -i 1q sources.list'] * age
            hooks = ['rm "$1/etc/apt/apt.conf.d/99mmdebstrap"']
            hooks += ['mv "$1/etc/apt/all.list" "$1/etc/apt/sources.list"'] * age
        else:
            listed = CACHE / f"{target.stem}.list"
            listed.write_text(sources(suite))
            hooks.insert(0, f'copy-in "{listed}" /tmp')
            hooks.insert(1, f'mv "$1/tmp/{listed.name}" "$1/etc/apt/sources.list"')
            last.append(mirrors()[0])
        command += [f"--customize-hook={hook}" for hook in hooks]
        made = subprocess.run(
            [*command, suite, str(partial), *last], check=False, capture_output=True, text=True, timeout=1_800
        )
        if made.returncode != 0:
            raise NotPossibleError(f"mmdebstrap failed: {made.stderr[-3000:]}")
        partial.rename(target)
        return target


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Let one process build something, and the others wait for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compress(tar: Path) -> Path:
    """Return the gzip of a tar, kept beside it."""
    target = tar.with_suffix(".tar.gz")
    with locked(target):
        if not target.exists():
            partial = target.with_suffix(".partial")
            state = isal_zlib.compressobj(1, wbits=31)
            with tar.open("rb") as source, partial.open("wb") as sink:
                while block := source.read(1 << 20):
                    sink.write(state.compress(block))
                sink.write(state.flush())
            partial.rename(target)
    return target
