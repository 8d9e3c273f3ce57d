# SPDX-License-Identifier: Apache-2.0
"""Where nothing may be skipped, what is skipped fails, whichever way it says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.required import ALLOWED

ROOT = Path(__file__).parents[1]
SKIPPED = """
import pytest

@pytest.fixture
def program(): pytest.skip("no such program")

def test_by_a_fixture(program): ...
def test_by_itself(): pytest.skip("no such mirror")
@pytest.mark.skipif(True, reason="no such kernel")
def test_by_a_mark(): ...
@pytest.mark.xfail(reason="known")
def test_that_is_known_to_fail(): raise ValueError
def test_that_passes(): ...
"""
MODULE = "import pytest; pytest.skip('no such library', allow_module_level=True)\n"


def run(folder: Path, required: str) -> tuple[int, str]:
    (folder / "test_skipped.py").write_text(SKIPPED)
    (folder / "test_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "support.required"]
    command += ["--continue-on-collection-errors", str(folder)]
    environment = {**os.environ, "COPA_TEST_REQUIRE": required, "PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def test_a_skip_is_a_failure_that_says_what_is_missing(tmp_path: Path) -> None:
    code, output = run(tmp_path, "all")

    assert code == 1, output
    assert "1 failed, 1 passed, 1 xfailed, 3 errors" in output
    said = set(
        re.findall(r"^COPA_TEST_REQUIRE=all lets nothing be skipped, but: .*no such (\w+)", output, re.MULTILINE)
    )
    assert said == {"program", "mirror", "kernel", "library"}


@pytest.mark.parametrize(("required", "code", "said"), [("", 0, "1 passed, 4 skipped, 1 xfailed"), ("al", 4, "'al'")])
def test_whoever_asks_for_less_gets_less_and_for_nonsense_nothing(
    tmp_path: Path, required: str, code: int, said: str
) -> None:
    assert (actual := run(tmp_path, required))[0] == code
    assert said in actual[1]


def test_what_may_be_skipped_is_a_test() -> None:
    for name in ALLOWED:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text()
