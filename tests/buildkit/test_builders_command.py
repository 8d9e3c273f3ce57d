# SPDX-License-Identifier: Apache-2.0
"""`copa builders`, and the flags for builders of other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from copacetic.cli import main
from support.builder.buildkitd import buildkitd
from support.deb.debian import need


@pytest.mark.system
def test_a_builder_that_is_named_is_shown_with_what_it_can_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with buildkitd() as daemon:
        code = main(["builders", "--addr", daemon.address])
        table = capsys.readouterr().out
        monkeypatch.setenv("BUILDKIT_HOST", daemon.address)
        assert main(["builders", "--format", "json"]) == 0

    assert code == 0
    row = table.splitlines()[1].split()
    assert row[:3] == [daemon.address, "--addr", "yes"]
    assert "linux/amd64" in table
    assert f"used when execution is needed: {daemon.address}\n" in table
    document = json.loads(capsys.readouterr().out)
    assert document["chosen"] == daemon.address
    assert [(one["origin"], one["state"], one["mergeDiff"]) for one in document["builders"]] == [
        ("BUILDKIT_HOST", "usable", True)
    ]


def test_where_nothing_answers_the_reasons_are_shown_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["builders", "--addr", f"unix://{tmp_path}/missing.sock"]) == 1

    out, err = capsys.readouterr()
    assert f"unix://{tmp_path}/missing.sock: there is no {tmp_path}/missing.sock\n  fix: " in out
    assert "no usable builder" in out
    assert err == ""


@pytest.mark.system
def test_this_machine_is_the_last_to_be_tried_and_can_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need("unshare", root=True)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")

    assert main(["builders", "--format", "json"]) == 0
    tried = json.loads(capsys.readouterr().out)["builders"]
    assert main(["builders", "--addr", "worker://", "--format", "json"]) == 0
    named = json.loads(capsys.readouterr().out)

    assert [one["address"] for one in tried].index("worker://") == len(tried) - 1
    assert "linux/amd64" in tried[-1]["platforms"]
    assert (named["chosen"], [one["origin"] for one in named["builders"]]) == ("worker://", ["--addr"])


@pytest.mark.parametrize(
    "command", [["builders"], ["patch", "-i", "oci:x:1", "--to", "oci:y:1"], ["plan", "-i", "oci:x:1"]]
)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--addr", "nonsense"], "error: --addr: 'nonsense' doesn't say how to connect\nhint: write unix://PATH, "),
        (["--addr", "ssh://-oProxyCommand=x"], "is not a host's name\nhint: "),
        (["--addr", "worker://?cpus=2"], "error: --addr: 'cpus=2' is no limit of worker://\nhint: the form is worker"),
        (["--addr", "worker://?memory=4G&memory=5G"], "error: --addr: 'memory=5G' is no limit of worker://\n"),
        (["--addr", "worker://?memory=much"], "error: --addr: memory: 'much' is not a size such as 500M or 2G\n"),
        (["--addr", "worker://?memory=0"], "error: --addr: memory: '0' is out of range\n"),
        (["--addr", "worker://?disk=99999999999999999999T"], "error: --addr: disk: "),
        (["--addr", "worker://?processes=-1"], "error: --addr: processes: "),
        (["--cacert", "ca.pem"], "say nothing without an address\nhint: add --addr tcp://HOST:PORT\n"),
        (["--addr", "tcp://h:1", "--cert", "c"], "error: --cert and --key belong together\n"),
    ],
)
def test_flags_that_make_no_sense_end_in_one_line(
    capsys: pytest.CaptureFixture[str], command: list[str], flags: list[str], message: str
) -> None:
    assert main([*command, *flags]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 2


def test_tls_for_what_takes_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["builders", "--addr", "ssh://host.example", "--cacert", "ca.pem"]) == 2

    assert "error: TLS doesn't apply to ssh://host.example\n" in capsys.readouterr().err
