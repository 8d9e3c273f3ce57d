# SPDX-License-Identifier: Apache-2.0
"""A plan from a file on an image in memory: it is for what the image has, and trusted for as little as it can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from copacetic.errors import FixesMissingError, PlanFileError, RepositoryError, UnsupportedImageError
from copacetic.pipeline.plan import stored
from copacetic.pipeline.plan.make import PreparedPlan
from copacetic.pipeline.plan.stored import prepare_stored
from copacetic.request import Strategy
from copacetic.updates import Candidate, Origin, Plan, PlannedUpdate, ScriptClass, ScriptVerdict, Section
from support.deb.aptrepo import installed_files
from support.deb.debs import Deb
from support.value.jobs import Offers, Told, Way, job, open_in_memory
from support.value.replacing import replace
from support.value.values import ORIGIN, candidate, installed, key, plan

OPENED = open_in_memory(
    installed_files([Deb(name="app", version="1", architecture="amd64"), Deb(name="data", version="1")])
)
APP = PlannedUpdate(installed=installed("app", "1"), candidate=candidate("app", "2"))
NEW = PlannedUpdate(installed=None, candidate=candidate("new", "1"))
RUNS = ScriptVerdict(
    package=key("app:amd64"), script="postinst", verdict=ScriptClass.NEEDS_EXECUTION, reason="runs systemctl"
)

Prepare = Callable[..., PreparedPlan]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare a plan with a repository and ways that do as they are told."""

    def call(made: Plan, offers: Offers | None = None, ways: Told | None = None, **asked: object) -> PreparedPlan:
        offered = offers or Offers(*(update.candidate for update in made.updates))
        monkeypatch.setattr(stored, "open_repositories", lambda _job, _inventory: offered)
        return prepare_stored(made, job(OPENED, **asked), (ways or Told()).seam)  # type: ignore[arg-type]

    return call


def elsewhere(one: Candidate) -> Candidate:
    return replace(one, url="http://mirror.example/app.deb", origin=replace(ORIGIN, uri="http://mirror.example"))


def test_what_the_plan_names_is_taken_with_what_the_image_says_of_it(prepare: Prepare) -> None:
    prepared = prepare(plan(APP, NEW))

    old, new = prepared.plan.updates
    assert old.installed == OPENED.own.packages()[0]
    assert old.installed is not None
    assert (old.installed.record is None, new.installed) == (False, None)
    assert [package.key for package in prepared.packages["deb"]] == [key("app:amd64"), key("new:amd64")]
    assert prepared.newest_mtime == 2


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (replace(APP, installed=installed("app", "0.9")), "app:amd64 is 1, the plan starts from 0.9"),
        (replace(APP, installed=None), "app:amd64 is 1, the plan starts from nothing"),
        (replace(NEW, installed=installed("new", "0.9")), "new:amd64 is not installed, the plan starts from 0.9"),
    ],
)
def test_an_image_that_is_not_as_it_was_planned_for_is_refused(
    prepare: Prepare, update: PlannedUpdate, message: str
) -> None:
    with pytest.raises(FixesMissingError) as caught:
        prepare(plan(update))
    assert str(caught.value) == message


def test_a_package_that_ceases_to_be_for_every_architecture_is_found_by_its_name(prepare: Prepare) -> None:
    update = PlannedUpdate(installed=installed("data", "1", architecture="all"), candidate=candidate("data", "2"))

    (found,) = prepare(plan(update)).plan.updates

    assert found.installed is not None
    assert found.installed.key == key("data:all")


def test_a_plan_for_packages_that_the_image_has_none_of_is_refused(prepare: Prepare) -> None:
    made = replace(plan(APP), sections=(Section(package_type="apk", updates=(APP,)),))

    with pytest.raises(UnsupportedImageError, match="the plan is for apk packages, the image has deb"):
        prepare(made)


def test_a_plan_without_updates_asks_nobody(prepare: Prepare) -> None:
    prepared = prepare(plan())

    assert (prepared.plan.updates, prepared.packages, prepared.newest_mtime) == ((), {}, 0)
    assert prepared.plan.origins == (ORIGIN,)


