# SPDX-License-Identifier: Apache-2.0
"""Commands that change files, one by one: what is read of each, and what is in the tree afterwards."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping

import pytest

from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts import effects
from copacetic.scripts.effects import Done
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.live import LiveImage
from support.image.images import make_tar, tar_file
from support.image.trees import Content, directory, stack, symlink, tree

EPOCH = 1_700_000_000
IMAGE: Mapping[str, Content] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nold:x:100:101::/:/bin/sh\nlost:x:102\n",
    "etc/group": "root:x:0:\nold:x:101:\n",
    "srv": directory(),
    "srv/a": "a",
    "srv/b": "b",
    "srv/d": directory(),
    "srv/d/x": "x",
    "srv/deep": directory(),
    "srv/deep/empty": directory(),
    "srv/l": symlink("d"),
    "srv/la": symlink("a"),
    "srv/dangling": symlink("nowhere"),
    "srv/shared": directory(0o2775, gid=7),
    "srv/su": Entry(type=FileType.FILE, mode=0o6755),
    "srv/locked": Entry(type=FileType.FILE, mode=0o6745),
    "only": directory(),
    "srv/f": Entry(type=FileType.FIFO, mode=0o644),
}


def image() -> TreeBuilder:
    return TreeBuilder(tree(IMAGE))


def read(command: str) -> effects.FileEffect | None:
    return effects.read_file_effect(LiveImage(image(), "apk2"), command.split(" "))


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        ("rm /srv/a b", effects.RemoveFiles(("srv/a", "b"))),
        ("/bin/rm -f /srv/a", effects.RemoveFiles(("srv/a",), force=True)),
        ("rm -r /srv/d", effects.RemoveFiles(("srv/d",), recursive=True)),
        ("rm -R /srv/d", effects.RemoveFiles(("srv/d",), recursive=True)),
        ("rm -rf /srv/d", effects.RemoveFiles(("srv/d",), recursive=True, force=True)),
        ("rm /srv/[ab]", effects.RemoveFiles(("srv/a", "srv/b"))),
        ("rm /", None),
        ("rm -i /srv/a", None),
        ("rmdir /srv/d", effects.RemoveFolders(("srv/d",))),
        ("rmdir -p /srv/d", None),
        ("mkdir /srv/n", effects.MakeFolders(("srv/n",))),
        ("mkdir -p /srv/n/m", effects.MakeFolders(("srv/n/m",), parents=True)),
        ("mkdir -m 700 /srv/n", effects.MakeFolders(("srv/n",), 0o700)),
        ("mkdir -m 755 -m 1777 /srv/n", effects.MakeFolders(("srv/n",), 0o1777)),
        ("mkdir -m u+w /srv/n", None),
        ("mkdir -m 77 /srv/n", None),
        ("mkdir -m 777777 /srv/n", None),
        ("touch /srv/n", effects.Touch(("srv/n",))),
        ("touch -", None),
        ("ln -s d /srv/n", effects.MakeLink("srv/n", "d")),
        ("ln -sf d /srv/n", effects.MakeLink("srv/n", "d", force=True)),
        ("ln -snf d /srv/n", effects.MakeLink("srv/n", "d", force=True, plain=True)),
        ("ln /srv/a /srv/n", None),
        ("ln -s d", None),
        ("ln -s a b /srv/d", None),
        ("ln -s d* /srv/n", None),
        ("ln -s d /srv/*", None),
        ("mv /srv/a /srv/n", effects.Move("srv/a", "srv/n")),
        ("mv -f /srv/a /srv/n", effects.Move("srv/a", "srv/n")),
        ("mv /srv/a /srv/b /srv/d", None),
        ("mv /srv/a", None),
        ("cp -a /srv/a /srv/b /srv/d", effects.CopyFiles(("srv/a", "srv/b"), "srv/d")),
        ("cp /srv/[ab] /srv/d", effects.CopyFiles(("srv/a", "srv/b"), "srv/d")),
        ("cp /srv/a", None),
        ("cp /srv/a /srv/*", None),
        ("chmod 4755 /srv/a /srv/b", effects.ChangeMode(("srv/a", "srv/b"), 0o4755)),
        ("chmod 0644 /srv/a", effects.ChangeMode(("srv/a",), 0o644)),
        ("chmod 644", None),
        ("chmod u+x /srv/a", None),
        ("chmod 64400 /srv/a", None),
        ("chmod -R 644 /srv/d", None),
        ("chown old /srv/a", effects.ChangeOwner(("srv/a",), "old", "")),
        ("chown old:old /srv/a", effects.ChangeOwner(("srv/a",), "old", "old")),
        ("chown old: /srv/a", effects.ChangeOwner(("srv/a",), "old", "", login=True)),
        ("chown old.root /srv/a", None),
        ("chown : /srv/a", None),
        ("chown old:old:old /srv/a", None),
        ("chgrp old: /srv/a", None),
        ("chgrp 0 /srv/a", None),
        ("chown :old /srv/a", effects.ChangeOwner(("srv/a",), "", "old")),
        ("chown -h old /srv/l", effects.ChangeOwner(("srv/l",), "old", "", follow=False)),
        ("chgrp old /srv/a", effects.ChangeOwner(("srv/a",), "", "old")),
        ("chgrp -h old /srv/l", effects.ChangeOwner(("srv/l",), "", "old", follow=False)),
        ("chown 0 /srv/a", None),
        ("chown old:0 /srv/a", None),
        ("chown old", None),
        ("chown o(d /srv/a", None),
    ],
)
def test_a_command_is_what_its_words_say_or_nothing_that_is_known(
    command: str, effect: effects.FileEffect | None
) -> None:
    assert read(command) == effect


def done(command: str) -> tuple[Done | None, dict[str, str]]:
    """Carry out a command; returns what it came to, and what there is now at each path that changed."""
    effect, changed = read(command), image()
    assert effect is not None
    came = ScriptEngine(changed, EPOCH).perform(effect)
    found = {}
    for path in changed.changed_paths():
        entry = changed.lookup(path, follow=False)
        found[path] = "gone" if entry is None else _spell(entry)
    return came, found


def _spell(entry: Entry) -> str:
    owner = f"{entry.uid}:{entry.gid}"
    return f"{entry.type.value} {entry.mode:o} {owner}{f' -> {entry.target}' if entry.target else ''}"


WELL, FAILS, HALF = Done(changed=True), Done(succeeds=False), Done(succeeds=False, changed=True)
IDLE = Done()


@pytest.mark.parametrize(
    ("command", "came", "changes"),
    [
        ("rm /srv/a", WELL, {"srv/a": "gone"}),
        ("rm /srv/la", WELL, {"srv/la": "gone"}),
        ("rm /srv/dangling", WELL, {"srv/dangling": "gone"}),
        ("rm /srv/no", FAILS, {}),
        ("rm -f /srv/no", IDLE, {}),
        ("rm /srv/no /srv/a", HALF, {"srv/a": "gone"}),
        ("rm /srv/a /srv/no", HALF, {"srv/a": "gone"}),
        ("rm -f /srv/d /srv/a", HALF, {"srv/a": "gone"}),
        ("rm -r /srv/deep", WELL, {"srv/deep": "gone", "srv/deep/empty": "gone"}),
        ("rm -rf /srv/l", WELL, {"srv/l": "gone"}),
        ("rmdir /srv/deep/empty", WELL, {"srv/deep/empty": "gone"}),
        ("rmdir /srv/d", FAILS, {}),
        ("rmdir /srv/a", FAILS, {}),
        ("rmdir /srv/l", FAILS, {}),
        ("rmdir /srv/d /srv/deep/empty", HALF, {"srv/deep/empty": "gone"}),
        ("mkdir /srv/n", WELL, {"srv/n": "directory 755 0:0"}),
        ("mkdir -m 1700 /srv/n", WELL, {"srv/n": "directory 1700 0:0"}),
        ("mkdir /srv/n/m", FAILS, {}),
        ("mkdir -p -m 700 /srv/n/m", WELL, {"srv/n": "directory 755 0:0", "srv/n/m": "directory 700 0:0"}),
        ("mkdir /srv/d", FAILS, {}),
        ("mkdir -p /srv/d /srv/l", IDLE, {}),
        ("mkdir -p /srv/a", FAILS, {}),
        ("mkdir -p /srv/a/n", FAILS, {}),
        ("mkdir -p /srv/a/n/m", FAILS, {}),
        ("mkdir -p /srv/dangling", FAILS, {}),
        ("mkdir -p /srv/dangling/n", FAILS, {}),
        ("mkdir -p /srv/dangling/n/m", FAILS, {}),
        ("mkdir /srv/l/n", WELL, {"srv/d/n": "directory 755 0:0"}),
        (
            "mkdir -p /srv/shared/n/m",
            WELL,
            {"srv/shared/n": "directory 2755 0:7", "srv/shared/n/m": "directory 2755 0:7"},
        ),
        ("touch /srv/shared/n", WELL, {"srv/shared/n": "file 644 0:7"}),
        ("ln -s x /srv/shared/n", WELL, {"srv/shared/n": "symlink 777 0:7 -> x"}),
        ("ln -s d /srv/n", WELL, {"srv/n": "symlink 777 0:0 -> d"}),
        ("ln -s x /", WELL, {"x": "symlink 777 0:0 -> x"}),
        ("ln -s /x/y/ /srv/d", WELL, {"srv/d/y": "symlink 777 0:0 -> /x/y/"}),
        ("ln -s y /srv/l", WELL, {"srv/d/y": "symlink 777 0:0 -> y"}),
        ("ln -sfn y /srv/l", WELL, {"srv/l": "symlink 777 0:0 -> y"}),
        ("ln -sfn y /srv/d", WELL, {"srv/d/y": "symlink 777 0:0 -> y"}),
        ("ln -sn y /srv/l", FAILS, {}),
        ("ln -s y /srv/a", FAILS, {}),
        ("ln -sf y /srv/a", WELL, {"srv/a": "symlink 777 0:0 -> y"}),
        ("ln -sf empty /srv/deep", FAILS, {}),
        ("ln -sf a /srv/la", IDLE, {}),
        ("ln -s a /srv/no/n", FAILS, {}),
        ("ln -s a /srv/a/n", FAILS, {}),
        ("mv /srv/a /srv/n", WELL, {"srv/a": "gone", "srv/n": "file 644 0:0"}),
        ("mv /srv/a /srv/b", WELL, {"srv/a": "gone", "srv/b": "file 644 0:0"}),
        ("mv /srv/a /srv/d", WELL, {"srv/a": "gone", "srv/d/a": "file 644 0:0"}),
        ("mv /srv/la /srv/n", WELL, {"srv/la": "gone", "srv/n": "symlink 777 0:0 -> a"}),
        ("mv /srv/no /srv/n", FAILS, {}),
        ("mv /srv/a /srv/no/n", FAILS, {}),
        ("mv /srv/d /srv/n", None, {}),
        ("mv /srv/f /srv/n", None, {}),
        ("mv /srv/d/x /srv/l/x", Done(None), {}),
        ("cp /srv/no /srv/d", FAILS, {}),
        ("cp /srv/a /srv", FAILS, {}),
        ("cp /srv/d/x /srv/l", FAILS, {}),
        ("cp /srv/a /srv/d", None, {}),
        ("cp /srv/dangling /srv/d", None, {}),
        ("cp /srv/no /srv/a /srv/d", None, {}),
        ("touch /srv/n", WELL, {"srv/n": "file 644 0:0"}),
        ("touch /srv/a /srv/d", IDLE, {}),
        ("touch /srv/no/n /srv/n", HALF, {"srv/n": "file 644 0:0"}),
        ("touch /srv/dangling", WELL, {"srv/nowhere": "file 644 0:0"}),
        ("chmod 600 /srv/a", WELL, {"srv/a": "file 600 0:0"}),
        ("chmod 600 /srv/la", WELL, {"srv/a": "file 600 0:0"}),
        ("chmod 644 /srv/a", IDLE, {}),
        ("chmod 600 /srv/no /srv/a", HALF, {"srv/a": "file 600 0:0"}),
        ("chown old /srv/a", WELL, {"srv/a": "file 644 100:0"}),
        ("chown :old /srv/a", WELL, {"srv/a": "file 644 0:101"}),
        ("chown old: /srv/a", WELL, {"srv/a": "file 644 100:101"}),
        ("chown nosuch: /srv/a", FAILS, {}),
        ("chown lost: /srv/a", FAILS, {}),
        ("chown old:old /srv/d", WELL, {"srv/d": "directory 755 100:101"}),
        ("chown root /srv/a", IDLE, {}),
        ("chown old /srv/la", WELL, {"srv/a": "file 644 100:0"}),
        ("chown -h old /srv/la", WELL, {"srv/la": "symlink 777 100:0 -> a"}),
        ("chown nosuch /srv/a", FAILS, {}),
        ("chown old:nosuch /srv/a", FAILS, {}),
        ("chgrp nosuch /srv/a", FAILS, {}),
        ("chown old /srv/su", WELL, {"srv/su": "file 755 100:0"}),
        ("chown root /srv/su", WELL, {"srv/su": "file 755 0:0"}),
        ("chown old /srv/locked", WELL, {"srv/locked": "file 2745 100:0"}),
        ("chown old /srv/shared", WELL, {"srv/shared": "directory 2775 100:7"}),
    ],
)
def test_a_command_does_in_the_tree_what_it_would_do_in_the_image(
    command: str, came: Done | None, changes: Mapping[str, str]
) -> None:
    assert done(command) == (came, changes)


def test_what_is_moved_is_the_same_file() -> None:
    changed = image()
    ScriptEngine(changed, EPOCH).perform(effects.Move("srv/a", "srv/d"))

    assert changed.read("srv/d/a", limit=10) == b"a"


def test_what_is_new_has_the_time_that_was_given_and_what_is_moved_its_own() -> None:
    changed = image()
    for command in ("mkdir -p /srv/n/m", "touch /srv/t", "ln -s a /srv/s", "mv /srv/a /srv/b"):
        effect = read(command)
        assert effect is not None
        ScriptEngine(changed, EPOCH).perform(effect)

    times = {
        path: entry.mtime
        for path in ("n", "n/m", "t", "s", "b")
        if (entry := changed.lookup(f"srv/{path}", follow=False))
    }
    assert times == {"n": EPOCH, "n/m": EPOCH, "t": EPOCH, "s": EPOCH, "b": 0}


def test_a_changed_owner_takes_the_capabilities_of_a_file_and_nothing_else_that_is_on_it() -> None:
    changed = image()
    attributes = {"security.capability": b"1", "user.note": b"2"}
    changed.put("srv/a", Entry(type=FileType.FILE, mode=0o755, size=1, xattrs=attributes), b"a")

    ScriptEngine(changed, EPOCH).perform(effects.ChangeOwner(("srv/a",), "old", ""))

    entry = changed.lookup("srv/a")
    assert entry is not None
    assert dict(entry.xattrs) == {"user.note": b"2"}


def test_new_files_get_what_the_image_s_had_where_both_are_files() -> None:
    changed = image()
    for path in ("srv/su", "srv/l", "srv/new"):
        changed.put(path, Entry(type=FileType.FILE, mode=0o600, uid=5, size=1), b"n")

    came = ScriptEngine(changed, EPOCH).perform(effects.KeepAttributes(("srv/su", "srv/l", "srv/new", "srv/no")))

    assert came == WELL
    kept = {path: entry.mode for path in ("su", "l", "new") if (entry := changed.lookup(f"srv/{path}", follow=False))}
    assert kept == {"su": 0o6755, "l": 0o600, "new": 0o600}


def test_a_file_that_is_gone_keeps_nothing() -> None:
    changed = image()
    changed.remove("srv/su")

    assert ScriptEngine(changed, EPOCH).perform(effects.KeepAttributes(("srv/su",))) == WELL
    assert changed.lookup("srv/su") is None


def test_the_folders_above_go_as_far_as_the_root() -> None:
    changed = image()

    assert ScriptEngine(changed, EPOCH).perform(effects.RemoveFolders(("only",), parents=True)) == WELL
    assert changed.changed_paths() == ("only",)


CHANGES = (
    effects.ChangeMode(("srv/a",), 0o600),
    effects.ChangeOwner(("srv/a",), "old", ""),
    effects.Move("srv/a", "n"),
)


@pytest.mark.parametrize("effect", CHANGES, ids=lambda effect: type(effect).__name__)
def test_a_file_that_is_too_big_to_be_written_again_is_left_to_the_command(
    effect: effects.FileEffect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copacetic.scripts.engine.MAX_MOVED", 0)
    changed = image()

    assert ScriptEngine(changed, EPOCH).perform(effect) is None
    assert changed.changed_paths() == ()


@pytest.mark.parametrize("effect", CHANGES, ids=lambda effect: type(effect).__name__)
def test_so_is_one_that_has_other_names(effect: effects.FileEffect) -> None:
    passwd = tar_file("etc/passwd", IMAGE["etc/passwd"])  # type: ignore[arg-type]
    names = [tar_file("srv/a", "a"), tar_file("srv/other", type=tarfile.LNKTYPE, linkname="srv/a")]
    changed = TreeBuilder(stack(make_tar([passwd, *names])))

    assert ScriptEngine(changed, EPOCH).perform(effect) is None
    assert changed.changed_paths() == ()


def test_a_file_that_a_package_brings_is_changed_in_place() -> None:
    changed = image()
    changed.put("srv/new", Entry(type=FileType.FILE, mode=0o644, size=1), b"n")

    assert ScriptEngine(changed, EPOCH).perform(effects.ChangeMode(("srv/new",), 0o600)) == WELL
    entry = changed.lookup("srv/new")
    assert entry is not None
    assert (entry.mode, changed.read("srv/new", limit=10)) == (0o600, b"n")


def test_nobody_makes_an_account_where_the_image_has_no_program_that_could() -> None:
    assert ScriptEngine(image(), EPOCH).perform(effects.MakeAccount(("addgroup", "-S", "web"))) is None
