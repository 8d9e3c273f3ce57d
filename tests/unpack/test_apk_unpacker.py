# SPDX-License-Identifier: Apache-2.0
"""apk packages in images made for the purpose: what is refused, what is kept, which scripts and triggers count."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from copacetic.errors import ConflictError, NeedsExecutionError, PackageError
from copacetic.oci.change import Spooled
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.layerwriter import read_content
from copacetic.repository.apk.package import ApkEntry
from copacetic.scripts.handlers.busybox import read_applets
from copacetic.unpack.apk.install import further_name
from copacetic.unpack.apk.protected import ProtectedPaths
from copacetic.unpack.apk.triggers import Interest, find_fired
from copacetic.updates import ScriptClass, ScriptVerdict
from support.apk.apkcomposed import compose, open_unpacker, plan_apks
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk, Item, q1
from support.deb.composed import Composed
from support.deb.debs import MTIME, Member, directory, file, hardlink, symlink
from support.image.trees import Content, tree
from support.image.trees import directory as folder
from support.image.trees import symlink as link
from support.value.replacing import replace
from support.value.values import key

PROGRAMS = ("sh", "cp", "mkdir", "rm")
SHELL: Mapping[str, Content] = {"bin": folder(), **{f"bin/{name}": "a program" for name in PROGRAMS}}
OLD = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755), "etc/foo.conf": file("1")})
NEW = replace(OLD, version="2-r0", files={"usr/bin/foo": file("new", 0o755), "etc/foo.conf": file("2")})


def image(*apks: Apk, more: Mapping[str, Content] | None = None) -> ImageFilesystem:
    files: dict[str, Content] = {"etc": folder(), "usr": folder(), "usr/bin": folder(), "lib": folder()}
    return tree({**files, **apk_image(None, apks), **(more or {})})


def upgrade(fs: ImageFilesystem, apks: Sequence[Apk], tmp_path: Path) -> Composed:
    return compose(fs, [(apk.row(), apk.write(tmp_path)) for apk in apks], tmp_path / "scratch")


def judge(fs: ImageFilesystem, apks: Sequence[Apk], tmp_path: Path) -> list[ScriptVerdict]:
    verdicts = open_unpacker(fs).classify(plan_apks(fs, [(apk.row(), apk.write(tmp_path)) for apk in apks]))
    return [verdict for found in verdicts.values() for verdict in found]


def content(composition: Composed, path: str) -> str | None:
    """Return a file of the layer; None for a whiteout. Raises `KeyError` for a path that isn't there."""
    change = {change.path: change for change in composition.changes.entries}[path]
    if change.entry is None:
        return None
    data = change.content
    return (read_content(data) if isinstance(data, Spooled) else data or b"").decode()


def paths(composition: Composed) -> set[str]:
    """Return what the layer has, without directories that are there only as parents, and the database."""
    return {
        change.path
        for change in composition.changes.entries
        if not change.path.startswith("lib") and not (change.entry and change.entry.type is FileType.DIRECTORY)
    }


# -- the tree ------------------------------------------------------------------------------------------------


def test_a_changed_configuration_file_stays_and_the_new_one_lies_beside_it(tmp_path: Path) -> None:
    composition = upgrade(image(OLD, more={"etc/foo.conf": "mine"}), [NEW], tmp_path)

    assert paths(composition) == {"usr/bin/foo", "etc/foo.conf.apk-new"}
    assert content(composition, "etc/foo.conf.apk-new") == "2"
    assert composition.notes == (
        "etc/foo.conf was changed in the image and stays so; the package's new version is etc/foo.conf.apk-new",
    )


def test_what_is_the_same_below_is_left_out_and_its_content_is_told(tmp_path: Path) -> None:
    old = replace(OLD, files={"usr/share/foo": file("same"), "etc/foo.conf": file("same")})
    composition = upgrade(image(old), [replace(old, version="2-r0")], tmp_path)

    assert paths(composition) == set()
    assert {"usr/share/foo", "etc/foo.conf"} <= set(composition.changes.unchanged)


def test_byte_code_brings_the_source_that_it_is_true_for(tmp_path: Path) -> None:
    source, code = "usr/lib/foo.py", "usr/lib/__pycache__/foo.cpython-312.pyc"
    old = replace(OLD, files={source: file("same"), code: file("for the old time")})
    new = replace(NEW, files={source: file("same", mtime=MTIME + 9), code: file("for the new time")})

    assert paths(upgrade(image(old), [new], tmp_path)) == {source, code}


def test_what_is_gone_is_a_whiteout_unless_the_image_lost_it_already(tmp_path: Path) -> None:
    old = replace(OLD, files={**OLD.files, "usr/bin/bar": file("b"), "usr/bin/lost": file("l")})
    below = {key: value for key, value in apk_image(None, [old]).items() if key != "usr/bin/lost"}

    composition = upgrade(tree({"etc": folder(), "lib": folder(), "usr": folder(), **below}), [NEW], tmp_path)

    assert content(composition, "usr/bin/bar") is None
    assert "usr/bin/lost" not in paths(composition)


