# SPDX-License-Identifier: Apache-2.0
"""What tests of registries share: one whose answers a test writes, and clients for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from copacetic.oci.registryclient import RegistryClient
from support.server.faulty import FaultyServer
from support.server.scripted import Connect, Store, clients, registry


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with registry() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Connect]:
    with clients() as make:
        yield make


@pytest.fixture
def client(connect: Connect) -> RegistryClient:
    return connect()


@pytest.fixture
def store(server: FaultyServer) -> Store:
    return Store(server)


@pytest.fixture
def chunk(monkeypatch: pytest.MonkeyPatch) -> int:
    """How much goes in one request, so that little has to be sent for there to be several."""
    monkeypatch.setattr("copacetic.oci.upload.CHUNK", 1 << 20)
    monkeypatch.setattr("copacetic.oci.upload.SMALL_CHUNK", 1 << 19)
    return 1 << 20
