# SPDX-License-Identifier: Apache-2.0
"""
Which way is taken and why, what a builder is asked, and what is done about one that fails or lies.

The builder is a fake: it answers with a layer that the test made. What real ones do is tested with real images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import copacetic
from copacetic import api
from copacetic.errors import (
    BuilderUnreachableError,
    CopaError,
    ExecutionError,
    NeedsExecutionError,
    PlanFileError,
    SolverError,
    UnsupportedBuilderError,
    UnsupportedImageError,
    VerificationError,
)
from copacetic.llb.definition import Definition
from copacetic.llb.graph import SourceOp
from copacetic.llb.solver import Capabilities, Inputs
from copacetic.oci import Platform
from copacetic.oci.layout import LayoutSource
from copacetic.patch.request import Strategy
from copacetic.progress import Silent
from support.aptrepo import Deb, Repository, debian_image, file, installed_files, serve_repository, write_image
from support.debs import MTIME
from support.fakesolver import Answer, FakeSolver
from support.images import Image, assert_valid_image, make_image, make_layer, make_tar, tar_file
from support.programs import program_items

RUNS = {"postinst": "#!/bin/sh\nset -e\nother --run\n"}
FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = replace(FOO, version="1.0-2", files={"usr/bin/foo": file("new", 0o755)})
SCRIPTED = replace(FOO2, scripts=RUNS)
BAR = Deb(name="bar", version="1.0-1", architecture="amd64", files={"usr/share/bar": file("old")})
BAR2 = replace(BAR, version="1.0-2", files={"usr/share/bar": file("new")})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([SCRIPTED, BAR2]) as served:
        yield served


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def runnable(repository: Repository, debs: Sequence[Deb], **more: object) -> Image:
    """An image that has the programs which a run needs, as files."""
    base = debian_image(repository, debs, **more)  # type: ignore[arg-type]
    return make_image(
        [*base.layers, make_layer([*program_items(), tar_file("usr/bin/other", "a program", mode=0o755)])],
        labels={"note": "$(touch /pwned); `id`"},
    )


def installs(*debs: Deb, more: Mapping[str, bytes | str] | None = None) -> Answer:
    """Answer as if these packages had been installed, with what every run leaves behind."""
    items = [tar_file(path, data, mode=0o755 if "/bin/" in path or "postinst" in path else 0o644, mtime=MTIME)
             for path, data in {**installed_files(debs), **(more or {})}.items()]  # fmt: skip
    items += [tar_file("var/log/dpkg.log", "yesterday"), tar_file("run/lock", "")]
    layer = make_tar(items)
    return lambda _definition, _inputs: [layer]


class Case:
    """One image, and a builder that may be there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.solver: FakeSolver | None = None
        self.notes = Notes()
        self.settings = api.Settings(cache_dir=folder / "cache")
        monkeypatch.setattr(api, "open_solver", self._open)

    def _open(self, *_means: object) -> FakeSolver:
        if self.solver is None:
            raise BuilderUnreachableError("no builder answers: unix:///nowhere")
        return self.solver

    @property
    def target(self) -> Path:
        return self.folder / "out"

    def builder(self, answer: Answer, **capabilities: object) -> FakeSolver:
        self.solver = FakeSolver(answer, capabilities=Capabilities(name="fake", **capabilities))  # type: ignore[arg-type]
        return self.solver

    def patch(self, image: Image, strategy: Strategy = Strategy.AUTO, **more: object) -> copacetic.Outcome:
        location = write_image(self.folder / "layout", image)
        request = copacetic.PatchRequest(
            image=location, destination=f"oci:{self.target}:1", strategy=strategy, **more  # type: ignore[arg-type]
        )  # fmt: skip
        return copacetic.patch(request, settings=self.settings, progress=self.notes)

    def refused(
        self, kind: type[CopaError], image: Image, strategy: Strategy = Strategy.AUTO, **more: object
    ) -> CopaError:
        with pytest.raises(kind) as caught:
            self.patch(image, strategy, **more)
        assert not self.target.exists(), "something was published"
        assert "\n" not in str(caught.value)
        return caught.value

    def layer_paths(self) -> set[str]:
        from copacetic.compression import decompress
        from support.trees import scan_tar

        layer = json.loads(LayoutSource(self.target, "1").root()[1])["layers"][-1]
        blob = (self.target / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
        return {row.path for row in scan_tar(decompress(blob, limit=1 << 24)).rows}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_a_script_that_has_to_be_run_sends_all_packages_to_the_builder(case: Case, repository: Repository) -> None:
    solver = case.builder(installs(SCRIPTED, BAR2))
    image = runnable(repository, [FOO, BAR])

    outcome = case.patch(image)

    (platform,) = outcome.platforms
    assert platform.plan is not None
    assert platform.plan.strategy == "exec"
    assert platform.plan.strategy_reason.startswith("foo: postinst: line 3, 'other --run'")
    assert [u.candidate.name for u in platform.plan.updates] == ["bar", "foo"]
    assert platform.verified
    after = assert_valid_image(case.target, "1")
    assert after["layers"][:-1] == image.document["layers"]
    assert len(after["layers"]) == len(image.layers) + 1
    paths = case.layer_paths()
    assert {"usr/bin/foo", "usr/share/bar"} <= paths
    assert not {"var/log/dpkg.log", "run/lock"} & paths
    assert solver.closed


def test_the_builder_gets_the_packages_by_digest_and_nothing_of_the_image_in_words(
    case: Case, repository: Repository
) -> None:
    held: dict[str, bytes] = {}

    def answer(definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        held.update({path.name: path.read_bytes() for path in inputs.directories["packages"].iterdir()})
        return installs(SCRIPTED, BAR2)(definition, inputs)

    solver = case.builder(answer)
    case.patch(runnable(repository, [FOO, BAR]))

    assert sorted(held.values()) == sorted([SCRIPTED.to_bytes(), BAR2.to_bytes()])
    everything = b"".join(solver.definitions[0].operations)
    assert b"touch /pwned" not in everything
    assert b"foo" not in everything


def test_where_nothing_has_to_be_run_no_builder_is_looked_for(case: Case, repository: Repository) -> None:
    repository.publish([FOO2, BAR2])

    (platform,) = case.patch(runnable(repository, [FOO, BAR])).platforms

    assert platform.plan is not None
    assert (platform.plan.strategy, platform.plan.strategy_reason) == (
        "unpack",
        "no script of these packages has to be run",
    )


def test_both_ways_give_the_same_layer_where_scripts_do_nothing(case: Case, repository: Repository) -> None:
    repository.publish([FOO2, BAR2])
    case.builder(installs(FOO2, BAR2))
    image = runnable(repository, [FOO, BAR])

    digests = []
    for strategy in (Strategy.EXEC, Strategy.UNPACK):
        (platform,) = case.patch(image, strategy).platforms
        assert platform.plan is not None
        assert platform.plan.strategy == strategy
        assert platform.plan.strategy_reason == f"--strategy {strategy} asks for it"
        digests.append(platform.after)

    assert digests[0] == digests[1]


def test_without_a_builder_the_package_is_refused_by_name_with_the_reason(case: Case, repository: Repository) -> None:
    error = case.refused(NeedsExecutionError, runnable(repository, [FOO, BAR]))

    assert "foo 1.0-1 can't be updated: postinst: line 3, 'other --run'" in str(error)
    assert "scripts can't be run: no builder answers: unix:///nowhere" in (error.hint or "")
    assert "--ignore-errors" in (error.hint or "")


def test_without_a_builder_the_rest_is_patched_when_asked(case: Case, repository: Repository) -> None:
    (platform,) = case.patch(runnable(repository, [FOO, BAR]), ignore_errors=True).platforms

    assert platform.plan is not None
    assert platform.plan.strategy == "unpack"
    assert [u.candidate.name for u in platform.plan.updates] == ["bar"]
    assert [s.package.name for s in platform.plan.skipped] == ["foo"]


def test_unpack_runs_nothing_even_with_a_builder(case: Case, repository: Repository) -> None:
    solver = case.builder(installs(SCRIPTED, BAR2))

    error = case.refused(NeedsExecutionError, runnable(repository, [FOO, BAR]), Strategy.UNPACK)

    assert solver.definitions == []
    assert "--strategy unpack forbids to run anything" in (error.hint or "")


def test_an_image_that_has_no_dpkg_is_refused_before_a_builder_is_asked(case: Case, repository: Repository) -> None:
    solver = case.builder(installs(SCRIPTED, BAR2))
    image = make_image(
        [*debian_image(repository, [FOO, BAR]).layers, make_layer([tar_file("usr/bin/other", "a program", mode=0o755)])]
    )

    error = case.refused(UnsupportedImageError, image, Strategy.EXEC)
    assert "it has no /usr/bin/dpkg" in str(error)
    error = case.refused(NeedsExecutionError, image)
    assert "it has no /usr/bin/dpkg" in (error.hint or "")
    assert solver.definitions == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (installs(replace(SCRIPTED, version="0.9"), BAR2), "foo:amd64: expected 1.0-2, found 0.9"),
        (installs(SCRIPTED), "bar:amd64: expected 1.0-2, found nothing"),
        (installs(SCRIPTED, BAR2, Deb(name="extra")), "extra:all: expected nothing, found 1.0"),
        (installs(SCRIPTED, BAR2, more={"usr/bin/foo": "other"}), "foo: usr/bin/foo has the md5"),
        (lambda _d, _i: [make_tar([tar_file("etc/new", "x")])], "bar:amd64: expected 1.0-2, found 1.0-1"),
        (lambda _d, _i: [], "bar:amd64: expected 1.0-2, found 1.0-1"),
    ],
)  # fmt: skip
def test_a_result_that_isnt_the_plans_is_never_published(
    case: Case, repository: Repository, answer: Answer, message: str
) -> None:
    case.builder(answer)

    assert message in str(case.refused(VerificationError, runnable(repository, [FOO, BAR])))