def test_a_file_that_moves_through_the_images_links_is_not_removed_under_its_old_name(tmp_path: Path) -> None:
    old = Apk(name="foo", version="1-r0", files={"bin/foo": file("1"), "usr/bin/keep": file("k")})
    new = replace(old, version="2-r0", files={"usr/bin/foo": file("2"), "usr/bin/keep": file("k")})
    below = {key: value for key, value in apk_image(None, [old]).items() if key != "bin/foo"}
    fs = tree(
        {"usr": folder(), "usr/bin": folder(), "bin": link("usr/bin"), "usr/bin/foo": "1", "lib": folder(), **below}
    )

    assert content(upgrade(fs, [new], tmp_path), "usr/bin/foo") == "2"


def test_a_package_that_installs_nothing_is_recorded_without_its_scripts(tmp_path: Path) -> None:
    old = Apk(name="meta", version="1-r0")
    new = replace(old, version="2-r0", scripts={"post-upgrade": "#!/bin/sh\nnosuch\n"}, replaces=["other"])

    composition = upgrade(image(old, OLD, more=SHELL), [new], tmp_path)

    installed = content(composition, "lib/apk/db/installed") or ""
    assert "P:meta\nV:2-r0\n" in installed
    assert "r:other" not in installed
    assert "nosuch" not in (content(composition, "lib/apk/db/scripts.tar") or "")


@pytest.mark.parametrize(
    ("new", "below", "message"),
    [
        (NEW, {"usr/bin/foo": folder()}, "usr/bin/foo is a directory in the image, where a file belongs"),
        (replace(NEW, raw_order=True, files={"usr/bin/foo": file("x")}), {}, "'usr/bin/foo' has no directory"),
        (
            replace(NEW, files={"usr/bin/foo": file("x"), "usr/bin/bar": hardlink("etc/passwd")}),
            {"etc/passwd": "root"},
            "is a hard link to 'etc/passwd', no file of it",
        ),
        (
            replace(NEW, files={"top": file("x"), "usr/bin/bar": hardlink("top")}),
            {},
            "is a hard link to 'top', no file of it",
        ),
        (
            replace(NEW, raw_order=True, files={"usr": directory(), "usr/l": symlink("/etc"), "usr/l/x": file("x")}),
            {},
            "'usr/l/x' lies behind 'usr/l', which is not a directory",
        ),
        (
            replace(NEW, alter=lambda entries: entries.append(("usr/bin/foo", file("again"), {}))),
            {},
            "'usr/bin/foo' is there twice",
        ),
        (replace(NEW, files={"usr/bin/.wh.cat": file("")}), {}, "a name that image layers keep for whiteouts"),
        (replace(NEW, files={"usr/bin/.wh.cat/x": file("x")}), {}, "a name that image layers keep for whiteouts"),
        (replace(NEW, files={"usr/bin/.wh..wh..opq": symlink("x")}), {}, "a name that image layers keep for whiteouts"),
        (
            replace(NEW, files={"lib/apk/db/installed": file("P:x\n")}),
            {},
            "apk/db/installed' is the package manager's own",
        ),
        (replace(NEW, files={"usr/lib/apk/db/triggers": symlink("x")}), {}, "the package manager's own record"),
        (replace(NEW, files={"etc/apk/world": file("x\n")}), {}, "the package manager's own record"),
        (replace(NEW, files={"usr/bin/cat": file("x")}), {}, r"foo 2-r0 would overwrite usr/bin/cat of other 1-r0"),
        (
            replace(NEW, alter=lambda e: e.insert(0, ("../etc/passwd", file("x"), {}))),
            {},
            r"not relative and plain: '\.\./etc/passwd'",
        ),
    ],
)
def test_a_package_that_apk_could_not_install_is_refused(
    new: Apk, below: Mapping[str, Content], message: str, tmp_path: Path
) -> None:
    other = Apk(name="other", version="1-r0", files={"usr/bin/cat": file("cat")})
    start = {key: value for key, value in apk_image(None, [OLD, other]).items() if key not in below}
    fs = tree({"etc": folder(), "usr": folder(), "usr/bin": folder(), "lib": folder(), **start, **below})

    with pytest.raises(PackageError, match=message):
        upgrade(fs, [new], tmp_path)


def test_a_payload_much_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    row = {**NEW.row(), "I": "1"}
    big = replace(NEW, files={"usr/bin/foo": file(bytes(70 * 1024**2))})
    row["C"] = big.row()["C"]

    with pytest.raises(PackageError, match=r"more than \d+ bytes, much larger than it is or says"):
        compose(image(OLD), [(row, big.write(tmp_path))], tmp_path / "scratch")


def test_a_file_of_another_package_goes_to_the_one_that_replaces_it(tmp_path: Path) -> None:
    other = Apk(name="other", version="1-r0", files={"usr/bin/cat": file("cat"), "usr/bin/dog": file("dog")})
    new = replace(NEW, files={"usr/bin/cat": file("tom")}, replaces=["other<2"])

    installed = content(upgrade(image(OLD, other), [new], tmp_path), "lib/apk/db/installed") or ""

    record = next(part for part in installed.split("\n\n") if "P:other\n" in f"{part}\n")
    assert "R:cat" not in record
    assert "R:dog" in record


