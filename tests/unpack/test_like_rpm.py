# SPDX-License-Identifier: Apache-2.0
"""Packages of every kind, upgraded by us and by the real rpm: trees, database and what rpm says of them are the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from copacetic.errors import ConflictError
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.tree import TreeBuilder
from support.rpm.rpmbuilds import (
    CONFIG,
    DOC,
    GHOST,
    LICENSE,
    NO_REPLACE,
    Build,
    Shipped,
    a_file,
    a_folder,
    a_link,
)
from support.rpm.rpmcomposed import compose, compose_onto, open_database, open_unpacker, plan_rpms, unlike
from support.rpm.rpmoracle import RpmRoot

pytestmark = pytest.mark.system
PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:48:48::/:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:48:\n"


def _write(folder: Path, builds: Sequence[Build]) -> list[Path]:
    folder.mkdir()
    return [build.write(folder) for build in builds]


def _upgrade(
    tmp_path: Path,
    old: Sequence[Build],
    new: Sequence[Build],
    *options: str,
    edit: Callable[[Path], object] = lambda _root: None,
) -> Path:
    """Upgrade a root twice, hold the results against each other, and return ours."""
    root = RpmRoot(tmp_path / "root")
    (root.path / "etc").mkdir()
    (root.path / "etc/passwd").write_text(PASSWD)
    (root.path / "etc/group").write_text(GROUP)
    root.install(_write(tmp_path / "old", old), *options)
    edit(root.path)
    real, ours = root.copy(tmp_path / "real"), root.copy(tmp_path / "ours")
    packages = _write(tmp_path / "new", new)
    real.install(packages, *options)
    compose_onto(ours.path, packages, tmp_path / "scratch")

    assert unlike(real.path, ours.path) == {}
    for query in (("-qa",), ("-qa", "--dump"), ("-qa", "--state"), ("-Va", "--nodeps", "--noscripts")):
        assert sorted(ours.run(*query).stdout.splitlines()) == sorted(real.run(*query).stdout.splitlines()), query
    assert ours.run("--verifydb").returncode == 0
    return ours.path


def _pair(old: Sequence[Shipped], new: Sequence[Shipped]) -> tuple[list[Build], list[Build]]:
    return [Build("one", files=old)], [Build("one", version="2", files=new)]


def test_what_only_the_old_version_had_goes_and_so_do_its_folders(tmp_path: Path) -> None:
    old, new = _pair(
        [a_folder("/opt/one"), a_folder("/opt/one/deep"), a_file("/opt/one/deep/gone"), a_file("/opt/one/stays", "1")],
        [a_folder("/opt/one"), a_file("/opt/one/stays", "2")],
    )
    ours = _upgrade(tmp_path, old, new)

    assert sorted(os.listdir(ours / "opt/one")) == ["stays"]


def test_a_folder_with_something_of_the_image_in_it_stays(tmp_path: Path) -> None:
    old, new = _pair([a_folder("/opt/one"), a_file("/opt/one/gone")], [a_file("/usr/share/other")])
    ours = _upgrade(tmp_path, old, new, edit=lambda root: (root / "opt/one/mine").write_text("mine"))

    assert os.listdir(ours / "opt/one") == ["mine"]


def test_what_others_have_too_stays(tmp_path: Path) -> None:
    shared = [a_folder("/opt/shared"), a_file("/opt/shared/file", "same")]
    old, new = _pair([*shared, a_file("/opt/shared/own")], [a_file("/opt/elsewhere")])
    ours = _upgrade(tmp_path, [*old, Build("two", files=shared)], new)

    assert os.listdir(ours / "opt/shared") == ["file"]


def test_ghosts_are_never_shipped_and_go_with_their_package(tmp_path: Path) -> None:
    old, new = _pair(
        [
            a_file("/var/log.one", flags=GHOST),
            a_file("/etc/state", flags=GHOST | CONFIG),
            a_file("/opt/kept", flags=GHOST),
        ],
        [a_file("/opt/kept", flags=GHOST), a_file("/opt/new", flags=GHOST)],
    )

    def edit(root: Path) -> None:
        for name in ("var/log.one", "etc/state", "opt/kept"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("of the image")

    ours = _upgrade(tmp_path, old, new, edit=edit)

    assert not (ours / "var/log.one").exists()
    assert (ours / "etc/state").read_text() == "of the image"
    assert not (ours / "opt/new").exists()


def test_changed_configuration_of_a_version_that_goes_is_kept_beside_its_place(tmp_path: Path) -> None:
    old, new = _pair(
        [a_file("/etc/changed", "1", flags=CONFIG), a_file("/etc/same", "1", flags=CONFIG | NO_REPLACE)],
        [a_file("/opt/file")],
    )
    ours = _upgrade(tmp_path, old, new, edit=lambda root: (root / "etc/changed").write_text("2"))

    assert (ours / "etc/changed.rpmsave").read_text() == "2"
    assert not (ours / "etc/same").exists()


def test_owners_modes_capabilities_and_devices_are_as_the_package_says(tmp_path: Path) -> None:
    files = [
        a_file("/opt/webs", "w", user="web", group="web", mode=0o6755),
        a_file("/opt/nobodys", "n", user="nobody-here", group="web", mode=0o6755),
        a_file("/opt/nogroups", "g", user="web", group="no-group-here", mode=0o6755),
        a_file("/opt/capable", "c", capabilities="= cap_net_raw+ep", mode=0o755),
        Shipped("/opt/device", mode=stat.S_IFCHR | 0o620, device=1 << 8 | 3),
        a_folder("/opt/sticky", mode=0o1777),
    ]
    old, new = _pair([a_file("/opt/before")], files)
    ours = _upgrade(tmp_path, old, new)

    assert stat.S_IMODE((ours / "opt/nobodys").stat().st_mode) == 0o2755
    assert (ours / "opt/nobodys").stat().st_uid == 0


def test_names_of_one_file_are_one_file_again_also_where_some_of_them_are_new(tmp_path: Path) -> None:
    old, new = _pair(
        [a_file("/opt/a", "1", inode=5), a_file("/opt/b", "1", inode=5)],
        [a_file(f"/opt/{name}", "2", inode=6) for name in "bcd"] + [a_file("/opt/e", "2")],
    )
    ours = _upgrade(tmp_path, old, new)

    assert (ours / "opt/b").stat().st_ino == (ours / "opt/d").stat().st_ino != (ours / "opt/e").stat().st_ino
    assert (ours / "opt/b").stat().st_nlink == 3


def test_links_of_the_image_to_folders_stay_and_packages_go_through_them(tmp_path: Path) -> None:
    old, new = _pair(
        [a_folder("/usr/lib"), a_file("/usr/lib/one", "1")],
        [a_folder("/usr/lib", mode=0o555), a_file("/usr/lib/one", "2"), a_file("/lib/two", "2"), a_folder("/lib")],
    )

    def edit(root: Path) -> None:
        (root / "lib").symlink_to("usr/lib")
        (root / "srv/elsewhere").mkdir(parents=True)

    ours = _upgrade(tmp_path, old, new, edit=edit)

    assert (ours / "lib").is_symlink()
    assert (ours / "usr/lib/two").read_text() == "2"


def test_files_and_links_take_each_other_s_places(tmp_path: Path) -> None:
    old, new = _pair(
        [a_file("/opt/was-file", "1"), a_link("/opt/was-link", "was-file")],
        [a_link("/opt/was-file", "was-link"), a_file("/opt/was-link", "2")],
    )
    _upgrade(tmp_path, old, new)


def test_two_architectures_share_what_is_the_same_and_the_larger_one_has_what_is_not(tmp_path: Path) -> None:
    def build(version: str, architecture: str, colour: int) -> Build:
        files = [
            a_file("/usr/bin/tool", f"{architecture} {version}", colour=colour),
            a_file("/usr/share/one", f"the same {version}"),
            a_file(f"/usr/lib{colour}/one.so", f"{architecture} {version}", colour=colour),
        ]
        return Build("one", version=version, architecture=architecture, files=files)

    both = ("--ignorearch", "--define", "_transaction_color 3")
    ours = _upgrade(
        tmp_path,
        [build("1", "i686", 1), build("1", "x86_64", 2)],
        [build("2", "i686", 1), build("2", "x86_64", 2)],
        *both,
    )

    assert (ours / "usr/bin/tool").read_text() == "x86_64 2"


def test_documentation_that_the_image_leaves_out_stays_out_with_its_folders(tmp_path: Path) -> None:
    def files(version: str) -> list[Shipped]:
        return [
            a_folder("/usr/share/doc/one"),
            a_folder("/usr/share/doc/one/deep"),
            a_file("/usr/share/doc/one/deep/manual", version, flags=DOC),
            a_file("/usr/share/licenses.one", version, flags=LICENSE | DOC),
            a_file("/usr/bin/one", version),
        ]

    old, new = _pair(files("1"), [*files("2"), a_file("/usr/share/doc/one/deep/new", "2", flags=DOC)])
    ours = _upgrade(tmp_path, old, new, "--excludedocs")

    assert not (ours / "usr/share/doc").exists()
    assert (ours / "usr/share/licenses.one").read_text() == "2"


def test_languages_that_the_image_leaves_out_stay_out(tmp_path: Path) -> None:
    def files(version: str) -> list[Shipped]:
        return [
            a_file(f"/usr/share/locale/{name}/one", f"{name} {version}", language=name) for name in ("de", "en", "fr")
        ]

    def edit(root: Path) -> None:
        (root / "etc/rpm").mkdir(exist_ok=True)
        (root / "etc/rpm/macros.langs").write_text("%_install_langs en:fr\n")

    old, new = _pair(files("1"), [*files("2"), a_file("/usr/share/other", language="de")])
    ours = _upgrade(tmp_path, old, new, "--define", "_install_langs en:fr", edit=edit)

    assert sorted(os.listdir(ours / "usr/share/locale")) == ["en", "fr"]


def test_two_packages_that_come_share_a_file(tmp_path: Path) -> None:
    def files(version: str) -> list[Shipped]:
        return [a_folder("/opt/shared"), a_file("/opt/shared/file", version)]

    names = ("one", "two")
    _upgrade(
        tmp_path,
        [Build(name, files=files("1")) for name in names],
        [Build(name, version="2", files=[*files("2"), a_file(f"/opt/{name}")]) for name in names],
    )


def test_what_moves_from_one_package_to_another_stays(tmp_path: Path) -> None:
    ours = _upgrade(
        tmp_path,
        [Build("one", files=[a_file("/opt/moves", "1"), a_file("/opt/one")]), Build("two", files=[a_file("/opt/two")])],
        [
            Build("one", version="2", files=[a_file("/opt/one")]),
            Build("two", version="2", files=[a_file("/opt/two"), a_file("/opt/moves", "2")]),
        ],
    )

    assert (ours / "opt/moves").read_text() == "2"


def test_the_real_rpm_goes_on_with_what_we_have_made(tmp_path: Path) -> None:
    old, new = _pair([a_file("/opt/one", "1")], [a_file("/opt/one", "2")])
    ours = RpmRoot(_upgrade(tmp_path, [*old, Build("two", files=[a_file("/opt/two")])], new))
    ours.install(_write(tmp_path / "newer", [Build("one", version="3", files=[a_file("/opt/one", "3")])]))

    assert (ours.path / "opt/one").read_text() == "3"
    assert ours.run("-e", "--noscripts", "one").returncode == 0
    assert ours.run("-qa").stdout.split() == ["two-1-1.noarch"]
    assert not (ours.path / "opt/one").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ([a_folder("/opt/x"), a_file("/opt/x/y")], [a_file("/opt/x")], "opt/x is a directory in the image"),
        ([a_file("/opt/x")], [a_file("/opt/others", "2")], "opt/others is another file of other"),
        ([a_file("/opt/x")], [a_folder("/opt/x")], "opt/x is a file in the image, where the package has a directory"),
    ],
)
def test_what_rpm_refuses_is_refused_by_name(tmp_path: Path, old: list[Shipped], new: list[Shipped], said: str) -> None:
    root = RpmRoot(tmp_path / "root")
    before, after = _pair(old, new)
    root.install(_write(tmp_path / "old", [*before, Build("other", files=[a_file("/opt/others", "1")])]))
    packages = _write(tmp_path / "new", after)

    with pytest.raises(ConflictError, match=said) as caught:
        compose(DirectoryFilesystem(root.path), packages, tmp_path / "scratch")
    assert "one" in str(caught.value)


def test_a_package_may_have_the_root_itself(tmp_path: Path) -> None:
    old, new = _pair([a_folder("/"), a_folder("/opt")], [a_folder("/", mode=0o555), a_folder("/opt"), a_file("/opt/x")])
    ours = _upgrade(tmp_path, old, new)

    assert stat.S_IMODE(ours.stat().st_mode) == 0o555


def test_only_the_files_are_put_in_place_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    root = RpmRoot(tmp_path / "root")
    old, new = _pair([a_file("/opt/gone"), a_file("/opt/one", "1")], [a_file("/opt/one", "2")])
    root.install(_write(tmp_path / "old", old))
    fs = DirectoryFilesystem(root.path)
    tree, scratch = TreeBuilder(fs), tmp_path / "scratch"
    scratch.mkdir()
    open_unpacker(fs).place(tree, plan_rpms(fs, _write(tmp_path / "new", new)), scratch=scratch)

    assert {change.path: change.entry is None for change in tree.finish().entries if change.path != "opt"} == {
        "opt/gone": True,
        "opt/one": False,
    }


def test_an_image_with_manifests_alone_gets_files_and_rows(tmp_path: Path) -> None:
    """As distroless images of Azure Linux have them: nothing says which files are whose, and there is no shell."""
    root = tmp_path / "root"
    manifests = root / "var/lib/rpmmanifest"
    manifests.mkdir(parents=True)
    row = "{}\t{}-1\t1653816591\t1653753130\tMicrosoft\t(none)\t580\tnoarch\t0\t{}-{}-1.src.rpm\n"
    (manifests / "container-manifest-1").write_text("one-1-1.noarch\ntwo-1-1.noarch\n")
    (manifests / "container-manifest-2").write_text(row.format("one", 1, "one", 1) + row.format("two", 1, "two", 1))
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/one.so").write_text("1")
    files = [a_file("/usr/lib/one.so", "2"), a_file("/usr/share/doc/one", "2", flags=DOC)]
    build = Build("one", version="2", files=files, scripts={"postin": ("/sbin/ldconfig", "")})
    compose_onto(root, _write(tmp_path / "new", [build]), tmp_path / "scratch")

    assert (root / "usr/lib/one.so").read_text() == "2"
    assert not (root / "usr/share").exists()
    assert [(p.name, p.version) for p in open_database(DirectoryFilesystem(root)).packages()] == [
        ("one", "2-1"),
        ("two", "1-1"),
    ]
    assert "one-2-1.noarch" in (manifests / "container-manifest-1").read_text()
