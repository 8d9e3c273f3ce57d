# SPDX-License-Identifier: Apache-2.0
"""How a file of a result is another than its package says, rule by rule; where none speaks against it, nothing."""

from __future__ import annotations

from typing import Any

import pytest

from copacetic.oci.change import NamedEffect
from copacetic.oci.filesystem import Entry, FileType
from copacetic.pipeline.prove.claims import Claim, Comparison, is_same, new_rights, speaks_of
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.shipped import Explanation, ShippedPackage, ShippedPath
from copacetic.updates import PackageKey
from support.image.trees import tree
from support.value.replacing import replace

PATH = "usr/bin/ping"
CAPABLE = {"security.capability": b"\1"}
LABELLED = {"security.selinux": b"x", "trusted.overlay.opaque": b"y", "user.overlay.origin": b"z"}
AFTER = Accounts(tree({"etc/passwd": "root:x:0:0::/:/bin/sh\nping:x:7:7::/:/bin/sh\n", "etc/group": "ping:x:8:\n"}))
BEFORE = Accounts(tree({"etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/group": ""}))

OLD = Entry(type=FileType.FILE, mode=0o755, size=1, sha256="old")
NEW = Entry(type=FileType.FILE, mode=0o755, size=2, sha256="new")
LINK = Entry(type=FileType.SYMLINK, mode=0o777, target="iputils")
FOLDER = Entry(type=FileType.DIRECTORY, mode=0o755)
DEVICE = Entry(type=FileType.CHARACTER_DEVICE, mode=0o644, device=(1, 3))


def claim(entry: Entry, *, scripts: str = "", **more: Any) -> Claim:
    """That a package ships something just so, but for `more`."""
    values = {
        name: getattr(entry, name) for name in ("type", "mode", "uid", "gid", "target", "sha256", "device", "xattrs")
    }
    said = ShippedPath(path=PATH, **{**values, **more})
    return ShippedPackage(key=PackageKey("ping", "amd64"), label="ping 2", paths=(said,), scripts=scripts), said


def differs(
    made: Claim, entry: Entry, was: Entry | None = None, *, ran: bool = False, effect: NamedEffect | None = None
) -> str:
    effects = None if ran else ({PATH: effect} if effect is not None else {})
    comparison = Comparison(Explanation(packages={}, effects=effects), (AFTER, BEFORE))
    return comparison.differs(made, PATH, entry, was)


@pytest.mark.parametrize("ran", [True, False])
@pytest.mark.parametrize("was", [None, OLD, LINK])
@pytest.mark.parametrize("entry", [NEW, LINK, FOLDER, DEVICE, replace(NEW, xattrs=CAPABLE), replace(NEW, mode=0o6755)])
def test_what_is_as_the_package_says_is_right_whatever_was_there(entry: Entry, was: Entry | None, ran: bool) -> None:
    assert differs(claim(entry), entry, was, ran=ran) == ""


@pytest.mark.parametrize("ran", [True, False])
@pytest.mark.parametrize(
    ("said", "entry", "message"),
    [
        (NEW, LINK, "is a symlink instead of a file"),
        (LINK, replace(LINK, target="/tmp/evil"), "leads to /tmp/evil instead of iputils"),
        (DEVICE, replace(DEVICE, device=(1, 1)), "is another device"),
        (NEW, replace(NEW, sha256="evil"), "has another content than in the package"),
        (NEW, replace(NEW, mode=0o4755), "has the mode 4755 instead of 0755"),
        (NEW, replace(NEW, mode=0o1), "has the mode 0001 instead of 0755"),
        (NEW, replace(NEW, uid=5), "belongs to 5:0 instead of 0:0"),
        (NEW, replace(NEW, gid=5), "belongs to 0:5 instead of 0:0"),
        (LINK, replace(LINK, uid=5), "belongs to 5:0 instead of 0:0"),
        (NEW, replace(NEW, xattrs=CAPABLE), "has other extended attributes (security.capability)"),
        (replace(NEW, xattrs=CAPABLE), NEW, "has other extended attributes (security.capability)"),
        (
            replace(NEW, xattrs=CAPABLE),
            replace(NEW, xattrs={"user.a": b"1", "security.capability": b"\2"}),
            "has other extended attributes (security.capability, user.a)",
        ),
        (NEW, OLD, "has another content than in the package"),
    ],
)
def test_each_thing_that_a_package_says_of_a_file_counts(said: Entry, entry: Entry, message: str, ran: bool) -> None:
    assert differs(claim(said), entry, ran=ran) == message


def test_the_mode_of_a_link_is_no_mode() -> None:
    assert differs(claim(LINK), replace(LINK, mode=0o755)) == ""


