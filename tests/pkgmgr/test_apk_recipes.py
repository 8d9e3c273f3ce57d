# SPDX-License-Identifier: Apache-2.0
"""How apk would be run in an image, what it would be offered, and which images are refused before anything is run."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from copacetic import llb
from copacetic.apk.stanza import ApkStanza
from copacetic.errors import InventoryError, NeedsExecutionError, SignatureError, UnsupportedImageError
from copacetic.llb.graph import Bind, FileOp, MakeFile, Network, ProxyEnv, Tmpfs
from copacetic.oci import Digest, Platform
from copacetic.pkgmgr import Content, PackageManager, Upgrade, open_package_manager
from copacetic.updates import FetchedPackage, PlannedUpdate, ScriptClass, ScriptVerdict
from support.apk import adbs
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.builder.recipes import run_of
from support.deb.debs import file
from support.image.images import make_tar, tar_file
from support.image.trees import stack
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import candidate, key

PLATFORM = Platform.parse("linux/amd64")
BASE = llb.image(f"base.example/alpine@{Digest.of(b'base')}")
TOOLING = llb.image(f"base.example/tooling@{Digest.of(b'tooling')}")
OLD = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
NEW = replace(OLD, version="2-r0", depends=["bar"], replaces=["baz"])
TOOLS = Apk(name="apk-tools", version="2.14.4-r0")
PROGRAMS = ("sbin/apk", "bin/sh")


def opened(
    *apks: Apk,
    programs: Sequence[str] = PROGRAMS,
    below: Mapping[str, str] | None = None,
    world: str = "",
    **more: bytes | str,
) -> PackageManager:
    """The package manager of an image with `foo`; names in `more` have `__` for a slash."""
    files = apk_image(None, [OLD, *(apks or (TOOLS,))], world=world)
    files |= {name.replace("__", "/"): data for name, data in more.items()}
    items = [tar_file(path, "a program", mode=0o755) for path in programs]
    fs = stack(*([make_tar(below)] if below else []), make_tar({k: v for k, v in files.items() if v}), make_tar(items))
    database = detect_database(fs)
    assert database is not None
    return open_package_manager(fs, database)


def fetched(folder: Path, apk: Apk = NEW, data: bytes | None = None, **fields: str) -> FetchedPackage:
    path = folder / apk.file_name
    path.write_bytes(data or apk.to_bytes())
    row = {} if data else {**apk.row(), **fields}
    offered = replace(candidate(apk.name, apk.version, architecture="x86_64"), record=ApkStanza(row))
    offered = replace(offered, sha256=Digest.of(path.read_bytes()).encoded)
    return FetchedPackage(update=PlannedUpdate(installed=None, candidate=offered), path=path)


def index_of(files: Mapping[str, Content]) -> str:
    data = files["x86_64/APKINDEX.tar.gz"]
    assert isinstance(data, bytes)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        member = tar.extractfile("APKINDEX")
        assert member is not None
        return member.read().decode()


def test_apk_upgrades_without_a_network_from_what_it_is_offered_alone(tmp_path: Path) -> None:
    recipe = opened().install(BASE, [fetched(tmp_path)], tooling=None)
    run = run_of(recipe)

    assert run.root is BASE
    assert run.args[0] == "/sbin/apk"
    assert run.args[-1] == "upgrade"
    assert run.args[run.args.index("--repositories-file") + 1] == "/run/copacetic/packages/repositories"
    assert run.network is Network.NONE
    assert not any("foo" in argument for argument in run.args)
    assert all(mount.readonly for mount in run.mounts if isinstance(mount, Bind))
    assert [mount.dest for mount in run.mounts if isinstance(mount, Tmpfs)] == ["/run/copacetic"]
    assert "usr/bin/foo" not in recipe.records


@pytest.mark.parametrize(
    ("world", "told"),
    [
        ("foo apk-tools", None),
        ("apk-tools", "apk-tools\nfoo\n"),
        ("apk-tools gone foo@edge>7", "apk-tools\nfoo@edge\n"),
        ("apk-tools foo=2-r0 !gone", None),
        ("!gone", "!gone\napk-tools\nfoo\n"),
    ],
)
def test_a_run_keeps_what_the_plan_keeps_and_the_image_its_own_world(
    tmp_path: Path, world: str, told: str | None
) -> None:
    recipe = opened(world=world).install(BASE, [fetched(tmp_path, replace(NEW, depends=()))], tooling=None)

    root = run_of(recipe).root
    assert recipe.base is BASE
    if told is None:
        assert (root, recipe.records) == (BASE, {})
        return
    assert isinstance(root.vertex, FileOp)
    assert root.vertex.input is BASE
    assert root.vertex.actions == (MakeFile(path="/etc/apk/world", data=told.encode()),)
    assert recipe.records == {
        "etc/apk/world": "".join(f"{word}\n" for word in sorted(world.split(), key=_name)).encode()
    }


def _name(word: str) -> str:
    return word.lstrip("!")


def test_the_index_has_the_row_that_was_signed_and_nothing_else(tmp_path: Path) -> None:
    (files,) = opened().install(BASE, [fetched(tmp_path, T="as signed")], tooling=None).directories.values()

    (row,) = index_of(files).strip("\n").split("\n\n")
    assert {"P:foo", "V:2-r0", "A:x86_64", "T:as signed", "D:bar", f"C:{NEW.row()['C']}"} <= set(row.split("\n"))
    assert "r:baz" not in row
    assert files["x86_64/foo-2-r0.apk"] == tmp_path / "foo-2-r0.apk"
    assert set(files) == {"x86_64/foo-2-r0.apk", "x86_64/APKINDEX.tar.gz", "repositories"}


def test_a_stored_plan_without_rows_offers_what_the_packages_say_of_themselves(tmp_path: Path) -> None:
    package = fetched(tmp_path)
    bare = replace(package, update=replace(package.update, candidate=replace(package.update.candidate, record=None)))

    (files,) = opened().install(BASE, [bare], tooling=None).directories.values()

    assert {"P:foo", "V:2-r0", "A:x86_64", "D:bar"} <= set(index_of(files).split("\n"))


def test_a_package_for_every_architecture_lies_where_apk_looks_for_it(tmp_path: Path) -> None:
    (files,) = opened().install(BASE, [fetched(tmp_path, A="noarch")], tooling=None).directories.values()

    assert "noarch/foo-2-r0.apk" in files
    assert "x86_64/APKINDEX.tar.gz" in files


def test_every_tag_that_world_asks_for_leads_to_the_same_repository(tmp_path: Path) -> None:
    manager = opened(world="foo@edge\nbar@testing>1\n")

    (files,) = manager.install(BASE, [fetched(tmp_path)], tooling=None).directories.values()

    here = "/run/copacetic/packages"
    assert files["repositories"] == f"{here}\n@edge {here}\n@testing {here}\n".encode()


def test_equal_packages_are_one_key_and_others_another(tmp_path: Path) -> None:
    def digests(apk: Apk) -> tuple[Digest, ...]:
        recipe = opened().install(BASE, [fetched(tmp_path, apk)], tooling=None)
        return llb.diff(recipe.base, recipe.result).marshal(PLATFORM).digests

    assert digests(NEW) == digests(NEW)
    assert digests(NEW) != digests(replace(NEW, version="3-r0"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"programs": ["sbin/apk"]}, "it has no /bin/sh"),
        ({"run": "a file"}, "/run is a file in the image, where a directory belongs"),
        ({"lib__apk__db__installed": "", "usr__lib__apk__db__installed": "P:foo\nV:1-r0\n\n"},
         "apk looks for its database in /lib/apk/db, not at /usr/lib/apk/db/installed"),
        ({"below": {"usr/bin/hidden": "x", "lib/apk/db/installed": "P:hidden\nV:1\nF:usr\nF:usr/bin\nR:hidden\n\n"}},
         "apk doesn't know hidden, which only a hidden database lists"),
    ],
)  # fmt: skip
def test_an_image_whose_apk_could_do_nothing_is_refused(image: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedImageError, match=message):
        opened(**image)


@pytest.mark.parametrize("architecture", ["../../etc", "..", ".", "a/b"])
def test_an_architecture_that_is_a_path_offers_nothing(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(InventoryError, match="etc/apk/arch names an architecture that is none"):
        opened(etc__apk__arch=architecture).install(BASE, [fetched(tmp_path)], tooling=None)
    with pytest.raises(UnsupportedImageError, match="can't be the name of a file in a repository"):
        opened().install(BASE, [fetched(tmp_path, A=architecture)], tooling=None)


def test_a_package_of_apk_3_cant_be_offered(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError, match="foo 2-r0 is a package of apk 3"):
        opened().install(BASE, [fetched(tmp_path, NEW, adbs.package(NEW))], tooling=None)


# -- without an apk in the image -----------------------------------------------------------------------------


@pytest.mark.parametrize(("programs", "scripts"), [([], False), (["bin/sh"], True)])
def test_a_tooling_images_apk_acts_on_the_root_and_runs_scripts_where_there_is_a_shell(
    programs: list[str], scripts: bool, tmp_path: Path
) -> None:
    manager = opened(programs=programs)
    recipe = manager.install(BASE, [fetched(tmp_path)], tooling=TOOLING)
    run = run_of(recipe)

    assert manager.needs_tooling
    assert run.root is TOOLING
    assert run.args[:3] == ("/sbin/apk", "--root", "/run/copacetic/root")
    assert ("--no-scripts" in run.args) is not scripts
    assert run.network is Network.NONE
    writable = [mount.dest for mount in run.mounts if isinstance(mount, Bind) and not mount.readonly]
    assert writable[recipe.result.output - 1] == "/run/copacetic/root"


def test_an_image_without_apk_and_without_a_tooling_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError, match="no package manager"):
        opened(programs=[]).install(BASE, [fetched(tmp_path)], tooling=None)


@pytest.mark.parametrize("verdict", ScriptClass)
def test_a_script_that_an_image_without_a_shell_goes_without_is_named_or_refused(
    verdict: ScriptClass, tmp_path: Path
) -> None:
    package = fetched(tmp_path)
    script = ScriptVerdict(package=key("foo:x86_64"), script="trigger", verdict=verdict, reason="ldconfig")
    package = replace(package, update=replace(package.update, scripts=(script,)))
    bare, with_shell = opened(programs=[]), opened(programs=["bin/sh"])

    assert not bare.runs_scripts
    assert with_shell.runs_scripts
    assert with_shell.install(BASE, [package], tooling=TOOLING).notes == ()
    if verdict is ScriptClass.NEEDS_EXECUTION:
        with pytest.raises(NeedsExecutionError, match="trigger would have to be run, and the image has no shell"):
            bare.install(BASE, [package], tooling=TOOLING)
    else:
        named = ("foo:x86_64: trigger was not run, for the image has no shell",)
        notes = bare.install(BASE, [package], tooling=TOOLING).notes
        assert notes == (named if verdict is ScriptClass.REPRODUCED else ())


@pytest.mark.parametrize("target", ["/opt/bin", "../../bin"])
def test_a_link_that_would_lead_into_the_tooling_image_is_refused(tmp_path: Path, target: str) -> None:
    links: dict[str, Any] = {"usr__bin__foo": "", "usr__bin@": target}
    manager = opened(programs=[], **links)

    with pytest.raises(UnsupportedImageError, match="foo: /usr/bin is a link to .* package manager astray"):
        manager.install(BASE, [fetched(tmp_path)], tooling=TOOLING)


# -- upgrades that the builder plans -------------------------------------------------------------------------


def test_a_builders_own_upgrade_names_packages_as_arguments_and_the_state_in_the_environment() -> None:
    asked = Upgrade(
        names=(key("foo:x86_64"), key("bar:x86_64")), repository_state="abc", proxy=ProxyEnv(http="http://proxy:1")
    )
    run = run_of(opened().upgrade(BASE, asked))

    assert run.args == ("/bin/sh", "/run/copacetic/upgrade", "/sbin/apk", "bar", "foo")
    assert ("COPACETIC_REPOSITORY_STATE", "abc") in run.env
    assert run.network is Network.SANDBOX
    assert run.proxy == asked.proxy


def test_an_apk_that_only_knows_all_packages_is_not_asked_for_some() -> None:
    manager = opened(replace(TOOLS, version="2.10.4-r2"))

    with pytest.raises(UnsupportedImageError, match="can't upgrade single packages"):
        manager.upgrade(BASE, Upgrade(names=(key("foo:x86_64"),), repository_state="x"))
    assert run_of(manager.upgrade(BASE, Upgrade(names=None, repository_state="x"))).args[-1] == "/sbin/apk"


def test_no_builder_can_plan_for_an_image_without_apk() -> None:
    with pytest.raises(UnsupportedImageError, match="no apk"):
        opened(programs=[]).upgrade(BASE, Upgrade(names=None, repository_state="x"))


@pytest.mark.parametrize("path", ["etc__apk__config", "lib__apk__config"])
def test_no_builder_goes_by_an_image_that_takes_anything_for_signed(path: str) -> None:
    said: dict[str, Any] = {path: "# options\nno-cache\nallow-untrusted\n"}
    not_said: dict[str, Any] = {path: "# allow-untrusted\n"}
    manager = opened(**said)

    with pytest.raises(SignatureError, match="without a valid signature, as .*/apk/config has it"):
        manager.upgrade(BASE, Upgrade(names=None, repository_state="x"))
    manager.upgrade(BASE, Upgrade(names=None, repository_state="x", allow_unsigned=True))
    opened(**not_said).upgrade(BASE, Upgrade(names=None, repository_state="x"))
