# SPDX-License-Identifier: Apache-2.0
"""
`make bench`: local registry to local registry, copa against a Dockerfile upgrade by buildah, medians and ratios.

    make bench                       everything
    make bench ARGS="--runs 5 --only minbase"
    make bench ARGS="--work /dev/shm"        what flushes to a disk, as buildah does, gets that for nothing there
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from demo.roots import build_root

from bench import execution, processor
from bench.alpine import measure_alpine, measure_index
from bench.buildah import run_buildah
from bench.centos import measure_centos
from bench.measure import Result, Sample, repeat, run
from support.deb.debian import layout_of
from support.image.images import make_image, make_layer, write_layout
from support.server.registry import docker_registry

COPA = str(Path(sys.executable).with_name("copa"))
LARGE = (
    "build-essential",
    "ca-certificates",
    "curl",
    "default-jre-headless",
    "ffmpeg",
    "git",
    "imagemagick",
    "libpq-dev",
    "libxml2-dev",
    "nginx",
    "nodejs",
    "openssh-client",
    "openssl",
    "php-cli",
    "postgresql-client",
    "python3-dev",
    "python3-pip",
    "redis-server",
    "ruby",
    "vim",
    "wget",
)
GROUPS = ("processor", "start", "minbase", "large", "shared", "buildkit", "worker", "alpine", "centos")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is."""

    work: Path
    registry: str
    runs: int

    def push(self, layout: str, name: str) -> str:
        target = f"{self.registry}/{name}:1"
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", layout, f"docker://{target}"], check=True
        )
        return target

    def copa(self, image: str, cache: Path, tag: str) -> list[str]:
        return [COPA, "patch", "-i", image, "-t", tag, "--push", "--cache-dir", str(cache), "-q", "--ignore-errors"]

    def buildah(self, image: str, tag: str) -> Sample:
        """Upgrade with a Dockerfile, from an empty storage, and push."""
        target = f"{image.rpartition(':')[0]}:{tag}"

        def script(program: str, folder: Path) -> str:
            (folder / "Dockerfile").write_text(
                f"FROM {image}\nRUN apt-get update && apt-get -y upgrade && rm -rf /var/lib/apt/lists/*\n"
            )
            return (
                f"{program} bud --quiet --isolation oci --runtime runc --network host --tls-verify=false -t {target} "
                f"{folder} && {program} push --quiet --tls-verify=false {target}"
            )

        return run_buildah(self.work, script)


@contextmanager
def opened(runs: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="copa-bench-") as folder, docker_registry(Path(folder)) as registry:
        yield Bench(Path(folder), str(getattr(registry, "host", registry)), runs)


def compare(bench: Bench, name: str, tars: list[Path]) -> list[Result]:
    """Patch one image cold, with layers indexed, and with everything known; then let buildah do it."""
    image = bench.push(layout_of(tars, bench.work / f"{name}-layout"), name)
    caches: list[Path] = []

    def cold() -> Sample:
        caches.append(Path(tempfile.mkdtemp(dir=bench.work)))
        return run(bench.copa(image, caches[-1], f"cold{len(caches)}"))

    def indexed() -> Sample:
        for bucket in ("patches", "patch-layers"):
            for path in caches[-1].glob(f"{bucket}.v*"):
                shutil.rmtree(path)
        return run(bench.copa(image, caches[-1], "indexed"))

    results = [repeat(f"{name}: copa, empty cache", bench.runs, cold)]
    results.append(repeat(f"{name}: copa, layers indexed", bench.runs, indexed))
    results.append(
        repeat(f"{name}: copa, layer known", bench.runs, lambda: run(bench.copa(image, caches[-1], "known")))
    )
    results.append(repeat(f"{name}: buildah, Dockerfile upgrade", bench.runs, lambda: bench.buildah(image, "peer")))
    return results


def start(bench: Bench) -> list[Result]:
    """How long nothing takes."""
    tar = build_root("bookworm", name="bookworm-minbase", age=False)
    image = layout_of([tar], bench.work / "start-layout")
    cache = bench.work / "start-cache"
    plan = [COPA, "plan", "-i", image, "--cache-dir", str(cache), "-q"]
    run(plan)
    return [
        repeat("copa --help", bench.runs * 3, lambda: run([COPA, "--help"])),
        repeat("copa plan, warm", bench.runs * 3, lambda: run(plan)),
    ]


