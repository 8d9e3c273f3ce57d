# SPDX-License-Identifier: Apache-2.0
"""A layer with anything in it that the plan doesn't explain is never published, whichever way and family it is of."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from copacetic.compression import decompress
from copacetic.errors import VerificationError
from copacetic.oci.change import Changes
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.layout import LayoutSource
from copacetic.oci.tree import TreeBuilder
from copacetic.request import Strategy
from support.apk.apkrepo import apk_image, serve_apks
from support.apk.apks import Apk
from support.builder.execcase import Case
from support.deb.aptrepo import Deb, installed_files, serve_repository
from support.deb.debs import Member, directory, file, hardlink, symlink
from support.hostile.sabotage import CAPABLE, Edit, add, alter, drop, take
from support.image.images import Image, TarItem, make_image, make_layer, tar_file
from support.image.programs import program_items
from support.image.trees import Content
from support.rpm.rpmimage import build_of, installed_builds, signed
from support.rpm.rpmrepo import rpm_image as rpm_files
from support.rpm.rpmrepo import serve_rpms
from support.value.replacing import replace

OLD: dict[str, Member] = {"usr/bin/foo": file("old", 0o755), "usr/share/gone": file("gone")}
NEW: dict[str, Member] = {
    "usr/bin/foo": file("new", 0o755),
    "usr/bin/foo2": hardlink("usr/bin/foo"),
    "usr/bin/su": file("su", 0o4755),
    "usr/share/d": directory(0o750),
    "usr/share/d/f": file("more", gid=8, gname=""),
    "usr/share/l": symlink("d/f"),
}
OTHER: dict[str, Member] = {"usr/bin/passwd": file("passwd", 0o755), "usr/lib/other/data": file("data")}
NOBODYS = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "usr/local/tool": "tool"}


@dataclass(frozen=True)
class Family:
    open: Callable[[], object]
    """A context that serves the new version, and gives the image that has the old one."""


@contextmanager
def _debian() -> Iterator[Image]:
    foo = Deb(name="foo", version="1.0-1", architecture="amd64", files=OLD)
    other = Deb(name="other", version="1.0-1", architecture="all", files=OTHER)
    with serve_repository([replace(foo, version="1.0-2", files=NEW)]) as repository:
        files = {
            "etc/apt/sources.list": f"{repository.definition}\n",
            "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
            **installed_files([foo, other]),
        }
        yield _image(files, program_items())


@contextmanager
def _alpine() -> Iterator[Image]:
    foo = Apk(name="foo", version="1-r0", files=OLD)
    other = Apk(name="other", version="1-r0", files=OTHER)
    with serve_apks([replace(foo, version="2-r0", files=NEW)]) as repository:
        programs = [tar_file(path, "a program", mode=0o755) for path in ("bin/sh", "sbin/apk")]
        yield _image(apk_image(repository, [foo, other]), programs)


def _image(files: Mapping[str, Content], programs: list[TarItem], nobodys: Mapping[str, str] = NOBODYS) -> Image:
    modes = {path: item.mode for path, item in {**OLD, **OTHER}.items()}
    every = {**files, **NOBODYS, **nobodys}.items()
    items = [tar_file(path, data, mode=modes.get(path, 0o644)) for path, data in every if not isinstance(data, Entry)]
    folders = {parent for item, _ in items for parent in map(str, Path(item.name).parents)} - {"."}
    made = [tar_file(path, type=tarfile.DIRTYPE, mode=0o755) for path in sorted(folders)]
    return make_image([make_layer([*made, *items, *programs])])


@contextmanager
def _alma() -> Iterator[Image]:
    foo, other = build_of("foo", OLD), build_of("other", OTHER)
    with serve_rpms([signed(build_of("foo", NEW, "2"))]) as repository:
        programs = [tar_file(path, "a program", mode=0o755) for path in ("bin/sh", "usr/bin/rpm")]
        groups = {"etc/group": f"{NOBODYS['etc/group']}mail:x:8:\n"}
        yield _image({**rpm_files(repository), **installed_builds([foo, other])}, programs, groups)


FAMILIES = {"deb": _debian, "apk": _alpine, "rpm": _alma}


DATABASE = {"deb": "var/lib/dpkg/status", "apk": "lib/apk/db/installed", "rpm": "var/lib/rpm/rpmdb.sqlite"}
REFUSED: dict[str, tuple[Edit, str]] = {
    "an additional setuid file": (add("usr/bin/evil", mode=0o4755), "usr/bin/evil is"),
    "an additional setgid file": (add("usr/bin/evil", mode=0o2755), "usr/bin/evil is"),
    "an additional file with capabilities": (add("usr/bin/evil", xattrs=CAPABLE), "usr/bin/evil "),
    "an additional device": (add("usr/evil", FileType.BLOCK_DEVICE, device=(8, 0)), "usr/evil is"),
    "a file's other mode": (alter("usr/share/d/f", mode=0o666), "usr/share/d/f has the mode 0666 instead of 0644"),
    "a file that is setuid": (alter("usr/share/d/f", mode=0o4755), "usr/share/d/f has the mode 4755"),
    "a setuid file that isn't any more": (alter("usr/bin/su", mode=0o755), "usr/bin/su has the mode 0755 instead of"),
    "a file's other owner": (alter("usr/share/d/f", uid=1234), "usr/share/d/f belongs to 1234:8 instead of 0:8"),
    "a file's other group": (alter("usr/share/d/f", gid=0), "usr/share/d/f belongs to 0:0 instead of 0:8"),
    "a file's capabilities": (alter("usr/share/d/f", xattrs=CAPABLE), "has other extended attributes (security.cap"),
    "a link instead of a file": (
        alter("usr/share/d/f", type=FileType.SYMLINK, target="/etc/passwd", sha256="", size=0),
        "usr/share/d/f",
    ),
    "a link that leads elsewhere": (alter("usr/share/l", target="/etc/passwd"), "usr/share/l "),
    "a link that is missing": (drop("usr/share/l"), "foo"),
    "a folder's other mode": (alter("usr/share/d", mode=0o777), "usr/share/d has the mode 0777 instead of 0750"),
    "another package's file overwritten": (
        add("usr/bin/passwd", mode=0o755),
        "usr/bin/passwd of other, which the plan leaves alone, would be changed",
    ),
    "another package's file with another mode": (
        add("usr/bin/passwd", mode=0o4755),
        "usr/bin/passwd of other, which the plan leaves alone, would be changed",
    ),
    "another package's file taken away": (
        take("usr/bin/passwd"),
        "usr/bin/passwd of other, which the plan leaves alone, would be taken away",
    ),
    "another package's folder taken away": (take("usr/lib/other"), "which the plan leaves alone, would be taken away"),
    "another package's folder replaced by a link": (
        add("usr/lib/other", FileType.SYMLINK, mode=0o777, target="/tmp"),
        "which the plan leaves alone, would be",
    ),
    "a file of the old version that stays": (drop("usr/share/gone"), "usr/share/gone of foo 1"),
    "the accounts taken away": (take("etc/passwd"), "etc/passwd"),
    "everything in a folder taken away": (add("etc/.wh..wh..opq"), "'etc/.wh..wh..opq' can't be in a layer"),
    "a name that takes a file away": (add("usr/bin/.wh.passwd"), "'usr/bin/.wh.passwd' can't be in a layer"),
}
ONLY_UNPACKED: dict[str, tuple[Edit, str]] = {
    "an additional file": (add("usr/evil"), "usr/evil is in the new layer, and no package, database or script"),
    "an additional folder": (add("usr/evil", FileType.DIRECTORY, 0o755), "usr/evil is in the new layer, and no pack"),
    "an additional link": (add("usr/evil", FileType.SYMLINK, target="/"), "usr/evil is in the new layer, and no pack"),
    "nobody's file overwritten": (add("usr/local/tool"), "usr/local/tool is in the new layer, and no package"),
    "nobody's file taken away": (take("usr/local/tool"), "the layer takes usr/local/tool away, which no package"),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(family: str) -> Iterator[Image]:
    with FAMILIES[family]() as made:
        yield made


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def prepare(case: Case, image: Image, strategy: Strategy) -> None:
    """For a run, have a builder answer with what the embedded engine makes of the same packages."""
    if strategy is not Strategy.EXEC:
        return
    case.patch(image, Strategy.UNPACK)
    layer = json.loads(LayoutSource(case.target, "1").root()[1])["layers"][-1]
    blob = (case.target / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
    shutil.rmtree(case.target)
    case.builder(lambda *_: [decompress(blob, limit=1 << 24)])


def sabotage(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    finish = TreeBuilder.finish

    def finish_badly(tree: TreeBuilder) -> Changes:
        changes = finish(tree)
        return replace(changes, entries=edit(changes.entries))

    monkeypatch.setattr(TreeBuilder, "finish", finish_badly)


@pytest.mark.parametrize("strategy", [Strategy.UNPACK, Strategy.EXEC])
def test_an_honest_layer_is_published_without_a_word(case: Case, image: Image, strategy: Strategy) -> None:
    prepare(case, image, strategy)

    (platform,) = case.patch(image, strategy).platforms

    assert platform.verified
    assert platform.notes == ()
    assert {"usr/bin/foo", "usr/bin/foo2", "usr/share/d/f", "usr/share/l"} <= case.layer_paths()


@pytest.mark.parametrize("strategy", [Strategy.UNPACK, Strategy.EXEC])
@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_explains_is_refused(
    name: str, case: Case, image: Image, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, message = REFUSED[name]
    prepare(case, image, strategy)
    sabotage(monkeypatch, edit)

    assert message in str(case.refused(VerificationError, image, strategy))


@pytest.mark.parametrize("name", ONLY_UNPACKED)
def test_where_nothing_is_run_nothing_is_left_either(
    name: str, case: Case, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, message = ONLY_UNPACKED[name]
    sabotage(monkeypatch, edit)

    assert message in str(case.refused(VerificationError, image, Strategy.UNPACK))


@pytest.mark.parametrize("name", ONLY_UNPACKED)
def test_where_scripts_are_run_what_is_nobodys_may_change_and_is_named(
    name: str, case: Case, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, _ = ONLY_UNPACKED[name]
    prepare(case, image, Strategy.EXEC)
    sabotage(monkeypatch, edit)

    (platform,) = case.patch(image, Strategy.EXEC).platforms

    assert platform.verified
    named = [note for note in platform.notes if note.startswith("scripts left what no package has: usr/")]
    assert len(named) == (name not in {"an additional folder", "nobody's file taken away"})


@pytest.mark.parametrize("strategy", [Strategy.UNPACK, Strategy.EXEC])
@pytest.mark.parametrize("more", [{"mode": 0o666}, {"uid": 1000}, {"mode": 0o4755}])
def test_the_database_belongs_to_root(
    more: dict[str, int], case: Case, family: str, image: Image, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(case, image, strategy)
    sabotage(monkeypatch, alter(DATABASE[family], **more))

    assert f"{DATABASE[family]} belongs to the package database" in str(
        case.refused(VerificationError, image, strategy)
    )


@contextmanager
def _scripted(line: str) -> Iterator[Image]:
    """An Alpine image whose new package has a script that the embedded engine can do itself."""
    foo = Apk(name="foo", version="1-r0", files=OLD)
    other = Apk(name="other", version="1-r0", files=OTHER)
    new = replace(foo, version="2-r0", files=NEW, scripts={"post-upgrade": f"#!/bin/sh\n{line}\n"})
    with serve_apks([new]) as repository:
        programs = [tar_file(path, "a program", mode=0o755) for path in ("bin/sh", "bin/chmod", "bin/rm", "bin/touch")]
        yield _image(apk_image(repository, [foo, other]), programs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chmod 4755 /usr/bin/passwd", "usr/bin/passwd of other, which the plan leaves alone, would be changed"),
        ("rm /usr/lib/other/data", "usr/lib/other/data of other, which the plan leaves alone, would be taken away"),
        ("chmod 2755 /usr/local/tool", "usr/local/tool is setgid now, and no package ships it so"),
    ],
)
def test_what_a_script_may_not_do_isnt_reproduced_either(case: Case, line: str, message: str) -> None:
    with _scripted(line) as image:
        assert message in str(case.refused(VerificationError, image, Strategy.UNPACK))


@pytest.mark.parametrize("line", ["chmod 4755 /usr/bin/foo", "touch /usr/share/made", "rm /usr/local/tool"])
def test_what_a_script_may_do_is_reproduced_and_proven(case: Case, line: str) -> None:
    with _scripted(line) as image:
        (platform,) = case.patch(image, Strategy.UNPACK).platforms

    assert platform.verified
    assert platform.notes == ()
