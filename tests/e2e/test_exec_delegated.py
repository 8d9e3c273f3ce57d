# SPDX-License-Identifier: Apache-2.0
"""Upgrades that only the builder can plan: when it may, what it is asked, and what of its answer is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from copacetic import Outcome
from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import CopaError, FixesMissingError, VerificationError
from copacetic.updates import FindingStatus
from support.apk.apkrepo import ApkRepository, apk_image, installed_text
from support.apk.apks import Apk
from support.builder.execcase import BAR, BAR2, FOO, FOO2, SCRIPTED, Case, installs, runnable
from support.builder.fakesolver import Answer
from support.deb.aptrepo import Deb, Repository, serve_repository
from support.deb.debs import file
from support.image.images import Image, Layer, make_image, make_layer, make_tar, tar_file
from support.value.replacing import replace


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


# -- what is asked of the builder ----------------------------------------------------------------------------

APKS = [Apk(name="apk-tools", version="2.14.4-r0"), Apk(name="odd", version="1.09-r0")]


@pytest.fixture
def ask(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[[Image, str, str, str], Outcome]:
    """Ask for one fix (type as the report says, package, version) where a named builder alone reaches repositories."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    named = BuilderSettings(address=parse_address("unix:///run/named.sock"))
    case.settings = replace(case.settings, builder=named)

    def patch(image: Image, family: str, package: str, fixed: str) -> Outcome:
        row = {"VulnerabilityID": "CVE-1", "PkgName": package, "FixedVersion": fixed}
        report = case.folder / "report.json"
        results = [{"Class": "os-pkgs", "Type": family, "Vulnerabilities": [row]}]
        report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))
        return case.patch(image, reports=(report,))

    return patch


def alpine(*lower: Layer) -> Image:
    """An image whose repository doesn't answer, over layers that it hides something of."""
    nowhere = ApkRepository(address="http://127.0.0.1:9")
    items = [tar_file(path, data) for path, data in apk_image(nowhere, APKS).items()]
    items += [tar_file(path, "a program", mode=0o755) for path in ("bin/sh", "sbin/apk")]
    return make_image([*lower, make_layer(items)])


def test_a_builder_is_asked_for_what_the_planner_would_call_fixable(
    case: Case, ask: Callable[[Image, str, str, str], Outcome]
) -> None:
    """1.010 is newer than 1.09 for apk 2, as the image has it, and older for apk 3."""
    updated = "".join(f"{installed_text(apk)}\n" for apk in (APKS[0], replace(APKS[1], version="1.010-r0")))
    solver = case.builder(lambda _d, _i: [make_tar([tar_file("lib/apk/db/installed", updated)])])

    (platform,) = ask(alpine(), "alpine", "odd", "1.010-r0").platforms

    assert len(solver.definitions) == 1
    assert platform.plan is not None
    assert [(u.candidate.name, u.candidate.version) for u in platform.plan.updates] == [("odd", "1.010-r0")]
    assert [one.status for one in platform.matched or ()] == [FindingStatus.ALREADY_FIXED]


def test_a_fix_that_a_builder_can_t_be_asked_for_is_missed_aloud(
    case: Case, repository: Repository, ask: Callable[[Image, str, str, str], Outcome]
) -> None:
    """A package on hold, and one that only a hidden database has: there was nothing to ask, and that was all."""
    solver = case.builder(installs(FOO2, BAR2))
    held = runnable(repository, [FOO, BAR], held=["foo"])
    repository.files.clear()
    hidden = Apk(name="hidden", version="1-r0", files={"usr/bin/hidden": file("hidden", 0o755)})
    lower = make_layer([tar_file(path, data) for path, data in apk_image(None, [hidden]).items()])

    with pytest.raises(FixesMissingError, match=r"foo 1\.0-1 can't be updated: the image holds it"):
        ask(held, "debian", "foo", "1.0-2")
    with pytest.raises(FixesMissingError, match=r"hidden 1-r0 can't be updated: the database in effect doesn't list"):
        ask(alpine(lower), "alpine", "hidden", "2-r0")
    assert solver.definitions == []
