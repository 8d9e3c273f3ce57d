# SPDX-License-Identifier: Apache-2.0
"""Upgrades that only the builder can plan: when it may, what it is asked, and what of its answer is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import (
    CopaError,
    VerificationError,
)
from support.aptrepo import Deb, Repository, serve_repository
from support.execcase import BAR, BAR2, FOO, FOO2, SCRIPTED, Case, installs, runnable
from support.fakesolver import Answer
from support.images import Image, make_tar, tar_file


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([SCRIPTED, BAR2]) as served:
        yield served


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


@pytest.fixture
def unreachable(case: Case, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Image]:
    """An image whose repository is out of reach from here, and a builder that was named."""

    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    named = BuilderSettings(address=parse_address("unix:///run/named.sock"))
    case.settings = replace(case.settings, builder=named)

    def make(**more: object) -> Image:
        image = runnable(repository, [FOO, BAR], **more)
        repository.files.clear()
        return image

    return make


def test_a_named_builder_upgrades_what_is_out_of_reach_from_here(case: Case, unreachable: Callable[..., Image]) -> None:
    solver = case.builder(installs(FOO2, BAR2))

    (platform,) = case.patch(unreachable()).platforms

    assert platform.plan is not None
    assert platform.plan.strategy == "exec"
    assert "the builder upgrades by itself" in platform.plan.strategy_reason
    assert [(u.candidate.name, u.candidate.version) for u in platform.plan.updates] == [
        ("bar", "1.0-2"),
        ("foo", "1.0-2"),
    ]
    assert platform.verified
    assert solver.inputs[0].directories == {}
    assert any("has no Release file" in line for line in case.notes.lines)


def test_what_the_builder_did_is_never_the_same_run_twice(case: Case, unreachable: Callable[..., Image]) -> None:
    solver = case.builder(installs(FOO2, BAR2))
    image = unreachable()
    case.patch(image)
    case.patch(image)

    first, second = (definition.digests for definition in solver.definitions)
    assert first != second, "a cache would answer with what the repository held before"


def test_what_can_be_seen_of_the_repository_is_the_builders_key(
    case: Case, repository: Repository, unreachable: Callable[..., Image]
) -> None:
    """Its signed description answers, its indexes don't: an upgrade to the same state is the same run."""
    image = unreachable()
    solver = case.builder(installs(FOO2, BAR2))
    for debs in ([FOO2, BAR2], [FOO2, BAR2], [FOO2]):
        _publish_without_indexes(repository, debs)
        case.patch(image)

    first, again, moved = (definition.digests for definition in solver.definitions)
    assert first == again
    assert first != moved


def _publish_without_indexes(repository: Repository, debs: Sequence[Deb]) -> None:
    kept = {path: data for path, data in repository.files.items() if path.endswith("InRelease")}
    if [deb.version for deb in repository.debs] != [deb.version for deb in debs] or not kept:
        repository.publish(debs)
        kept = {path: data for path, data in repository.files.items() if path.endswith("InRelease")}
    repository.files.clear()
    repository.files.update(kept)


def test_nothing_new_in_the_builders_repositories_is_nothing_to_do(
    case: Case, unreachable: Callable[..., Image]
) -> None:
    case.builder(lambda _d, _i: [make_tar([tar_file("var/log/dpkg.log", "x")])])

    outcome = case.patch(unreachable())

    assert not outcome.changed
    assert not case.target.exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (installs(FOO2), "bar:amd64 is not in the result any more"),
        (installs(replace(FOO2, version="0.1"), BAR2), "foo:amd64 went back from 1.0-1 to 0.1"),
        (installs(FOO2, BAR2, more={"usr/bin/foo": "other"}), "foo: usr/bin/foo has the md5"),
    ],
)
def test_what_no_upgrade_does_is_refused(
    case: Case, unreachable: Callable[..., Image], answer: Answer, message: str
) -> None:
    case.builder(answer)

    assert message in str(case.refused(VerificationError, unreachable()))


def test_a_held_package_must_stay(case: Case, unreachable: Callable[..., Image]) -> None:
    case.builder(installs(FOO2, BAR2))

    assert "foo:amd64 is held" in str(case.refused(VerificationError, unreachable(held=["foo"])))


def test_a_builder_that_was_only_found_plans_nothing_itself(
    case: Case, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    solver = case.builder(installs(FOO2, BAR2))
    image = runnable(repository, [FOO, BAR])
    repository.files.clear()

    assert "has no Release file" in str(case.refused(CopaError, image))
    assert solver.definitions == []


def test_a_wrong_signature_is_wrong_everywhere(case: Case, repository: Repository) -> None:
    from pysequoia import Tsk

    from copacetic.errors import SignatureError

    case.settings = replace(case.settings, builder=BuilderSettings(address=parse_address("unix:///run/named.sock")))
    solver = case.builder(installs(FOO2, BAR2))
    image = runnable(repository, [FOO, BAR])
    repository.key = Tsk.generate("Somebody else <else@example.com>")
    repository.publish()

    case.refused(SignatureError, image)
    assert solver.definitions == []
