# SPDX-License-Identifier: Apache-2.0
"""How a plan comes about: what is asked for, what is taken out and why, and in which way the rest is applied."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from copacetic.errors import (
    ConflictError,
    CopaError,
    FixesMissingError,
    IntegrityError,
    NeedsExecutionError,
    PackageError,
    UnsupportedImageError,
)
from copacetic.pipeline.job import Job
from copacetic.pipeline.plan import make
from copacetic.pipeline.plan.complete import refuse_incomplete
from copacetic.pipeline.plan.leftout import nothing_left_out
from copacetic.pipeline.plan.make import PreparedPlan, make_plan
from copacetic.request import Strategy
from copacetic.updates import FindingStatus, ScriptClass, ScriptVerdict, Skipped, SkipReason
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.deb.aptrepo import installed_files
from support.deb.debs import Deb
from support.image.images import Image, make_attestation, make_index
from support.value.jobs import OS_RELEASE, Offers, Told, Way, job, open_in_memory
from support.value.replacing import replace
from support.value.values import ORIGIN, candidate, finding, installed, key, plan

FILES = installed_files([Deb(name=name, version="1", architecture="amd64") for name in ("app", "bar", "idle")])
OPENED = open_in_memory(FILES)
APP, BAR = candidate("app", "2"), candidate("bar", "2")
BOTH = (finding("app", "2"), finding("bar", "2", vulnerability_id="CVE-2026-0002"))

Planner = Callable[..., PreparedPlan]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planner:
    """Plan a job with a repository and ways that do as they are told."""

    def call(asked: Job, offers: Offers, ways: Told | None = None, *, tolerant: bool = False) -> PreparedPlan:
        monkeypatch.setattr(make, "open_repositories", lambda _job, _inventory: offers)
        return make_plan(asked, (ways or Told()).seam, nothing_left_out(tolerant=tolerant))

    return call


def verdict(name: str, kind: ScriptClass, reason: str = "runs systemctl", script: str = "postinst") -> ScriptVerdict:
    return ScriptVerdict(package=key(f"{name}:amd64"), script=script, verdict=kind, reason=reason)


def needs_execution(name: str, *scripts: str) -> tuple[ScriptVerdict, ...]:
    return tuple(verdict(name, ScriptClass.NEEDS_EXECUTION, script=one) for one in scripts or ("postinst",))


def names(prepared: PreparedPlan) -> list[str]:
    return [update.candidate.name for update in prepared.plan.updates]


def left_out(prepared: PreparedPlan) -> list[tuple[str, SkipReason, str]]:
    return [(one.package.name, one.reason, one.detail) for one in prepared.plan.skipped]


# -- what is asked for ---------------------------------------------------------------------------------------


def test_a_report_asks_for_the_packages_that_it_names_and_for_no_more(planned: Planner) -> None:
    offers = Offers(APP, BAR)

    prepared = planned(job(OPENED, BOTH[0]), offers)

    assert offers.asked == [(("app",), False, {})]
    assert names(prepared) == ["app"]
    assert [update.findings for update in prepared.plan.updates] == [(BOTH[0],)]
    assert prepared.plan.matched is not None
    assert [one.status for one in prepared.plan.matched] == [FindingStatus.FIXABLE]
    assert [package.key for package in prepared.packages["deb"]] == [key("app:amd64")]
    assert prepared.newest_mtime == 1


def test_without_a_report_everything_is_asked_for_at_its_newest(planned: Planner) -> None:
    offers = Offers(APP, BAR)

    prepared = planned(job(OPENED, everything=True), offers)

    assert offers.asked == [(("app", "bar", "idle"), True, {})]
    assert names(prepared) == ["app", "bar"]
    assert prepared.plan.matched is None


def test_a_finding_whose_fix_nobody_knows_asks_for_the_newest(planned: Planner) -> None:
    offers = Offers(APP, BAR)

    planned(job(OPENED, BOTH[0], finding("bar", fixes=None)), offers)

    assert offers.asked == [(("app", "bar"), True, {})]


def test_findings_about_the_distribution_s_packages_are_about_those_of_its_type(planned: Planner) -> None:
    assert names(planned(job(OPENED, finding("app", "2", package_type="os")), Offers(APP))) == ["app"]


def test_where_nothing_is_to_be_done_no_repository_is_asked_and_the_plan_says_what_was_found(planned: Planner) -> None:
    offers = Offers(APP)

    prepared = planned(job(OPENED, finding("app", "1")), offers)

    assert offers.asked == []
    assert (prepared.plan.updates, prepared.packages, prepared.plan.strategy) == ((), {}, Strategy.UNPACK)
    assert [section.package_type for section in prepared.plan.sections] == ["deb"]
    assert prepared.plan.matched is not None
    assert [one.status for one in prepared.plan.matched] == [FindingStatus.ALREADY_FIXED]


def test_a_plan_says_which_image_it_is_about_and_where_it_looked(planned: Planner) -> None:
    made = planned(job(OPENED, *BOTH), Offers(APP, BAR)).plan

    assert (made.image, made.image_digest) == ("registry.example/web:1", OPENED.variant.digest)
    assert (str(made.platform), made.distro) == ("linux/amd64", "Debian GNU/Linux 12 (bookworm)")
    assert made.origins == (ORIGIN,)
    assert made.notes == ("resolved",)
    assert (made.strategy, made.strategy_reason) == (Strategy.UNPACK, "no script of these packages has to be run")


def test_what_an_index_says_of_an_image_is_stale_once_something_changes(planned: Planner) -> None:
    def indexed(image: Image) -> Image:
        return make_index([image, make_attestation(image)])

    opened = open_in_memory(FILES, index=indexed)

    (note,) = planned(job(opened, BOTH[0]), Offers(APP)).plan.image_notes
    assert note.startswith("the index has an attestation of this image")
    assert planned(job(opened, finding("app", "1")), Offers(APP)).plan.image_notes == ()


def test_a_way_that_has_no_use_for_the_image_is_refused_before_all_work(planned: Planner) -> None:
    offers, refusal = Offers(APP), UnsupportedImageError("the image has no shell")

    with pytest.raises(UnsupportedImageError):
        planned(job(OPENED, BOTH[0], strategy=Strategy.EXEC), offers, Told(Way(refusal=refusal)))
    assert offers.asked == []
    assert names(planned(job(OPENED, BOTH[0]), offers, Told(Way(refusal=refusal)))) == ["app"]


# -- several inventories -------------------------------------------------------------------------------------

APKS = apk_image(None, [Apk(name="musl", version="1-r0")])
TWO = open_in_memory({**FILES, **APKS, "etc/os-release": OS_RELEASE})
MUSL = finding("musl", "2-r0", package_type="apk")


def test_a_report_asks_for_packages_of_every_database_and_each_has_its_section(planned: Planner) -> None:
    offers = Offers(APP, candidate("musl", "2-r0", architecture="x86_64"))
    ways = Told(musl=needs_execution("musl"))

    prepared = planned(job(TWO, MUSL, BOTH[0]), offers, ways)

    assert [(one.package_type, [u.candidate.name for u in one.updates]) for one in prepared.plan.sections] == [
        ("deb", ["app"]),
        ("apk", ["musl"]),
    ]
    assert list(prepared.packages) == ["deb", "apk"]
    assert prepared.plan.strategy is Strategy.EXEC
    assert ways.ways[Strategy.EXEC].asked == [("deb", "apk")]


def test_what_is_taken_out_of_one_section_stays_in_no_other(planned: Planner) -> None:
    offers = Offers(APP, candidate("musl", "2-r0", architecture="x86_64"))
    ways = Told(Way(obstacle="no shell"), musl=needs_execution("musl"))

    prepared = planned(job(TWO, MUSL, BOTH[0]), offers, ways)

    deb, apk = prepared.plan.sections
    assert (len(deb.updates), deb.skipped) == (1, ())
    assert ([one.package.name for one in apk.skipped], apk.updates) == (["musl"], ())
    assert list(prepared.packages) == ["deb"]


def test_packages_of_another_database_stay_without_a_report_and_that_is_said(planned: Planner) -> None:
    prepared = planned(job(TWO, everything=True), Offers(APP))

    assert [section.package_type for section in prepared.plan.sections] == ["deb"]
    assert prepared.plan.image_notes == (
        "the apk packages in lib/apk/db/installed (1) aren't the distribution's own, and stay as they are",
    )


# -- the way -------------------------------------------------------------------------------------------------


def test_one_script_that_has_to_be_run_decides_for_all(planned: Planner) -> None:
    ways = Told(app=needs_execution("app", "preinst", "postinst"), bar=needs_execution("bar"))

    prepared = planned(job(OPENED, *BOTH), Offers(APP, BAR), ways)

    assert names(prepared) == ["app", "bar"]
    assert prepared.plan.strategy is Strategy.EXEC
    assert prepared.plan.strategy_reason == "app: preinst: runs systemctl; postinst: runs systemctl, and 1 more"
    assert prepared.excuse == ""


def test_of_one_package_that_needs_it_no_more_is_said(planned: Planner) -> None:
    prepared = planned(job(OPENED, *BOTH), Offers(APP, BAR), Told(bar=needs_execution("bar")))

    assert prepared.plan.strategy_reason == "bar: postinst: runs systemctl"


def test_where_nothing_can_be_run_it_is_left_out_with_the_reason_and_the_rest_is_planned(planned: Planner) -> None:
    offers, execute = Offers(APP, BAR), Way(obstacle="nothing may be run")

    prepared = planned(job(OPENED, *BOTH), offers, Told(execute, app=needs_execution("app")))

    assert names(prepared) == ["bar"]
    assert left_out(prepared) == [("app", SkipReason.NEEDS_EXECUTION, "postinst: runs systemctl")]
    assert prepared.plan.skipped[0].findings == (BOTH[0],)
    assert prepared.plan.strategy is Strategy.UNPACK
    assert prepared.excuse == "scripts can't be run: nothing may be run"
    assert prepared.plan.image_notes == (prepared.excuse,)
    assert offers.asked[1:] == [
        (("app", "bar"), False, {key("app:amd64"): "needs execution (postinst: runs systemctl)"})
    ]


def test_whether_anything_can_be_run_is_found_out_once_and_only_where_it_counts(planned: Planner) -> None:
    silent, asked = Way(obstacle="no"), Way(obstacle="no")
    offers = Offers(APP, BAR, needs={"bar": [candidate("new", "1")]})

    planned(job(OPENED, *BOTH), offers, Told(silent))
    prepared = planned(job(OPENED, *BOTH), offers, Told(asked, app=needs_execution("app"), new=needs_execution("new")))

    assert (silent.asked, asked.asked) == ([], [("deb",)])
    assert names(prepared) == []


def test_who_forbids_to_run_anything_is_told_what_that_leaves_out(planned: Planner) -> None:
    execute = Way()

    prepared = planned(
        job(OPENED, *BOTH, strategy=Strategy.UNPACK), Offers(APP, BAR), Told(execute, app=needs_execution("app"))
    )

    assert names(prepared) == ["bar"]
    assert prepared.excuse == "--strategy unpack forbids to run anything"
    assert prepared.plan.strategy_reason == "--strategy unpack asks for it"
    assert execute.asked == []


def test_who_asks_to_run_something_gets_it_whether_or_not_it_has_to_be(planned: Planner) -> None:
    prepared = planned(job(OPENED, *BOTH, strategy=Strategy.EXEC), Offers(APP, BAR), Told(app=needs_execution("app")))

    assert names(prepared) == ["app", "bar"]
    assert (prepared.plan.strategy, prepared.plan.strategy_reason) == (Strategy.EXEC, "--strategy exec asks for it")


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.EXEC])
def test_a_package_that_has_no_place_in_the_image_is_left_out_whichever_way(
    planned: Planner, strategy: Strategy
) -> None:
    refused = (verdict("app", ScriptClass.REFUSED, "it isn't for this architecture"), *needs_execution("app"))

    prepared = planned(job(OPENED, *BOTH, strategy=strategy), Offers(APP, BAR), Told(app=refused))

    assert names(prepared) == ["bar"]
    assert left_out(prepared) == [("app", SkipReason.UNSUPPORTED, "it isn't for this architecture")]


def test_what_depends_on_a_package_that_is_left_out_is_left_out_with_its_reason(planned: Planner) -> None:
    offers = Offers(APP, BAR, needs={"app": [candidate("new", "1")]})

    prepared = planned(job(OPENED, *BOTH), offers, Told(Way(obstacle="no"), new=needs_execution("new")))

    because = "needs execution (postinst: runs systemctl)"
    assert names(prepared) == ["bar"]
    assert left_out(prepared) == [("app", SkipReason.DEPENDENCY, because)]
    assert f"new 1 is left out: {because}" in prepared.plan.notes


# -- faults --------------------------------------------------------------------------------------------------


def fault(error: CopaError, package: str = "app:amd64", *also: CopaError) -> CopaError:
    error.package, error.also = key(package), also
    return error


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (PackageError("no ar archive"), SkipReason.BROKEN, "no ar archive"),
        (PackageError("no ar archive", hint="repair it"), SkipReason.BROKEN, "no ar archive (repair it)"),
        (ConflictError("etc is a file"), SkipReason.CONFLICT, "etc is a file"),
    ],
)
def test_a_package_that_something_is_wrong_with_is_left_out_by_name(
    planned: Planner, error: CopaError, reason: SkipReason, detail: str
) -> None:
    offers = Offers(APP, BAR)

    prepared = planned(job(OPENED, *BOTH), offers, Told(app=fault(error)))

    assert names(prepared) == ["bar"]
    assert left_out(prepared) == [("app", reason, detail)]
    assert offers.asked[1][2] == {key("app:amd64"): detail}


def test_faults_that_were_found_together_are_left_out_together(planned: Planner) -> None:
    other = fault(PackageError("bar is torn"), "bar:amd64")
    ways = Told(app=fault(PackageError("app is torn"), "app:amd64", other))

    prepared = planned(job(OPENED, *BOTH), Offers(APP, BAR), ways)

    assert left_out(prepared) == [("app", SkipReason.BROKEN, "app is torn"), ("bar", SkipReason.BROKEN, "bar is torn")]
    assert ways.judged == [("app", "bar"), ()]


def test_a_fault_of_no_planned_package_ends_the_plan(planned: Planner) -> None:
    with pytest.raises(PackageError, match="whose"):
        planned(job(OPENED, *BOTH), Offers(APP, BAR), Told(app=PackageError("whose is it?")))


def test_a_file_that_is_not_what_the_index_promises_ends_the_plan_unless_that_is_tolerated(planned: Planner) -> None:
    def ways() -> Told:
        return Told(app=fault(IntegrityError("app.deb has another SHA-256")))

    with pytest.raises(IntegrityError) as caught:
        planned(job(OPENED, *BOTH), Offers(APP, BAR), ways())
    assert caught.value.hint == "--ignore-errors leaves this package as it is, by name"

    prepared = planned(job(OPENED, *BOTH), Offers(APP, BAR), ways(), tolerant=True)
    assert left_out(prepared) == [("app", SkipReason.BROKEN, "app.deb has another SHA-256")]


class Stubborn(Offers):
    """Offers what is to stay, again and again."""

    def resolve(self, *arguments: object, **named: object):  # type: ignore[no-untyped-def]
        return super().resolve(*arguments, **{**named, "frozen": {}})  # type: ignore[arg-type]


def test_a_search_that_comes_to_no_end_is_ended(planned: Planner) -> None:
    offers = Stubborn(APP, BAR)

    with pytest.raises(FixesMissingError, match="no set of updates was found"):
        planned(job(OPENED, *BOTH), offers, Told(Way(obstacle="no"), app=needs_execution("app")))
    assert len(offers.asked) == make.MAX_ROUNDS


# -- what may be left out ------------------------------------------------------------------------------------


def skipped(reason: SkipReason, name: str = "app") -> Skipped:
    return Skipped(package=installed(name, "1"), reason=reason, detail="so it is")


KEPT_BACK = {SkipReason.HELD, SkipReason.DEPENDENCY, SkipReason.NO_CANDIDATE, SkipReason.CONFLICT, SkipReason.VENDOR}


@pytest.mark.parametrize("reason", SkipReason)
def test_without_a_report_only_what_an_upgrade_would_not_keep_back_is_missed(reason: SkipReason) -> None:
    made = plan(skipped=(skipped(reason),))

    if reason not in KEPT_BACK:
        with pytest.raises(FixesMissingError, match="app 1 can't be updated: so it is"):
            refuse_incomplete(made, "")
    else:
        refuse_incomplete(made, "")
    with pytest.raises(FixesMissingError):
        refuse_incomplete(replace(made, matched=()), "")


def test_several_that_are_missed_are_counted() -> None:
    made = plan(matched=(), skipped=(skipped(SkipReason.HELD), skipped(SkipReason.BROKEN, "bar")))

    with pytest.raises(FixesMissingError) as caught:
        refuse_incomplete(made, "")
    assert str(caught.value) == "app 1 can't be updated: so it is (and 1 more)"
    assert not isinstance(caught.value, NeedsExecutionError)


def test_where_all_that_is_missed_has_to_be_run_the_error_says_why_it_can_not() -> None:
    made = plan(skipped=(skipped(SkipReason.NEEDS_EXECUTION), skipped(SkipReason.HELD)))

    with pytest.raises(NeedsExecutionError) as caught:
        refuse_incomplete(made, "no builder")
    assert str(caught.value) == "app 1 can't be updated: so it is"
    assert caught.value.hint == f"no builder; {NeedsExecutionError.hint}"