def test_owners_are_names_of_the_image_or_else_numbers(tmp_path: Path) -> None:
    owned = file("x", uid=7, gid=8, uname="web", gname="nosuch")
    new = replace(NEW, files={"usr/bin/foo": owned})

    composition = upgrade(image(OLD, more={"etc/passwd": "web:x:33:33::/:/bin/sh\n"}), [new], tmp_path)

    entry = next(c.entry for c in composition.changes.entries if c.path == "usr/bin/foo")
    assert entry is not None
    assert (entry.uid, entry.gid) == (33, 8)


def record_of(composition: Composed, name: str) -> list[str]:
    """Return the lines of a package in the new database."""
    installed = content(composition, "lib/apk/db/installed") or ""
    return next(part for part in installed.split("\n\n") if f"P:{name}\n" in part).splitlines()


def entry_of(composition: Composed, path: str) -> Entry:
    found = {change.path: change.entry for change in composition.changes.entries}[path]
    assert found is not None
    return found


def database_of(apk: Apk, old: str, new: str) -> Mapping[str, Content]:
    """Return an image's database in which a piece of a package's record is another."""
    text = str(apk_image(None, [apk])["lib/apk/db/installed"])
    assert old in text
    return {"lib/apk/db/installed": text.replace(old, new)}


def test_a_folder_that_no_package_has_any_more_goes_and_what_they_all_have_gets_the_new_mode(tmp_path: Path) -> None:
    old = replace(OLD, files={**OLD.files, "usr/share/gone/x": file("x"), "usr/share/stays/x": file("x")})
    new = replace(NEW, files={**NEW.files, "usr/share/stays": directory(0o700), "usr/share/stays/x": file("x")})

    composition = upgrade(image(old), [new], tmp_path)

    gone = {change.path for change in composition.changes.entries if change.entry is None}
    assert gone == {"usr/share/gone"}
    assert entry_of(composition, "usr/share/stays").mode == 0o700


def test_a_folder_gets_what_the_packages_say_that_still_have_it(tmp_path: Path) -> None:
    """Of several that have one user all have to grant a permission; one of them says nothing of it any more."""
    other = Apk(name="other", version="1-r0", files={"usr/share/d": directory(), "usr/share/d/o": file("o")})
    old = replace(OLD, files={**OLD.files, "usr/share/d": directory(0o700), "usr/share/d/f": file("f")})

    composition = upgrade(image(old, other, more={"usr/share/d": folder(0o700)}), [NEW], tmp_path)

    assert entry_of(composition, "usr/share/d").mode == 0o755


def test_a_link_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    links = {"usr/bin/l": "foo", "usr/bin/n": "nowhere"}
    old = replace(OLD, files={**OLD.files, **{path: symlink(target) for path, target in links.items()}})

    composition = upgrade(image(old, more={path: link(target) for path, target in links.items()}), [NEW], tmp_path)

    assert [content(composition, path) for path in (*links, "usr/bin/foo")] == [None, None, "new"]


def test_extended_attributes_are_recorded_by_their_sum_in_the_order_of_their_names(tmp_path: Path) -> None:
    xattrs = {"user.b": "2", "user.a": "1"}
    parts = (b"user.a", b"1", b"user.b", b"2")
    digest = hashlib.sha1(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()

    lines = record_of(upgrade(image(OLD), [replace(NEW, xattrs={"usr/bin/foo": xattrs})], tmp_path), "foo")

    assert f"a:0:0:755:Q1{base64.b64encode(digest).decode()}" in lines


def test_a_file_in_the_root_is_recorded_in_a_folder_of_root_s(tmp_path: Path) -> None:
    lines = record_of(upgrade(image(OLD), [replace(NEW, files={"top": file("x")})], tmp_path), "foo")

    start = lines.index("F:")
    assert lines[start + 1].startswith("R:top"), "0:0:755 is what is meant where nothing is said"


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ("a file", "usr/share/foo/x: usr/share/foo is not a directory in the image"),
        (link("foo"), "foo 2-r0: too many levels of symbolic links: foo"),
    ],
)
def test_what_the_image_has_at_a_folder_s_place_is_a_conflict(tmp_path: Path, present: Content, message: str) -> None:
    new = replace(NEW, files={"usr/share/foo/x": file("x")})

    with pytest.raises(ConflictError) as caught:
        upgrade(image(OLD, more={"usr/share/foo": present}), [new], tmp_path)
    assert str(caught.value).startswith(message)
    assert caught.value.package == key("foo:x86_64")