def raises(error: Exception) -> Answer:
    def answer(_definition: Definition, _inputs: Inputs) -> Sequence[bytes]:
        raise error

    return answer


@pytest.mark.parametrize(
    "error",
    [
        ExecutionError("apt-get install 2 packages failed with exit code 100: E: broken"),
        SolverError("the builder went away"),
        UnsupportedBuilderError("no overlayfs"),
    ],
)
def test_a_builder_that_fails_publishes_nothing(case: Case, repository: Repository, error: CopaError) -> None:
    case.builder(raises(error))

    assert case.refused(type(error), runnable(repository, [FOO, BAR])) is error


@pytest.mark.parametrize(
    ("capabilities", "message"),
    [
        ({"merge_diff": False, "reason": "the native snapshotter can't"}, "the native snapshotter can't"),
        ({"platforms": (Platform.parse("linux/arm64"),)}, "can't run linux/amd64: it has linux/arm64"),
    ],
)
def test_a_builder_that_cant_is_said_to_be_so(
    case: Case, repository: Repository, capabilities: dict[str, object], message: str
) -> None:
    solver = case.builder(installs(SCRIPTED, BAR2), **capabilities)
    image = runnable(repository, [FOO, BAR])

    assert message in str(case.refused(UnsupportedBuilderError, image, Strategy.EXEC))
    assert message in (case.refused(NeedsExecutionError, image).hint or "")
    assert solver.definitions == []


