# SPDX-License-Identifier: Apache-2.0
"""What of a builder's layer becomes part of an image, on tars made by hand."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from copacetic import llb
from copacetic.errors import SolverError, VerificationError
from copacetic.llb.solver import ExportedLayer
from copacetic.oci import Digest
from copacetic.oci.change import Change
from copacetic.oci.filesystem import FileType
from copacetic.oci.layered import LayeredFilesystem
from copacetic.oci.layerwriter import read_content
from copacetic.oci.manifest import OCI_LAYER
from copacetic.pipeline.apply.capture import capture_changes, newest_mtime
from copacetic.pipeline.apply.owned import Shipped
from copacetic.pkgmgr import Leftover, Recipe
from copacetic.pkgmgr.apt.leftovers import LEFTOVERS
from support.apk.apkrepo import installed_text
from support.apk.apks import Apk
from support.deb import debs
from support.deb.debs import file
from support.image.images import TarItem, make_tar, tar_file
from support.image.trees import directory, symlink, tree
from support.value.databases import detect_database

EPOCH = 1_700_000_000
LATER = EPOCH + 5_000

BASE = tree(
    {
        "etc": directory(),
        "etc/passwd": "root:x:0:0\n",
        "usr": directory(),
        "usr/bin": directory(),
        "usr/bin/tool": "old",
        "usr/lib": directory(),
        "lib": symlink("usr/lib"),
        "var": directory(),
        "var/cache": directory(),
        "var/cache/apt": directory(),
        "var/cache/apt/pkgcache.bin": "cache",
        "var/data": directory(),
        "var/data/one": "1",
        "var/data/two": "2",
    }
)


def folder(path: str, mode: int = 0o755, mtime: int = LATER) -> TarItem:
    return tar_file(path, type=tarfile.DIRTYPE, mode=mode, mtime=mtime)


def exported(tmp_path: Path, *items: TarItem, name: str = "layer") -> ExportedLayer:
    data = make_tar(items)
    path = tmp_path / name
    path.write_bytes(data)
    return ExportedLayer(path=path, media_type=OCI_LAYER, digest=Digest.of(data), size=len(data))


def capture(
    tmp_path: Path, *items: TarItem, fs: LayeredFilesystem = BASE, recipe: Recipe | None = None
) -> dict[str, Change]:
    made = recipe or Recipe(base=llb.scratch(), result=llb.scratch())
    changes = capture_changes([exported(tmp_path, *items)], made, Shipped(fs, ()), epoch=EPOCH).finish()
    return {change.path: change for change in changes.entries}


def content(change: Change) -> bytes:
    assert change.content is not None
    return read_content(change.content)


def test_a_changed_file_comes_with_its_parents_as_the_image_has_them(tmp_path: Path) -> None:
    changes = capture(tmp_path, folder("usr"), folder("usr/bin"), tar_file("usr/bin/tool", "new", mode=0o755))

    assert sorted(changes) == ["usr", "usr/bin", "usr/bin/tool"]
    assert content(changes["usr/bin/tool"]) == b"new"
    assert changes["usr/bin"].entry == BASE.lookup("usr/bin")


def test_what_is_the_same_below_is_left_out_and_remembered(tmp_path: Path) -> None:
    item = tar_file("usr/bin/tool", "old", mtime=LATER)
    changes = capture_changes(
        [exported(tmp_path, folder("usr"), folder("usr/bin"), item)],
        Recipe(base=llb.scratch(), result=llb.scratch()),
        Shipped(BASE, ()),
        epoch=EPOCH,
    ).finish()

    assert changes.entries == ()
    assert read_content(changes.unchanged["usr/bin/tool"]) == b"old"


@pytest.mark.parametrize(
    "item",
    [
        tar_file("usr/bin/tool", "old", mode=0o755),
        tar_file("usr/bin/tool", "old", uid=7),
        tar_file("usr/bin/tool", "old", pax_headers={"SCHILY.xattr.user.note": "x"}),
        tar_file("usr/bin/tool", type=tarfile.SYMTYPE, linkname="other"),
    ],
)
def test_a_file_with_other_attributes_is_a_change(tmp_path: Path, item: TarItem) -> None:
    assert "usr/bin/tool" in capture(tmp_path, item)


def test_a_directory_that_changed_only_its_time_is_none(tmp_path: Path) -> None:
    assert capture(tmp_path, folder("usr"), folder("usr/lib")) == {}
    assert list(capture(tmp_path, folder("usr/lib", 0o700))) == ["usr", "usr/lib"]


def test_times_after_the_epoch_are_set_to_it_and_earlier_ones_stay(tmp_path: Path) -> None:
    changes = capture(
        tmp_path,
        tar_file("usr/bin/a", "a", mtime=LATER),
        tar_file("usr/bin/b", "b", mtime=EPOCH - 9),
        tar_file("var/db", "c", mtime=EPOCH - 9),
        recipe=Recipe(base=llb.scratch(), result=llb.scratch(), generated=("var/*",)),
    )

    times = {path: change.entry.mtime for path, change in changes.items() if change.entry is not None}
    assert (times["usr/bin/a"], times["usr/bin/b"], times["var/db"]) == (EPOCH, EPOCH - 9, EPOCH)


def test_the_attributes_of_the_builders_disk_are_not_the_images(tmp_path: Path) -> None:
    xattrs = {"trusted.overlay.opaque": "y", "security.selinux": "x", "user.note": "mine"}
    item = tar_file("usr/bin/a", "a", pax_headers={f"SCHILY.xattr.{k}": v for k, v in xattrs.items()})

    entry = capture(tmp_path, item)["usr/bin/a"].entry

    assert entry is not None
    assert dict(entry.xattrs) == {"user.note": b"mine"}


def test_whiteouts_remove_files_and_whole_directories(tmp_path: Path) -> None:
    changes = capture(tmp_path, folder("usr"), tar_file("usr/bin/.wh.tool"), tar_file("var/.wh.data"))

    assert changes["usr/bin/tool"].entry is None
    assert changes["var/data"].entry is None
    assert "var/data/one" not in changes, "the directory's whiteout hides it"


def test_an_opaque_directory_hides_what_was_in_it_and_keeps_what_came(tmp_path: Path) -> None:
    changes = capture(
        tmp_path, folder("var/data"), tar_file("var/data/.wh..wh..opq"), tar_file("var/data/two", "2"),
        tar_file("var/data/three", "3"),
    )  # fmt: skip

    removed = {path for path, change in changes.items() if change.entry is None}
    assert removed == {"var/data/one"}
    assert content(changes["var/data/three"]) == b"3"
    assert "var/data/two" not in changes


def test_a_file_that_took_a_directorys_place_hides_all_of_it(tmp_path: Path) -> None:
    changes = capture(tmp_path, tar_file("var/data", "a file now"))

    assert {path: change.entry and change.entry.type for path, change in changes.items()}["var/data"] is FileType.FILE
    assert not any(path.startswith("var/data/") for path in changes)


def test_hard_links_stay_links_even_when_the_first_name_is_left_behind(tmp_path: Path) -> None:
    changes = capture(
        tmp_path,
        tar_file("run/first", "x"),
        tar_file("usr/bin/one", type=tarfile.LNKTYPE, linkname="run/first"),
        tar_file("usr/bin/two", type=tarfile.LNKTYPE, linkname="run/first"),
    )

    assert "run/first" not in changes
    assert content(changes["usr/bin/one"]) == b"x"
    assert changes["usr/bin/two"].hardlink == "usr/bin/one"


@pytest.mark.parametrize(("answers", "kept"), [("old", False), ("new", True)])
def test_debconfs_templates_are_the_runs_only_together_with_its_answers(
    tmp_path: Path, answers: str, kept: bool
) -> None:
    folder = "var/cache/debconf"
    fs = tree({f"{folder}/config.dat": "old", f"{folder}/templates.dat": "one order"})
    items = [tar_file(f"{folder}/templates.dat", "another order"), tar_file(f"{folder}/config.dat", answers)]
    recipe = Recipe(base=llb.scratch(), result=llb.scratch(), leftovers=LEFTOVERS)

    assert (f"{folder}/templates.dat" in capture(tmp_path, *items, fs=fs, recipe=recipe)) is kept


@pytest.mark.parametrize(
    "path",
    [
        "run/lock",
        "run/copacetic/x",
        "tmp/x",
        "var/tmp/x",
        "dev/null",
        "proc/x",
        "sys/x",
        "etc/resolv.conf",
        "etc/hosts",
        "etc/machine-id",
    ],
)
def test_what_every_sandbox_leaves_behind_is_no_change(tmp_path: Path, path: str) -> None:
    assert capture(tmp_path, tar_file(path, "x")) == {}
    name = path.rpartition("/")
    assert capture(tmp_path, tar_file(f"{name[0]}/.wh.{name[2]}")) == {}


LIBRARY = "usr/lib/python3"
CODE = f"{LIBRARY}/__pycache__/{{}}.cpython-311.pyc"
OPTIMISED = f"{LIBRARY}/__pycache__/changes.cpython-311.opt-1.pyc"
MODULES = tree(
    {
        f"{LIBRARY}/same.py": "same", CODE.format("same"): "old", f"{LIBRARY}/same.pyc": "old",
        f"{LIBRARY}/changes.py": "1", CODE.format("changes"): "old", OPTIMISED: "old",
        f"{LIBRARY}/goes.py": "1", CODE.format("goes"): "old",
        f"{LIBRARY}/legacy.pyc": "old",
    }
)  # fmt: skip
RECOMPILED = [
    tar_file(f"{LIBRARY}/same.py", "same", mtime=LATER),
    tar_file(f"{LIBRARY}/changes.py", "2", mtime=LATER),
    tar_file(f"{LIBRARY}/.wh.goes.py"),
    folder(f"{LIBRARY}/__pycache__"),
    tar_file(f"{LIBRARY}/more/new.py", "new", mtime=LATER),
    folder(f"{LIBRARY}/more/__pycache__"),
    *(
        tar_file(path, "for a later time", mtime=LATER)
        for path in (
            *map(CODE.format, ("same", "changes")),
            OPTIMISED,
            f"{LIBRARY}/same.pyc",
            f"{LIBRARY}/more/__pycache__/new.cpython-311.pyc",
        )
    ),
    tar_file(f"{LIBRARY}/legacy.pyc", "a module without a source", mtime=LATER),
]
"""A package's script has compiled all anew, whatever changed."""
NOT_REMADE = ("goes.py", "legacy.pyc", "same.pyc")