def test_files_are_moved_folder_by_folder(tmp_path: Path) -> None:
    """As the notes tell: whatever order the payload has."""
    files = {
        "etc": directory(),
        "etc/b": directory(),
        "etc/a": directory(),
        "etc/a/x": file("2"),
        "etc/b/y": file("2"),
        "etc/z": file("2"),
    }
    mine: Mapping[str, Content] = {
        "etc/a": folder(),
        "etc/b": folder(),
        **dict.fromkeys(("etc/a/x", "etc/b/y", "etc/z"), "mine"),
    }

    composition = upgrade(image(OLD, more=mine), [replace(NEW, files=files, raw_order=True)], tmp_path)

    assert [note.split()[0] for note in composition.notes] == ["etc/z", "etc/b/y", "etc/a/x"]


def test_another_name_of_a_file_that_stays_another_package_s_is_refused(tmp_path: Path) -> None:
    cat = file("cat", 0o755)
    other = Apk(name="other", version="1-r0", files={"usr/bin/cat": cat}, replaces=["foo"], replaces_priority=5)
    new = replace(NEW, files={"usr/bin/cat": cat, "usr/bin/dog": hardlink("usr/bin/cat")})

    with pytest.raises(PackageError, match="usr/bin/dog is a hard link to usr/bin/cat, which isn't installed"):
        upgrade(image(OLD, other), [new], tmp_path)


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        (0o755, 0o755, 0o755),
        (0o4711, 0o755, 0o711),
        (0o2711, 0o755, 0o711),
        (0o1711, 0o755, 0o1711),
        (0o711, 0o4755, 0o4755),
        (0o4711, 0o2755, 0o2755),
        (0o711, 0o1755, 0o1755),
    ],
)
def test_the_last_name_s_owner_takes_the_special_bits_unless_it_says_which(before: int, name: int, after: int) -> None:
    raw = ApkEntry(
        path="b", type="1", mode=name, uid=0, gid=0, user="", group="", size=0, mtime=0, xattrs={"user.b": b"2"}
    )

    assert further_name(before, {"user.a": b"1"}, raw) == (after, {"user.a": b"1", "user.b": b"2"})


def test_links_are_links_and_files_keep_their_attributes(tmp_path: Path) -> None:
    files = {"usr/bin/foo": file("new", 0o755), "usr/bin/l": symlink("foo"), "usr/bin/n": hardlink("usr/bin/foo")}
    new = replace(NEW, files=files, xattrs={"usr/bin/foo": {"user.note": "x"}})

    composition = upgrade(image(OLD), [new], tmp_path)

    plain, link_ = entry_of(composition, "usr/bin/foo"), entry_of(composition, "usr/bin/l")
    assert (plain.mode, dict(plain.xattrs), plain.target, plain.size) == (0o755, {"user.note": b"x"}, "", 3)
    assert (link_.mode, dict(link_.xattrs), link_.target, link_.size) == (0o777, {}, "foo", 0)


# -- protected directories -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "is_taken", "is_noted"),
    [
        ("1", True, False),
        ("mine", False, True),
        ("2", False, False),
        (link("mine"), False, True),
        (link("2"), False, False),
        (Entry(type=FileType.FIFO, mode=0o644), False, True),
    ],
)
def test_what_is_as_the_old_package_had_it_is_replaced_and_what_is_as_the_new_one_has_it_stays(
    tmp_path: Path, present: Content, is_taken: bool, is_noted: bool
) -> None:
    """A checksum doesn't say whether it is a file's or a link's: apk, too, takes a link to "2" for the content 2."""
    composition = upgrade(image(OLD, more={"etc/foo.conf": present}), [NEW], tmp_path)

    changed = {path for path in paths(composition) if path.startswith("etc")}
    assert changed == ({"etc/foo.conf"} if is_taken else {"etc/foo.conf.apk-new"} if is_noted else set())
    if not is_taken:
        said = "was changed in the image and stays so" if is_noted else "which has the new content already"
        assert said in composition.notes[0]
    assert len(composition.notes) == (not is_taken)


def test_a_file_of_nobody_s_is_as_good_as_a_changed_one(tmp_path: Path) -> None:
    new = replace(NEW, files={**NEW.files, "etc/more.conf": file("2")})

    composition = upgrade(image(OLD, more={"etc/more.conf": "mine"}), [new], tmp_path)

    assert content(composition, "etc/more.conf.apk-new") == "2"


def test_without_a_checksum_nothing_is_known_to_be_unchanged(tmp_path: Path) -> None:
    fs = image(OLD, more=database_of(OLD, f"R:foo.conf\nZ:{q1(b'1')}\n", "R:foo.conf\n"))

    assert content(upgrade(fs, [NEW], tmp_path), "etc/foo.conf.apk-new") == "2"


def test_without_a_checksum_in_the_package_nothing_is_known_to_be_the_same(tmp_path: Path) -> None:
    def without(entries: list[Item]) -> None:
        entries[:] = [(path, item, {}) for path, item, _ in entries]

    composition = upgrade(image(OLD, more={"etc/foo.conf": "2"}), [replace(NEW, alter=without)], tmp_path)

    assert content(composition, "etc/foo.conf.apk-new") == "2"


