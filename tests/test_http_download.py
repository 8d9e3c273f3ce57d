# SPDX-License-Identifier: Apache-2.0
"""Downloads, and bodies that go on after a break."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from copacetic.errors import IntegrityError, StorageError, UnreachableError
from copacetic.http import HttpClient, HttpSettings
from support.server.faulty import Answer, FaultyServer, faulty_server

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


class Pauses(list[float]):
    """Records instead of sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(pauses: Pauses) -> Iterator[HttpClient]:
    with HttpClient(HttpSettings(connect_timeout=2, read_timeout=2, retries=3), sleep=pauses) as made:
        yield made


def read(client: HttpClient, url: str, **headers: str) -> tuple[int, bytes]:
    with client.open("GET", url, headers=headers) as response:
        return response.status, response.read_all(1 << 21)


def test_a_download_writes_exactly_what_was_promised(client: HttpClient, server: FaultyServer, tmp_path: Path) -> None:
    server.on("GET", "/f", Answer(body=BODY))
    steps: list[int] = []
    assert client.download(server.url + "/f", tmp_path / "f", size=len(BODY), advance=steps.append) == 200
    assert (tmp_path / "f").read_bytes() == BODY
    assert sum(steps) == len(BODY)


def test_a_broken_download_goes_on_where_it_broke(
    client: HttpClient, server: FaultyServer, tmp_path: Path, pauses: Pauses
) -> None:
    tag = {"ETag": '"v1"'}
    server.on(
        "GET",
        "/f",
        Answer(body=BODY, cut=300_000, headers=tag),
        Answer(hang_up=True),
        Answer(body=BODY, cut=200_000, ranges=True, headers=tag),
        Answer(body=BODY, ranges=True, headers=tag),
    )
    steps: list[int] = []
    assert client.download(server.url + "/f", tmp_path / "f", size=len(BODY), advance=steps.append) == 200
    assert (tmp_path / "f").read_bytes() == BODY
    assert sum(steps) == len(BODY)
    assert server.requests[1].headers["range"] == "bytes=300000-"
    assert server.requests[1].headers["if-range"] == '"v1"'
    assert server.requests[3].headers["range"] == "bytes=500000-"


def test_a_server_without_ranges_is_read_from_the_beginning(
    client: HttpClient, server: FaultyServer, tmp_path: Path
) -> None:
    server.on("GET", "/f", Answer(body=BODY, cut=700_000), Answer(body=BODY, cut=10), Answer(body=BODY))
    assert client.download(server.url + "/f", tmp_path / "f", size=len(BODY)) == 200
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_download_that_breaks_too_often_is_given_up(client: HttpClient, server: FaultyServer, tmp_path: Path) -> None:
    server.on("GET", "/f", Answer(body=BODY, cut=1_000, ranges=True))
    with pytest.raises(UnreachableError, match="middle of the answer"):
        client.download(server.url + "/f", tmp_path / "f", size=len(BODY))
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [304, 403, 404])
def test_a_refused_download_returns_the_status(
    client: HttpClient, server: FaultyServer, tmp_path: Path, status: int
) -> None:
    server.on("GET", "/f", Answer(status=status))
    assert client.download(server.url + "/f", tmp_path / "f", size=5) == status


def test_a_download_that_is_refused_half_way_returns_the_status(
    client: HttpClient, server: FaultyServer, tmp_path: Path
) -> None:
    server.on("GET", "/f", Answer(body=BODY, cut=5), Answer(status=404))
    assert client.download(server.url + "/f", tmp_path / "f", size=len(BODY)) == 404


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([Answer(body=b"12345")], "has 5 bytes instead of 4"),
        ([Answer(body=b"123")], "has 3 bytes instead of 4"),
        ([Answer(body=b"12345", length=False)], "more than 4 bytes"),
        ([Answer(body=b"123", length=False)], "ends after 3 of 4 bytes"),
        (
            [
                Answer(body=b"1234", cut=2),
                Answer(status=206, headers={"Content-Range": "bytes 1-3/4"}, body=b"234"),
            ],
            "another range",
        ),
        (
            [
                Answer(body=b"1234", cut=2),
                Answer(status=206, headers={"Content-Range": "bytes 2-3/5"}, body=b"34"),
            ],
            "another range",
        ),
        ([Answer(body=b"1234", cut=2), Answer(status=206, body=b"34")], "another range"),
    ],
)
def test_a_download_of_another_size_is_refused(
    client: HttpClient, server: FaultyServer, tmp_path: Path, answers: list[Answer], message: str
) -> None:
    server.on("GET", "/f", *answers)
    with pytest.raises(IntegrityError, match=message):
        client.download(server.url + "/f", tmp_path / "f", size=4)


def test_an_empty_file_can_be_downloaded(client: HttpClient, server: FaultyServer, tmp_path: Path) -> None:
    server.on("GET", "/f", Answer())
    assert client.download(server.url + "/f", tmp_path / "f", size=0) == 200
    assert (tmp_path / "f").read_bytes() == b""


def test_a_file_that_cannot_be_written_is_named(client: HttpClient, server: FaultyServer, tmp_path: Path) -> None:
    server.on("GET", "/f", Answer(body=b"1"))
    with pytest.raises(StorageError, match="no such file or directory"):
        client.download(server.url + "/f", tmp_path / "absent" / "f", size=1)


def test_many_threads_share_a_client(client: HttpClient, server: FaultyServer) -> None:
    server.on("GET", "/", Answer(body=BODY))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: read(client, server.url + "/"), range(30)))
    assert answers == [(200, BODY)] * 30
