# SPDX-License-Identifier: Apache-2.0
"""Which scripts can be left out, and which can't: one line of a postinst for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.errors import NeedsExecutionError
from copacetic.oci.filesystem import FileType
from copacetic.updates import ScriptClass, ScriptVerdict
from support.deb.composed import Composed, compose, open_unpacker, plan_debs
from support.deb.debs import MTIME, Deb, Member, file, symlink
from support.image.trees import Content, tree
from support.value.values import key
from unpack.dpkg_image import installed

HARMLESS, REPRODUCED, NEEDS = ScriptClass.HARMLESS, ScriptClass.REPRODUCED, ScriptClass.NEEDS_EXECUTION

FILES = {"usr/bin/tool": file("1", 0o755), "usr/share/same": file("same"), "usr/lib/tool/data": file("1")}
NEW_FILES = {**FILES, "usr/bin/tool": file("2", 0o755), "usr/lib/tool/data": file("2")}
CONF = {"etc/tool.conf": file("1")}
IMAGE: Mapping[str, Content] = {
    **{
        f"usr/bin/{name}": ""
        for name in (
            *("awk", "chgrp", "chmod", "chown", "cp", "deb-systemd-helper", "dpkg", "dpkg-divert", "find", "ln"),
            *("mkdir", "other", "perl", "py3compile", "rm", "sed", "setcap", "update-rc.d", "which", "xargs"),
        )
    },
    "usr/sbin/adduser": "",
    "usr/bin/glib-compile-schemas": "",
    "usr/bin/fc-cache": "",
    "usr/sbin/update-icon-caches": "",
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nold:x:100:100::/:/bin/sh\n",
    "etc/group": "root:x:0:\nold:x:100:\n",
    "etc/default/tool": "FROM_FILE=yes\n",
    "var/lib/there": "",
}


def script(body: str) -> str:
    return f"#!/bin/sh\nset -e\n{body}\nexit 0\n"


def classify(
    old: str | None,
    new: str | None,
    *,
    name: str = "postinst",
    files: Mapping[str, Member] = NEW_FILES,
    fresh: bool = False,
    conf: str = "1",
    more: Mapping[str, Content] = IMAGE,
) -> ScriptVerdict:
    """Return the verdict on one script of an upgrade from 1.0 to 2.0."""
    before = Deb(
        version="1.0",
        files={**FILES, **CONF},
        conffiles=["/etc/tool.conf"],
        scripts={name: old} if old is not None else {},
    )
    after = Deb(
        version="2.0",
        files={**files, "etc/tool.conf": file(conf)},
        conffiles=["/etc/tool.conf"],
        scripts={name: new} if new is not None else {},
    )
    base = Deb(name="base", files={"usr/share/base": file()})
    fs = tree(installed(*((base,) if fresh else (base, before)), more=more))
    deb = write(after)
    verdicts = open_unpacker(fs).classify(plan_debs(fs, [deb]))[key("demo:all")]
    return next(verdict for verdict in verdicts if verdict.script == name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    _FOLDER[:] = [tmp_path]


_FOLDER: list[Path] = []


def write(deb: Deb) -> Path:
    return deb.write(_FOLDER[0])


REPEATED = [
    # what has run before has done to the system what it does
    ("other --setup", HARMLESS),
    ("adduser --system new", HARMLESS),
    ("rm -rf /var/cache/tool", HARMLESS),
    ("echo x > /etc/generated", HARMLESS),
    ("$UNKNOWN_PROGRAM", HARMLESS),
    (". /usr/share/debconf/confmodule; db_get tool/question; echo $RET", HARMLESS),
    ("deb-systemd-helper enable tool.service; update-rc.d tool defaults; invoke-rc.d tool restart", HARMLESS),
    ("other /usr/share/same", HARMLESS),
    ("chmod 0755 /var/lib/tool", HARMLESS),
    ("cp /usr/share/same /etc/generated", HARMLESS),
    ("ucf /usr/share/same /etc/generated", HARMLESS),
    # but what depends on the package's files is another matter
    ("tool --setup", NEEDS),
    ("/usr/bin/tool --setup", NEEDS),
    ("other /usr/lib/tool/data", NEEDS),
    ("cp /usr/lib/tool/data /etc/generated", NEEDS),
    ("ucf /usr/lib/tool/data /etc/generated", NEEDS),
    (". /usr/lib/tool/data", NEEDS),
    ("sed -i s/a/b/ /usr/share/same", NEEDS),
    ("echo x > /usr/share/same", NEEDS),
    ("ln -sf x /usr/share/same", NEEDS),
    ("rm /usr/bin/tool", NEEDS),
    ("chown root:old /usr/bin/tool; chmod 2755 /usr/bin/tool", REPRODUCED),
    ("setcap cap_net_raw+ep $(readlink /usr/bin/tool)", REPRODUCED),
    ("update-ca-certificates", REPRODUCED),
    ("ldconfig", REPRODUCED),
    ("if which py3compile >/dev/null 2>&1; then py3compile -p demo; fi", REPRODUCED),
    ("py3clean -p demo", REPRODUCED),
    ("/usr/bin/python3.11 -E /usr/lib/python3.11/py_compile.py x.py", REPRODUCED),
    ("/usr/lib/jvm/x/bin/java -server -Xshare:dump", HARMLESS),
    ("glib-compile-schemas /usr/share/glib-2.0/schemas", HARMLESS),
    ("fc-cache -f", HARMLESS),
    ("update-initramfs -u", HARMLESS),
]


@pytest.mark.parametrize(("line", "expected"), REPEATED)
def test_a_script_that_has_run_before(line: str, expected: ScriptClass) -> None:
    verdict = classify(script(line), script(line))

    assert verdict.verdict is expected, verdict
    assert verdict.reason


def test_a_script_is_the_same_whatever_its_comments_and_layout() -> None:
    old = script("# Automatically added by dh_x/12.9\nother   --setup\n# End automatically added section")
    new = script("\n# Automatically added by dh_x/13.3.4\n\tother --setup # why\n")

    assert classify(old, new).verdict is HARMLESS


def test_a_script_is_the_same_when_it_reaches_the_same() -> None:
    old = script('if dpkg --compare-versions "$2" lt 0.5; then unheard-of; fi\nother "1.0"')
    new = script('if dpkg --compare-versions "$2" lt 0.6; then another; else :; fi\nother "2.0"')

    assert classify(old, new).verdict is HARMLESS


def test_a_guard_that_opens_makes_another_script_of_it() -> None:
    line = 'if dpkg --compare-versions "$2" lt-nl {}; then other --migrate; fi'
    verdict = classify(script(line.format("1.0")), script(line.format("2.0")))

    assert verdict.verdict is NEEDS
    assert "line 3" in verdict.reason
    assert "other --migrate" in verdict.reason


FIRST_TIME = [
    ("echo hello; test -f /etc/x || true; grep -q x /etc/y; [ -n \"$2\" ]", HARMLESS),
    ("if [ -d /run/systemd/system ]; then systemctl --system daemon-reload; fi", HARMLESS),
    ("deb-systemd-invoke restart tool.service; invoke-rc.d tool restart", HARMLESS),
    ("if command -v absent >/dev/null; then absent --run; fi", HARMLESS),
    ("absent --run", HARMLESS),
    ("other --run", NEEDS),
    ("tool --run", NEEDS),
    ("case \"$1\" in abort*) other;; configure) ;; esac", HARMLESS),
    ("case \"$1\" in configure) other;; esac", NEEDS),
    ("if dpkg --compare-versions \"$2\" lt-nl 0.9; then other; fi", HARMLESS),
    ("dpkg-maintscript-helper rm_conffile /etc/old 0.9~ demo -- \"$@\"", HARMLESS),
    ("dpkg-maintscript-helper rm_conffile /etc/absent 1.5~ demo -- \"$@\"", HARMLESS),
    ("dpkg-maintscript-helper rm_conffile /etc/passwd 1.5~ demo -- \"$@\"", NEEDS),
    ("dpkg-maintscript-helper dir_to_symlink /usr/share/doc/x y 1.5 -- \"$@\"", HARMLESS),
    ("dpkg-maintscript-helper dir_to_symlink /usr/bin y 1.5 -- \"$@\"", NEEDS),
    ("dpkg-maintscript-helper symlink_to_dir /usr/bin y 1.5 -- \"$@\"", HARMLESS),
    ("rm -f /var/lib/absent", HARMLESS),
    ("rm -f /var/lib/there", REPRODUCED),
    ("if other; then rm -f /var/lib/there; fi", NEEDS),
    ("mkdir -p /usr/bin", HARMLESS),
    ("mkdir -p /var/lib/tool", NEEDS),
    ("ln -sf x /usr/lib/y", NEEDS),
    ("echo x > /etc/y", NEEDS),
    ("echo x > /run/y; echo y >/dev/null 2>&1", HARMLESS),
    ("chmod 755 /usr/share/same", NEEDS),
    ("sed -i s/a/b/ /etc/passwd", NEEDS),
    ("sed -Ei s/a/b/ /etc/passwd", NEEDS),
    ("sed s/a/b/ /etc/passwd", HARMLESS),
    ("find /usr -name x -delete", NEEDS),
    ("find /usr -name x | xargs rm -f", NEEDS),
    ("find /usr -name x | xargs grep y", HARMLESS),
    ("awk '{ system(\"x\") }' /etc/passwd", NEEDS),
    ("perl -e 'unlink'", NEEDS),
    ("eval other", NEEDS),
    (". /etc/default/tool; [ \"$FROM_FILE\" = yes ] || other", HARMLESS),
    (". /etc/absent", NEEDS),
    ("adduser --system old", HARMLESS),
    ("adduser --system --no-create-home new", REPRODUCED),
    ("adduser new", NEEDS),
    ("if ! getent passwd old >/dev/null; then other; fi", HARMLESS),
    ("id -u new || other", NEEDS),
    ("update-rc.d tool defaults", NEEDS),
    ("deb-systemd-helper enable tool.service", NEEDS),
    ("update-alternatives --install /usr/bin/vi vi /usr/bin/tool 5", REPRODUCED),
    ("if other; then :; fi", NEEDS),
    ("ucf /usr/share/same /etc/x", NEEDS),
    ("dpkg-divert --list", HARMLESS),
    ("dpkg-divert --add /usr/bin/other", NEEDS),
    ("dpkg --configure -a", NEEDS),
    ("trap 'other' EXIT", NEEDS),
    ("( other )", NEEDS),
    ("echo $(other)", NEEDS),
    ("env X=1 nice other", NEEDS),
    ("/usr/lib/jvm/x/bin/java -version", HARMLESS),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), FIRST_TIME)
def test_a_script_that_is_new(line: str, expected: ScriptClass) -> None:
    verdict = classify(script(":"), script(line))

    assert verdict.verdict is expected, verdict


@pytest.mark.parametrize(
    ("line", "expected"), [("other", NEEDS), ("echo hello", HARMLESS), ("adduser --system new", REPRODUCED)]
)
def test_the_script_of_a_new_package(line: str, expected: ScriptClass) -> None:
    verdict = classify(None, script(line), fresh=True)

    assert verdict.verdict is expected, verdict


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("glib-compile-schemas /x", {"usr/share/glib-2.0/schemas/a.xml": file("new")}, NEEDS),
        ("update-icon-caches /x", {"usr/share/icons/hicolor/a.png": file("new")}, NEEDS),
        ("fc-cache", {"usr/share/fonts/a.ttf": file("new")}, HARMLESS),
    ],
)
def test_what_is_derived_from_files_matters_when_they_change(
    line: str, files: Mapping[str, Member], expected: ScriptClass
) -> None:
    verdict = classify(script(line), script(line), files={**NEW_FILES, **files})

    assert verdict.verdict is expected, verdict
    if expected is NEEDS:
        assert min(files) in verdict.reason


def test_a_configuration_file_that_changes_is_seen_in_the_payload() -> None:
    line = script(". /etc/tool.conf")

    assert classify(line, line).verdict is HARMLESS
    assert classify(line, line, conf="2").verdict is NEEDS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/usr/bin/perl\nprint 1;\n", "not a shell script"),
        ("\x7fELF\x02", "not a shell script"),
        ("#!/bin/sh\nif true; then\n", "expected fi"),
        ("#!/bin/sh\n" + ":" * 2_000_000, "too long"),
        ("#!/bin/sh\nf() { f; }; f\n", "too deeply"),
    ],
)
def test_what_can_not_be_read_is_not_trusted_though_it_has_run_with_other_arguments(text: str, reason: str) -> None:
    for old in (text, script(":")):
        verdict = classify(old, text)
        assert verdict.verdict is NEEDS
        assert reason in verdict.reason


def test_the_old_packages_prerm_and_postrm_are_judged() -> None:
    assert classify(script("other"), None, name="prerm").verdict is NEEDS
    assert classify(script("other"), script("other"), name="prerm").verdict is NEEDS
    assert classify(script('[ "$1" != remove ] || other'), None, name="postrm").verdict is HARMLESS
    assert classify(None, script("other"), name="postrm").reason == "not run by this upgrade"


NEVER_RAN = [
    ("postinst", '[ -z "$2" ] || other', NEEDS),
    ("postinst", 'if [ -n "$2" ]; then echo migrated > /opt/x; fi', NEEDS),
    ("postinst", 'if [ -z "$2" ]; then echo new > /opt/x; else rm -f /var/lib/there; fi', REPRODUCED),
    ("postinst", 'case "$1" in configure) other "$2";; esac', NEEDS),
    ("preinst", 'case "$1" in upgrade) rm -rf /var/lib/there;; esac', REPRODUCED),
    ("preinst", 'case "$1" in upgrade) other;; esac', NEEDS),
    ("preinst", 'case "$1" in install) other;; esac', HARMLESS),
    ("preinst", "other", HARMLESS),
    ("prerm", 'if [ "$1" = upgrade ]; then echo "$2" > /opt/x; fi', NEEDS),
    ("prerm", 'case "$1" in upgrade|remove) other --unregister;; esac', NEEDS),
    ("prerm", 'case "$1" in remove) other --unregister;; esac', HARMLESS),
    ("postrm", "rm -rf /var/lib/there", REPRODUCED),
    ("postrm", "rm -f /usr/bin/tool", NEEDS),
    ("postrm", "if other; then rm -rf /var/lib/there; fi", NEEDS),
    ("prerm", "py3clean -p demo", REPRODUCED),
    ("prerm", "deb-systemd-invoke stop tool.service; invoke-rc.d tool stop", HARMLESS),
]


@pytest.mark.parametrize(("name", "line", "expected"), NEVER_RAN)
def test_the_same_text_is_no_run(name: str, line: str, expected: ScriptClass) -> None:
    verdict = classify(script(line), script(line), name=name)

    assert verdict.verdict is expected, verdict


def test_every_script_gets_a_verdict(tmp_path: Path) -> None:
    scripts = {name: script(":") for name in ("config", "preinst", "postinst", "prerm", "postrm")}
    fs = tree(installed(Deb(version="1.0", files=FILES, scripts=scripts)))
    deb = Deb(version="2.0", files=FILES, scripts=scripts).write(tmp_path)

    verdicts = open_unpacker(fs).classify(plan_debs(fs, [deb]))

    assert [v.script for v in verdicts[key("demo:all")]] == ["prerm", "preinst", "postrm", "config", "postinst"]
    assert all(v.package == key("demo:all") and v.reason for v in verdicts[key("demo:all")])


CONFMODULE = ". /usr/share/debconf/confmodule\n"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("db_input low demo/question || true; db_go", HARMLESS),
        ("db_input high demo/question || true; db_go", HARMLESS),
        ("db_set demo/question yes", NEEDS),
    ],
)
def test_a_config_script_that_gives_other_answers_makes_another_postinst(
    config: str, expected: ScriptClass, tmp_path: Path
) -> None:
    postinst = script(f"{CONFMODULE}db_get demo/question; other $RET")
    asks = script(f"{CONFMODULE}db_input low demo/question || true; db_go")
    before = Deb(version="1.0", files=FILES, scripts={"config": asks, "postinst": postinst})
    after = Deb(version="2.0", files=FILES, scripts={"config": script(CONFMODULE + config), "postinst": postinst})
    fs = tree(installed(before, more=IMAGE))

    verdicts = open_unpacker(fs).classify(plan_debs(fs, [after.write(tmp_path)]))[key("demo:all")]

    assert {verdict.script: verdict.verdict for verdict in verdicts} == {"config": HARMLESS, "postinst": expected}


def test_without_scripts_there_are_no_verdicts(tmp_path: Path) -> None:
    fs = tree(installed(Deb(version="1.0", files=FILES)))

    assert open_unpacker(fs).classify(plan_debs(fs, [Deb(version="2.0", files=FILES).write(tmp_path)])) == {
        key("demo:all"): ()
    }


def test_composing_refuses_what_needs_execution(tmp_path: Path) -> None:
    fs = tree(installed(Deb(version="1.0", files=FILES), more=IMAGE))
    deb = Deb(version="2.0", files=FILES, scripts={"postinst": script("other --run")}).write(tmp_path)

    with pytest.raises(NeedsExecutionError, match=r"demo:all: postinst would have to be run: line 3, 'other --run'"):
        compose(fs, [deb], tmp_path / "scratch")


def test_attributes_that_the_same_script_gave_are_kept(tmp_path: Path) -> None:
    line = script("chown root:old /usr/bin/tool; chmod 2755 /usr/bin/tool")
    fs = tree(installed(Deb(version="1.0", files=FILES, scripts={"postinst": line}), more=IMAGE))
    deb = Deb(version="2.0", files=NEW_FILES, scripts={"postinst": line}).write(tmp_path)

    changes = {change.path: change for change in compose(fs, [deb], tmp_path / "scratch").changes.entries}

    below = fs.lookup("usr/bin/tool")
    entry = changes["usr/bin/tool"].entry
    assert below is not None
    assert entry is not None
    assert (entry.mode, entry.uid, entry.gid) == (below.mode, below.uid, below.gid)
    assert entry.sha256 != below.sha256


def test_byte_code_of_what_changes_goes(tmp_path: Path) -> None:
    lib = "usr/lib/python3/dist-packages/demo"
    files = {f"{lib}/{name}.py": file(name) for name in ("same", "changes", "gone")}
    cache = {f"{lib}/__pycache__/{name}.cpython-311.pyc": "code" for name in ("same", "changes", "gone", "gone_too")}
    fs = tree(installed(Deb(version="1.0", files=files), more=cache))
    new = {f"{lib}/same.py": file("same"), f"{lib}/changes.py": file("other")}

    composed = compose(fs, [Deb(version="2.0", files=new).write(tmp_path)], tmp_path / "scratch")

    removed = {change.path.removeprefix(f"{lib}/") for change in composed.changes.entries if change.entry is None}
    assert removed == {"gone.py", "__pycache__/gone.cpython-311.pyc", "__pycache__/changes.cpython-311.pyc"}


def test_byte_code_that_a_package_ships_stays_with_the_source_of_its_time(tmp_path: Path) -> None:
    lib, code = "usr/lib/demo", "usr/lib/demo/__pycache__/{}.cpython-311.pyc"
    before = {f"{lib}/{name}.py": file(name) for name in ("same", "changes", "gone")}
    before |= {code.format(name): file("old") for name in ("same", "changes", "gone")}
    after = {f"{lib}/{name}.py": file(name, mtime=MTIME + 9) for name in ("same", "changes")}
    after |= {f"{lib}/changes.py": file("other"), f"{lib}/changes.pyo": file("new")}
    after |= {code.format(name): file("new") for name in ("same", "changes")}
    fs = tree(installed(Deb(version="1.0", files=before), more={f"{lib}/changes.pyc": "of nobody"}))

    composed = compose(fs, [Deb(version="2.0", files=after).write(tmp_path)], tmp_path / "scratch")

    changes = {change.path: change.entry for change in composed.changes.entries if change.path.startswith(f"{lib}/")}
    assert {path for path, entry in changes.items() if entry is None} == {
        f"{lib}/gone.py", code.format("gone"), f"{lib}/changes.pyc"
    }  # fmt: skip
    assert {path for path, entry in changes.items() if entry is not None and entry.type is FileType.FILE} == {*after}
    same = changes[f"{lib}/same.py"]
    assert same is not None
    assert same.mtime == MTIME + 9


def test_a_folder_goes_with_its_byte_code(tmp_path: Path) -> None:
    lib = "usr/lib/python3/dist-packages/demo"
    before = Deb(version="1.0", files={f"{lib}/a.py": file("a"), "usr/share/keep": file()})
    fs = tree(installed(before, more={f"{lib}/__pycache__/a.cpython-311.pyc": "code"}))

    deb = Deb(version="2.0", files={"usr/share/keep": file()}).write(tmp_path)
    composed = compose(fs, [deb], tmp_path / "scratch")

    assert [c.path for c in composed.changes.entries if c.entry is None] == ["usr/lib"]


TRIGGERED = {
    "interested": script('if [ "$1" = triggered ]; then {}; fi'),
}


def trigger(action: str, *, new: Mapping[str, Member], activate: str = "") -> list[ScriptVerdict]:
    """Upgrade a package while another one is interested in `usr/share/watched` and in the name `news`."""
    watcher = Deb(
        name="watcher",
        files={"usr/share/watcher": file()},
        control={"triggers": "interest-noawait /usr/share/watched\ninterest-noawait news\n"},
        scripts={"postinst": TRIGGERED["interested"].format(action)},
    )
    before = Deb(version="1.0", files={"usr/share/watched/a": file("1"), "usr/share/b": file("1")})
    fs = tree(installed(before, watcher, more=IMAGE))
    control = {"triggers": f"activate-noawait {activate}\n"} if activate else {}
    deb = write(Deb(version="2.0", files=new, control=control))
    return list(open_unpacker(fs).classify(plan_debs(fs, [deb]))[key("demo:all")])


CHANGED = {"usr/share/watched/a": file("2"), "usr/share/b": file("1")}
SAME = {"usr/share/watched/a": file("1"), "usr/share/b": file("2")}


def test_a_trigger_on_files_that_change_is_judged() -> None:
    (verdict,) = trigger("other", new=CHANGED)

    assert verdict.script == "trigger /usr/share/watched"
    assert verdict.verdict is NEEDS
    assert "other" in verdict.reason


def test_a_trigger_on_files_that_stay_is_harmless() -> None:
    (verdict,) = trigger("other", new=SAME)

    assert verdict.verdict is HARMLESS
    assert verdict.reason == "nothing below /usr/share/watched is different afterwards"


def test_a_trigger_on_files_that_come_or_go_is_judged() -> None:
    assert trigger("other", new={"usr/share/b": file("1")})[0].verdict is NEEDS
    assert trigger("other", new={**SAME, "usr/share/watched/c": file()})[0].verdict is NEEDS


def test_a_named_trigger_is_judged() -> None:
    assert trigger("other", new={"usr/share/b": file("1")}, activate="unheard-of")[0].script != "trigger unheard-of"
    verdicts = {v.script: v for v in trigger("ldconfig", new=SAME, activate="news")}

    assert verdicts["trigger news"].verdict is REPRODUCED
    assert verdicts["trigger /usr/share/watched"].verdict is HARMLESS


def test_a_trigger_that_only_speaks_to_services_is_harmless() -> None:
    assert trigger("invoke-rc.d watcher reload", new=CHANGED)[0].verdict is HARMLESS


def test_a_link_among_the_files_is_no_trouble(tmp_path: Path) -> None:
    fs = tree(installed(Deb(version="1.0", files={**FILES, "usr/share/l": symlink("same")})))
    deb = Deb(version="2.0", files={**FILES, "usr/share/l": symlink("other")}).write(tmp_path)

    changes = {c.path: c for c in compose(fs, [deb], tmp_path / "scratch").changes.entries}

    entry = changes["usr/share/l"].entry
    assert entry is not None
    assert entry.target == "other"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chmod $(stat -L -c %a /var/lib) /usr/share/fonts", HARMLESS),
        ("chmod $(stat -L -c %a /var/lib/there) /usr/share/fonts", NEEDS),
        ("for f in /var/lib/none*; do [ -e $f ] || continue; other; done", HARMLESS),
        ("for f in /var/lib/the*; do [ -e $f ] || continue; other; done", NEEDS),
        ("cd /var/lib; for f in *; do case \"$f\" in there | dpkg) continue;; esac; mv $f other/$f; done", HARMLESS),
        ("cd /var/lib; for f in *; do case \"$f\" in dpkg) continue;; esac; other $f; done", NEEDS),
        ("cd /var/lib; touch more; for f in *; do case \"$f\" in there | dpkg) continue;; esac; other; done", NEEDS),
        ("cd /var/lib/dpkg; for f in lock*; do case \"$f\" in lock-frontend) continue;; esac; other; done", NEEDS),
        ("chown $(stat -L -c %u:%g /var/lib) /usr/share/fonts", NEEDS),
        ("chown $(stat -c %u /var/lib):$(stat -c %g /var/lib) /usr/share/fonts", HARMLESS),
        ("chown 1:0 /usr/share/fonts", NEEDS),
        ("chown 0:0 /usr/bin/stat", HARMLESS),
        ("chown 0:0 /usr/bin/ping", NEEDS),
        ("if dpkg -l none 2>/dev/null | grep -q ^i; then other; fi", HARMLESS),
        ("if dpkg -l base 2>/dev/null | grep -q ^i; then other; fi", NEEDS),
        ("if dpkg -l none 2>/dev/null | grep -q none; then other; fi", NEEDS),
        ("if dpkg -l demo 2>/dev/null | grep -q ^i; then other; fi", NEEDS),
        ("[ \"$(cat /usr/share/known)\" = 42 ] || other", HARMLESS),
        ("[ \"$(cat /usr/share/known)\" = 43 ] || other", NEEDS),
        ("[ \"$(cat /usr/share/known /etc/passwd)\" = 42 ] || other", NEEDS),
        ("[ -z \"$(cat /usr/share/none)\" ] || other", NEEDS),
        ("echo 7 > /tmp/x; [ \"$(cat /tmp/x)\" = 7 ] || other", NEEDS),
        ("cmp -s /etc/passwd /etc/passwd || other", HARMLESS),
        ("cmp -s /etc/passwd /etc/group || other", NEEDS),
        ("t=$(mktemp); other() { :; }; id > $t; rm -f $t", HARMLESS),
        ("[ -n \"$(dpkg-divert --listpackage /bin/sh)\" ] && other", HARMLESS),
        ("dpkg-divert --package demo --rename --remove /usr/bin/x", HARMLESS),
        ("rmdir /var/lib; rmdir -p /usr/none", HARMLESS),
        ("rm -f /var/lib/there; rmdir -p --ignore-fail-on-non-empty /var/lib", REPRODUCED),
    ],
)  # fmt: skip
def test_what_the_tree_answers(line: str, expected: ScriptClass) -> None:
    verdict = classify(
        None,
        script(line),
        fresh=True,
        more={
            **IMAGE,
            "usr/share/fonts/x": "",
            "usr/share/known": "42\n",
            "usr/bin/cat": "",
            "usr/bin/stat": "",
            "usr/bin/mktemp": "",
        },
    )

    assert verdict.verdict is expected, verdict


@pytest.mark.parametrize("locale", ["", "LC_ALL=C.UTF8 "])
def test_python_s_own_way_to_remove_byte_code_is_known(locale: str) -> None:
    text = script(
        "max=$(LANG=C LC_ALL=C xargs --show-limits < /dev/null 2>&1 | awk '/Maximum length/ {print int($NF / 4)}')\n"
        f"    {locale}dpkg -L $pkg \\\n\t| awk -F/ 'BEGIN {{OFS=\"/\"}} /\\.py$/ {{print}}' \\\n"
        '\t| xargs --max-chars="$max" echo \\\n\t| while read files; do rm -f $files; done\n'
        "    find /usr/lib/python3 /usr/lib/python3.13 \\\n\t\\( -name dist-packages -prune \\) -o \\\n"
        "\t\\( -name __pycache__ -type d -empty -print \\) \\\n\t| xargs -r rm -rf\n"
    )

    assert classify(text, text, name="prerm").verdict is REPRODUCED


def test_a_cache_that_one_script_removes_and_another_makes_again_stays(tmp_path: Path) -> None:
    cache = "usr/lib/x/gdk-pixbuf-2.0/2.10.0/loaders.cache"
    query = "/usr/lib/x/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders"
    scripts = {
        "postinst": script(f"{query} > /{cache} || true"),
        "postrm": script(
            f"if [ -d /{cache[:-14]} ]; then rm -f /{cache}; rmdir -p --ignore-fail-on-non-empty /{cache[:-14]}; fi"
        ),
    }
    before = Deb(version="1.0", files={**FILES, query[1:]: file("1", 0o755)}, scripts=scripts)
    fs = tree(installed(before, more={**IMAGE, cache: "made"}))
    deb = Deb(version="2.0", files={**NEW_FILES, query[1:]: file("2", 0o755)}, scripts=scripts).write(tmp_path)

    composed = compose(fs, [deb], tmp_path / "scratch")

    assert not [change.path for change in composed.changes.entries if change.entry is None]


REMAKES = "update-alternatives --install"


def alternatives(tmp_path: Path, postinst: str) -> Composed:
    """Upgrade a package that takes the alternative `vi` away before."""
    scripts = {"prerm": script("update-alternatives --remove vi /usr/share/same"), "postinst": script(postinst)}
    group = "auto\n/usr/bin/vi\n\n/usr/share/same\n10\n\n"
    more = {**IMAGE, "var/lib/dpkg/alternatives/vi": group, "usr/bin/update-alternatives": ""}
    fs = tree(installed(Deb(version="1.0", files=FILES, scripts=scripts), more=more))
    deb = Deb(version="2.0", files=NEW_FILES, scripts=scripts).write(tmp_path)
    return compose(fs, [deb], tmp_path / "scratch")


@pytest.mark.parametrize(
    ("postinst", "stays"),
    [
        (f"{REMAKES} /usr/bin/vi vi /usr/share/same 10", True),
        (f"{REMAKES} /usr/bin/ex ex /usr/share/ex $(other)", False),
        ("true", False),
    ],
)
def test_an_alternative_that_one_script_removes_and_another_makes_again_stays(
    postinst: str, stays: bool, tmp_path: Path
) -> None:
    composed = alternatives(tmp_path, postinst)

    gone = {change.path for change in composed.changes.entries if change.entry is None}
    assert ("var/lib/dpkg/alternatives/vi" not in gone) is stays


@pytest.mark.parametrize(
    "words", ["/usr/bin/$n $n /usr/share/same 10", "/usr/bin/ex ex /usr/share/ex 10 --slave /usr/bin/$n $n /usr/$n"]
)
def test_where_names_of_alternatives_are_not_known_after_one_was_removed_the_script_is_run(
    words: str, tmp_path: Path
) -> None:
    with pytest.raises(NeedsExecutionError, match="update-alternatives with words that are not known"):
        alternatives(tmp_path, f"n=$(other)\n{REMAKES} {words}")