@pytest.mark.parametrize(("present", "is_taken"), [("1", True), ("mine", False), (link("1"), True)])
def test_a_newer_package_s_checksum_is_another_digest_and_cut(tmp_path: Path, present: Content, is_taken: bool) -> None:
    cut = "Q1" + base64.b64encode(hashlib.sha256(b"1").digest()[:20]).decode()
    marked = database_of(OLD, f"R:foo.conf\nZ:{q1(b'1')}\n", f"R:foo.conf\nZ:{cut}\n")
    text = str(marked["lib/apk/db/installed"]).replace("P:foo\n", "P:foo\nf:S\n")
    fs = image(OLD, more={"lib/apk/db/installed": text, "etc/foo.conf": present})

    assert ("etc/foo.conf" in paths(upgrade(fs, [NEW], tmp_path))) is is_taken


def test_a_link_whose_target_is_no_text_has_a_checksum_all_the_same(tmp_path: Path) -> None:
    odd = "n\udcffm"
    old = replace(OLD, files={"etc/l": symlink("a")})
    fs = image(
        old,
        more={**database_of(old, q1(b"a"), q1(b"n\xffm")), "etc/l": link(odd)},
    )

    composition = upgrade(fs, [replace(old, version="2-r0", files={"etc/l": symlink("b")})], tmp_path)

    assert entry_of(composition, "etc/l").target == "b"


@pytest.mark.parametrize(("present", "stays"), [("1", False), ("mine", True)])
def test_what_the_new_version_lacks_goes_unless_it_was_changed(tmp_path: Path, present: str, stays: bool) -> None:
    new = replace(NEW, files={"usr/bin/foo": file("new", 0o755)})

    composition = upgrade(image(OLD, more={"etc/foo.conf": present}), [new], tmp_path)

    assert ("etc/foo.conf" in paths(composition)) is not stays
    assert composition.notes == (
        ("etc/foo.conf was changed in the image and stays, though no package has it any more",) if stays else ()
    )


# -- scripts -------------------------------------------------------------------------------------------------


def with_script(body: str, name: str = "post-upgrade", **more: str) -> Apk:
    return replace(NEW, scripts={name: f"#!/bin/sh\n{body}\n", **more})


@pytest.mark.parametrize(
    ("script", "verdict", "reason"),
    [
        ("echo hello; exit 0", ScriptClass.HARMLESS, "nothing in it has an effect"),
        ("[ -e /none ] && nosuch; true", ScriptClass.HARMLESS, "nothing in it is reached"),
        ("[ -e /none ] && nosuch", ScriptClass.NEEDS_EXECUTION, "it ends with an error"),
        ("rm /etc/old\nif true; then exit 3; fi", ScriptClass.NEEDS_EXECUTION, "it ends with an error"),
        ("[ -e /proc/x ] && exit 1; exit 0", ScriptClass.HARMLESS, "nothing in it has an effect"),
        ("f() { false; }\nf", ScriptClass.NEEDS_EXECUTION, "it ends with an error"),
        ("nosuch --now", ScriptClass.HARMLESS, "nosuch is not in the image"),
        ("/bin/tool --now", ScriptClass.NEEDS_EXECUTION, "line 2, '/bin/tool --now': tool is not known"),
        ("addgroup -S web 2>/dev/null", ScriptClass.NEEDS_EXECUTION, "addgroup would have to make an account"),
        ("rm -rf /etc/old", ScriptClass.REPRODUCED, "reproduced: rm"),
        ("rm -rf /etc/none", ScriptClass.HARMLESS, "nothing in it has an effect"),
        ("touch /etc/new || true", ScriptClass.HARMLESS, "nothing in it has an effect"),  # there is no touch
        ("touch /etc/new", ScriptClass.NEEDS_EXECUTION, "it ends with an error"),
        ("rc-service foo restart", ScriptClass.HARMLESS, "nothing in it has an effect"),
        ("if [ -e /proc/x ]; then rm /etc/old; fi", ScriptClass.NEEDS_EXECUTION, "rm: changes /etc/old"),
        ("echo x > /etc/made", ScriptClass.NEEDS_EXECUTION, "writes: changes /etc/made"),
        ('[ "$(apk version -t "$2" 2-r0)" = "<" ] && rm /etc/old', ScriptClass.REPRODUCED, "reproduced: rm"),
        ('[ "$(apk version -t "$2" 1-r0)" = "<" ] && rm /etc/old; true', ScriptClass.HARMLESS, "nothing in it"),
        ("while", ScriptClass.NEEDS_EXECUTION, ""),
        ("set -e; rm /etc/none; rm /etc/old", ScriptClass.NEEDS_EXECUTION, "it fails, and the script may end there"),
        ("set -eu\nrm -f /etc/none /etc/old", ScriptClass.REPRODUCED, "reproduced: rm"),
        ("cd /etc; rm old", ScriptClass.NEEDS_EXECUTION, "rm: changes old"),
        ("cd /; rm etc/old", ScriptClass.REPRODUCED, "reproduced: rm"),
        ("[ -e /proc/x ] && cd /etc; rm old", ScriptClass.NEEDS_EXECUTION, "rm: changes old"),
        ("[ -e /proc/x ] && ldconfig", ScriptClass.NEEDS_EXECUTION, "ldconfig would have to be run"),
        ("umask 077; mkdir /etc/new", ScriptClass.NEEDS_EXECUTION, "mkdir: changes /etc/new"),
    ],
)
def test_a_script_is_judged_by_what_it_does_in_this_image(
    script: str, verdict: ScriptClass, reason: str, tmp_path: Path
) -> None:
    fs = image(OLD, more={**SHELL, "bin/tool": "?", "bin/addgroup": "?", "sbin/apk": "?", "etc/old": "x"})

    (found,) = judge(fs, [with_script(script)], tmp_path)

    assert found.verdict is verdict, found
    assert reason in found.reason
    assert (found.package, found.script) == (key("foo:x86_64"), "post-upgrade")