@pytest.mark.parametrize("drops", [False, True])
def test_byte_code_that_the_run_compiled_is_not_the_images(tmp_path: Path, drops: bool) -> None:
    recipe = Recipe(base=llb.scratch(), result=llb.scratch(), drops_bytecode=drops)

    changes = capture(tmp_path, *RECOMPILED, fs=MODULES, recipe=recipe)

    there = {path.removeprefix(f"{LIBRARY}/") for path, c in changes.items() if c.entry and c.content is not None}
    gone = {path for path, change in changes.items() if change.entry is None}
    stale = {OPTIMISED, *map(CODE.format, ("changes", "goes"))} if drops else set()
    assert there == {"changes.py", "more/new.py", "legacy.pyc"}
    assert gone == {f"{LIBRARY}/goes.py"} | stale
    assert f"{LIBRARY}/more/__pycache__" not in changes


@pytest.mark.parametrize("hider", [".wh..wh..opq", "__pycache__/.wh..wh..opq", ".wh.__pycache__"])
def test_byte_code_in_a_folder_that_was_made_anew_is_the_images(tmp_path: Path, hider: str) -> None:
    same = [tar_file(f"{LIBRARY}/changes.py", "1", mtime=LATER), tar_file(f"{LIBRARY}/same.py", "same", mtime=LATER)]
    anew = [item for item in RECOMPILED if "__pycache__" in item[0].name and "more" not in item[0].name]

    changes = capture(tmp_path, folder(LIBRARY), tar_file(f"{LIBRARY}/{hider}"), *same, *anew, fs=MODULES)

    gone = {CODE.format("goes")} | ({f"{LIBRARY}/{n}" for n in NOT_REMADE} if hider.startswith(".wh..") else set())
    assert {path for path, change in changes.items() if change.entry is None} == gone
    assert not any(change.content for change in changes.values())