def test_labels_that_a_machine_puts_on_files_are_nobody_s() -> None:
    assert differs(claim(NEW), replace(NEW, xattrs=LABELLED)) == ""
    assert differs(claim(replace(NEW, xattrs=CAPABLE)), replace(NEW, xattrs={**LABELLED, **CAPABLE})) == ""
    assert is_same(replace(NEW, xattrs=LABELLED), NEW)
    assert is_same(NEW, replace(NEW, xattrs=LABELLED))
    assert not is_same(replace(NEW, xattrs=CAPABLE), NEW)
    assert not is_same(replace(NEW, xattrs=LABELLED), OLD)


def test_an_owner_s_name_counts_as_the_result_has_it_or_as_the_image_had_it() -> None:
    named = claim(NEW, user="ping", group="ping", uid=3, gid=3)

    assert differs(named, replace(NEW, uid=7, gid=8)) == ""
    assert differs(named, replace(NEW, uid=3, gid=3)) == "", "the image didn't know the name"
    assert differs(named, replace(NEW, uid=0, gid=0)) == "belongs to 0:0 instead of 7:8"
    assert differs(named, replace(NEW, uid=7, gid=3)) == "belongs to 7:3 instead of 7:8"


# -- configuration -------------------------------------------------------------------------------------------


def test_configuration_that_is_in_the_image_stays_as_it_is() -> None:
    mine = replace(OLD, mode=0o600, uid=7)
    conffile, other = claim(NEW, is_configuration=True), claim(NEW)

    assert differs(conffile, mine, mine) == ""
    assert differs(conffile, LINK, LINK) == ""
    assert differs(other, mine, mine) == "has another content than in the package"
    assert differs(conffile, mine, OLD) == "has the mode 0600 instead of 0755"
    assert differs(conffile, mine, None) == "has another content than in the package"


def test_new_configuration_has_the_mode_and_owner_that_the_present_one_has() -> None:
    conffile = claim(NEW, is_configuration=True)
    entry = replace(NEW, mode=0o600, uid=7)

    assert differs(conffile, entry, replace(OLD, mode=0o600, uid=7)) == ""
    assert differs(conffile, entry, replace(OLD, mode=0o600)) == "has the mode 0600 instead of 0755"
    assert differs(conffile, entry, None) == "has the mode 0600 instead of 0755"
    assert differs(claim(NEW), entry, replace(OLD, mode=0o600, uid=7)) == "has the mode 0600 instead of 0755"


def test_a_script_that_was_run_may_write_configuration_and_nothing_else() -> None:
    written = replace(NEW, sha256="written")

    assert differs(claim(NEW, is_configuration=True), written, OLD, ran=True) == ""
    assert differs(claim(NEW), written, OLD, ran=True) == "has another content than in the package"
    assert differs(claim(NEW, is_configuration=True), written, OLD) == "has another content than in the package"
    assert differs(claim(NEW, is_configuration=True), replace(OLD, mode=0o4755), OLD) == (
        "has the mode 4755 instead of 0755"
    )


# -- what scripts do to their own package's files ------------------------------------------------------------

SETUID = replace(NEW, mode=0o4755)
SPEAKS = "chmod u+s /usr/bin/ping"


def test_what_an_effect_names_is_right_where_the_package_s_own_script_may_have_done_it() -> None:
    effect = NamedEffect("a script", SETUID)

    assert differs(claim(NEW, scripts=SPEAKS), SETUID, effect=effect) == ""
    assert differs(claim(NEW), SETUID, SETUID, effect=effect) == "", "the image has it so"
    assert differs(claim(NEW), SETUID, effect=effect) == "is setuid now, and no package ships it so"
    assert differs(claim(NEW), replace(NEW, mode=0o700), effect=NamedEffect("x", replace(NEW, mode=0o700))) == ""


def test_an_effect_that_is_something_else_explains_nothing() -> None:
    for effect in (NamedEffect("a script", replace(SETUID, uid=7)), NamedEffect("a script", None)):
        assert differs(claim(NEW, scripts=SPEAKS), SETUID, effect=effect) == "has the mode 4755 instead of 0755"


@pytest.mark.parametrize("change", [{"mode": 0o4755}, {"uid": 7}, {"gid": 7}, {"xattrs": CAPABLE}])
def test_attributes_that_were_not_packed_need_a_script_that_was_run_and_speaks_of_the_file(
    change: dict[str, Any],
) -> None:
    entry = replace(NEW, **change)

    assert differs(claim(NEW, scripts=SPEAKS), entry, OLD, ran=True) == ""
    assert differs(claim(NEW), entry, replace(OLD, **change), ran=True) == "", "the image has it so"
    assert differs(claim(NEW, scripts=SPEAKS), entry, OLD) != ""
    assert differs(claim(NEW, scripts="chmod u+s /bin/other"), entry, OLD, ran=True) != ""
    assert differs(claim(NEW), entry, LINK, ran=True) != ""
    assert differs(claim(NEW), entry, replace(FOLDER, **change), ran=True) != ""


def test_of_a_new_directory_a_script_need_not_speak_but_there_has_to_be_one() -> None:
    entry = replace(FOLDER, mode=0o700, uid=7)

    assert differs(claim(FOLDER, scripts="chown -R x $DIR"), entry, ran=True) == ""
    assert differs(claim(FOLDER), entry, ran=True) == "has the mode 0700 instead of 0755"


