# SPDX-License-Identifier: Apache-2.0
"""Documents about an outcome: there before the image has its name, beside it where that is asked for, or nothing is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic import attest
from copacetic.attest import Format
from copacetic.errors import CopaError, StorageError, UsageError
from copacetic.pipeline.outcome import Outcome
from copacetic.progress import Silent
from copacetic.repository import RepositorySettings
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.value.values import HERE

OLD = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old")})
NEW = Deb(name="foo", version="1.0-2", architecture="amd64", files={"usr/bin/foo": file("new")})
SETTINGS = copacetic.Settings(builder=None, worker=False, repository=RepositorySettings(reach=HERE))


@pytest.fixture(scope="module")
def repository() -> Iterator[Repository]:
    with serve_repository([NEW]) as served:
        yield served


def request(tmp_path: Path, repository: Repository, destination: str, **more: Any) -> copacetic.PatchRequest:
    image = write_image(tmp_path / "in", debian_image(repository, [OLD]))
    return copacetic.PatchRequest(image=image, destination=destination, **more)


def test_a_document_knows_the_name_that_the_result_is_about_to_have(tmp_path: Path, repository: Repository) -> None:
    asked = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1", documents=frozenset({"json"}))

    outcome = copacetic.patch(asked, settings=SETTINGS)

    document = json.loads(outcome.documents["json"].data)
    assert document["reference"] == outcome.reference
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["manifests"][0]["digest"] == document["digest"] == str(outcome.digest)


def test_where_a_document_cant_be_made_nothing_is_published(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_outcome: Outcome) -> bytes:
        raise StorageError("no room for it")

    monkeypatch.setattr(attest, "write_json", fail)
    asked = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1", documents=frozenset({"json"}))

    with pytest.raises(CopaError, match="no room for it"):
        copacetic.patch(asked, settings=SETTINGS)

    assert not (tmp_path / "out").exists()


def test_a_document_is_put_beside_the_image_once(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Format("text/plain", f"{__name__}:write_digest")
    monkeypatch.setitem(attest.FORMATS, "digest", row)
    asked = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1", attach=frozenset({"digest"}))

    with copacetic.open_session(SETTINGS, Silent()) as session:
        outcome, again = (copacetic.patch(asked, session=session) for _ in range(2))

    assert again.digest == outcome.digest
    assert outcome.digest is not None

    blobs = {path.name: path.read_bytes() for path in (tmp_path / "out/blobs/sha256").iterdir()}
    documents = [json.loads(data) for data in blobs.values() if data.startswith(b"{")]
    (manifest,) = (one for one in documents if one.get("artifactType") == row.media_type)
    assert manifest["subject"]["digest"] == str(outcome.digest)
    (layer,) = manifest["layers"]
    assert blobs[layer["digest"].partition(":")[2]].decode() == str(outcome.digest)


def test_what_tells_of_one_run_is_not_put_beside_an_image(tmp_path: Path, repository: Repository) -> None:
    asked = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1", attach=frozenset({"json"}))

    with pytest.raises(UsageError, match="the format json tells of one run"):
        copacetic.patch(asked, settings=SETTINGS)


def test_a_session_keeps_its_own_settings() -> None:
    with copacetic.open_session(SETTINGS, Silent()) as session, pytest.raises(UsageError, match="its own settings"):
        copacetic.inspect("oci:nowhere:1", settings=SETTINGS, session=session)


def test_a_place_without_room_for_documents_says_so_before_all_the_work(tmp_path: Path, repository: Repository) -> None:
    asked = request(tmp_path, repository, f"oci-archive:{tmp_path / 'out.tar'}", attach=frozenset({"json"}))

    with pytest.raises(UsageError, match="beside an image in an OCI archive"):
        copacetic.patch(asked, settings=SETTINGS)

    assert not (tmp_path / "out.tar").exists()


def test_one_image_s_failure_is_its_outcome_and_no_end(tmp_path: Path, repository: Repository) -> None:
    good = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1")
    bad = copacetic.PatchRequest(image=f"oci:{tmp_path / 'nowhere'}:1", destination=f"oci:{tmp_path / 'out'}:2")

    first, second, third = copacetic.patch_many([good, bad, good], settings=SETTINGS)

    assert (first.changed, third.digest) == (True, first.digest)
    assert second.failure is not None
    assert second.failure.exit_code == 1
    assert str(tmp_path / "nowhere") in second.failure.message
    assert json.loads(second.to_json())["error"]["message"] == second.failure.message


def test_a_format_is_one_row(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Format("text/plain", f"{__name__}:write_digest")
    monkeypatch.setitem(attest.FORMATS, "digest", row)
    asked = request(tmp_path, repository, f"oci:{tmp_path / 'out'}:1", documents=frozenset({"digest"}))

    outcome = copacetic.patch(asked, settings=SETTINGS)

    assert outcome.documents["digest"].data.decode() == str(outcome.digest)


def write_digest(outcome: Outcome) -> bytes:
    return str(outcome.digest).encode()
