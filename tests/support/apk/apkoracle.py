# SPDX-License-Identifier: Apache-2.0
"""
The real apk as the judge: it upgrades a root, and both trees are compared (see `oracle`).

It runs in a chroot with a mount namespace of its own, so that whatever it mounts is gone when it ends. A repository
is bound to `/mnt`, and named on the command line: the root's own files say nothing of it.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from copacetic.oci.manifest import OCI_LAYER
from support.apk.apkrepo import ApkRepository, installed_text, public_pem
from support.apk.apks import Apk
from support.deb.debian import need
from support.deb.oracle import ISOLATED, Node, extract, read_tree
from support.image.images import Layer, describe, fixture, make_image, make_layer, tar_file, write_layout
from support.value.replacing import replace

ROOTS = {
    "3.10.2": "alpine/alpine-3.10.2-docker-archive.tar.gz",
    "3.18.2": "alpine/alpine-minirootfs-3.18.2-x86_64.tar.gz",
    "3.19.1": "alpine/alpine-3.19.1-from-real-apks-x86_64.tar.gz",
    "3.20.3": "alpine/alpine-minirootfs-3.20.3-x86_64.tar.gz",
    "3.22.0": "alpine/alpine-minirootfs-3.22.0-x86_64.tar.gz",
    "3.23.5": "alpine/alpine-3.23.5-container-x86_64.tar.gz",
    "3.23.6": "alpine/alpine-3.23.6-container-x86_64.tar.gz",
    "3.23.5 with openrc": "alpine/alpine-3.23.5-vm-x86_64.tar.gz",
    "3.23.6 with openrc": "alpine/alpine-3.23.6-vm-x86_64.tar.gz",
}
"""Real roots, by release."""

_COMMIT = re.compile(r"\( *(\d+)/\d+\) (Installing|Upgrading|Purging|Downgrading|Replacing|Reinstalling) (\S+) ")
_PRELUDE = """\
set -e
mount -t tmpfs -o mode=755 none "{root}/dev"
for node in null zero full random urandom; do
  touch "{root}/dev/$node"; mount --bind "/dev/$node" "{root}/dev/$node"
done
mount -t proc proc "{root}/proc"
{binds}
exec chroot "{root}" /bin/busybox env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C /bin/sh -c "$0"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What apk said and did."""

    code: int
    output: str

    @property
    def commits(self) -> tuple[tuple[str, str], ...]:
        """What it did to which package, in its order."""
        return tuple((match[2], match[3]) for match in _COMMIT.finditer(self.output))


def alpine_root(release: str, target: Path) -> Path:
    """Unpack a real root; skips the test where that isn't possible."""
    need("tar", "unshare", "chroot", root=True)
    archive = fixture(ROOTS[release])
    if "docker-archive" not in archive.name:
        return extract(archive, target)
    folder = target.parent / f"{target.name}.archive"
    extract(archive, folder)
    for layer in folder.glob("*/layer.tar"):
        extract(layer, target)
    return target


def alpine_image(release: str, layout: Path, *, architecture: str = "amd64", archive: str = "") -> str:
    """Write a real root as an image, in a layout or as the docker archive that it is; returns its location."""
    source = fixture(archive or ROOTS[release])
    plain = gzip.decompress(source.read_bytes())
    if "docker-archive" in source.name:
        layout.with_suffix(".tar").write_bytes(plain)
        return f"docker-archive:{layout.with_suffix('.tar')}"
    layer = Layer(describe(source.read_bytes(), f"{OCI_LAYER}+gzip"), source.read_bytes(), plain)
    write_layout(layout, {"base": make_image([layer], platform=f"linux/{architecture}")})
    return f"oci:{layout}:base"


def alpine_image_on(
    release: str,
    layout: Path,
    repository: ApkRepository,
    apks: Sequence[Apk],
    *,
    more: Mapping[str, bytes] | None = None,
    without: Sequence[str] = (),
) -> str:
    """
    Write a real root with packages of a test in its database, and their repository as its only one. `without` are
    paths that a last layer removes.
    """
    folder = layout.parent / f"{layout.name}.root"
    extract(fixture(ROOTS[release]), folder)
    database = (folder / "lib/apk/db/installed").read_text()
    world = [*(folder / "etc/apk/world").read_text().split(), *(apk.name for apk in apks)]
    files: dict[str, bytes | str] = {
        "lib/apk/db/installed": database + "".join(f"{installed_text(apk)}\n" for apk in apks),
        "etc/apk/world": "".join(f"{name}\n" for name in sorted(world)),
    }
    for apk in apks:
        files |= {path: item.content for path, item in apk.files.items()}
    files["etc/apk/repositories"] = f"{repository.url}\n"
    files[f"etc/apk/keys/{repository.key_name}"] = public_pem(repository.key)
    source = fixture(ROOTS[release]).read_bytes()
    base = Layer(describe(source, f"{OCI_LAYER}+gzip"), source, gzip.decompress(source))
    layers = [base, make_layer({**files, **(more or {})})]
    if without:
        layers.append(make_layer([tar_file("/.wh.".join(path.rsplit("/", 1))) for path in without]))
    write_layout(layout, {"base": make_image(layers)})
    return f"oci:{layout}:base"


def run_in(root: Path, command: str, *, binds: Mapping[str, Path] | None = None) -> Run:
    """Run a shell command in a root, with folders of the host bound to paths of it."""
    lines = "\n".join(f'mount --bind "{source}" "{root}/{path}"' for path, source in (binds or {}).items())
    script = textwrap.dedent(_PRELUDE).format(root=root, binds=lines)
    done = subprocess.run(
        [*ISOLATED, "sh", "-c", script, command],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    return Run(done.returncode, done.stdout.decode(errors="replace"))


def upgrade(root: Path, repository: Path, arguments: Sequence[str] = ("upgrade",), *, own_keys: bool = False) -> Run:
    """Let a root's own apk upgrade it from a repository, whose key lies beside it unless the root's own are used."""
    keys = "" if own_keys else "--keys-dir /mnt "
    command = f"apk {keys}--repositories-file /dev/null -X /mnt --no-cache {' '.join(arguments)}"
    return run_in(root, command, binds={"mnt": repository})


def snapshot(root: Path) -> dict[str, Node]:
    """Return what counts of a tree; devices are the sandbox's, and apk 3 writes down what it did."""
    beside = ("dev/", "proc/", "var/log/apk.log", "lib/apk/db/lock")
    return {path: node for path, node in read_tree(root).items() if not path.startswith(beside)}


def differences(real: Path, ours: Path, *, directories: bool = True) -> list[str]:
    """Return how two trees differ, as lines; owners and modes of directories that both have may be left out."""
    expected, actual = snapshot(real), snapshot(ours)
    if not directories:
        for path, node in expected.items():
            there = actual.get(path)
            if node.kind == "d" and there is not None and there.kind == "d":
                actual[path] = replace(there, mode=node.mode, owner=node.owner)
    return [
        f"{path}: expected {expected.get(path)}, got {actual.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path)
    ]
