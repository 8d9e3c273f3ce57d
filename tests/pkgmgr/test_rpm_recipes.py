# SPDX-License-Identifier: Apache-2.0
"""How rpm, or a manager in front of it, would be run in an image, and which images are refused before that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from copacetic import llb
from copacetic.errors import NeedsExecutionError, SignatureError, UnsupportedImageError
from copacetic.llb.graph import Bind, ExecOp, Network, Tmpfs
from copacetic.oci import Digest
from copacetic.pkgmgr import PackageManager, Upgrade, open_package_manager
from copacetic.updates import FetchedPackage, PackageKey, PlannedUpdate, ScriptClass, ScriptVerdict
from support.builder.recipes import run_of
from support.image.images import make_tar, tar_file
from support.image.trees import stack
from support.rpm.rpmdbs import make_files
from support.rpm.rpmfiles import Rpm
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import candidate

BASE = llb.image(f"base.example/distribution@{Digest.of(b'base')}")
TOOLING = llb.image(f"base.example/tooling@{Digest.of(b'tooling')}")
OLD = Rpm(name="foo")
NEW = replace(OLD, version="2")
PROGRAMS = ("usr/bin/rpm", "bin/sh")


def opened(*rpms: Rpm, kind: str = "sqlite", programs: Sequence[str] = PROGRAMS, **more: str) -> PackageManager:
    """The package manager of an image with `foo`; names in `more` have `__` for a slash and `____` for a dot."""
    files: dict[str, bytes | str] = {**make_files(kind, [rpm.header() for rpm in (OLD, *rpms)])}
    files |= {name.replace("____", ".").replace("__", "/"): text for name, text in more.items()}
    items = [tar_file(path, "a program", mode=0o755) for path in programs]
    fs = stack(make_tar(files), make_tar(items))
    database = detect_database(fs)
    assert database is not None
    return open_package_manager(fs, database)


def fetched(folder: Path, rpm: Rpm = NEW) -> FetchedPackage:
    path = folder / rpm.file_name
    path.write_bytes(rpm.to_bytes())
    offered = candidate(rpm.name, rpm.evr, architecture=rpm.architecture)
    offered = replace(offered, sha256=Digest.of(path.read_bytes()).encoded)
    return FetchedPackage(update=PlannedUpdate(installed=None, candidate=offered), path=path)


def test_rpm_gets_the_files_of_the_plan_by_their_digests_and_no_network(tmp_path: Path) -> None:
    package = fetched(tmp_path)

    recipe = opened().install(BASE, [package], tooling=None)

    run, name = run_of(recipe), f"{package.update.candidate.sha256}.rpm"
    assert run.args == ("/usr/bin/rpm", "-U", "--nosignature", f"/run/copacetic/packages/{name}")
    assert run.network is Network.NONE
    assert all(mount.readonly for mount in run.mounts if isinstance(mount, Bind))
    assert [mount.dest for mount in run.mounts if isinstance(mount, Tmpfs)] == ["/run/copacetic", "/tmp"]
    assert recipe.directories == {"rpms": {name: package.path}}
    assert recipe.with_names(name) == "foo-2-1.x86_64.rpm"


def test_a_name_that_looks_like_an_option_is_none_for_rpm(tmp_path: Path) -> None:
    run = run_of(opened().install(BASE, [fetched(tmp_path, replace(NEW, name="--eval"))], tooling=None))

    assert not any("eval" in argument for argument in run.args)


def test_what_was_broken_before_is_not_held_against_the_packages(tmp_path: Path) -> None:
    run = run_of(opened(Rpm(name="bar", requires=("nowhere",))).install(BASE, [fetched(tmp_path)], tooling=None))

    assert "--nodeps" in run.args


def test_another_image_s_rpm_finds_the_database_in_its_place_and_form(tmp_path: Path) -> None:
    recipe = opened(kind="ndb", programs=["bin/sh"]).install(BASE, [fetched(tmp_path)], tooling=TOOLING)

    run = run_of(recipe)
    words = run.args[: run.args.index("-U")]
    (folder,) = {word for word in words if word.startswith("_dbpath ")}
    assert words == (
        *("/usr/bin/rpm", "--root", "/run/copacetic/root"),
        *("--define", folder, "--define", "_db_backend ndb"),
    )
    assert run.root is TOOLING
    assert "--noscripts" not in run.args
    assert recipe.base is BASE


def test_without_an_image_that_brings_rpm_there_is_nobody_to_do_it(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError) as caught:
        opened(programs=["bin/sh"]).install(BASE, [fetched(tmp_path)], tooling=None)

    assert "--tooling-image" in str(caught.value.hint)


def test_an_image_without_a_shell_runs_no_scripts_and_says_whose(tmp_path: Path) -> None:
    package = fetched(tmp_path)
    done = ScriptVerdict(
        package=PackageKey("foo", "x86_64"), script="%post", verdict=ScriptClass.REPRODUCED, reason="ldconfig"
    )
    open_ = replace(done, verdict=ScriptClass.NEEDS_EXECUTION)
    reproduced, needed = (replace(package, update=replace(package.update, scripts=(one,))) for one in (done, open_))

    recipe = opened(programs=[]).install(BASE, [reproduced], tooling=TOOLING)

    assert {"--noscripts", "--notriggers"} <= set(run_of(recipe).args)
    assert not recipe.runs_scripts
    assert recipe.notes == ("foo:x86_64: %post was not run, for the image has no shell",)
    with pytest.raises(NeedsExecutionError, match="would have to be run"):
        opened(programs=[]).install(BASE, [needed], tooling=TOOLING)


def test_berkeley_db_s_memory_of_another_machine_goes(tmp_path: Path) -> None:
    recipe = opened(kind="bdb").install(BASE, [fetched(tmp_path)], tooling=None)

    assert recipe.records["var/lib/rpm/__db.001"] is None


# -- what only a builder can plan ----------------------------------------------------------------------------


def upgraded(manager: PackageManager, *names: str, allow_unsigned: bool = False) -> ExecOp:
    keys = tuple(PackageKey(name, "x86_64") for name in names) if names else None
    return run_of(manager.upgrade(BASE, Upgrade(names=keys, repository_state="today", allow_unsigned=allow_unsigned)))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("dnf5", ("/usr/bin/dnf5", "--assumeyes", "upgrade")),
        ("dnf", ("/usr/bin/dnf", "--assumeyes", "upgrade")),
        ("microdnf", ("/usr/bin/microdnf", "--assumeyes", "update")),
        ("yum", ("/usr/bin/yum", "--assumeyes", "update")),
        ("tdnf", ("/usr/bin/tdnf", "--assumeyes", "update")),
        ("zypper", ("/bin/sh", "/run/copacetic/upgrade", "update", "--no-recommends", "--auto-agree-with-licenses")),
    ],
)
def test_a_builder_runs_the_manager_that_the_image_has(program: str, words: tuple[str, ...]) -> None:
    run = upgraded(opened(programs=[*PROGRAMS, f"usr/bin/{program}"]), "foo", "bar")

    assert tuple(word for word in run.args if not word.startswith("--setopt")) == (*words, "bar.x86_64", "foo.x86_64")
    assert run.network is Network.SANDBOX
    assert dict(run.env)["COPACETIC_REPOSITORY_STATE"] == "today"


def test_an_image_with_rpm_alone_leaves_nobody_to_plan() -> None:
    with pytest.raises(UnsupportedImageError, match="no dnf, yum, tdnf or zypper"):
        upgraded(opened())


DEFINITION = "[base]\nname=base\nbaseurl={url}\nenabled={enabled}\ngpgcheck={check}\n"


@pytest.mark.parametrize("url", ["https://mirror.example/$releasever", "file:///srv/base"])
def test_a_builder_takes_no_unsigned_packages_unless_the_user_says_so(url: str) -> None:
    def manager(enabled: int, check: int) -> PackageManager:
        definition = DEFINITION.format(url=url, enabled=enabled, check=check)
        return opened(programs=[*PROGRAMS, "usr/bin/dnf"], etc__yum____repos____d__base____repo=definition)

    with pytest.raises(SignatureError, match=r"of etc/yum.repos.d/base.repo \[base\] without a signature"):
        upgraded(manager(1, 0))
    for trusted in (manager(1, 1), manager(0, 0)):
        assert upgraded(trusted).args[0] == "/usr/bin/dnf"
    assert upgraded(manager(1, 0), allow_unsigned=True).args[0] == "/usr/bin/dnf"