def test_a_script_that_gives_rights_is_remembered_and_one_that_takes_them_is_not() -> None:
    comparison = Comparison(Explanation(packages={}, effects=None), (AFTER, BEFORE))

    comparison.differs(claim(NEW, scripts=SPEAKS), PATH, SETUID, OLD)
    comparison.differs(claim(NEW, scripts=SPEAKS), "usr/sbin/ping", replace(NEW, mode=0o700), OLD)
    comparison.differs(claim(SETUID, scripts=SPEAKS), "bin/ping", SETUID, OLD)

    assert comparison.granted == {PATH: "ping"}


def test_a_script_that_speaks_of_one_name_of_a_file_speaks_of_all() -> None:
    comparison = Comparison(Explanation(packages={}, effects=None), (AFTER, BEFORE), names={"1": [PATH, "bin/ping4"]})
    entry = replace(NEW, mode=0o700, link_group="1")

    assert comparison.differs(claim(NEW, scripts=SPEAKS), "bin/ping4", entry, OLD) == ""
    assert comparison.differs(claim(NEW, scripts=SPEAKS), "bin/ping4", replace(entry, link_group=""), OLD) != ""


# -- rights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (replace(NEW, mode=0o4755), "is setuid now, and no package ships it so"),
        (replace(NEW, mode=0o2755), "is setgid now, and no package ships it so"),
        (replace(NEW, mode=0o2000), "is setgid now, and no package ships it so"),
        (replace(NEW, xattrs=CAPABLE), "has capabilities now, and no package ships it so"),
        (replace(NEW, mode=0o6755, xattrs=CAPABLE), "is setuid now, and no package ships it so"),
    ],
)
def test_rights_are_new_unless_a_file_of_the_image_has_the_same(entry: Entry, message: str) -> None:
    assert differs(None, entry) == new_rights(entry, None) == new_rights(entry, OLD) == message
    assert (
        new_rights(entry, FOLDER) == new_rights(entry, replace(FOLDER, mode=entry.mode, xattrs=entry.xattrs)) == message
    )
    assert differs(None, entry, entry) == new_rights(entry, entry) == ""


@pytest.mark.parametrize(
    ("entry", "was", "message"),
    [
        ({"mode": 0o4755, "uid": 0}, {"mode": 0o4755, "uid": 7}, "is setuid now"),
        ({"mode": 0o4755, "gid": 0}, {"mode": 0o4755, "gid": 7}, ""),
        ({"mode": 0o2755, "gid": 0}, {"mode": 0o2755, "gid": 7}, "is setgid now"),
        ({"mode": 0o2755, "uid": 0}, {"mode": 0o2755, "uid": 7}, ""),
        ({"mode": 0o6755}, {"mode": 0o4755}, "is setgid now"),
        ({"mode": 0o6755}, {"mode": 0o2755}, "is setuid now"),
        ({"xattrs": CAPABLE}, {"xattrs": {"security.capability": b"\2"}}, "has capabilities now"),
        ({"mode": 0o4755, "xattrs": CAPABLE}, {"mode": 0o4755}, "has capabilities now"),
        ({"mode": 0o1777}, {}, ""),
        ({"xattrs": {"user.note": b"1"}}, {}, ""),
    ],
)
def test_the_same_right_is_that_of_the_same_user_or_group(
    entry: dict[str, Any], was: dict[str, Any], message: str
) -> None:
    found = new_rights(replace(NEW, **entry), replace(OLD, **was))

    assert found.startswith(message)
    assert bool(found) == bool(message)


def test_directories_and_links_give_no_rights_and_devices_always_do() -> None:
    assert new_rights(replace(FOLDER, mode=0o2755), None) == ""
    assert new_rights(replace(LINK, mode=0o6777), None) == ""
    assert new_rights(DEVICE, DEVICE) == "is a character device that no package ships"
    assert new_rights(replace(DEVICE, type=FileType.BLOCK_DEVICE), None) == "is a block device that no package ships"


# -- what scripts speak of -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scripts", "is_named"),
    [
        ("setcap x /usr/bin/ping", True),
        ("cd /usr/bin; setcap x ping", True),
        ('"$DIR"/ping\n', True),
        ("I like ping.", True),
        ("ping.real", False),
        ("shipping", False),
        ("a-ping", False),
        ("a+ping", False),
        ("my.ping", False),
        ("ping6", False),
        ("ping-all", False),
        ("ping+", False),
        ("p1ng pong", False),
        ("", False),
    ],
)
def test_a_name_is_a_whole_word(scripts: str, is_named: bool) -> None:
    assert speaks_of(scripts, PATH) is is_named


def test_a_name_is_no_pattern() -> None:
    assert not speaks_of("/usr/bin/pxng", "usr/bin/p.ng")
    assert speaks_of("/usr/bin/g++", "usr/bin/g++")
