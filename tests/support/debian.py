# SPDX-License-Identifier: Apache-2.0
"""
Real Debian roots, made from the distribution's own packages.

Repository addresses come from this machine's apt configuration. A root is *aged*: every package is put back to the
oldest version that the configured suites still have, so that updates are pending even right after a point release.
Roots are kept under `.cache/` in the checkout, for a week.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "images"
_AGE = r"""
set -e
root="$1"
cat > "$root/tmp/age" <<'SCRIPT'
set -e
apt-get -qq update
old=""
for package in $(dpkg-query -W -f '${db:Status-Status} ${Package}:${Architecture} ${Version}\n' | awk '$1 == "installed" {print $2 "=" $3}'); do
  name="${package%%=*}"; present="${package#*=}"
  oldest=$(apt-cache madison "${name%:all}" | awk '{print $3}' | tail -n 100 | sort -u | while read -r version; do
    if [ -z "$best" ] || dpkg --compare-versions "$version" lt "$best"; then best="$version"; fi; echo "$best"; done | tail -n 1)
  if [ -n "$oldest" ] && dpkg --compare-versions "$oldest" lt "$present"; then old="$old ${name%:all}=$oldest"; fi
done
if [ -n "$old" ]; then apt-get -y -qq --allow-downgrades --no-install-recommends install $old >/dev/null; fi
SCRIPT
chroot "$root" sh /tmp/age
rm "$root/tmp/age"
"""


def need(*programs: str, root: bool = False) -> None:
    """Skip the test where the machine lacks a program or the right to use it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if root and os.geteuid() != 0:
        pytest.skip("needs root")


@lru_cache(maxsize=1)
def mirrors() -> tuple[str, str]:
    """Return this machine's addresses of the main and of the security archive; skips where there are none."""
    need("apt-get")
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], check=True, capture_output=True, text=True
    ).stdout.split("\n")
    rows = [line.split() for line in listed if len(line.split()) == 2]
    security = next((site for site, suite in rows if suite.endswith("-security")), "")
    main = next((site for site, suite in rows if "-" not in suite and site.endswith("/debian")), "")
    if not main or not security:
        pytest.skip("this machine has no Debian archive configured")
    return main, security


def sources(suite: str) -> str:
    """Return a sources.list with the main, updates and security suites."""
    main, security = mirrors()
    suites = ((main, suite), (main, f"{suite}-updates"), (security, f"{suite}-security"))
    return "".join(f"deb {uri} {name} main\n" for uri, name in suites)


def build_root(suite: str, *, packages: Sequence[str] = (), name: str = "") -> Path:
    """Return the tar of a minbase root of a suite, with pending updates."""
    need("mmdebstrap", "unshare", root=True)
    main, _ = mirrors()
    week = time.strftime("%G-%V")
    target = CACHE / f"{name or suite}-{week}.tar"
    with _locked(target):
        if target.exists():
            return target
        partial = target.with_suffix(".partial.tar")
        listed = CACHE / f"{name or suite}.list"
        listed.write_text(sources(suite))
        age = CACHE / "age.sh"
        age.write_text(_AGE)
        command = [
            "mmdebstrap", "--quiet", "--variant=minbase", "--components=main",
            *([f"--include={','.join(packages)}"] if packages else []),
            f"--customize-hook=copy-in {listed} /etc/apt", f'--customize-hook=mv "$1/etc/apt/{listed.name}" "$1/etc/apt/sources.list"',
            f'--customize-hook=sh {age} "$1"',
            suite, str(partial), main,
        ]  # fmt: skip
        made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
        assert made.returncode == 0, made.stderr[-3000:]
        partial.rename(target)
        return target


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one worker build, and the others wait for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compress(tar: Path) -> Path:
    """Return the gzip of a tar, kept beside it."""
    target = tar.with_suffix(".tar.gz")
    with _locked(target):
        if not target.exists():
            partial = target.with_suffix(".partial")
            with tar.open("rb") as source, gzip.GzipFile(partial, "wb", compresslevel=1, mtime=0) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            partial.rename(target)
    return target


def layout_of(tars: Sequence[Path], layout: Path, *, architecture: str = "amd64") -> str:
    """Write an image of one gzip layer for each tar into an OCI layout and return its location."""
    from support.images import Layer, describe, make_image, write_layout  # noqa: PLC0415 - it needs pytest's path

    from copacetic.oci.manifest import OCI_LAYER  # noqa: PLC0415

    layers = [
        Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, tar.read_bytes())
        for tar in tars
        if (blob := compress(tar).read_bytes())
    ]
    write_layout(layout, {"base": make_image(layers, platform=f"linux/{architecture}")})
    return f"oci:{layout}:base"