def test_byte_code_that_scripts_take_away_is_gone(tmp_path: Path) -> None:
    changes = capture(tmp_path, tar_file(f"{LIBRARY}/__pycache__/.wh.same.cpython-311.pyc"), fs=MODULES)

    assert changes[CODE.format("same")].entry is None


def test_a_rule_may_spare_directories_and_covers_removals(tmp_path: Path) -> None:
    rule = Leftover(pattern="var/cache/apt/*", reason="caches", files_only=True)
    recipe = Recipe(base=llb.scratch(), result=llb.scratch(), leftovers=(rule,))

    changes = capture(
        tmp_path, folder("var/cache/apt/archives"), tar_file("var/cache/apt/archives/lock"),
        tar_file("var/cache/apt/.wh.pkgcache.bin"), recipe=recipe,
    )  # fmt: skip

    assert "var/cache/apt/archives" in changes
    assert not {"var/cache/apt/archives/lock", "var/cache/apt/pkgcache.bin"} & changes.keys()


def test_several_layers_count_one_over_the_other(tmp_path: Path) -> None:
    layers = [
        exported(tmp_path, tar_file("usr/bin/a", "1"), tar_file("usr/bin/b", "1"), name="lower"),
        exported(tmp_path, tar_file("usr/bin/a", "2"), tar_file("usr/bin/.wh.b"), name="upper"),
    ]
    recipe = Recipe(base=llb.scratch(), result=llb.scratch())

    changes = {c.path: c for c in capture_changes(layers, recipe, Shipped(BASE, ()), epoch=EPOCH).finish().entries}

    assert content(changes["usr/bin/a"]) == b"2"
    assert "usr/bin/b" not in changes


