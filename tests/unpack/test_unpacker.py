# SPDX-License-Identifier: Apache-2.0
"""The unpacker as a whole: what it refuses, distroless images, and that it always does the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from copacetic.budget import Slots
from copacetic.errors import InventoryError, PackageError, UnsupportedImageError
from copacetic.inventory.dpkg import DpkgDatabase
from copacetic.oci.change import Change, Spooled
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.recording import RecordingFilesystem
from copacetic.unpack import open_unpacker
from copacetic.unpack.deb import DebUnpacker
from copacetic.unpack.deb.conffile import NEW, ConffileFate, parse_conffile_list, select_fate
from copacetic.updates import Candidate, ScriptClass
from support.deb.composed import EPOCH, compose, plan_debs, read_content
from support.deb.composed import open_unpacker as open_deb_unpacker
from support.deb.debs import Deb, Member, directory, file, hardlink, symlink
from support.image.trees import Content, tree
from support.value.databases import detect_database
from support.value.replacing import replace
from support.value.values import key
from unpack.dpkg_image import installed

FILES: Mapping[str, Member] = {"usr/bin/tool": file("1", 0o755), "usr/share/doc/demo": file("doc")}
OLD = Deb(version="1.0", files=FILES)


def changes_of(changes: tuple[Change, ...]) -> dict[str, bytes | None]:
    """Return the content of every file that changes, None for what goes."""
    return {
        change.path: read_content(change) if change.entry is not None else None
        for change in changes
        if change.entry is None or change.content is not None
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda candidate: replace(candidate, name="other"), "of Package 'demo' instead of 'other'"),
        (lambda candidate: replace(candidate, version="3.0"), r"of Version '2\.0' instead of '3\.0'"),
        (lambda candidate: replace(candidate, architecture="arm64"), "of Architecture 'all' instead of 'arm64'"),
    ],
)
def test_a_file_that_is_another_package_is_refused(
    change: Callable[[Candidate], Candidate], message: str, tmp_path: Path
) -> None:
    fs = tree(installed(OLD))
    (planned,) = plan_debs(fs, [Deb(version="2.0", files=FILES).write(tmp_path)])
    other = replace(planned, update=replace(planned.update, candidate=change(planned.update.candidate)))

    with pytest.raises(PackageError, match=message):
        open_deb_unpacker(fs).classify([other])


def test_a_package_is_planned_once(tmp_path: Path) -> None:
    fs = tree(installed(OLD))
    planned = plan_debs(fs, [Deb(version="2.0", files=FILES).write(tmp_path)])

    with pytest.raises(PackageError, match="demo:all is planned twice"):
        open_deb_unpacker(fs).classify([*planned, *planned])


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"conffiles": "etc/relative\n"}, "its conffiles file is broken"),
        ({"conffiles": "/etc/../passwd\n"}, "its conffiles file is broken"),
    ],
)
def test_broken_lists_are_refused(control: Mapping[str, str], message: str, tmp_path: Path) -> None:
    fs = tree(installed(OLD))
    deb = Deb(version="2.0", files=FILES, control=control).write(tmp_path)

    with pytest.raises(PackageError, match=f"demo 2.0: {message}"):
        compose(fs, [deb], tmp_path / "scratch")


def test_a_configuration_file_over_a_folder_is_refused(tmp_path: Path) -> None:
    fs = tree(installed(OLD, more={"etc/demo.conf/x": "a folder"}))
    deb = Deb(version="2.0", files={**FILES, "etc/demo.conf": file()}, conffiles=["/etc/demo.conf"]).write(tmp_path)

    with pytest.raises(PackageError, match=r"demo 2.0: etc/demo.conf is a directory"):
        compose(fs, [deb], tmp_path / "scratch")


def test_an_override_for_an_unknown_user_is_an_error(tmp_path: Path) -> None:
    fs = tree(installed(OLD, more={"var/lib/dpkg/statoverride": "nobody-knows root 755 /usr/bin/tool\n"}))
    deb = Deb(version="2.0", files={**FILES, "usr/bin/tool": file("2")}).write(tmp_path)

    with pytest.raises(InventoryError, match="nobody-knows"):
        compose(fs, [deb], tmp_path / "scratch")


def test_names_of_owners_are_the_images(tmp_path: Path) -> None:
    fs = tree(installed(OLD, more={"etc/passwd": "root:x:0:0\ndemo:x:77:5\n", "etc/group": "demo:x:78:\n"}))
    files = {
        "usr/bin/tool": file("2", uname="demo", gname="demo", uid=5, gid=5),
        "usr/bin/more": file("2", uname="unknown", gname="unknown", uid=5, gid=6),
    }

    entries = {
        c.path: c.entry
        for c in compose(fs, [Deb(version="2.0", files=files).write(tmp_path)], tmp_path / "s").changes.entries
    }

    tool, more = entries["usr/bin/tool"], entries["usr/bin/more"]
    assert tool is not None
    assert more is not None
    assert (tool.uid, tool.gid, more.uid, more.gid) == (77, 78, 5, 6)


def test_the_database_comes_last_and_is_roots(tmp_path: Path) -> None:
    script = {"postinst": "#!/bin/sh\n"}
    fs = tree(installed(replace(OLD, scripts=script)))
    deb = Deb(version="2.0", files={"usr/bin/tool": file("2", 0o755)}, scripts=script).write(tmp_path)

    entries = {c.path: c for c in compose(fs, [deb], tmp_path / "scratch").changes.entries}

    status = entries["var/lib/dpkg/status"]
    assert b"Version: 2.0\n" in read_content(status)
    assert status.entry is not None
    assert (status.entry.mode, status.entry.uid, status.entry.mtime) == (0o644, 0, EPOCH)
    assert read_content(entries["var/lib/dpkg/info/demo.list"]) == b"/.\n/usr\n/usr/bin\n/usr/bin/tool\n"
    postinst = entries["var/lib/dpkg/info/demo.postinst"].entry
    assert postinst is not None
    assert postinst.mode == 0o755


CONF = ["/etc/demo.conf"]
LINK = Entry(type=FileType.SYMLINK, mode=0o777, target="elsewhere")


@pytest.mark.parametrize(
    ("present", "after", "note"),
    [
        (
            "mine",
            Deb(files={**FILES, "etc/demo.conf": file("2")}, conffiles=CONF),
            "etc/demo.conf was changed in the image and stays so; the package's new version is etc/demo.conf.dpkg-dist",
        ),
        (
            None,
            Deb(files={**FILES, "etc/demo.conf": file("2")}, conffiles=CONF),
            (
                "etc/demo.conf was removed from the image and stays so; the package's new version is "
                "etc/demo.conf.dpkg-dist"
            ),
        ),
        (
            LINK,
            Deb(files={**FILES, "etc/demo.conf": file("2")}, conffiles=CONF),
            "etc/demo.conf is a link in the image and stays one; the new version is etc/demo.conf.dpkg-new",
        ),
        (
            "mine",
            Deb(files=FILES, conffiles=["remove-on-upgrade /etc/demo.conf"]),
            "etc/demo.conf is no longer used and was changed: it is etc/demo.conf.dpkg-old now",
        ),
        ("1", Deb(files={**FILES, "etc/demo.conf": file("2")}, conffiles=CONF), ""),
        ("1", Deb(files=FILES, conffiles=["remove-on-upgrade /etc/demo.conf"]), ""),
    ],
)
def test_what_a_user_wants_to_know_of_configuration_is_noted(
    tmp_path: Path, present: Content | None, after: Deb, note: str
) -> None:
    image = installed(Deb(version="1.0", files={**FILES, "etc/demo.conf": file("1")}, conffiles=CONF))
    del image["etc/demo.conf"]
    fs = tree(image, {"etc/demo.conf": present} if present is not None else {})

    composition = compose(fs, [replace(after, version="2.0").write(tmp_path)], tmp_path / "scratch")

    assert composition.notes == ((note,) if note else ())


def test_backups_of_configuration_go_and_come_in_a_name_that_says_so(tmp_path: Path) -> None:
    conf = {"etc/a": file("1"), "etc/b": file("1")}
    image = installed(Deb(version="1.0", files={**FILES, **conf}, conffiles=["/etc/a", "/etc/b"]))
    fs = tree(image, {"etc/a": "mine", "etc/a.dpkg-old": "older", "etc/b": "mine"})
    new = Deb(
        version="2.0", files={**FILES, "etc/a": file("2")}, conffiles=["/etc/a", "remove-on-upgrade /etc/b"]
    ).write(tmp_path)

    effects = compose(fs, [new], tmp_path / "scratch").changes.effects

    gone = "a configuration file that a package wants gone"
    assert {path: (effect.name, effect.entry is None) for path, effect in effects.items()} == {
        "etc/a.dpkg-old": ("a configuration file's backup", True),
        "etc/b": (gone, True),
        "etc/b.dpkg-old": (gone, False),
    }


@pytest.mark.parametrize(("size", "is_refused"), [(9, False), (10, False), (11, True)])
def test_a_configuration_file_has_a_size_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, is_refused: bool
) -> None:
    monkeypatch.setattr("copacetic.unpack.deb.install.MAX_CONFFILE", 10)
    deb = Deb(version="2.0", files={**FILES, "etc/demo.conf": file(size * "x")}, conffiles=CONF).write(tmp_path)
    fs = tree(installed(OLD))

    if is_refused:
        with pytest.raises(PackageError, match=r"demo 2\.0: etc/demo\.conf has 11 bytes, too many"):
            compose(fs, [deb], tmp_path / "scratch")
    else:
        assert "etc/demo.conf" in changes_of(compose(fs, [deb], tmp_path / "scratch").changes.entries)


def test_a_link_that_counts_as_configuration_is_put_as_any_other(tmp_path: Path) -> None:
    deb = Deb(version="2.0", files={**FILES, "etc/demo.conf": symlink("elsewhere")}, conffiles=CONF).write(tmp_path)

    changes = compose(tree(installed(OLD)), [deb], tmp_path / "scratch").changes

    assert next(c.entry.target for c in changes.entries if c.path == "etc/demo.conf" and c.entry) == "elsewhere"


def test_another_name_of_a_file_that_is_left_out_is_the_file(tmp_path: Path) -> None:
    fs = tree(installed(OLD, more={"etc/dpkg/dpkg.cfg.d/slim": "path-exclude=/usr/share/doc/*\n"}))
    files = {**FILES, "usr/bin/zz": hardlink("./usr/share/doc/demo")}

    changes = compose(fs, [Deb(version="2.0", files=files).write(tmp_path)], tmp_path / "scratch").changes

    assert changes_of(changes.entries)["usr/bin/zz"] == b"doc"


def test_only_files_have_a_size(tmp_path: Path) -> None:
    files = {**FILES, "usr/bin/tool": file("two", 0o755), "usr/more/deep": directory(), "usr/l": symlink("bin")}
    deb = Deb(version="2.0", files=files).write(tmp_path)

    changes = compose(tree(installed(OLD)), [deb], tmp_path / "scratch").changes

    sizes = {change.path: change.entry.size for change in changes.entries if change.entry is not None}
    assert (sizes["usr/bin/tool"], sizes["usr/more"], sizes["usr/more/deep"], sizes["usr/l"]) == (3, 0, 0, 0)


def test_composing_is_a_function_of_what_it_reads(tmp_path: Path) -> None:
    image = installed(OLD, Deb(name="other", files={"usr/share/other": file("x")}))
    deb = Deb(version="2.0", files={**FILES, "usr/bin/tool": file("2"), "usr/l": symlink("bin")}).write(tmp_path)

    one, other = (RecordingFilesystem(tree(files)) for files in (image, {**image, "srv/unrelated": "y"}))
    first = compose(one, [deb], tmp_path / "1").changes
    second = compose(other, [deb], tmp_path / "2").changes

    assert changes_of(first.entries) == changes_of(second.entries)
    assert [replace(c, content=None) for c in first.entries] == [replace(c, content=None) for c in second.entries]
    assert one.reads() == other.reads()
    assert {"usr/bin/tool", "usr/l"} <= one.reads()
    assert "srv/unrelated" not in other.reads()


def test_everything_is_read_through_the_given_filesystem(tmp_path: Path) -> None:
    fs = RecordingFilesystem(tree(installed(OLD)))
    deb = Deb(version="2.0", files={**FILES, "usr/new/file": file("2")}).write(tmp_path)

    compose(fs, [deb], tmp_path / "scratch")

    assert {"var/lib/dpkg/status", "var/lib/dpkg/info/demo.list", "usr/new"} <= fs.reads()


def test_what_stays_the_same_is_left_out_and_told(tmp_path: Path) -> None:
    fs = tree(installed(OLD))
    deb = Deb(version="2.0", files={**FILES, "usr/bin/tool": file("2", 0o755)}).write(tmp_path)

    changes = compose(fs, [deb], tmp_path / "scratch").changes

    assert "usr/share/doc/demo" not in {change.path for change in changes.entries}
    assert set(changes.unchanged) == {"usr/share/doc/demo", "var/lib/dpkg/info/demo.list"}


def test_what_a_package_ships_is_hashed_as_it_is_unpacked(tmp_path: Path) -> None:
    deb = Deb(version="2.0", files={**FILES, "usr/bin/tool": file("2", 0o755)}).write(tmp_path)

    changes = compose(tree(installed(OLD)), [deb], tmp_path / "scratch").changes

    contents = [*changes.unchanged.values(), *(change.content for change in changes.entries)]
    spooled = [content for content in contents if isinstance(content, Spooled)]
    assert len(spooled) >= 2
    for content in spooled:
        data = content.path.read_bytes()[content.offset : content.offset + content.size]
        assert content.digests == {name: hashlib.new(name, data).hexdigest() for name in ("sha256", "md5")}


def test_the_newest_package_gives_the_epoch(tmp_path: Path) -> None:
    fs = tree(installed(OLD))

    planned = plan_debs(fs, [Deb(version="2.0", files=FILES).write(tmp_path)])

    assert open_deb_unpacker(fs).newest_mtime(planned) == 1_700_000_000
    assert open_deb_unpacker(fs).newest_mtime([]) == 0


def test_the_registry_opens_it() -> None:
    fs = tree(installed(OLD))
    database = detect_database(fs)
    assert database is not None

    assert isinstance(open_unpacker(fs, database, Slots("test", 2)), DebUnpacker)


def test_another_database_is_refused() -> None:
    class Other:
        format = "apk"

    with pytest.raises(UnsupportedImageError, match="apk"):
        DebUnpacker.open(tree({}), Other(), Slots("test", 2))  # type: ignore[arg-type]


# -- distroless --------------------------------------------------------------------------------------------------

DISTROLESS = Deb(
    version="1.0",
    files={
        "usr/lib/libdemo.so.1.0": file("1"),
        "usr/lib/libdemo.so.1": symlink("libdemo.so.1.0"),
        "usr/share/doc/demo/copyright": file("free"),
        "etc/demo.conf": file("1"),
    },
    conffiles=["/etc/demo.conf"],
    scripts={"postinst": "#!/bin/sh\nsomething --odd\n"},
)


def upgrade_distroless(tmp_path: Path, *, conf: str = "1", **attributes: object) -> dict[str, bytes | None]:
    image = installed(DISTROLESS, regular=False)
    sums = image["var/lib/dpkg/status.d/demo.md5sums"]
    assert isinstance(sums, bytes)
    image["var/lib/dpkg/status.d/demo.md5sums"] = sums + f"{hashlib.md5(b'1').hexdigest()}  etc/demo.conf\n".encode()
    fs = tree(image, {"etc/demo.conf": conf})
    deb = replace(DISTROLESS, version="2.0", **attributes).write(tmp_path)
    return changes_of(compose(fs, [deb], tmp_path / "scratch").changes.entries)


NEW_FILES = {**DISTROLESS.files, "usr/lib/libdemo.so.1.0": file("2"), "etc/demo.conf": file("2")}


def test_a_distroless_package_is_replaced_with_its_record(tmp_path: Path) -> None:
    changes = upgrade_distroless(tmp_path, files=NEW_FILES)

    assert changes["usr/lib/libdemo.so.1.0"] == b"2"
    assert b"Version: 2.0\n" in (changes["var/lib/dpkg/status.d/demo"] or b"")
    assert b"libdemo.so.1.0" in (changes["var/lib/dpkg/status.d/demo.md5sums"] or b"")
    assert not any(path.startswith(("var/lib/dpkg/info", "var/lib/dpkg/status-")) for path in changes)
    assert "var/lib/dpkg/status" not in changes


def test_files_that_go_from_a_distroless_package_go(tmp_path: Path) -> None:
    files = {path: member for path, member in NEW_FILES.items() if "copyright" not in path}

    assert upgrade_distroless(tmp_path, files=files)["usr/share/doc/demo/copyright"] is None


def test_a_distroless_configuration_file_is_replaced_unless_it_was_changed(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()

    assert upgrade_distroless(tmp_path / "1", files=NEW_FILES)["etc/demo.conf"] == b"2"
    changed = upgrade_distroless(tmp_path / "2", conf="mine", files=NEW_FILES)
    assert not any(path.startswith("etc/demo.conf") for path in changed)


def test_nothing_is_put_beside_a_configuration_file_where_nobody_would_look_for_it(tmp_path: Path) -> None:
    image = installed(DISTROLESS, regular=False, more={"etc/new.conf": "mine", "etc/link.conf": LINK})
    files = {"etc/new.conf": file("1"), "etc/link.conf": file("1"), "usr/lib/new": file("1")}
    new = Deb(name="new", files=files, conffiles=["/etc/new.conf", "/etc/link.conf"]).write(tmp_path)

    composition = compose(tree(image), [new], tmp_path / "scratch")

    changed = {path for path in changes_of(composition.changes.entries) if not path.startswith("var/lib/dpkg")}
    assert changed == {"usr/lib/new"}
    assert sorted(composition.notes) == [
        "kept etc/link.conf, which is a link in the image",
        "kept etc/new.conf, which was changed in the image",
    ]


def test_scripts_of_distroless_packages_are_harmless(tmp_path: Path) -> None:
    fs = tree(installed(DISTROLESS, regular=False))
    planned = plan_debs(fs, [replace(DISTROLESS, version="2.0").write(tmp_path)])

    (verdict,) = open_deb_unpacker(fs).classify(planned)[key("demo:all")]

    assert verdict.verdict is ScriptClass.HARMLESS
    assert "keeps no maintainer scripts" in verdict.reason


def test_a_distroless_image_is_recognised() -> None:
    database = DpkgDatabase.detect(tree(installed(DISTROLESS, regular=False)))

    assert database is not None
    assert not database.regular


# -- configuration files -----------------------------------------------------------------------------------------

A, B, C = "a" * 32, "b" * 32, "c" * 32


@pytest.mark.parametrize(
    ("shipped", "present", "new", "fate"),
    [
        (A, A, A, ConffileFate.KEEP),
        (A, A, B, ConffileFate.INSTALL),
        (A, C, A, ConffileFate.KEEP),
        (A, C, B, ConffileFate.OFFER),
        (A, B, B, ConffileFate.KEEP),
        (A, None, A, ConffileFate.KEEP),
        (A, None, B, ConffileFate.OFFER),
        (NEW, None, B, ConffileFate.INSTALL),
        (NEW, B, B, ConffileFate.KEEP),
        (NEW, C, B, ConffileFate.OFFER),
    ],
)
def test_the_fate_of_a_configuration_file(shipped: str, present: str | None, new: str, fate: ConffileFate) -> None:
    assert select_fate(shipped=shipped, present=present, new=new) is fate


def test_the_list_of_configuration_files() -> None:
    assert parse_conffile_list("/etc/a\n\n/etc//b \nremove-on-upgrade /etc/c d\n") == {
        "etc/a": False,
        "etc/b": False,
        "etc/c d": True,
    }
