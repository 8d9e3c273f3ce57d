# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a clean environment."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No configuration, login or proxy of whoever runs the tests has an influence."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("COPA_", "XDG_", "GITHUB_", "DOCKER_", "BUILDX_", "BUILDKIT_")) or name in {
            "REGISTRY_AUTH_FILE",
            "SOURCE_DATE_EPOCH",
            "CI",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