def shared(bench: Bench) -> list[Result]:
    """Eight images on one base, each with a layer of its own, against one."""
    tar = build_root("bookworm", name="bookworm-minbase", age=False)
    base = layout_of([tar], bench.work / "shared-layout").split(":")[1]
    images = [bench.push(_on_top(bench, Path(base), tar, number), f"app{number}") for number in range(8)]

    def together() -> Sample:
        cache = Path(tempfile.mkdtemp(dir=bench.work))
        with ThreadPoolExecutor(2) as pool:
            script = "; ".join(
                " ".join(bench.copa(image, cache, "shared")) + (" &" if number else "")
                for number, image in enumerate(images)
            )
            return pool.submit(run, ["bash", "-c", script.replace("&;", "&") + " wait"]).result()

    def one() -> Sample:
        return run(bench.copa(images[0], Path(tempfile.mkdtemp(dir=bench.work)), "one"))

    return [
        repeat("one image on a base", bench.runs, one),
        repeat("eight images on a base", bench.runs, together),
    ]


def _on_top(bench: Bench, _base: Path, tar: Path, number: int) -> str:
    from demo.roots import compress

    from copacetic.oci.manifest import OCI_LAYER
    from support.image.images import Layer, describe

    blob = compress(tar).read_bytes()
    layers = [Layer(describe(blob, f"{OCI_LAYER}+gzip"), blob, tar.read_bytes())]
    layers.append(make_layer({f"srv/app{number}": "x" * 100_000}))
    layout = bench.work / f"app{number}"
    write_layout(layout, {"1": make_image(layers)})
    return f"oci:{layout}:1"


PEERS = ("buildah", "bare rpm", "the Go tool", "in the worker, empty cache", "in the worker, layers indexed")


def show(results: list[Result]) -> None:
    width = max(len(result.name) for result in results)
    for result in results:
        figures = f"{result.seconds:7.2f} s  {result.spread.rjust(13)}  {result.megabytes:5.0f} MB"
        print(f"{result.name.ljust(width)}  {figures}  {_ratios(result, results)}", flush=True)


def _ratios(result: Result, results: list[Result]) -> str:
    """Say how a result stands to its group's peers."""
    if result.name.startswith("eight"):
        one = next(r for r in results if r.name.startswith("one image"))
        return f"{result.seconds / one.seconds:5.2f} x one"
    if any(peer in result.name for peer in PEERS):
        return ""
    group = result.name.split(":")[0]
    return ", ".join(
        f"{other.seconds / result.seconds:.1f} x faster than {peer}"
        for peer in PEERS
        for other in results
        if peer in other.name and other.name.split(":")[0] == group
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="Where everything is kept.  [/var/tmp]")
    arguments = parser.parse_args()
    if not arguments.work.is_dir():
        parser.error(f"{arguments.work} is no folder")
    tempfile.tempdir = str(arguments.work)
    os.environ.setdefault("COPA_ALLOW_NETWORK", "127.0.0.0/8,::1")  # repositories of our own, or this machine's mirror
    chosen = arguments.only or GROUPS
    with opened(arguments.runs) as bench:
        if "processor" in chosen:
            processor.show(processor.measure(COPA, bench.work, bench.runs * 3))
        if "start" in chosen:
            show(start(bench))
        if "minbase" in chosen:
            show(compare(bench, "minbase", [build_root("bookworm", name="bookworm-minbase", age=False)]))
        if "shared" in chosen:
            show(shared(bench))
        if "buildkit" in chosen:
            show(execution.buildkit(bench))
        if "worker" in chosen:
            show(execution.worker(bench))
        if "alpine" in chosen and (results := measure_alpine(COPA, bench.work, bench.runs)):
            show(results)
            show(measure_index(COPA, bench.work, bench.runs))
        if "centos" in chosen and (results := measure_centos(COPA, bench.work, bench.runs)):
            show(results)
        if "large" in chosen:
            base = build_root("bookworm", name="bookworm-minbase", age=False)
            show(
                compare(
                    bench, "large", [base, build_root("bookworm", name="bookworm-large", packages=LARGE, age=False)]
                )
            )


if __name__ == "__main__":
    main()