def test_an_image_that_the_builder_cant_fetch_is_sent(
    case: Case, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        if any(identifier.startswith("docker-image://") for identifier in sources(definition)):
            raise SolverError("registry.example: no route to host")
        return installs(SCRIPTED, BAR2)(definition, inputs)

    solver = case.builder(answer)
    monkeypatch.setattr(api._Means, "_pull_name", lambda _means, _location: "registry.example/team/app")
    image = runnable(repository, [FOO, BAR])
    case.patch(image)

    asked = [next(i for i in sources(d) if "local://" not in i) for d in solver.definitions]
    assert asked == [
        f"docker-image://registry.example/team/app@{image.descriptor.digest}",
        f"oci-layout://copacetic.invalid/image@{image.descriptor.digest}",
    ]
    assert any("can't fetch registry.example/team/app itself" in line for line in case.notes.lines)


def sources(definition: Definition) -> list[str]:
    return [vertex.identifier for vertex in definition.vertices if isinstance(vertex, SourceOp)]


def test_a_proven_layer_is_taken_again_for_the_same_image_and_no_other(case: Case, repository: Repository) -> None:
    solver = case.builder(installs(SCRIPTED, BAR2))
    image = runnable(repository, [FOO, BAR])
    first = case.patch(image)
    again = case.patch(image)

    assert len(solver.definitions) == 1
    assert first.platforms[0].after == again.platforms[0].after
    case.patch(runnable(repository, [FOO, BAR], more={"srv/app": "another image"}))
    assert len(solver.definitions) == 2


def test_a_stored_plan_is_applied_the_way_it_says(case: Case, repository: Repository) -> None:
    repository.publish([FOO2, BAR2])
    solver = case.builder(installs(FOO2, BAR2))
    image = runnable(repository, [FOO, BAR])
    location = write_image(case.folder / "layout", image)
    request = copacetic.PatchRequest(image=location, strategy=Strategy.EXEC)
    plan = case.folder / "plan.json"
    plan.write_bytes(copacetic.plan(request, settings=case.settings).to_json())

    (platform,) = case.patch(image, plan_file=plan).platforms

    assert platform.plan is not None
    assert (platform.plan.strategy, platform.plan.strategy_reason) == ("exec", "--strategy exec asks for it")
    assert len(solver.definitions) == 1
    document = plan.read_text()
    assert '"strategyReason": "--strategy exec asks for it"' in document
    plan.write_text(document.replace('"strategy": "exec"', '"strategy": "guess"'))
    with pytest.raises(PlanFileError, match="'guess' is not a strategy"):
        case.patch(image, plan_file=plan)


def test_a_plans_graph_can_be_looked_at_without_a_builder(case: Case, repository: Repository) -> None:
    from copacetic.llb.dump import dump

    location = write_image(case.folder / "layout", runnable(repository, [FOO, BAR]))
    request = copacetic.PatchRequest(image=location, strategy=Strategy.EXEC)

    plans = copacetic.plan(request, settings=case.settings, graphs=True)

    text = dump(plans.graphs["linux/amd64"])
    assert "apt-get" in text
    assert "network" in text
    assert copacetic.plan(request, settings=case.settings).graphs == {}


# -- upgrades that only the builder can plan -----------------------------------------------------------------------


@pytest.fixture
def unreachable(case: Case, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Image]:
    """An image whose repository is out of reach from here, and a builder that was named."""
    from copacetic.buildkit.address import parse_address
    from copacetic.buildkit.settings import BuilderSettings

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

    from copacetic.buildkit.address import parse_address
    from copacetic.buildkit.settings import BuilderSettings
    from copacetic.errors import SignatureError

    case.settings = replace(case.settings, builder=BuilderSettings(address=parse_address("unix:///run/named.sock")))
    solver = case.builder(installs(FOO2, BAR2))
    image = runnable(repository, [FOO, BAR])
    repository.key = Tsk.generate("Somebody else <else@example.com>")
    repository.publish()

    case.refused(SignatureError, image)
    assert solver.definitions == []
