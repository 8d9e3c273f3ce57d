# SPDX-License-Identifier: Apache-2.0
"""What a user sees: tables, help, completion, progress on a terminal and elsewhere, the cache."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from copacetic.cli import main
from copacetic.cli.completion import completion
from copacetic.cli.root import COMMANDS, EXIT_CODES
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debian import need

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
BAR = Deb(name="bar", version="1.0-1", architecture="amd64", files={"usr/share/bar": file("same")})
FOO2 = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.fixture
def image(tmp_path: Path, repository: Repository) -> str:
    return write_image(tmp_path / "layout", debian_image(repository, [FOO, BAR]))


def copa(*arguments: str | Path, cache: Path) -> int:
    return main([*map(str, arguments), "--cache-dir", str(cache)])


# -- tables ----------------------------------------------------------------------------------------------------------


def test_a_plan_counts_and_names_every_finding(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"VulnerabilityID": identity, "PkgName": name, "InstalledVersion": "1", "FixedVersion": fixed}
        for identity, name, fixed in (
            ("CVE-1", "foo", "1.0-2"), ("CVE-2", "bar", ""), ("CVE-3", "gone", "1"), ("CVE-4", "bar", "0.1"),
            *((f"CVE-10{n:02}", "bar", "") for n in range(30)),
        )
    ]  # fmt: skip
    report = tmp_path / "report.json"
    results = [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": rows}]
    report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))

    assert copa("plan", "-i", image, "-r", report, "-q", cache=tmp_path / "cache") == 0

    out = capsys.readouterr().out
    assert "34 findings in the report: 1 fixable, 31 without a fix, 1 not installed, 1 already fixed\n" in out
    assert re.search(r"^foo +1\.0-1 +1\.0-2 +CVE-1 +none$", out, re.MULTILINE)
    assert "\nnot installed: CVE-3 (gone)\nalready fixed: CVE-4 (bar)\n" in out
    assert "\nwithout a fix: CVE-2 (bar), CVE-1000 (bar), " in out
    assert ", and 11 more (--format json has all)\n" in out


def test_an_inspection_tells_which_layer_a_package_s_version_came_with(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"oci:{tmp_path / 'out'}:1"
    assert copa("patch", "-i", image, "--to", target, "-q", cache=tmp_path / "cache") == 0
    capsys.readouterr()

    assert copa("inspect", target, cache=tmp_path / "cache") == 0
    table = capsys.readouterr().out
    assert copa("inspect", target, "--format", "json", cache=tmp_path / "cache") == 0
    (platform,) = json.loads(capsys.readouterr().out)["platforms"]

    assert [(p["name"], p["version"], p["layer"]) for p in platform["inventories"][0]["packages"]] == [
        ("bar", "1.0-1", 0),
        ("foo", "1.0-2", 1),
    ]
    assert re.search(r"^foo +1\.0-2 +amd64 +1$", table, re.MULTILINE)
    assert re.search(r"^1 +\S+ B +[0-9a-f]{12} +copa patch foo=1\.0-2$", table, re.MULTILINE)


# -- help ------------------------------------------------------------------------------------------------------------


def test_the_help_has_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    out = capsys.readouterr().out
    for name, (_, text) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)
    for code, text in EXIT_CODES:
        assert re.search(rf"^  {code} +{re.escape(text)}$", out, re.MULTILINE)


@pytest.mark.parametrize("words", [[], ["patch"], ["cache"], ["cache", "prune"]])
def test_help_is_what_the_flag_shows(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", *words]) == 0
    said = capsys.readouterr().out
    assert main([*words, "--help"]) == 0

    assert said == capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ptach"], "Did you mean 'patch'?"),
        (["help", "ispect"], "Did you mean 'inspect'?"),
        (["help", "patch", "x"], "has no commands of its own"),
        (["patch", "-i", "x", "--pussh"], "Did you mean"),
    ],
)
def test_a_slip_of_the_fingers_is_understood(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


# -- completion ------------------------------------------------------------------------------------------------------


def _shell(shell: str, script: str, tmp_path: Path) -> list[str]:
    """Run a script in a shell that has the completion loaded as the documentation says; returns lines."""
    need(shell)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "copa").write_text(f'#!/bin/sh\nexec {sys.executable} -m copacetic "$@"\n')
    (bin_folder / "copa").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run([shell, *flags, "-c", script], check=True, capture_output=True, text=True, env=env)
    assert done.stderr == ""
    return done.stdout.splitlines()


COMPLETED = [("copa pa", "patch"), ("copa patch --plat", "--platform"), ("copa plan --format ta", "table")]


@pytest.mark.parametrize(("line", "expected"), COMPLETED)
def test_bash_completes(tmp_path: Path, line: str, expected: str) -> None:
    words = " ".join(f"'{word}'" for word in line.split())
    script = (
        f"source <(copa completion bash); COMP_WORDS=({words}); COMP_CWORD={len(line.split()) - 1}; "
        'declare -F _copa_completion >/dev/null; _copa_completion copa; printf "%s\\n" "${COMPREPLY[@]}"'
    )

    assert expected in _shell("bash", script, tmp_path)


@pytest.mark.parametrize(("line", "expected"), COMPLETED)
def test_fish_completes(tmp_path: Path, line: str, expected: str) -> None:
    lines = _shell("fish", f"copa completion fish | source; complete -C '{line}'", tmp_path)

    assert expected in [row.split("\t")[0] for row in lines]


def test_zsh_loads_it_and_asks_copa(tmp_path: Path) -> None:
    script = (
        "autoload -Uz compinit; compinit -D -u; source <(copa completion zsh); print -r -- $_comps[copa]; "
        "COMP_WORDS='copa pa' COMP_CWORD=1 _COPA_COMPLETE=zsh_complete copa"
    )

    assert _shell("zsh", script, tmp_path)[:3] == ["_copa_completion", "plain", "patch"]


def test_every_shell_offered_has_a_completion(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in completion.params[0].type.choices:  # type: ignore[attr-defined]
        assert main(["completion", shell]) == 0
        assert "_COPA_COMPLETE=" in capsys.readouterr().out


# -- progress --------------------------------------------------------------------------------------------------------


def _on_a_terminal(*command: str, **environment: str) -> str:
    """Run something whose stderr is a terminal, and return what it wrote there."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    with os.fdopen(leader, "rb", buffering=0) as screen:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower, env=env)
        os.close(follower)
        seen = b""
        try:
            while data := screen.read(1 << 16):
                seen += data
        except OSError:
            pass  # Linux says so when the other end is closed
        assert process.wait() == 0
    return seen.decode()


