# SPDX-License-Identifier: Apache-2.0
"""Scripts and triggers of rpm packages: which of them are run, when and how, as the real rpm has them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from copacetic.errors import NeedsExecutionError
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.scripts.judgement import HARMLESS, describe
from copacetic.scripts.runner import ScriptCall, ScriptRunner
from copacetic.updates import ScriptClass, ScriptVerdict
from support.deb.debian import need
from support.rpm.rpmbuilds import (
    LESS,
    TRIGGER_IN,
    TRIGGER_POSTUN,
    TRIGGER_UN,
    Build,
    Shipped,
    Trigger,
    a_file,
    a_link,
)
from support.rpm.rpmcomposed import compose, compose_onto, open_unpacker, plan_rpms
from support.rpm.rpmoracle import RpmRoot

BASE = Build(
    "base",
    files=[
        a_file("/usr/bin/bash", mode=0o755),
        a_link("/usr/bin/sh", "bash"),
        a_link("/bin", "usr/bin"),
        a_file("/usr/bin/frobnicate", mode=0o755),
    ],
)
STAGES = ("pretrans", "prein", "postin", "preun", "postun", "posttrans")


def _say(label: str) -> str:
    return f'echo "{label} $1 $2" >> /log'


def _speaking(name: str, version: str, files: Sequence[Shipped] = ()) -> Build:
    """A package whose scripts write down when they run, and with what arguments."""
    triggers = [
        Trigger(event, other, _say(f"{name}-{version} hears {other} {word}"))
        for other in ("one", "two", "still")
        for event, word in ((TRIGGER_IN, "in"), (TRIGGER_UN, "un"), (TRIGGER_POSTUN, "postun"))
    ]
    triggers += [
        Trigger(event, "/opt/heard", _say(f"{name}-{version} {kind} {word}"), kind)
        for kind in ("file", "transaction")
        for event, word in ((TRIGGER_IN, "in"), (TRIGGER_UN, "un"), (TRIGGER_POSTUN, "postun"))
    ]
    scripts = {stage: _say(f"{name}-{version} {stage}") for stage in STAGES}
    requires = ["one"] if name == "two" else []
    return Build(name, version=version, files=files, scripts=scripts, triggers=triggers, requires=requires)


def _shell_root(path: Path) -> RpmRoot:
    """A root in which scripts run: busybox is all that there is."""
    need("busybox", root=True)
    root = RpmRoot(path)
    (path / "bin").mkdir()
    shutil.copy("/bin/busybox", path / "bin/busybox")
    (path / "bin/sh").symlink_to("busybox")
    return root


@pytest.mark.system
def test_scripts_and_triggers_run_when_rpm_runs_them_and_hear_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _shell_root(tmp_path / "root")
    old = [_speaking(name, "1", [a_file(f"/opt/heard/{name}")]) for name in ("one", "two", "still")]
    new = [_speaking(name, "2", [a_file(f"/opt/heard/{name}", "2")]) for name in ("one", "two")]
    for folder, builds in (("old", old), ("new", new)):
        (tmp_path / folder).mkdir()
        for build in builds:
            build.write(tmp_path / folder)
    root.install(sorted((tmp_path / "old").iterdir()))
    real = root.copy(tmp_path / "real")
    packages = sorted((tmp_path / "new").iterdir())
    result = real.run("-U", "--nodeps", "--nosignature", *map(str, packages))
    assert result.returncode == 0, result.stderr
    heard: list[str] = []

    def run(_runner: ScriptRunner, call: ScriptCall) -> ScriptVerdict:
        match = re.search('echo "(.*) \\$1 \\$2"', call.text)
        assert match is not None
        heard.append(f"{match[1]} {' '.join((*call.arguments, '', '')[:2])}".rstrip())
        return describe(call.package, call.name, HARMLESS)

    monkeypatch.setattr(ScriptRunner, "run", run)
    compose(DirectoryFilesystem(root.path), packages, tmp_path / "scratch")

    said = [line.rstrip() for line in (real.path / "log").read_text().splitlines()]
    assert sorted(heard) == sorted(said)
    assert [line for line in heard if _is_script(line)] == [line for line in said if _is_script(line)]


def _is_script(line: str) -> bool:
    return line.split()[1] in STAGES


def _verdicts(tmp_path: Path, old: Build, new: Build) -> list[ScriptVerdict]:
    """Return what is said of the scripts when one package is upgraded in an image with a shell."""
    root = RpmRoot(tmp_path / "root")
    (tmp_path / "rpms").mkdir()
    root.install([old.write(tmp_path / "rpms"), BASE.write(tmp_path / "rpms")])
    fs = DirectoryFilesystem(root.path)
    planned = plan_rpms(fs, [new.write(tmp_path / "rpms")])
    return [one for found in open_unpacker(fs).classify(planned).values() for one in found]


def _pair(**scripts: str | tuple[str, str]) -> tuple[Build, Build]:
    return Build("one", scripts=scripts), Build("one", version="2", scripts=scripts)


@pytest.mark.system
@pytest.mark.parametrize(
    "script",
    [
        "if [ $1 -eq 1 ]; then\n  useradd -r web\nfi\n",
        "[ $1 == 1 ] && rm -rf /usr\n",
        "/usr/bin/systemctl --no-reload daemon-reload &> /dev/null || :\n",
        ("<lua>", 'if posix.access("/etc/absent") then\n  os.execute("reboot")\nend\n'),
        ("<lua>", "-- nothing but words\n--[[ in\nlines ]]\nprint('done')\n"),
        "touch --no-create /usr/share/icons\n",
    ],
)
def test_what_has_no_effect_in_an_image_is_harmless(tmp_path: Path, script: str | tuple[str, str]) -> None:
    verdicts = _verdicts(tmp_path, *_pair(postin=script))

    assert [(one.script, one.verdict) for one in verdicts] == [("%post", ScriptClass.HARMLESS)]


@pytest.mark.system
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("frobnicate --all\n", "frobnicate is not known"),
        (("<lua>", "posix.frobnicate()\n"), "its Lua is of no form that is known"),
        (("<lua>", "if rpm.something() then os.remove('/etc') end\n"), "its Lua is of no form that is known"),
        (("/usr/bin/python3", "import os\n"), "it is not a shell script"),
        ("copa-append-lines /etc/passwd x::0:0::/:\n", "it has words that stand for something else here"),
        (("<lua>", "\x01\x02"), "it is not a shell script but one of <lua>"),
    ],
)
def test_what_is_not_known_needs_execution_by_name(tmp_path: Path, script: str | tuple[str, str], said: str) -> None:
    old, _ = _pair()
    (verdict,) = _verdicts(tmp_path, old, Build("one", version="2", scripts={"postin": script}))

    assert (verdict.script, verdict.verdict) == ("%post", ScriptClass.NEEDS_EXECUTION)
    assert said in verdict.reason


@pytest.mark.system
def test_a_package_that_needs_execution_is_not_composed_and_says_why(tmp_path: Path) -> None:
    root = RpmRoot(tmp_path / "root")
    root.install([BASE.write(tmp_path), Build("one").write(tmp_path)])
    new = Build("one", version="2", scripts={"prein": "frobnicate\n"}).write(tmp_path)

    with pytest.raises(NeedsExecutionError, match=r"one:noarch: %pre would have to be run: line 2, 'frobnicate'"):
        compose(DirectoryFilesystem(root.path), [new], tmp_path / "scratch")


@pytest.mark.system
def test_a_script_of_the_version_that_goes_counts_too(tmp_path: Path) -> None:
    old = Build("one", scripts={"postun": "frobnicate\n"})
    (verdict,) = _verdicts(tmp_path, old, Build("one", version="2"))

    assert (verdict.script, verdict.verdict) == ("%postun of the installed version", ScriptClass.NEEDS_EXECUTION)


@pytest.mark.system
def test_a_trigger_for_older_versions_alone_is_not_set_off(tmp_path: Path) -> None:
    trigger = Trigger(TRIGGER_UN | LESS, "one", "frobnicate\n", version="0.5-1")
    assert _verdicts(tmp_path, Build("one"), Build("one", version="2", triggers=[trigger])) == []


@pytest.mark.system
def test_a_trigger_of_another_package_stands_with_the_one_that_sets_it_off(tmp_path: Path) -> None:
    root = RpmRoot(tmp_path / "root")
    trigger = Trigger(TRIGGER_POSTUN, "/opt", "frobnicate\n", "transaction")
    builds = [BASE, Build("listener", triggers=[trigger]), Build("one", files=[a_file("/opt/one")])]
    root.install([build.write(tmp_path) for build in builds])
    fs = DirectoryFilesystem(root.path)
    planned = plan_rpms(fs, [Build("one", version="2", files=[a_file("/opt/one")]).write(tmp_path)])
    ((key, (verdict,)),) = open_unpacker(fs).classify(planned).items()

    assert (key.name, verdict.package.name) == ("one", "one")
    assert verdict.script == "%transfiletriggerpostun of listener"
    assert verdict.verdict is ScriptClass.NEEDS_EXECUTION


@pytest.mark.system
def test_files_that_lua_makes_and_removes_are_made_and_removed(tmp_path: Path) -> None:
    lua = """
        for i, name in ipairs({"passwd", "group"}) do
          os.remove("/etc/"..name..".rpmnew")
        end
        posix.mkdir("/opt/made")
        posix.symlink("made", "/opt/link")
        path = "/opt/becomes"
        st = posix.stat(path)
        if st and st.type == "link" then
          os.remove(path)
        end
        if tonumber(arg[2]) >= 2 and not posix.access("/opt/absent") then posix.mkdir("/opt/upgraded") end
    """
    root = RpmRoot(tmp_path / "root")
    root.install([Build("base", files=[a_link("/opt/becomes", "x")]).write(tmp_path), Build("one").write(tmp_path)])
    (root.path / "etc").mkdir()
    (root.path / "etc/passwd.rpmnew").write_text("x")
    new = Build("one", version="2", scripts={"pretrans": ("<lua>", lua)}).write(tmp_path)
    composition = compose_onto(root.path, [new], tmp_path / "scratch")

    assert not (root.path / "etc/passwd.rpmnew").exists()
    assert (root.path / "opt/made").is_dir()
    assert (root.path / "opt/link").readlink() == Path("made")
    assert (root.path / "opt/upgraded").is_dir()
    assert not (root.path / "opt/becomes").is_symlink()
    named = composition.changes.effects
    assert {path: effect.name for path, effect in named.items()}["opt/made"] == "%pretrans of one:noarch"