def test_records_are_written_and_removed_beside_what_the_run_did(tmp_path: Path) -> None:
    recipe = Recipe(base=llb.scratch(), result=llb.scratch(), records={"var/data/one": None, "var/data/new": b"new"})

    changes = capture(tmp_path, recipe=recipe)

    assert changes["var/data/one"].entry is None
    assert content(changes["var/data/new"]) == b"new"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([tar_file("../../etc/shadow", "x")], "climbs"),
        ([tar_file("a", type=tarfile.LNKTYPE, linkname="nowhere")], "links a to nowhere"),
        ([tar_file("etc/passwd/x", "x")], "does not fit the image"),
    ],
)
def test_a_layer_that_cant_be_one_is_refused(tmp_path: Path, items: list[TarItem], message: str) -> None:
    with pytest.raises(SolverError, match=message):
        capture(tmp_path, *items)


@pytest.mark.parametrize(
    "item",
    [
        tar_file("usr/bin/.wh.tool", "content"),
        folder("usr/bin/.wh.tool"),
        tar_file("usr/bin/.wh.tool", type=tarfile.SYMTYPE, linkname="x"),
        folder("usr/.wh..wh..opq"),
        tar_file("usr/.wh.bin/tool", "x"),
        tar_file("usr/.wh.bin/.wh.tool"),
        tar_file("usr/bin/.wh."),
        tar_file("usr/bin/.wh..."),
        tar_file("usr/bin/.wh..wh.tool"),
    ],
    ids=lambda item: str(item[0].name),
)
def test_a_reserved_name_that_is_no_whiteout_is_refused(tmp_path: Path, item: TarItem) -> None:
    with pytest.raises(VerificationError, match="a name that image layers keep for whiteouts"):
        capture(tmp_path, item)


