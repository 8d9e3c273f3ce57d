# SPDX-License-Identifier: Apache-2.0
"""Layout to layout: nine packages of Alpine 3.18 against the image's own apk, and what a whole release's index costs."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from bench.buildah import run_buildah
from bench.measure import Result, Sample, repeat, run
from support.apk.apkoracle import ROOTS, alpine_image
from support.apk.apkrepo import ApkRepository, public_pem
from support.apk.apks import read_index
from support.image.images import FIXTURES
from support.server.served import Served, serve


def measure_alpine(copa: str, work: Path, runs: int) -> list[Result]:
    """Measure in a folder; without the real image and repository there is nothing to measure."""
    folder = FIXTURES / "alpine/repo-3.18.9"
    if not (FIXTURES / ROOTS["3.18.2"]).exists() or not folder.exists():
        print("alpine: left out, its image is not there (COPA_FIXTURES)", flush=True)
        return []
    image = alpine_image("3.18.2", work / "alpine")
    (key,) = folder.glob("*.rsa.pub")
    served = Served()
    served.add_folder(folder)
    caches: list[Path] = []

    def patch(*flags: str) -> Sample:
        target = f"oci:{tempfile.mkdtemp(dir=work)}/out:patched"
        command = [copa, "patch", "-i", image, "--to", target, "--cache-dir", str(caches[-1]), "-q"]
        return run([*command, "--repository", served.address, f"--key={key}", *flags])

    def cold(*flags: str) -> Sample:
        caches.append(Path(tempfile.mkdtemp(dir=work)))
        return patch(*flags)

    def indexed(*flags: str) -> Sample:
        for bucket in ("patches", "patch-layers"):
            for path in caches[-1].glob(f"{bucket}.v*"):
                shutil.rmtree(path)
        return patch(*flags)

    worker = ("--strategy", "exec", "--addr", "worker://")
    with serve(served):
        return [
            repeat("alpine: copa, empty cache", runs * 3, cold),
            repeat("alpine: copa, layers indexed", runs * 3, indexed),
            repeat("alpine: copa, layer known", runs * 3, patch),
            repeat("alpine: copa in the worker, empty cache", runs * 3, lambda: cold(*worker)),
            repeat("alpine: copa in the worker, layers indexed", runs * 3, lambda: indexed(*worker)),
            repeat("alpine: buildah, apk upgrade", runs, lambda: _apk_upgrade(work, served.address, key)),
        ]


def measure_index(copa: str, work: Path, runs: int) -> list[Result]:
    """One package out of an index of Alpine's 3.19 main, and out of one that has nothing else."""
    folder = FIXTURES / "alpine/repo-3.19-signed"
    if not (FIXTURES / ROOTS["3.19.1"]).exists() or not folder.exists():
        return []
    image = alpine_image("3.19.1", work / "alpine-3.19")
    row = {"VulnerabilityID": "CVE-2024-1", "PkgName": "libxml2", "FixedVersion": "2.11.8-r0", "Severity": "HIGH"}
    results = [{"Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": [row]}]
    report = work / "alpine-report.json"
    report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))
    rows = read_index(folder)
    full, small = Served(), ApkRepository()
    for served in (full, small):
        served.add_folder(folder, "alpine/v3.19/main/")
    (work / small.key_name).write_bytes(public_pem(small.key))
    small.publish([], rows=[rows["libxml2"]])
    caches: list[Path] = []

    def patch(served: Served) -> Sample:
        target = f"oci:{tempfile.mkdtemp(dir=work)}/out:patched"
        command = [copa, "patch", "-i", image, "--to", target, "--cache-dir", str(caches[-1]), "-q", "-r", str(report)]
        key = f"--key={work / small.key_name}"
        return run([*command, "--repository", f"{served.address}/alpine/v3.19/main", key])

    def cold(served: Served) -> Sample:
        caches.append(Path(tempfile.mkdtemp(dir=work)))
        return patch(served)

    with serve(full), serve(small):
        return [
            repeat("3.19: an index of one package, empty cache", runs * 3, lambda: cold(small)),
            repeat("3.19: again", runs * 3, lambda: patch(small)),
            repeat(f"3.19: the full index ({len(rows)} packages), empty cache", runs * 3, lambda: cold(full)),
            repeat("3.19: the full index, again", runs * 3, lambda: patch(full)),
        ]


def _apk_upgrade(work: Path, repository: str, key: Path) -> Sample:
    """Unpack the image into an empty storage, run its own apk, and write the result as a layout."""
    apk = f"/sbin/apk --no-cache --repositories-file /dev/null -X {repository} upgrade"
    return run_buildah(
        work,
        # A relative name, since buildah makes the image's own of it.
        lambda program, folder: (
            f"cd {work} && c=$({program} from oci:alpine:base) && {program} copy -q $c '{key}' /etc/apk/keys/ && "
            f"{program} run --isolation oci --runtime runc --network host $c -- {apk} && "
            f"{program} commit -q $c oci:{folder}/out:patched"
        ),
    )
