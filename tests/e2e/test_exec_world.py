# SPDX-License-Identifier: Apache-2.0
"""What is run with a real apk is the plan, whatever `etc/apk/world` says or was broken before; `world` stays as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import pytest

from support.apk.apkoracle import alpine_image_on
from support.apk.apkrepo import ApkRepository, installed_text
from support.apk.apks import Apk
from support.builder.running import Patching, open_builder
from support.deb.debian import need
from support.deb.debs import file
from support.image.trees import layer_paths
from support.server.served import serve
from support.value.plandocuments import notes_of, section_of
from support.value.replacing import replace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("exec-world")]

FOO = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)}, depends=["bar"])
BAR = Apk(name="bar", version="1-r0", files={"usr/lib/bar": file("old")})
ADDED = Apk(name="added", version="1-r0", files={"usr/share/added": file("x")}, install_if=["foo"])
NEW = replace(FOO, version="2-r0", files={"usr/bin/foo": file("new", 0o755)})
BAR2 = replace(BAR, version="2-r0", files={"usr/lib/bar": file("new")})
NEEDED = Apk(name="needed", version="1-r0", files={"usr/lib/needed": file("x")})
SYSTEM = "alpine-baselayout alpine-keys apk-tools busybox libc-utils"
CASES: dict[str, tuple[str, Sequence[Apk], int]] = {
    "a new version drops a dependency": (f"{SYSTEM} foo", [replace(NEW, depends=())], 1),
    "one dependency gives way to another": (f"{SYSTEM} foo", [replace(NEW, depends=["needed"]), NEEDED], 2),
    "nobody asks for the package": (SYSTEM, [NEW, BAR2], 2),
    "nobody asks for anything": ("\n", [NEW], 1),
    "a name that nobody has": (f"{SYSTEM} foo gone", [NEW], 1),
    "a version that nobody has": (f"{SYSTEM} bar>7 foo", [NEW], 1),
    "what is excluded is not there": (f"{SYSTEM} foo !added", [NEW, BAR2], 2),
}


@pytest.fixture(scope="module", params=("worker", "buildkit"))
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need("umoci", root=True)
    with open_builder(request.param) as found:
        yield found


@pytest.fixture
def repository() -> Iterator[ApkRepository]:
    served = ApkRepository()
    with serve(served):
        yield served


@pytest.mark.parametrize(
    ("release", "name"),
    [*(("3.20.3", name) for name in CASES), *(("3.23.6", name) for name in [*CASES][:3])],
)
def test_the_layer_is_the_one_that_nothing_ran_for(
    case: Patching, repository: ApkRepository, release: str, name: str
) -> None:
    world, offered, updates = CASES[name]
    repository.publish(offered)
    more = {"etc/apk/world": world.encode()}
    image = alpine_image_on(release, case.folder / "image", repository, [FOO, BAR], more=more)
    layers = {}
    for strategy in ("exec", "unpack"):
        run = case.patch(image, "--strategy", strategy, tag=strategy)
        assert run.code == 0, run.error
        layers[strategy] = case.outcome["layer"]["digest"]

    assert len(section_of(case.plan)["updates"]) == updates
    assert case.changed("exec")["usr/bin/foo"] == "new"
    assert layers["exec"] == layers["unpack"]


def test_an_image_without_world_has_none_afterwards(case: Patching, repository: ApkRepository) -> None:
    repository.publish([NEW])
    image = alpine_image_on("3.20.3", case.folder / "image", repository, [FOO, BAR], without=["etc/apk/world"])

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 0, run.error
    assert layer_paths(case.folder / "out", "patched") == {
        "lib/apk/db/installed",
        "lib/apk/db/scripts.tar",
        "usr/bin/foo",
    }


BAD = [Apk(name=name, version="1-r0", files={f"usr/bin/{name}": file("x", 0o755)}) for name in ("bad", "worse")]
FAILING = {"post-upgrade": "#!/bin/sh\nexit 1\n"}


def with_broken(case: Patching, repository: ApkRepository, release: str) -> str:
    """A real root in which two packages' scripts had failed when it was built."""
    alpine_image_on(release, case.folder / "image", repository, [FOO, BAR, *BAD])
    text = (case.folder / "image.root" / "lib/apk/db/installed").read_text()
    rows = [installed_text(apk) for apk in (FOO, BAR, *BAD)]
    broken = [row.replace("\nF:", "\nf:s\nF:", 1) for row in rows[2:]]
    shutil.rmtree(case.folder / "image")
    shutil.rmtree(case.folder / "image.root")
    more = {"lib/apk/db/installed": (text + "".join(f"{row}\n" for row in (*rows[:2], *broken))).encode()}
    return alpine_image_on(release, case.folder / "image", repository, [FOO, BAR, *BAD], more=more)


@pytest.mark.parametrize("release", ["3.20.3", "3.23.6"])
def test_what_was_broken_before_is_no_failure_of_the_run(
    case: Patching, repository: ApkRepository, release: str
) -> None:
    repository.publish([NEW, BAR2])
    image = with_broken(case, repository, release)
    layers = {}
    for strategy in ("exec", "unpack"):
        run = case.patch(image, "--strategy", strategy, tag=strategy)
        assert run.code == 0, run.error
        layers[strategy] = case.outcome["layer"]["digest"]

    assert [note for note in notes_of(case.plan) if "has been broken since" in note] == [
        f"{name} 1-r0 has been broken since it was installed: a script of it failed (f: in lib/apk/db/installed)"
        for name in ("bad", "worse")
    ]
    assert layers["exec"] == layers["unpack"]


def test_a_script_that_fails_now_is_one_all_the_same(case: Patching, repository: ApkRepository) -> None:
    repository.publish([replace(NEW, scripts=FAILING), BAR2])
    image = with_broken(case, repository, "3.20.3")

    run = case.patch(image, "--strategy", "exec")

    assert run.code == 1
    assert "failed with exit code 3" in run.error
    assert "foo-2-r0.post-upgrade" in run.error


@pytest.mark.parametrize("release", ["3.20.3", "3.23.6"])
def test_a_file_of_another_package_keeps_only_the_one_that_wants_it(
    case: Patching, repository: ApkRepository, release: str
) -> None:
    """Which the real apk does, too, and then exits with 1."""
    thief = replace(BAD[0], version="2-r0", files={**BAD[0].files, "usr/lib/bar": file("stolen")})
    repository.publish([NEW, BAR2, thief])
    image = alpine_image_on(release, case.folder / "image", repository, [FOO, BAR, BAD[0]])
    layers = {}
    for strategy in ("exec", "unpack"):
        run = case.patch(image, "--strategy", strategy, tag=strategy)
        assert run.code == 0, run.error
        layers[strategy] = case.outcome["layer"]["digest"]

    (skipped,) = section_of(case.plan)["skipped"]
    assert (skipped["name"], skipped["reason"]) == ("bad", "conflict")
    assert "bad 2-r0 would overwrite usr/lib/bar of bar" in skipped["detail"]
    assert case.changed("exec")["usr/lib/bar"] == "new"
    assert layers["exec"] == layers["unpack"]
