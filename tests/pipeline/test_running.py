# SPDX-License-Identifier: Apache-2.0
"""
The two ways that run something, on an image in memory and a solver that answers what a test wants: when they may, what
they ask, and what they make of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from copacetic.budget import Slots
from copacetic.cache import Cache
from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
    ExecutionError,
    RepositoryError,
    SignatureError,
    SolverError,
    UnreachableError,
    UnsupportedBuilderError,
    UnsupportedImageError,
    VerificationError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.solver import Capabilities, Inputs
from copacetic.oci import Platform
from copacetic.oci.layerindex import unpack_text
from copacetic.oci.manifest import OCI_LAYER
from copacetic.pipeline.apply.delegate import BuilderDelegate
from copacetic.pipeline.apply.execute import ExecuteApplier
from copacetic.pipeline.apply.unpack import Unpacking
from copacetic.pipeline.job import Delegated, Job
from copacetic.pipeline.layer import ComposedLayer, LayerRequest, NewLayer
from copacetic.pipeline.open.image import OpenedImage
from copacetic.repository import RepositorySettings
from copacetic.request import Strategy
from copacetic.session import Session, Settings
from copacetic.updates import FetchedPackage, Finding, SkipReason
from support.builder.execcase import BAR, BAR2, FOO, FOO2, Notes, installs
from support.builder.fakesolver import Answer, FakeSolver
from support.deb.aptrepo import installed_files
from support.deb.composed import plan_debs
from support.deb.debs import MTIME
from support.image.images import make_tar, tar_file
from support.image.trees import scan_tar
from support.value.jobs import job, open_in_memory
from support.value.replacing import replace
from support.value.values import finding

OPENED = open_in_memory(installed_files([FOO, BAR]), programs=True)
BARE = open_in_memory(installed_files([FOO, BAR]))
HELD = open_in_memory(installed_files([FOO, BAR], held=["foo"]), programs=True)
NAMED = Settings(builder=BuilderSettings(address=parse_address("unix:///run/named.sock")))
EPOCH = 1_900_000_000


class Means:
    """A session with a solver."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.notes = Notes()
        self.solver = FakeSolver(installs(FOO2, BAR2))
        self._patch = monkeypatch

    def job(self, opened: OpenedImage, *findings: Finding, settings: Settings = NAMED, **asked: Any) -> Job:
        made = Session(settings, Cache(self.folder / "cache"), self.notes)
        self._patch.setattr(made, "open_solver", self._open)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return job(opened, *findings, everything=not findings, scratch=scratch, session=made, **asked)

    def answer(self, answer: Answer, **capabilities: Any) -> None:
        self.solver = FakeSolver(answer, capabilities=Capabilities(name="fake", **capabilities))

    def _open(self) -> FakeSolver:
        return self.solver


@pytest.fixture
def means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Means:
    return Means(tmp_path, monkeypatch)


def content(layer: NewLayer) -> dict[str, bytes]:
    """Return what a plain layer has in its files."""
    data = layer.path.read_bytes()
    rows = [row for row in scan_tar(data).rows if row.type == "0"]
    return {unpack_text(row.path): data[row.offset : row.offset + row.size] for row in rows}


# -- packages that are at hand -------------------------------------------------------------------------------


def packages_for(opened: OpenedImage, folder: Path) -> dict[str, tuple[FetchedPackage, ...]]:
    return {"deb": tuple(plan_debs(opened.fs, [deb.write(folder) for deb in (FOO2, BAR2)]))}


def execute(means: Means, opened: OpenedImage = OPENED, **asked: Any) -> ComposedLayer:
    made = means.job(opened, **asked)
    request = LayerRequest(
        packages=packages_for(opened, means.folder), epoch=EPOCH, compression="none", media_type=OCI_LAYER
    )
    with Unpacking(opened, Slots("test", 2)) as unpacking:
        return ExecuteApplier(made, unpacking).make(request)


def why_not(means: Means, opened: OpenedImage = OPENED, **asked: Any) -> str:
    made = means.job(opened, **asked)
    return ExecuteApplier(made, Unpacking(opened, Slots("test", 2))).why_not(["deb"])


def test_where_there_is_a_solver_that_has_the_platform_nothing_speaks_against_it(means: Means) -> None:
    assert why_not(means) == ""
    means.answer(installs(FOO2), platforms=(Platform.parse("linux/arm64"), Platform.parse("linux/amd64")))
    assert why_not(means) == ""


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ({"merge_diff": False, "reason": "it is too old"}, "fake can't tell what a run has changed: it is too old"),
        ({"platforms": (Platform.parse("linux/arm64"),)}, "fake can't run linux/amd64: it has linux/arm64"),
    ],
)
def test_a_solver_that_can_not_do_it_says_why(means: Means, capabilities: dict[str, Any], said: str) -> None:
    means.answer(installs(FOO2), **capabilities)

    assert why_not(means) == said
    with pytest.raises(UnsupportedBuilderError) as caught:
        execute(means)
    assert str(caught.value) == said
    assert means.solver.definitions == []


