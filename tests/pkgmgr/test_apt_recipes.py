# SPDX-License-Identifier: Apache-2.0
"""What would be run in an image, and which images are refused before anything is."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from copacetic import families, llb
from copacetic.errors import (
    ExpiredRepositoryError,
    ImageError,
    RepositoryError,
    SignatureError,
    UnsupportedImageError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.graph import Bind, Network, ProxyEnv, Tmpfs
from copacetic.oci import Digest, Platform
from copacetic.oci.layered import LayeredFilesystem
from copacetic.pipeline.apply.send import stage
from copacetic.pkgmgr import PackageManager, Recipe, Upgrade, open_package_manager
from copacetic.updates import Candidate, FetchedPackage, PlannedUpdate
from support.builder.recipes import run_of
from support.deb.debian import need
from support.deb.debs import Deb, file
from support.image.images import TarItem, make_tar, tar_file
from support.image.programs import PROGRAMS, program_items
from support.image.trees import stack
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import candidate, key

PLATFORM = Platform.parse("linux/amd64")
BASE = llb.image(f"docker.io/library/debian@{Digest.of(b'base')}")
STATUS = "Package: foo\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\n\n"


def image(*items: TarItem, status: str = STATUS, without: str = "") -> LayeredFilesystem:
    records = [tar_file("var/lib/dpkg/status", status), tar_file("var/lib/dpkg/info/foo.list", "/.\n")]
    members = [*records, *program_items(without=without), *items]
    return stack(make_tar(members))


def opened(fs: LayeredFilesystem) -> PackageManager:
    database = detect_database(fs)
    assert database is not None
    return open_package_manager(fs, database)


def fetched(*names: str) -> list[FetchedPackage]:
    return [
        FetchedPackage(update=PlannedUpdate(installed=None, candidate=_with_digest(name)), path=Path(f"/cache/{name}"))
        for name in names
    ]


def _with_digest(name: str) -> Candidate:
    return replace(candidate(name, "2.0"), sha256=Digest.of(name.encode()).encoded)


def marshal(recipe: Recipe) -> Definition:
    return llb.diff(recipe.base, recipe.result).marshal(PLATFORM)


def test_the_packages_are_the_only_words_that_differ_and_they_are_digests() -> None:
    run = run_of(opened(image()).install(BASE, fetched("foo", "bar"), tooling=None))

    assert run.args[0] == "/usr/bin/apt-get"
    assert run.args[-3:-2] == ("install",)
    for argument in run.args[-2:]:
        assert re.fullmatch(r"/run/copacetic/packages/[0-9a-f]{64}\.deb", argument)


def test_the_run_has_no_network_and_the_image_is_its_root() -> None:
    run = run_of(opened(image()).install(BASE, fetched("foo"), tooling=None))

    assert run.network is Network.NONE
    assert run.root is BASE
    assert run.user == ""
    assert ("DEBIAN_FRONTEND", "noninteractive") in run.env


def test_what_apt_writes_for_itself_goes_to_memory_and_packages_cant_be_changed() -> None:
    run = run_of(opened(image()).install(BASE, fetched("foo"), tooling=None))

    mounts = {mount.dest: mount for mount in run.mounts}
    assert isinstance(mounts["/run/copacetic"], Tmpfs)
    assert isinstance(mounts["/tmp"], Tmpfs)
    assert all(mount.readonly for mount in mounts.values() if isinstance(mount, Bind))
    assert not any(mount.startswith(("/var", "/etc", "/lib")) for mount in mounts), "below a mount apt can't upgrade"
    options = {run.args[n + 1].partition("=")[0]: run.args[n + 1] for n, word in enumerate(run.args) if word == "-o"}
    for name in ("Dir::Cache", "Dir::Log", "Dir::State::lists", "Dir::State::extended_states"):
        assert options[name].partition("=")[2].startswith("/run/copacetic")


def test_services_are_not_started() -> None:
    recipe = opened(image()).install(BASE, fetched("foo"), tooling=None)

    assert "/usr/sbin/policy-rc.d" in {mount.dest for mount in run_of(recipe).mounts}
    assert b"exit 101" in b"".join(marshal(recipe).operations)


def test_a_link_in_place_of_the_policy_is_not_mounted_on() -> None:
    fs = image(tar_file("usr/sbin/policy-rc.d", type=tarfile.SYMTYPE, linkname="/etc/passwd"))

    run = run_of(opened(fs).install(BASE, fetched("foo"), tooling=None))

    assert "/usr/sbin/policy-rc.d" not in {mount.dest for mount in run.mounts}


def test_equal_packages_are_one_key_in_any_order_and_others_another() -> None:
    manager = opened(image())

    def digests(packages: Sequence[FetchedPackage]) -> tuple[Digest, ...]:
        return marshal(manager.install(BASE, packages, tooling=None)).digests

    assert digests(fetched("foo", "bar")) == digests(fetched("bar", "foo"))
    assert digests(fetched("foo", "bar")) != digests(fetched("foo", "baz"))


def test_the_builder_gets_exactly_the_packages() -> None:
    recipe = opened(image()).install(BASE, fetched("foo", "bar"), tooling=None)

    (files,) = recipe.directories.values()
    assert sorted(map(str, files.values())) == ["/cache/bar", "/cache/foo"]


def test_without_apt_dpkg_installs_all_at_once() -> None:
    run = run_of(opened(image(without="usr/bin/apt-get")).install(BASE, fetched("foo"), tooling=None))

    assert run.args[0] == "/usr/bin/dpkg"
    assert "--install" in run.args
    assert run.network is Network.NONE


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "usr/bin/apt-get"])
def test_an_image_that_lacks_a_program_is_refused_by_its_name(program: str) -> None:
    with pytest.raises(UnsupportedImageError, match=f"it has no /{program}"):
        opened(image(without=program))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (tar_file("usr/bin/dpkg", type=tarfile.SYMTYPE, linkname="../../../../../host/dpkg"), "a link to /host/dpkg"),
        (tar_file("usr/bin/dpkg", type=tarfile.SYMTYPE, linkname="/proc/1/root/dpkg"), "which is not there"),
        (tar_file("usr/bin/dpkg", type=tarfile.DIRTYPE, mode=0o755), "is a directory"),
        (tar_file("usr/bin/dpkg", type=tarfile.FIFOTYPE, mode=0o755), "is a fifo"),
        (tar_file("usr/bin/dpkg", "text", mode=0o644), "is not executable"),
        (tar_file("usr/bin/dpkg", "", mode=0o755), "is empty"),
    ],
)
def test_an_image_whose_dpkg_is_no_program_is_refused(item: TarItem, message: str) -> None:
    with pytest.raises(UnsupportedImageError, match=message):
        opened(image(item, without="usr/bin/dpkg"))


@pytest.mark.parametrize("path", ["run", "tmp"])
def test_a_link_where_something_would_be_mounted_is_refused(path: str) -> None:
    with pytest.raises(UnsupportedImageError, match=f"/{path} is a symlink"):
        opened(image(tar_file(path, type=tarfile.SYMTYPE, linkname="/etc")))


def test_a_package_format_without_a_package_manager_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without = msgspec.structs.replace(families.family_of("deb"), package_managers=())
    monkeypatch.setattr(families, "FAMILIES", (without,))

    with pytest.raises(UnsupportedImageError, match="deb packages"):
        opened(image())


def test_broken_dependencies_are_named_before_apt_stumbles_over_them() -> None:
    status = STATUS.replace("Architecture", "Depends: gone (>= 2)\nArchitecture")

    with pytest.raises(UnsupportedImageError, match="foo Depends gone"):
        opened(image(status=status)).install(BASE, fetched("foo"), tooling=None)


def test_an_upgrade_by_the_builder_is_another_one_when_the_repository_is() -> None:
    manager = opened(image())

    def digests(state: str, *names: str) -> tuple[Digest, ...]:
        return marshal(
            manager.upgrade(BASE, Upgrade(names=tuple(map(key, names)) or None, repository_state=state))
        ).digests

    assert digests("a") == digests("a")
    assert digests("a") != digests("b")
    assert digests("a", "foo:amd64") != digests("a")


def test_an_upgrade_by_the_builder_gets_names_as_arguments_and_the_proxy_aside() -> None:
    proxy = ProxyEnv(http="http://proxy.example:3128")
    upgrade = Upgrade(names=(key("foo:amd64"), key("bar:all")), repository_state="s", proxy=proxy)
    recipe = opened(image()).upgrade(BASE, upgrade)
    run = run_of(recipe)

    assert run.args[:2] == ("/bin/sh", "/run/copacetic/upgrade")
    assert run.args[-4:] == ("--only-upgrade", "--", "foo:amd64", "bar:all")
    assert run.network is Network.SANDBOX
    assert run.proxy == proxy
    script = next(op for op in marshal(recipe).operations if b"exec apt-get" in op)
    assert b"foo" not in script, "a name is an argument, never text"


def test_an_upgrade_by_the_builder_has_to_be_signed_and_in_date_unless_the_user_says_otherwise() -> None:
    def options(*, allow_unsigned: bool = False, allow_expired: bool = False) -> bytes:
        asked = Upgrade(names=None, repository_state="s", allow_unsigned=allow_unsigned, allow_expired=allow_expired)
        recipe = opened(image()).upgrade(BASE, asked)
        return next(op for op in marshal(recipe).operations if b"exec apt-get" in op)

    assert b"APT::Get::AllowUnauthenticated=false" in options()
    assert b"Acquire::Check-Valid-Until=true" in options()
    assert b"APT::Get::AllowUnauthenticated=false" not in options(allow_unsigned=True)
    assert b"Acquire::Check-Valid-Until=true" not in options(allow_expired=True)


@pytest.mark.parametrize(
    ("line", "kind", "flag"),
    [
        ("deb [trusted=yes] http://h.example/d s main", SignatureError, "allow_unsigned"),
        ("deb [trusted=yes] mirror+http://h.example/d s main", SignatureError, "allow_unsigned"),
        ("deb [allow-insecure=yes] http://h.example/d s main", SignatureError, "allow_unsigned"),
        ("deb [check-valid-until=no] http://h.example/d s main", ExpiredRepositoryError, "allow_expired"),
    ],
)
def test_no_builder_goes_by_what_an_image_says_of_its_own_repositories(
    line: str, kind: type[RepositoryError], flag: str
) -> None:
    manager = opened(image(tar_file("etc/apt/sources.list", f"{line}\n")))

    with pytest.raises(kind, match=r"the builder would take .* as the image has it"):
        manager.upgrade(BASE, Upgrade(names=None, repository_state="s"))
    allowed = replace(Upgrade(names=None, repository_state="s"), **{flag: True})
    manager.upgrade(BASE, allowed)


@pytest.mark.parametrize("path", ["usr/bin/dpkg", "bin/sh"])
def test_a_program_that_is_a_loop_of_links_is_refused(path: str) -> None:
    with pytest.raises(ImageError, match="too many levels"):
        opened(image(tar_file(path, type=tarfile.SYMTYPE, linkname=f"/{path}"), without=path))


DISTROLESS = [
    tar_file("var/lib/dpkg/status.d/foo", "Package: foo\nVersion: 1.0\nArchitecture: amd64\n"),
    tar_file("var/lib/dpkg/status.d/foo.md5sums", "0cc175b9c0f1b6a831c399e269772661  usr/lib/foo/a\n"),
    tar_file("usr/lib/foo/a", "a"),
]


def distroless(*items: TarItem) -> LayeredFilesystem:
    return stack(make_tar([*DISTROLESS, *items]))


def deb(tmp_path: Path, **more: object) -> FetchedPackage:
    made = Deb(name="foo", version="2.0", architecture="amd64", files={"usr/lib/foo/a": file("b")}, **more)  # type: ignore[arg-type]
    return FetchedPackage(
        update=PlannedUpdate(installed=None, candidate=candidate("foo", "2.0")), path=made.write(tmp_path)
    )


def test_a_distroless_image_is_the_root_of_anothers_dpkg(tmp_path: Path) -> None:
    tooling = llb.image(f"docker.io/library/debian@{Digest.of(b'tool')}")
    manager = opened(distroless())
    recipe = manager.install(BASE, [deb(tmp_path)], tooling=tooling)
    run = run_of(recipe)

    assert manager.needs_tooling
    assert run.root is tooling
    assert run.args[1] == "--root=/run/copacetic/root"
    assert run.network is Network.NONE
    writable = [mount.dest for mount in run.mounts if isinstance(mount, Bind) and not mount.readonly]
    assert writable[recipe.result.output - 1] == "/run/copacetic/root"
    assert "Version: 2.0" in (recipe.records["var/lib/dpkg/status.d/foo"] or b"").decode()


def test_a_distroless_image_without_a_tooling_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError, match="no package manager"):
        opened(distroless()).install(BASE, [deb(tmp_path)], tooling=None)


def test_no_builder_can_plan_for_a_distroless_image() -> None:
    with pytest.raises(UnsupportedImageError, match="no apt-get"):
        opened(distroless()).upgrade(BASE, Upgrade(names=None, repository_state="x"))


@pytest.mark.parametrize("target", ["/opt/lib", "../../lib"])
def test_a_link_that_would_lead_into_the_tooling_image_is_refused(tmp_path: Path, target: str) -> None:
    fs = stack(make_tar([*DISTROLESS[:2], tar_file("usr/lib", type=tarfile.SYMTYPE, linkname=target)]))

    with pytest.raises(UnsupportedImageError, match="would lead the tooling image's package manager astray"):
        opened(fs).install(BASE, [deb(tmp_path)], tooling=BASE)


@pytest.mark.system
def test_dpkg_reads_the_database_and_the_packages_that_it_would_get(tmp_path: Path) -> None:
    need("dpkg-deb", "dpkg-query")
    package = deb(tmp_path, scripts={"postinst": "#!/bin/sh\nexit 1\n"}, conffiles=["/usr/lib/foo/a"])
    recipe = opened(distroless()).install(BASE, [package], tooling=BASE)

    for name, files in recipe.directories.items():
        stage(tmp_path / name, files)
    (stripped,) = (tmp_path / "packages").iterdir()
    assert ask("dpkg-deb", "--contents", stripped) == ask("dpkg-deb", "--contents", package.path)
    assert ask("dpkg-deb", "--field", stripped) == ask("dpkg-deb", "--field", package.path)
    assert "postinst" in ask("dpkg-deb", "--info", package.path)
    assert "postinst" not in ask("dpkg-deb", "--info", stripped)
    database = f"--admindir={tmp_path / 'database'}"
    assert ask("dpkg-query", database, "--show") == "foo\t1.0\n"
    assert ask("dpkg-query", database, "--listfiles", "foo") == "/.\n/usr\n/usr/lib\n/usr/lib/foo\n/usr/lib/foo/a\n"


def ask(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
