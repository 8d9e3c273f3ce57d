# SPDX-License-Identifier: Apache-2.0
"""Whoever runs it, the image's own apt gives the same layer: root, a user, a user alone with one id, root in a pod."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from copacetic.cli import main
from support.builder.confined import run_as_user, run_in_pod
from support.deb.debian import build_root, layout_of, need

pytestmark = [pytest.mark.system, pytest.mark.whole, pytest.mark.xdist_group("exec-trixie")]

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
RUNNERS: dict[str, Runner] = {
    "user": lambda arguments: run_as_user(arguments, subordinate_ids=True),
    "single id": lambda arguments: run_as_user(arguments, subordinate_ids=False),
    "pod": run_in_pod,
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that everybody may use, each what is his; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="copa-shared-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        folder.chmod(0o1777)
        yield folder


@pytest.fixture(scope="module")
def expected(shared: Path) -> str:
    """The layer that nothing has to be run for."""
    need("umoci", root=True)
    image = layout_of([build_root("trixie")], shared / "layout")
    outcome = shared / "unpack.json"
    code = main(
        ["patch", "-i", image, "--to", f"oci:{shared / 'unpack'}:1", "--strategy", "unpack", "-q",
         "--cache-dir", str(shared / "cache"), "-o", str(outcome)]
    )  # fmt: skip
    assert code == 0
    return _layer(outcome)


def _layer(outcome: Path) -> str:
    (platform,) = json.loads(outcome.read_text())["platforms"]
    digest: str = platform["layer"]["digest"]
    return digest


@pytest.mark.parametrize("who", RUNNERS)
def test_the_layer_is_the_same_whoever_runs_it(shared: Path, expected: str, who: str) -> None:
    folder = shared / who.replace(" ", "-")
    folder.mkdir()
    folder.chmod(0o1777)
    outcome = folder / "outcome.json"

    result = RUNNERS[who](
        ["-m", "copacetic", "patch", "-i", f"oci:{shared / 'layout'}:base", "--to", f"oci:{folder / 'out'}:1",
         "--strategy", "exec", "--addr", "worker://", "--cache-dir", str(folder / "cache"), "-o", str(outcome), "-q"]
    )  # fmt: skip

    assert result.returncode == 0, result.stderr[-3000:]
    plan = json.loads(outcome.read_text())["platforms"][0]["plan"]
    assert plan["strategy"] == "exec"
    assert _layer(outcome) == expected
    shutil.rmtree(folder, ignore_errors=True)
