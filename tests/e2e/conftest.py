# SPDX-License-Identifier: Apache-2.0
"""What tests share that run an image's programs; `address`, where they do, is each module's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.running import Patching


@pytest.fixture(scope="module")
def cache(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for each kind: a layer that was proven with one would be taken with the other."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def case(tmp_path: Path, cache: Path, address: str, capsys: pytest.CaptureFixture[str]) -> Patching:
    return Patching(tmp_path, cache, address, capsys)