def test_a_script_for_a_shell_that_the_image_lacks_fails_and_is_not_passed_over(tmp_path: Path) -> None:
    new = replace(NEW, scripts={"post-upgrade": "#!/bin/bash\nrm /etc/old\n"})

    (found,) = judge(image(OLD, more=SHELL), [new], tmp_path)

    assert found.verdict is ScriptClass.NEEDS_EXECUTION
    assert found.reason == "the image lacks the shell that it asks for"


def test_a_script_sees_the_tree_as_it_is_when_apk_runs_it(tmp_path: Path) -> None:
    """Before its package's files with pre-upgrade, after them with post-upgrade, and after earlier packages' scripts."""
    first = with_script("[ -e /usr/bin/foo ] && rm /etc/one", "pre-upgrade")
    first = replace(first, files={"usr/bin/other": file("x")})
    first = replace(first, scripts={**first.scripts, "post-upgrade": "#!/bin/sh\n[ -e /usr/bin/foo ] || rm /etc/two\n"})
    second = Apk(name="late", version="1-r0", files={"usr/bin/late": file("l")})
    newer = replace(second, version="2-r0", scripts={"pre-upgrade": "#!/bin/sh\n[ -e /etc/two ] || rm /etc/three\n"})
    fs = image(OLD, second, more={**SHELL, "etc/one": "1", "etc/two": "2", "etc/three": "3"})

    composition = upgrade(fs, [first, newer], tmp_path)

    gone = {change.path for change in composition.changes.entries if change.entry is None}
    assert {"etc/one", "etc/two", "etc/three"} <= gone


def test_without_apk_a_script_gets_no_answer_from_it(tmp_path: Path) -> None:
    fs = image(OLD, more={**SHELL, "etc/old": "x"})

    (found,) = judge(fs, [with_script('if [ "$(apk version -t "$2" 2-r0)" = "<" ]; then rm /etc/old; fi')], tmp_path)

    assert (found.verdict, found.reason) == (
        ScriptClass.HARMLESS,
        "nothing in it has an effect in this image",
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/bin/tool --now", ScriptClass.HARMLESS),
        ('[ -z "$2" ] || /bin/tool --now', ScriptClass.NEEDS_EXECUTION),
        ('[ -n "$2" ] || /bin/tool --now', ScriptClass.HARMLESS),
        ('/bin/tool "$1"', ScriptClass.HARMLESS),
        ('/bin/tool "$1" "$2"', ScriptClass.NEEDS_EXECUTION),
    ],
)
def test_the_same_text_is_no_run(line: str, expected: ScriptClass, tmp_path: Path) -> None:
    scripts = dict.fromkeys(("post-install", "post-upgrade"), f"#!/bin/sh\n{line}; :\n")
    old = replace(OLD, scripts=scripts)
    fs = image(old, more={**SHELL, "bin/tool": "?", "lib/apk/db/scripts.tar": _scripts(old)})

    (found,) = judge(fs, [replace(NEW, scripts={"post-upgrade": scripts["post-upgrade"]})], tmp_path)

    assert found.verdict is expected, found


def test_an_upgrade_s_script_never_ran_in_a_first_installation(tmp_path: Path) -> None:
    old = replace(OLD, scripts={"post-upgrade": "#!/bin/sh\n/bin/tool --now\n"})
    fs = image(old, more={**SHELL, "bin/tool": "?", "lib/apk/db/scripts.tar": _scripts(old)})

    (found,) = judge(fs, [with_script("/bin/tool --now")], tmp_path)

    assert found.verdict is ScriptClass.NEEDS_EXECUTION


@pytest.mark.parametrize(("below", "expected"), [("0-r0", ScriptClass.HARMLESS), ("1-r0", ScriptClass.NEEDS_EXECUTION)])
def test_an_upgrade_s_script_has_run_where_a_lower_layer_has_an_older_version(
    below: str, expected: ScriptClass, tmp_path: Path
) -> None:
    old = replace(OLD, scripts={"post-upgrade": '#!/bin/sh\n[ -z "$2" ] || /bin/tool --now\n'})
    more = {**SHELL, "bin/tool": "?", "lib/apk/db/scripts.tar": _scripts(old)}
    fs = tree(apk_image(None, [replace(old, version=below)]), {**apk_image(None, [old]), **more})

    (found,) = judge(fs, [with_script("/bin/tool --now")], tmp_path)

    assert found.verdict is expected, found


