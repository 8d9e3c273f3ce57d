# SPDX-License-Identifier: Apache-2.0
"""A full disk, and a run that is killed at any moment: never a half-written output or cache, whatever the output is."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from copacetic.cli import main
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debian import need
from support.image.images import assert_valid_image, skopeo, small_disk
from support.server.registry import docker_registry

pytestmark = pytest.mark.system

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FORMS = ("oci:{}/layout:1", "oci-archive:{}/archive.tar:1", "docker-archive:{}/docker.tar:example.com/x:1")
KILLS = 3


def big(version: str, size: int = 3_000_000) -> Deb:
    content = random.Random(version).randbytes(size)  # what doesn't compress takes its time everywhere
    files = {"usr/bin/foo": file(content, 0o755)}
    return Deb(name="foo", version=version, architecture="amd64", files=files, compression="gzip")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([big("2")]) as served:
        yield served


@pytest.fixture
def image(tmp_path: Path, repository: Repository) -> str:
    return write_image(tmp_path / "image", debian_image(repository, [FOO]))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- the disk --------------------------------------------------------------------------------------------------------


def test_a_full_cache_leaves_nothing(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk") as disk:
        code = main(["patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "--cache-dir", str(disk / "c"), "-q"])

        out, err = capsys.readouterr()
        assert (code, out) == (1, "")
        assert err.splitlines()[0].lower().startswith("error: ")
        assert "no space left on device" in err.lower()
        assert not [name for name in _files(disk) if "/.tmp-" in f"/{name}"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_full_output_disk_leaves_nothing_and_names_the_place(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        code = main(["patch", "-i", image, "--to", form.format(disk), "--cache-dir", str(tmp_path / "cache"), "-q"])

        out, err = capsys.readouterr()
        assert (code, out) == (1, "")
        assert "no space left on device" in err.lower()
        assert str(disk) in err
        assert "defect" not in err
        assert not [name for name in _files(disk) if not name.startswith("layout/blobs/") and "lock" not in name]
        assert sum(path.stat().st_size for path in disk.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("flag", ["-o", "--digestfile"])
def test_a_document_that_doesn_t_fit_leaves_the_old_one(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        target = disk / "document"
        target.write_text("old")
        with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(512)):
                pass
        code = main(["patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "--no-cache", "-q", flag, str(target)])

        err = capsys.readouterr().err
        assert (code, target.read_text()) == (1, "old")
        assert f"can't write {target}: no space left on device" in err
        assert _files(disk) == ["ballast", "document"]


# -- kill -9 ---------------------------------------------------------------------------------------------------------


def _start(image: str, target: str, cache: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "copacetic", "patch", "-i", image, "--to", target, "--cache-dir", str(cache), "-q"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill_at_random(image: str, target: str, cache: Path, length: float, rng: random.Random) -> None:
    process = _start(image, target, cache)
    time.sleep(length * rng.uniform(0.1, 1.05))
    process.send_signal(signal.SIGKILL)
    process.wait()


def _time(work: Callable[[], subprocess.Popen[bytes]]) -> float:
    started = time.monotonic()
    assert work().wait() == 0
    return time.monotonic() - started


def _assert_whole(form: str, folder: Path) -> None:
    """What is there under its name is a whole image; nothing is fine as well."""
    layout, archive, docker = folder / "layout", folder / "archive.tar", folder / "docker.tar"
    if (layout / "index.json").exists():
        assert_valid_image(layout, "1")
    if archive.exists():
        assert json.loads(skopeo("inspect", f"oci-archive:{archive}:1"))["Layers"]
    if docker.exists():
        assert json.loads(skopeo("inspect", f"docker-archive:{docker}"))["Layers"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_killed_at_any_moment_it_leaves_a_whole_image_or_none_and_a_cache_that_works(
    tmp_path: Path, image: str, form: str, warm: bool
) -> None:
    need("skopeo")
    rng = random.Random(f"{form} {warm}")
    cache, folder = tmp_path / "cache", tmp_path / "out"
    folder.mkdir()
    length = _time(lambda: _start(image, form.format(folder), cache))
    for _ in range(KILLS):
        shutil.rmtree(folder)
        folder.mkdir()
        if not warm:
            shutil.rmtree(cache)
        _kill_at_random(image, form.format(folder), cache, length, rng)
        _assert_whole(form, folder)

        # what was left in the cache and in the output's folder is no obstacle, and nothing in it is wrong
        assert _start(image, form.format(folder), cache).wait() == 0
        _assert_whole(form, folder)
        left = [name for name in _files(cache) if "/." not in f"/{name}"]
        assert left == [name for name in left if (cache / name).stat().st_size or "tables" in name]


def test_killed_over_an_older_result_it_leaves_the_old_or_the_new(tmp_path: Path, repository: Repository) -> None:
    rng = random.Random(1)
    layout = tmp_path / "image"
    image = write_image(layout, debian_image(repository, [FOO]))
    target = f"oci:{layout}:patched"
    length = _time(lambda: _start(image, target, tmp_path / "cache"))
    old = (layout / "index.json").read_bytes()
    seen = set()
    for number in range(KILLS):
        repository.publish([big(f"2.{number}")])
        _kill_at_random(image, target, tmp_path / "cache", length, rng)
        assert_valid_image(layout, "1")
        assert_valid_image(layout, "patched")
        seen.add((layout / "index.json").read_bytes())

    assert old in seen or len(seen) > 1
    repository.publish([big("3")])
    assert _start(image, target, tmp_path / "cache").wait() == 0
    assert not [path for path in layout.iterdir() if path.is_dir() and path.name != "blobs"]


def test_killed_while_pushing_the_tag_is_a_whole_image_or_absent(tmp_path: Path, image: str) -> None:
    need("docker-registry", "skopeo")
    rng = random.Random(2)
    with docker_registry(tmp_path) as host:
        length = _time(lambda: _start(image, f"{host}/team/app:first", tmp_path / "cache"))
        for number in range(KILLS):
            shutil.rmtree(tmp_path / "cache")
            name = f"{host}/team/app{number}:1"
            _kill_at_random(image, name, tmp_path / "cache", length, rng)
            tags = subprocess.run(
                ["skopeo", "list-tags", "--tls-verify=false", f"docker://{name.rpartition(':')[0]}"],
                check=False, capture_output=True, text=True,
            )  # fmt: skip
            if tags.returncode == 0 and json.loads(tags.stdout)["Tags"]:
                copy = f"oci:{tmp_path / f'copy{number}'}:1"
                skopeo("copy", "--quiet", "--src-tls-verify=false", f"docker://{name}", copy)
            assert _start(image, name, tmp_path / "cache").wait() == 0
            skopeo("inspect", "--tls-verify=false", f"docker://{name}")
