# SPDX-License-Identifier: Apache-2.0
"""What tests share: refusals, and images whose programs are run; `address`, of what runs them, is each module's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.cli import main
from support.builder.running import Patching


@pytest.fixture(scope="module")
def cache(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for each kind: a layer that was proven with one would be taken with the other."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def case(tmp_path: Path, cache: Path, address: str, capsys: pytest.CaptureFixture[str]) -> Patching:
    return Patching(tmp_path, cache, address, capsys)


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call `copa patch` and hold it to the rules of refusal; returns the error line."""

    def call(code: int, *arguments: str | Path, cache: Path | None = None) -> str:
        target = tmp_path / "never"
        actual = main(
            [
                "patch",
                *map(str, arguments),
                "--to",
                f"oci:{target}:1",
                "--cache-dir",
                str(cache or tmp_path / "cache"),
                "-q",
            ]
        )
        out, err = capsys.readouterr()
        lines = err.strip().split("\n")
        assert (actual, out) == (code, ""), err
        assert [line for line in lines if not line.startswith(("error: ", "hint: "))] == []
        assert sum(line.startswith("error: ") for line in lines) == 1
        assert "Traceback" not in err
        assert "defect" not in err
        assert not target.exists()
        return lines[0]

    return call
