# SPDX-License-Identifier: Apache-2.0
"""`copa` on images whose package records something else than dpkg wrote, over a small repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.oci.change import Change, Changes
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from support.deb.aptrepo import Repository, serve_repository, write_image
from support.deb.chisel import (
    MANIFEST,
    STATUS,
    control_status,
    files_of,
    image_of,
    manifest_rows,
    stripped_status,
    wall,
)
from support.deb.debs import Deb, file, symlink
from support.image.trees import Content, layer_files, layer_paths
from support.value.plandocuments import notes_of, section_of
from support.value.replacing import replace

LIB, LINK = "usr/lib/libdemo.so.1", "usr/lib/libdemo.so"
OLD = Deb(
    name="demo", version="1.0", architecture="amd64",
    files={LIB: file("old"), LINK: symlink("libdemo.so.1"), "usr/bin/demo": file("old tool", 0o755)},
)  # fmt: skip
NEW = replace(
    OLD, version="2.0", fields={"Depends": "libabsent (>= 3), other (>= 1.5)"},
    files={**OLD.files, LIB: file("new"), "usr/bin/more": file("more")},
)  # fmt: skip
OTHER = Deb(name="other", version="1.0", architecture="amd64", files={"usr/bin/other": file("other")})
NEWER = replace(OTHER, version="2.0", files={"usr/bin/other": file("newer")})
ABSENT = Deb(name="libabsent", version="3", architecture="amd64", files={"usr/lib/libabsent": file("x")})
BROKEN = replace(NEW, files={**NEW.files, LINK: symlink("libdemo.so.2"), "usr/lib/libdemo.so.2": file("new")})
SLICES = [(OLD, (LIB, LINK)), (OTHER, ("usr/bin/other",))]
FORMS: Mapping[str, Mapping[str, Content]] = {
    "chisel status": {**files_of(SLICES), STATUS: control_status([OLD, OTHER])},
    "chisel manifest.wall": {**files_of(SLICES), MANIFEST: wall(manifest_rows(SLICES))},
    "dpkg status without info": {**files_of(SLICES), STATUS: stripped_status([OLD, OTHER])},
}


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([NEW, NEWER, ABSENT]) as served:
        yield served


def patch(image: str, tmp_path: Path, *more: str) -> int:
    target = f"oci:{tmp_path / 'image'}:patched"
    return main(["patch", "-i", image, "--to", target, "--no-cache", "-o", str(tmp_path / "outcome.json"), *more])


def outcome(tmp_path: Path) -> Mapping[str, object]:
    (platform,) = json.loads((tmp_path / "outcome.json").read_text())["platforms"]
    return platform  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", FORMS)
def test_such_an_image_is_patched_and_the_plan_says_what_is_not_known(
    form: str, repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path / "image", image_of(FORMS[form], repository))

    assert main(["inspect", image, "--cache-dir", str(tmp_path / "cache")]) == 0
    assert form in capsys.readouterr().out
    assert patch(image, tmp_path) == 0

    plan = outcome(tmp_path)["plan"]
    names = [update["name"] for update in section_of(plan)["updates"]]
    sliced = form.startswith("chisel")
    assert names == (["demo", "other"] if sliced else ["demo", "libabsent", "other"])
    assert notes_of(plan)[0].startswith(f"{form}: ")
    changed = layer_paths(tmp_path / "image", "patched")
    record = MANIFEST if "manifest" in form else STATUS
    assert changed >= {LIB, "usr/bin/other", record}
    if sliced:
        assert changed == {LIB, "usr/bin/other", record}


@pytest.mark.parametrize("form", ["chisel status", "chisel manifest.wall"])
def test_what_would_need_another_set_of_paths_is_left_by_name(
    form: str, repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.publish([BROKEN, NEWER, ABSENT])
    image = write_image(tmp_path / "image", image_of(FORMS[form], repository))

    assert patch(image, tmp_path) == 4
    reason = "2.0: usr/lib/libdemo.so would become a link to libdemo.so.2, which is not in the image"
    assert f"demo 1.0 can't be updated: {reason}" in " ".join(capsys.readouterr().err.split())
    assert patch(image, tmp_path, "--ignore-errors") == 0

    assert layer_paths(tmp_path / "image", "patched") == {"usr/bin/other", MANIFEST if "manifest" in form else STATUS}
    (skipped,) = section_of(outcome(tmp_path)["plan"])["skipped"]
    assert (skipped["name"], skipped["reason"], skipped["detail"]) == ("demo", "unsupported", reason)


def test_a_package_that_lies_about_its_own_files_is_found_out(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lying = replace(NEW, md5sums=False, control={"md5sums": f"{'0' * 32}  {LIB}\n"})
    repository.publish([lying, NEWER, ABSENT])
    image = write_image(tmp_path / "image", image_of(FORMS["chisel status"], repository))

    assert patch(image, tmp_path) == 5

    assert f"demo: {LIB} has the md5" in " ".join(capsys.readouterr().err.split())


def _without(path: str) -> Callable[[Changes], Changes]:
    return lambda changes: replace(changes, entries=tuple(one for one in changes.entries if one.path != path))


def _with(path: str, entry: Entry | None) -> Callable[[Changes], Changes]:
    content = b"more" if entry is not None else None
    added = Change(path=path, entry=entry, content=content)
    return lambda changes: replace(changes, entries=tuple(sorted((*changes.entries, added), key=lambda one: one.path)))


_MORE = Entry(type=FileType.FILE, mode=0o644, size=4)
OTHER_LAYERS: Mapping[str, tuple[Callable[[Changes], Changes], str]] = {
    "a link is gone": (_with(LINK, None), LINK),
    "a file stayed": (_without(LIB), f"demo: {LIB} has the md5"),
    "a mode stayed": (_without("usr/bin/other"), "usr/bin/other has the mode 0644 instead of 0755"),
    "a stranger": (_with("usr/bin/none", _MORE), "usr/bin/none is in the new layer, and no package"),
    "a path that was never there": (_with("usr/bin/more", _MORE), "usr/bin/more is in the new layer, and no package"),
}


@pytest.mark.parametrize(
    ("form", "name"),
    # Where nothing says what was left out, the whole package comes in.
    [(form, name) for form in FORMS for name in OTHER_LAYERS if form.startswith("chisel") or "never" not in name],
)
def test_a_layer_of_anything_else_is_refused(
    form: str, name: str, repository: Repository, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    edit, message = OTHER_LAYERS[name]
    repository.publish([NEW, replace(NEWER, files={"usr/bin/other": file("other", 0o755)}), ABSENT])
    image = write_image(tmp_path / "image", image_of(FORMS[form], repository))
    finish = TreeBuilder.finish
    monkeypatch.setattr(TreeBuilder, "finish", lambda tree: edit(finish(tree)))

    assert patch(image, tmp_path) == 5

    assert message in " ".join(capsys.readouterr().err.split())


def test_patching_twice_changes_nothing_the_second_time(repository: Repository, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image", image_of(FORMS["chisel manifest.wall"], repository))
    assert patch(image, tmp_path) == 0
    first = layer_files(tmp_path / "image", "patched")

    assert patch(f"oci:{tmp_path / 'image'}:patched", tmp_path) == 0

    assert outcome(tmp_path)["notes"] == ["nothing to update"]
    assert layer_files(tmp_path / "image", "patched") == first