@pytest.mark.parametrize(
    ("environment", "flags", "live", "color"),
    [
        ({}, (), True, True),
        ({"NO_COLOR": "1"}, (), True, False),
        ({"TERM": "dumb"}, (), False, False),
        ({"CI": "true"}, (), False, False),
        ({}, ("--progress", "plain"), False, False),
        ({"BUILDKIT_PROGRESS": "plain"}, (), False, False),
        ({}, ("-q",), False, False),
    ],
)
def test_progress_is_live_on_a_terminal_and_plain_where_it_is_asked_for(
    tmp_path: Path, image: str, environment: dict[str, str], flags: tuple[str, ...], live: bool, color: bool
) -> None:
    command = [sys.executable, "-m", "copacetic", "patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1"]
    seen = _on_a_terminal(*command, "--no-cache", *flags, **environment)

    assert ("\x1b[2K" in seen) == live
    assert bool(re.search(r"\x1b\[[0-9;]*3\d", seen)) == color
    if "-q" in flags:
        assert seen == ""
    else:
        assert "published oci:" in seen


def test_progress_in_a_file_is_one_line_for_each_step(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", cache=tmp_path / "cache") == 0

    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\r" not in err
    assert re.search(r"^fetch 1 package +\d+\.\d\d s +\d", err, re.MULTILINE)


def test_raw_progress_is_one_json_object_for_each_event(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"oci:{tmp_path / 'out'}:1"
    assert copa("patch", "-i", image, "--to", target, "--progress", "rawjson", cache=tmp_path / "cache") == 0

    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {event["event"] for event in events} >= {"start", "done"}
    assert [e["text"] for e in events if e["event"] == "start"].count("compose layer") == 1


# -- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_tells_what_it_holds_and_can_be_emptied(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    assert copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "-q", cache=cache) == 0
    capsys.readouterr()

    assert main(["cache", "info", "--cache-dir", str(cache), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["path"]) == ("copacetic.cache", str(cache))
    assert {row["name"].partition(".")[0] for row in document["buckets"]} >= {"layers", "packages", "patch-layers"}
    stored = sum(row["size"] for row in document["buckets"])
    assert stored == sum(p.stat().st_size for p in cache.rglob("*") if p.is_file() and ".locks" not in p.parts)

    assert main(["cache", "prune", "--cache-dir", str(cache)]) == 0
    assert "freed" in capsys.readouterr().err
    assert main(["cache", "info", "--cache-dir", str(cache), "--format", "json"]) == 0
    assert sum(row["size"] for row in json.loads(capsys.readouterr().out)["buckets"]) == 0
    assert copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'again'}:1", "-q", cache=cache) == 0
