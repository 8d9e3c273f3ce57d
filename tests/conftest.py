# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a clean environment, and what takes long to start."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from copacetic import documents
from support.builder.builder import Builder, builder, registry_with_base
from support.builder.dockerd import Dockerd, dockerd
from support.value.values import LOOPBACK

settings.register_profile("copa", deadline=None)  # a busy machine takes its time
settings.load_profile("copa")

pytest_plugins = ["support.required"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes each has something to do to the end: what is long begins first, what is short fills up."""
    if hasattr(config, "workerinput"):
        items.sort(
            key=lambda item: [item.get_closest_marker(name) is None for name in ("whole", "xdist_group", "system")]
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tracing lines doubles the time of what patches whole distributions."""
    coverage = item.config.pluginmanager.getplugin("_cov")
    controller = getattr(coverage, "cov_controller", None) if item.get_closest_marker("whole") else None
    if controller is None:
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, homes: Path) -> Iterator[None]:
    """
    No configuration, login or proxy of whoever runs the tests has an influence; images may lead to repositories on
    loopback, where tests serve theirs.
    """
    for name in list(os.environ):
        if name.startswith(("COPA_", "XDG_", "GITHUB_", "DOCKER_", "BUILDX_", "BUILDKIT_")) or name in {
            "REGISTRY_AUTH_FILE",
            "SOURCE_DATE_EPOCH",
            "CI",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COPA_ALLOW_NETWORK", LOOPBACK)
    # pytest's own would look through all that there are, for each test.
    with tempfile.TemporaryDirectory(dir=homes, ignore_cleanup_errors=True) as home:
        monkeypatch.setenv("HOME", home)
        yield


@pytest.fixture(autouse=True)
def documents_are_as_published(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test writes is held against its schema: what that doesn't name must not be there."""
    encode, found = documents.encode, list[str]()

    def check(document: Mapping[str, object]) -> bytes:
        from support.value.schemas import faults  # most tests write none

        data = encode(document)
        found.extend(faults(json.loads(data)))
        return data

    monkeypatch.setattr(documents, "encode", check)
    yield
    assert found == []


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts what it sends to the background deaf to SIGINT; the tests' own and their children have to hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def buildkit() -> Iterator[Builder]:
    """A real buildkitd; tests that use it belong to the xdist group "buildkit", so that it is started once."""
    with builder() as started:
        yield started


@pytest.fixture(scope="session")
def docker() -> Iterator[Dockerd]:
    """A real Docker engine with the same image behind the same name; its tests are the xdist group "docker"."""
    with registry_with_base() as (host, _):
        configuration = {"registry-mirrors": [f"http://{host}"], "insecure-registries": [host]}
        with dockerd(configuration=configuration) as engine:
            yield engine
