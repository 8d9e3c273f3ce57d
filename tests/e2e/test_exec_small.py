# SPDX-License-Identifier: Apache-2.0
"""
Which way is taken and why, what a builder is asked, and what is done about one that fails or lies.

The builder is a fake: it answers with a layer that the test made. What real ones do is tested with real images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import copacetic
from copacetic import api
from copacetic.cache import Cache
from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import (
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
from copacetic.llb.solver import Inputs
from copacetic.oci import Platform
from copacetic.oci.layerindex import unpack_text
from copacetic.oci.location import Location
from copacetic.progress import Silent
from copacetic.request import Strategy
from copacetic.session import Session
from copacetic.updates import SkipReason
from support.builder.execcase import BAR, BAR2, FOO, FOO2, SCRIPTED, Case, installs, runnable
from support.builder.fakesolver import Answer
from support.deb.aptrepo import OS_RELEASE, Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debs import MTIME, directory
from support.image.images import Image, assert_valid_image, make_image, make_layer, make_tar, tar_file
from support.image.trees import Content, layer_tar
from support.value.replacing import replace
from unpack.dpkg_image import installed


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([SCRIPTED, BAR2]) as served:
        yield served


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


def test_what_has_another_package_s_file_is_not_sent_to_the_builder(case: Case) -> None:
    other = replace(BAR, name="other", files={"usr/share/other": file("other's")})
    thief = replace(BAR2, files={**BAR2.files, "usr/share/other": file("bar's")})
    sent: list[int] = []

    def answer(definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        sent.append(len([*inputs.directories["packages"].iterdir()]))
        return installs(SCRIPTED, BAR, other)(definition, inputs)

    case.builder(answer)
    with serve_repository([SCRIPTED, thief]) as repository:
        (platform,) = case.patch(runnable(repository, [FOO, BAR, other])).platforms

    assert platform.plan is not None
    assert (platform.plan.strategy, sent) == ("exec", [1])
    assert [(s.package.name, s.reason) for s in platform.plan.skipped] == [("bar", SkipReason.CONFLICT)]


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


USED = (
    "var/cache/apt/archives", "var/lib/apt/lists/partial", "var/lib/dpkg/parts", "var/log/foo", "var/lib/foo/empty",
    "usr/share/foo/deep/er",
)  # fmt: skip


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_a_package_owns_has_the_packages_time_both_ways(
    case: Case, repository: Repository, there: bool
) -> None:
    folders = {path: directory(mtime=MTIME - 7 * (rank + 1)) for rank, path in enumerate(USED)}
    new = replace(FOO2, files={**FOO2.files, **folders, "usr/share/foo/deep/er/file": file("x")})
    repository.publish([new])
    base = runnable(repository, [FOO])
    if there:
        base = make_image([*base.layers, make_layer([tar_file(f"{path}/kept", "x", mtime=1) for path in USED])])
    case.builder(installs(new, now=MTIME + 10_000))

    layers = {strategy: _layer(case, base, strategy) for strategy in (Strategy.EXEC, Strategy.UNPACK)}

    assert layers[Strategy.EXEC] == layers[Strategy.UNPACK]
    if not there:
        assert {path: layers[Strategy.EXEC][path] for path in USED} == {p: e.mtime for p, e in folders.items()}


def test_byte_code_is_the_same_both_ways_whatever_the_run_compiled(case: Case, repository: Repository) -> None:
    """A script compiles each module of its package anew, for the time that its source has then."""
    lib, code = "usr/lib/python3/foo", "usr/lib/python3/foo/__pycache__/{}.cpython-311.pyc"
    old = replace(FOO, files={f"{lib}/{name}.py": file(name) for name in ("same", "changes", "goes")})
    modules = {f"{lib}/{name}.py": file(f"{name} now") for name in ("changes", "comes")}
    new = replace(old, version=FOO2.version, files={f"{lib}/same.py": file("same", mtime=MTIME + 9), **modules})
    repository.publish([new])
    compiled = [tar_file(code.format(name), "compiled") for name in ("same", "changes", "goes")]
    image = make_image([*runnable(repository, [old]).layers, make_layer(compiled)])
    again = dict.fromkeys(map(code.format, ("same", "changes", "comes")), "compiled anew")
    case.builder(
        installs(new, more={**again, f"{lib}/.wh.goes.py": "", f"{lib}/__pycache__/.wh.goes.cpython-311.pyc": ""})
    )

    exec_, unpack = (case.patch(image, strategy).platforms[0] for strategy in (Strategy.EXEC, Strategy.UNPACK))

    assert exec_.after == unpack.after is not None
    assert {path for path in case.layer_paths() if path.startswith(f"{lib}/")} == {*modules}


def test_byte_code_in_a_distroless_image_goes_as_well_when_anothers_dpkg_acts_on_it(
    case: Case, repository: Repository
) -> None:
    source, code = "usr/lib/foo.py", "usr/lib/__pycache__/foo.cpython-311.pyc"
    new = replace(FOO2, files={source: file("new")})
    repository.publish([new])
    tooling = write_image(case.folder / "tooling", debian_image(repository, [FOO]))
    case.settings = replace(case.settings, tooling_image=tooling)
    more: dict[str, Content] = {
        "etc/os-release": OS_RELEASE,
        "etc/apt/sources.list": f"{repository.definition}\n",
        "etc/apt/trusted.gpg.d/tests.gpg": repository.certificate,
        code: "compiled",
    }
    base = make_layer(
        layer_tar(installed(replace(new, version=FOO.version, files={source: file("old")}), regular=False, more=more))
    )
    case.builder(lambda _definition, _inputs: [make_tar([tar_file(source, "new", mtime=MTIME)])])

    exec_, unpack = (case.patch(make_image([base]), s).platforms[0] for s in (Strategy.EXEC, Strategy.UNPACK))

    assert exec_.after == unpack.after is not None
    assert code not in case.layer_paths()


def _layer(case: Case, image: Image, strategy: Strategy) -> dict[str, int]:
    """Patch, and return when everything in the new layer was changed."""
    (platform,) = case.patch(image, strategy).platforms
    assert platform.plan is not None
    assert platform.plan.strategy == strategy
    return {unpack_text(row.path): row.mtime for row in case.layer_rows()}


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


def test_what_a_failed_run_says_names_packages_and_no_digests(case: Case, repository: Repository) -> None:
    def answer(_definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        names = sorted(path.name for path in inputs.directories["packages"].iterdir())
        raise ExecutionError(f"apt-get install: failed: dpkg: error processing archive /x/{names[0]} | /x/{names[1]}")

    case.builder(answer)

    said = str(case.refused(ExecutionError, runnable(repository, [FOO, BAR])))
    assert {word for word in said.split() if word.startswith("/x/")} == {"/x/foo_1.0-2.deb", "/x/bar_1.0-2.deb"}


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
    monkeypatch.setattr(Session, "pull_name", lambda _session, _location: "registry.example/team/app")
    image = runnable(repository, [FOO, BAR])
    case.patch(image)

    asked = [next(i for i in sources(d) if "local://" not in i) for d in solver.definitions]
    assert asked == [
        f"docker-image://registry.example/team/app@{image.descriptor.digest}",
        f"oci-layout://copacetic.invalid/image@{image.descriptor.digest}",
    ]
    assert any("can't fetch registry.example/team/app itself" in line for line in case.notes.lines)


@pytest.mark.parametrize(
    ("image", "builder", "pulls"),
    [
        ("registry.example/team/app:1", "unix:///run/b.sock", "registry.example/team/app"),
        ("registry.example/team/app:1", "tcp://builder.example:1234", "registry.example/team/app"),
        ("debian:12", "docker://", "docker.io/library/debian"),
        ("127.0.0.1:5000/app:1", "unix:///run/b.sock", "127.0.0.1:5000/app"),
        ("127.0.0.1:5000/app:1", "tcp://builder.example:1234", ""),
        ("localhost:5000/app:1", "docker://", ""),
        ("[::1]:5000/app:1", "ssh://builder.example", ""),
        ("oci:layout:1", "unix:///run/b.sock", ""),
    ],
)
def test_a_builder_fetches_what_it_reaches_and_the_rest_is_sent(
    tmp_path: Path, image: str, builder: str, pulls: str
) -> None:
    settings = api.Settings(builder=BuilderSettings(address=parse_address(builder)))

    def pull_name(**registry: object) -> str:
        changed = replace(settings, registry=replace(settings.registry, **registry))
        return Session(changed, Cache(tmp_path), Silent()).pull_name(Location.parse(image))

    assert pull_name() == pulls
    assert pull_name(plain_http=True) == ""
    assert pull_name(tls_verify=False) == ""
    assert pull_name(mirrors=(("docker.io", "mirror.example"),)) == ""


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

    text = dump(plans.graphs[plans.plans[0].image_digest])
    assert "apt-get" in text
    assert "network" in text
    assert copacetic.plan(request, settings=case.settings).graphs == {}