def test_who_forbids_to_run_anything_gets_nothing_run(means: Means) -> None:
    nothing = Settings(builder=None, worker=False)

    assert why_not(means, settings=nothing) == "nothing may be run"
    with pytest.raises(UnsupportedImageError, match="nothing here may do that"):
        execute(means, settings=nothing)
    assert means.solver.definitions == []


def test_an_image_without_its_package_manager_is_refused_before_all_work(means: Means) -> None:
    said = "the image can't run its package manager: it has no /usr/bin/dpkg"

    assert why_not(means, BARE) == said
    with pytest.raises(UnsupportedImageError, match=said):
        ExecuteApplier(means.job(BARE), Unpacking(BARE, Slots("test", 2))).check()
    ExecuteApplier(means.job(OPENED), Unpacking(OPENED, Slots("test", 2))).check()


def test_a_layer_is_made_of_what_the_run_changed_and_of_what_the_packages_say(means: Means) -> None:
    made = execute(means)

    files = content(made.layer)
    assert {files["usr/bin/foo"], files["usr/share/bar"]} == {b"new"}
    assert {"var/log/dpkg.log", "run/lock"} & files.keys() == set()
    assert made.explanation.effects is None
    assert made.explanation.packages is not None
    assert [package.label for package in made.explanation.packages["deb"]] == ["bar 1.0-2", "foo 1.0-2"]
    assert (made.reads, made.proven) == (frozenset(), None)


def test_the_graph_is_there_before_anything_is_asked_and_is_what_is_asked_then(means: Means) -> None:
    made = means.job(OPENED)
    applier = ExecuteApplier(made, Unpacking(OPENED, Slots("test", 2)))

    shown = applier.describe(packages_for(OPENED, means.folder))
    assert (applier.describe({}), means.solver.definitions) == (None, [])
    execute(means)
    assert shown is not None
    assert shown.digests == means.solver.definitions[0].digests
    assert applier.base == OPENED.variant.config.diff_ids