def test_a_layer_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    layer = exported(tmp_path, tar_file("usr/bin/a", "x" * 5_000))
    layer.path.write_bytes(layer.path.read_bytes()[:1_500])

    with pytest.raises(SolverError, match="truncated"):
        capture_changes([layer], Recipe(base=llb.scratch(), result=llb.scratch()), Shipped(BASE, ()), epoch=EPOCH)


def test_links_of_the_image_are_not_left_by_what_a_layer_names_below_them(tmp_path: Path) -> None:
    changes = capture(tmp_path, tar_file("lib/new.so", "x"))

    assert "usr/lib/new.so" in changes
    assert "lib" not in changes


def test_the_newest_file_that_a_package_brought_tells_the_epoch(tmp_path: Path) -> None:
    layer = exported(
        tmp_path, folder("usr", mtime=50), tar_file("usr/a", mtime=10), tar_file("usr/b", mtime=40),
        tar_file("var/log", mtime=90),
    )  # fmt: skip

    assert newest_mtime([layer], before=60) == 40
    assert newest_mtime([layer], before=5) == 5


OLD = Apk(name="base", version="1-r0", files={"etc/hosts": file("1")})
NEW = Apk(
    name="base", version="2-r0", files={"etc/hosts": file("2"), "run/lock": debs.directory(), "run/lock/own": file("x")}
)


def capture_upgrade(tmp_path: Path, *items: TarItem) -> dict[str, Change]:
    """Capture what an apk did that only the builder had the packages for."""
    fs = tree({"lib/apk/db/installed": f"{installed_text(OLD)}\n", "etc/hosts": "1"})
    database = detect_database(fs)
    assert database is not None
    layer = exported(tmp_path, tar_file("lib/apk/db/installed", f"{installed_text(NEW)}\n"), *items)
    shipped = Shipped(fs, [database])
    made = Recipe(base=llb.scratch(), result=llb.scratch())
    return {c.path: c for c in capture_changes([layer], made, shipped, epoch=EPOCH).finish().entries}


def test_what_a_package_owns_is_not_left_behind_in_a_folder_for_what_is(tmp_path: Path) -> None:
    items = [folder("run"), folder("run/lock"), tar_file("run/lock/own", "x"), tar_file("run/lock/other", "x")]

    assert {"run/lock", "run/lock/own"} == {p for p in capture_upgrade(tmp_path, *items) if p.startswith("run/")}


def test_byte_code_that_a_package_owns_comes_with_its_source(tmp_path: Path) -> None:
    source, code = f"{LIBRARY}/a.py", CODE.format("a")
    old, new = (Apk(name="base", version=v, files={source: file("a"), code: file(v)}) for v in ("1-r0", "2-r0"))
    fs = tree({"lib/apk/db/installed": f"{installed_text(old)}\n", source: "a", code: "1-r0"})
    database = detect_database(fs)
    assert database is not None
    layer = exported(
        tmp_path, tar_file("lib/apk/db/installed", f"{installed_text(new)}\n"), tar_file(source, "a", mtime=EPOCH - 9),
        tar_file(code, "2-r0", mtime=EPOCH - 9),
    )  # fmt: skip
    recipe = Recipe(base=llb.scratch(), result=llb.scratch(), drops_bytecode=True)

    changes = capture_changes([layer], recipe, Shipped(fs, [database]), epoch=EPOCH).finish().entries

    assert {c.path: c.entry.mtime for c in changes if c.entry and c.content is not None} == {
        **dict.fromkeys((source, code), EPOCH - 9),
        "lib/apk/db/installed": 0,
    }


def test_a_file_that_a_builder_couldnt_replace_is_named(tmp_path: Path) -> None:
    assert "etc/hosts" not in "".join(capture_upgrade(tmp_path, tar_file("etc/hosts.apk-new", "1")))

    with pytest.raises(SolverError, match="can't replace etc/hosts, as its sandbox has its own there"):
        capture_upgrade(tmp_path, tar_file("etc/hosts.apk-new", "2"))