# -- who vouches ---------------------------------------------------------------------------------------------


def test_addresses_and_origins_are_the_signed_indexes_own_and_not_the_file_s(prepare: Prepare) -> None:
    prepared = prepare(plan(APP), Offers(elsewhere(APP.candidate)))

    (update,) = prepared.plan.updates
    assert update.candidate.url == "http://mirror.example/app.deb"
    assert [origin.uri for origin in prepared.plan.origins] == ["http://mirror.example"]


def test_a_package_that_no_signed_index_has_is_refused_by_its_digest(prepare: Prepare) -> None:
    with pytest.raises(PlanFileError) as caught:
        prepare(plan(APP, NEW), Offers(APP.candidate))
    message = f"no signed index has the plan's new 1 of 1234 bytes with the SHA-256 {'ab' * 32}"
    assert (str(caught.value), "--trust-plan" in str(caught.value.hint)) == (message, True)

    with pytest.raises(PlanFileError, match=r"has the plan's app 2 of .* \(and 1 more\)$"):
        prepare(plan(APP, NEW), Offers())


class Silent(Offers):
    """Repositories that say nothing."""

    def vouch(self, candidates: object) -> dict[Candidate, Candidate]:
        raise RepositoryError("nobody answers", hint="try again")


def test_where_nobody_can_vouch_the_error_says_so_and_how_to_go_on(prepare: Prepare) -> None:
    with pytest.raises(RepositoryError) as caught:
        prepare(plan(APP), Silent())

    assert str(caught.value) == "nothing vouches for the plan's packages: nobody answers"
    assert str(caught.value.hint).startswith("try again; plan again")


@pytest.mark.parametrize(("updates", "count"), [((APP,), "1 package"), ((APP, NEW), "2 packages")])
def test_a_plan_that_is_taken_at_its_word_counts_as_not_verified(
    prepare: Prepare, updates: tuple[PlannedUpdate, ...], count: str
) -> None:
    made = prepare(plan(*updates), Silent(), trust_plan=True).plan

    (origin,) = {update.candidate.origin for update in made.updates}
    assert (origin.signed_by, origin.doubt) == ("", f"{count} vouched for by the plan alone: allowed by --trust-plan")
    assert made.origins == made.doubtful == (origin,)


def test_each_origin_is_named_once(prepare: Prepare) -> None:
    other: Origin = replace(ORIGIN, suite="bookworm")
    more = PlannedUpdate(installed=None, candidate=replace(candidate("more", "1"), origin=other))

    assert prepare(plan(APP, more, NEW)).plan.origins == (ORIGIN, other)


# -- the way -------------------------------------------------------------------------------------------------


def test_scripts_are_judged_anew_whatever_the_file_says_of_them(prepare: Prepare) -> None:
    harmless = replace(RUNS, verdict=ScriptClass.HARMLESS)
    prepared = prepare(plan(replace(APP, scripts=(harmless,))), ways=Told(app=(RUNS,)))

    assert prepared.plan.updates[0].scripts == (RUNS,)
    assert (prepared.plan.strategy, prepared.plan.strategy_reason) == (Strategy.EXEC, "app: postinst: runs systemctl")


def test_a_plan_to_run_something_is_kept_with_its_reason(prepare: Prepare) -> None:
    made = replace(plan(APP), strategy=Strategy.EXEC, strategy_reason="so it was planned")

    kept, other = prepare(made), prepare(made, strategy=Strategy.UNPACK)

    assert (kept.plan.strategy, kept.plan.strategy_reason) == (Strategy.EXEC, "so it was planned")
    assert (other.plan.strategy, other.plan.strategy_reason) == (
        Strategy.UNPACK,
        "--strategy unpack asks for it",
    )


def test_a_script_that_can_not_be_run_here_leaves_the_way_to_what_unpacks(prepare: Prepare) -> None:
    execute = Way(obstacle="nothing may be run")

    assert prepare(plan(APP), ways=Told(execute, app=(RUNS,))).plan.strategy is Strategy.UNPACK
    assert execute.asked == [("deb",)]