def test_a_script_that_ran_before_may_do_what_is_not_known(tmp_path: Path) -> None:
    old = replace(OLD, scripts={"post-install": "#!/bin/sh\n/bin/tool --now\n"})
    fs = image(old, more={**SHELL, "bin/tool": "?", "lib/apk/db/scripts.tar": _scripts(old)})

    (found,) = judge(fs, [with_script("/bin/tool --now")], tmp_path)

    assert found.verdict is ScriptClass.HARMLESS


def test_what_would_be_done_to_a_file_for_certain_is_no_matter_of_having_run_before(tmp_path: Path) -> None:
    old = replace(OLD, scripts={"post-install": "#!/bin/sh\ncp -a /etc/old /etc/copies\n"})
    below = {**SHELL, "etc/old": "x", "etc/copies": folder(), "lib/apk/db/scripts.tar": _scripts(old)}

    (found,) = judge(image(old, more=below), [with_script("cp -a /etc/old /etc/copies")], tmp_path)

    assert found.verdict is ScriptClass.NEEDS_EXECUTION


def test_in_an_image_without_a_shell_no_script_counts(tmp_path: Path) -> None:
    (found,) = judge(image(OLD), [with_script("/bin/tool --now")], tmp_path)

    assert (found.verdict, found.reason) == (
        ScriptClass.HARMLESS,
        "this image has no shell: no script ever ran in it",
    )


def test_a_script_in_another_language_needs_execution(tmp_path: Path) -> None:
    new = replace(NEW, scripts={"post-upgrade": "#!/usr/bin/lua\nprint(1)\n"})

    (found,) = judge(image(OLD, more=SHELL), [new], tmp_path)

    assert (found.verdict, found.reason) == (ScriptClass.NEEDS_EXECUTION, "it is not a shell script")


def test_hooks_around_commits_need_execution(tmp_path: Path) -> None:
    hook = Member(content=b"#!/bin/sh\n", mode=0o755)
    fs = image(OLD, more={**SHELL, "etc/apk/commit_hooks.d": folder()})
    assert judge(fs, [NEW], tmp_path) == []
    executable = _with_mode("etc/apk/commit_hooks.d/snapshot", hook)

    (found,) = judge(_stacked(fs, executable), [NEW], tmp_path)

    assert found.verdict is ScriptClass.NEEDS_EXECUTION
    assert "commit_hooks.d/snapshot" in found.reason


@pytest.mark.parametrize(("tools", "verdicts"), [("2.14.4-r0", 0), ("3.0.1-r0", 1)])
def test_a_hook_in_the_second_folder_counts_where_apk_is_apk_3(tools: str, verdicts: int, tmp_path: Path) -> None:
    below = image(OLD, Apk(name="apk-tools", version=tools), more=SHELL)
    fs = _stacked(below, _with_mode("lib/apk/commit_hooks.d/snapshot", Member(content=b"#!/bin/sh\n", mode=0o755)))

    assert len(judge(fs, [NEW], tmp_path)) == verdicts


def test_composing_refuses_what_needs_execution(tmp_path: Path) -> None:
    fs = image(OLD, more={**SHELL, "bin/tool": "?"})

    with pytest.raises(NeedsExecutionError, match="foo:x86_64: post-upgrade would have to be run: line 2"):
        upgrade(fs, [with_script("/bin/tool --now")], tmp_path)


# -- triggers ------------------------------------------------------------------------------------------------

HEARER = Apk(
    name="hearer",
    version="1-r0",
    files={"usr/share/hearer": file("h")},
    triggers=["/usr/bin"],
    scripts={"trigger": '#!/bin/sh\nfor d in "$@"; do rm -f "/etc/seen$d"; done\n'},
)


def test_a_trigger_is_run_for_the_directories_that_were_touched(tmp_path: Path) -> None:
    below = {
        **SHELL,
        "lib/apk/db/triggers": f"{HEARER.row()['C']} /usr/bin /etc\n",
        "lib/apk/db/scripts.tar": _scripts(HEARER),
        "etc/seen/usr/bin": "1",
        "etc/seen/etc": "1",
        "etc/seen/usr/share": "1",
    }

    composition = upgrade(image(OLD, HEARER, more=below), [NEW], tmp_path)

    gone = {change.path for change in composition.changes.entries if change.entry is None}
    assert gone == {"etc/seen/usr/bin", "etc/seen/etc"}


def test_a_package_that_comes_in_new_touches_the_directories_that_it_has_files_in(tmp_path: Path) -> None:
    below = {
        **SHELL,
        "lib/apk/db/triggers": f"{HEARER.row()['C']} /usr/bin /usr/share\n",
        "lib/apk/db/scripts.tar": _scripts(HEARER),
        "etc/seen/usr/bin": "1",
        "etc/seen/usr/share": "1",
    }

    composition = upgrade(image(HEARER, more=below), [NEW], tmp_path)

    assert {change.path for change in composition.changes.entries if change.entry is None} == {"etc/seen/usr/bin"}