def refuses_to_pull(error: CopaError) -> tuple[Answer, list[Sequence[str]]]:
    """Answer with an error to whoever lets the builder pull."""
    tried: list[Sequence[str]] = []

    def answer(definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        tried.append(list(inputs.images))
        if "image" not in inputs.images:
            raise error
        return installs(FOO2, BAR2)(definition, inputs)

    return answer, tried


def test_an_image_that_the_builder_can_not_pull_is_sent(means: Means) -> None:
    answer, tried = refuses_to_pull(SolverError("no such host"))
    means.answer(answer)

    assert "usr/bin/foo" in content(execute(means).layer)
    assert tried == [[f"registry.example/web@{OPENED.variant.digest}"], ["image"]]
    assert means.notes.lines == ["fake can't fetch registry.example/web itself, so it is sent: no such host"]


@pytest.mark.parametrize(
    "error", [ExecutionError("exit code 1"), BuilderUnreachableError("gone"), UnsupportedBuilderError("old")]
)
def test_what_sending_the_image_would_not_mend_is_not_tried_twice(means: Means, error: CopaError) -> None:
    answer, tried = refuses_to_pull(error)
    means.answer(answer)

    with pytest.raises(type(error), match=str(error)):
        execute(means)
    assert len(tried) == 1


def test_an_image_that_is_on_a_disk_is_sent_at_once_and_tried_once(means: Means) -> None:
    local = open_in_memory(installed_files([FOO, BAR]), programs=True, location="oci:/somewhere:1")
    tried: list[Sequence[str]] = []

    def answer(_definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        tried.append(list(inputs.images))
        raise SolverError("no")

    means.answer(answer)
    with pytest.raises(SolverError, match="no"):
        execute(means, local)
    assert tried == [["image"]]


# -- a builder that upgrades by itself -----------------------------------------------------------------------

REASON = UnreachableError("deb.example doesn't answer")


def delegate(means: Means, *findings: Finding, opened: OpenedImage = OPENED, **asked: Any) -> Delegated:
    return BuilderDelegate(means.job(opened, *findings, **asked)).make("none", REASON)


@pytest.mark.parametrize(
    ("settings", "strategy", "error", "can_help"),
    [
        (NAMED, Strategy.AUTO, REASON, True),
        (NAMED, Strategy.EXEC, REASON, True),
        (NAMED, Strategy.AUTO, RepositoryError("no sources"), True),
        (NAMED, Strategy.UNPACK, REASON, False),
        (NAMED, Strategy.AUTO, SignatureError("unsigned"), False),
        (Settings(), Strategy.AUTO, REASON, False),
        (Settings(builder=None), Strategy.AUTO, REASON, False),
        (
            replace(NAMED, repository=RepositorySettings(definitions=("deb http://x y z",))),
            Strategy.AUTO,
            REASON,
            False,
        ),
    ],
)
def test_a_named_builder_may_do_better_where_only_this_machine_s_view_is_wrong(
    means: Means, settings: Settings, strategy: Strategy, error: CopaError, can_help: bool
) -> None:
    assert BuilderDelegate(means.job(OPENED, settings=settings, strategy=strategy)).can_help(error) is can_help


def test_what_the_builder_did_becomes_the_plan_and_a_layer(means: Means) -> None:
    done = delegate(means)

    assert (done.plan.strategy, done.plan.strategy_reason) == (
        Strategy.EXEC,
        "the builder upgrades by itself: deb.example doesn't answer",
    )
    assert [(str(one.key), one.candidate.version) for one in done.plan.updates] == [
        ("bar:amd64", "1.0-2"),
        ("foo:amd64", "1.0-2"),
    ]
    assert [one.installed for one in done.plan.updates] == [*OPENED.own.packages()]
    assert done.plan.matched is None
    assert {one.candidate.origin.doubt for one in done.plan.updates} == {
        "only the image's own package manager has checked it, in the builder"
    }
    assert done.composed is not None
    assert content(done.composed.layer)["usr/bin/foo"] == b"new"
    assert done.composed.explanation.packages is None
    assert done.epoch == MTIME
    assert means.notes.lines[0] == "the builder upgrades by itself: deb.example doesn't answer"


def test_whoever_names_an_epoch_gets_it(means: Means) -> None:
    assert delegate(means, epoch=7).epoch == 7


def test_where_the_builder_has_nothing_new_there_is_no_layer(means: Means) -> None:
    means.answer(lambda _definition, _inputs: [make_tar([tar_file("var/log/dpkg.log", "x")])])

    done = delegate(means)

    assert (done.plan.updates, done.composed) == ((), None)


def test_a_package_that_comes_in_new_has_nothing_installed(means: Means) -> None:
    new = replace(BAR, name="new")
    means.answer(installs(FOO2, BAR2, new))

    assert [one.installed is None for one in delegate(means).plan.updates] == [False, False, True]


FIX_FOO = finding("foo", "1.0-2")
FIX_BAR = finding("bar", "1.0-3", vulnerability_id="CVE-2026-0002")


def test_with_a_report_its_findings_are_on_the_updates_and_what_is_still_open_is_said(means: Means) -> None:
    done = delegate(means, FIX_FOO, FIX_BAR)

    assert [(one.candidate.name, one.findings) for one in done.plan.updates] == [
        ("bar", (FIX_BAR,)),
        ("foo", (FIX_FOO,)),
    ]
    assert [(one.package.name, one.reason, one.detail, one.findings) for one in done.plan.skipped] == [
        (
            "bar",
            SkipReason.NO_CANDIDATE,
            "1.0-3 or later is needed, and the builder's repositories lack it",
            (FIX_BAR,),
        )
    ]


def test_a_report_that_asks_for_nothing_asks_no_builder(means: Means) -> None:
    done = delegate(means, finding("foo", "1.0-1"))

    assert (done.composed, means.solver.definitions, means.notes.lines) == (None, [], [])


def test_a_package_on_hold_is_asked_of_nobody_and_named(means: Means) -> None:
    done = delegate(means, FIX_FOO, opened=HELD)

    assert [(one.package.name, one.reason) for one in done.plan.skipped] == [("foo", SkipReason.HELD)]
    assert (done.composed, means.solver.definitions) == (None, [])


def test_what_holds_one_back_holds_back_no_other_and_is_said_once(means: Means) -> None:
    status = installed_files([FOO, BAR2], held=["foo"])["var/lib/dpkg/status"]
    means.answer(installs(FOO, BAR2, more={"var/lib/dpkg/status": status}))
    held = replace(FIX_BAR, fixes=finding("bar", "1.0-2").fixes)

    done = delegate(means, FIX_FOO, held, opened=HELD)

    assert [one.candidate.name for one in done.plan.updates] == ["bar"]
    assert [(one.package.name, one.reason) for one in done.plan.skipped] == [("foo", SkipReason.HELD)]


@pytest.mark.parametrize(
    ("answer", "opened", "message"),
    [
        (installs(FOO2), OPENED, "bar:amd64 is not in the result any more"),
        (installs(replace(FOO2, version="0.1"), BAR2), OPENED, "foo:amd64 went back from 1.0-1 to 0.1"),
        (installs(FOO2, BAR2), HELD, "foo:amd64 is held by the image, and 1.0-2 in the result"),
    ],
)
def test_what_no_upgrade_does_is_refused(means: Means, answer: Answer, opened: OpenedImage, message: str) -> None:
    means.answer(answer)

    with pytest.raises(VerificationError) as caught:
        delegate(means, opened=opened)
    assert str(caught.value) == message


def test_what_goes_wrong_in_the_builder_is_said_with_the_reason_why_it_was_asked(means: Means) -> None:
    def fails(_definition: Definition, _inputs: Inputs) -> Sequence[bytes]:
        raise ExecutionError("apt-get: exit code 100")

    means.answer(fails)
    with pytest.raises(ExecutionError) as caught:
        delegate(means)
    assert str(caught.value) == (
        "apt-get: exit code 100 (the builder was to upgrade by itself: deb.example doesn't answer)"
    )
