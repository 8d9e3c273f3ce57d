# SPDX-License-Identifier: Apache-2.0
"""Layout to layout: 32 packages of CentOS 7 against the image's own rpm, in a chroot and by buildah."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from bench.buildah import run_buildah
from bench.measure import Result, Sample, repeat, run
from support.deb.oracle import ISOLATED
from support.image.images import FIXTURES
from support.rpm.centos import ROOT, UPDATES, centos_image, centos_root, updates
from support.server.served import Served, serve

_UPGRADE = "rpm -U --nosignature --nodeps /run/updates/*.rpm"


def measure_centos(copa: str, work: Path, runs: int) -> list[Result]:
    """Measure in a folder; without the real image and repository there is nothing to measure."""
    if not (FIXTURES / ROOT).exists():
        print("centos: left out, its image is not there (COPA_FIXTURES)", flush=True)
        return []
    image = centos_image(work / "centos")
    served = Served()
    served.add_folder(FIXTURES / UPDATES)
    packages = work / "centos-updates"
    packages.mkdir()
    for path in updates():
        shutil.copyfile(path, packages / path.name)
    caches: list[Path] = []

    def patch() -> Sample:
        target = f"oci:{tempfile.mkdtemp(dir=work)}/out:patched"
        command = [copa, "patch", "-i", image, "--to", target, "--cache-dir", str(caches[-1]), "-q", "--ignore-errors"]
        return run([*command, "--strategy", "unpack", "--repository", served.address])

    def cold() -> Sample:
        caches.append(Path(tempfile.mkdtemp(dir=work)))
        return patch()

    with serve(served):
        return [
            repeat("centos: copa, empty cache", runs, cold),
            repeat("centos: copa, layer known", runs, patch),
            repeat("centos: bare rpm -U in a chroot, no layer made", runs, lambda: _bare(work, packages)),
            repeat("centos: buildah, rpm -U", runs, lambda: _buildah(work, packages)),
        ]


def _bare(work: Path, packages: Path) -> Sample:
    root = centos_root(Path(tempfile.mkdtemp(dir=work)) / "root")
    shutil.copytree(packages, root / "run/updates")
    os.sync()
    nodes = "; ".join(
        f'touch "{root}/dev/{node}"; mount --bind /dev/{node} "{root}/dev/{node}"'
        for node in ("null", "random", "urandom")
    )
    script = f'set -e; mount -t tmpfs none "{root}/dev"; {nodes}; exec chroot "{root}" /bin/sh -c "{_UPGRADE}"'
    sample = run([*ISOLATED, "sh", "-c", script])
    shutil.rmtree(root.parent)
    return sample


def _buildah(work: Path, packages: Path) -> Sample:
    """Unpack the image into an empty storage, run its own rpm, and write the result as a layout."""
    return run_buildah(
        work,
        lambda program, folder: (
            f"cd {work} && c=$({program} from oci:centos:base) && {program} run --isolation oci --runtime runc "
            f"--volume {packages}:/run/updates:ro $c -- sh -c '{_UPGRADE}' && "
            f"{program} commit -q $c oci:{folder}/out:patched"
        ),
    )