def test_directories_that_only_the_old_version_had_are_touched_too(tmp_path: Path) -> None:
    old = replace(OLD, files={**OLD.files, "usr/share/old/x": file("x")})
    below = {
        **SHELL,
        "lib/apk/db/triggers": f"{HEARER.row()['C']} /usr/share/old\n",
        "lib/apk/db/scripts.tar": _scripts(HEARER),
        "etc/seen/usr/share/old": "1",
    }

    composition = upgrade(image(old, HEARER, more=below), [NEW], tmp_path)

    assert content(composition, "etc/seen/usr/share/old") is None


def test_a_trigger_that_needs_execution_is_held_against_who_sets_it_off(tmp_path: Path) -> None:
    loud = replace(HEARER, scripts={"trigger": "#!/bin/sh\n/bin/tool\n"})
    below = {
        **SHELL,
        "bin/tool": "?",
        "lib/apk/db/triggers": f"{loud.row()['C']} /usr/bin\n",
        "lib/apk/db/scripts.tar": _scripts(loud),
    }

    (found,) = judge(image(OLD, loud, more=below), [NEW], tmp_path)

    assert (found.package, found.script) == (key("foo:x86_64"), "trigger of hearer")
    assert found.verdict is ScriptClass.NEEDS_EXECUTION


@pytest.mark.parametrize(
    ("pattern", "fresh", "expected"),
    [
        ("/usr/bin", False, ("/usr/bin",)),
        ("/usr/*", False, ("/usr/bin",)),
        ("/usr/*", True, ("/usr/bin", "/usr/lib")),
        ("+/usr/*", True, ("/usr/bin",)),
        ("/*", True, ("/usr",)),
        ("usr/bin", True, ()),
        ("/usr/bin/*", True, ()),
    ],
)
def test_patterns_of_triggers(pattern: str, fresh: bool, expected: tuple[str, ...]) -> None:
    interest = Interest(key("p:x86_64"), (pattern,), fresh)
    fired = list(find_fired([interest], ["", "usr", "usr/bin", "usr/lib"], frozenset({"usr/bin"})))

    assert [heard for _, heard in fired] == ([expected] if expected else [])


# -- small things --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "path", "protected"),
    [
        ([], "etc", True),
        ([], "etc/deep/er", True),
        ([], "usr", False),
        ([], "", False),
        (["-etc"], "etc/x", False),
        (["-etc", "etc"], "etc/x", True),
        (["-etc/x"], "etc/x/y", False),
        (["+/opt/*/"], "opt/a", True),
        (["+/opt/*/"], "opt", False),
        (["# opt", "", "@opt"], "opt", True),
        (["!srv/.h*"], "srv/.hidden", True),
        (["-etc/os-release"], "etc", True),
        (["+opt/[^a]"], "opt/a", False),
        (["+opt/[^a]"], "opt/b", True),
        (["+opt/[[:digit:]]*"], "opt/7x", True),
    ],
)
def test_protected_directories(lines: list[str], path: str, protected: bool) -> None:
    assert ProtectedPaths(lines).protects(path) is protected


def test_applets_are_read_out_of_a_binary_by_some_known_places() -> None:
    names = ["[", "[[", "ash", "cat", "chroot", "env", "ls", "wget", "zz"]
    places = [3, 3, 1, 1, 4, 3, 1, 3, 0]
    nibbles = [*places, 0]
    table = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    binary = b"\x11\x33" * 3 + b"ELF" + table + b"pad" + "\0".join(names).encode() + b"\0\0rest"
    known = {"ash": 1, "cat": 1, "chroot": 4, "env": 3, "ls": 1, "wget": 3}

    expected = ("usr/bin/[", "usr/bin/[[", "bin/ash", "bin/cat", "usr/sbin/chroot", "usr/bin/env", "bin/ls")
    assert read_applets(binary, known) == (*expected, "usr/bin/wget", "zz")
    assert read_applets(binary, {**known, "[": 1}) is None
    assert read_applets(b"no applets here", known) is None
    assert read_applets(binary, {}) is None


def _scripts(apk: Apk) -> bytes:
    from copacetic.apk.stanza import checksum_bytes
    from copacetic.apk.tools import ApkTools
    from copacetic.inventory.apk.scripts import ScriptRow, format_scripts

    identity = checksum_bytes(apk.row()["C"])
    assert identity is not None
    bodies = {name: text.encode() for name, text in apk.scripts.items()}
    row = ScriptRow(name=apk.name, version=apk.version, identity=identity, built=0, scripts=bodies)
    return format_scripts([row], ApkTools((2, 14, 4)), now=0)


def _with_mode(path: str, item: Member) -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(item.content), item.mode
        tar.addfile(info, io.BytesIO(item.content))
    return buffer.getvalue()


def _stacked(fs: ImageFilesystem, layer: bytes) -> ImageFilesystem:
    from copacetic.oci.layered import LayeredFilesystem
    from support.image.trees import indexed

    assert isinstance(fs, LayeredFilesystem)
    return fs.stacked_with(indexed(layer))
