# SPDX-License-Identifier: Apache-2.0
"""
An image into which packages of another distribution were copied, with the database that lists them.

Both have a package `foo`, so that whoever goes by the name alone takes one for the other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import copacetic
from copacetic.compression import decompress
from copacetic.connect.address import parse_address
from copacetic.connect.settings import BuilderSettings
from copacetic.errors import FixesMissingError, NeedsExecutionError, UnsupportedImageError, VerificationError
from copacetic.llb.definition import Definition
from copacetic.llb.solver import Inputs
from copacetic.oci.layout import LayoutSource
from copacetic.oci.tree import TreeBuilder
from copacetic.request import Strategy
from copacetic.tables import inspection_table, plan_table
from copacetic.updates import SkipReason
from support.apk import apkrepo
from support.apk.apkrepo import apk_image, serve_apks
from support.apk.apks import Apk
from support.builder.execcase import RUNS, Case
from support.deb import aptrepo
from support.deb.aptrepo import Deb, installed_files, serve_repository
from support.deb.debs import file
from support.image.images import Image, make_image, make_layer, open_layers, tar_file
from support.image.programs import program_items
from support.value.replacing import replace

DEB = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old deb", 0o755)})
DEB2 = replace(DEB, version="1.0-2", files={"usr/bin/foo": file("new deb", 0o755)})
APK = Apk(name="foo", version="1-r0", files={"opt/foo": file("old apk", 0o755), "opt/more": file("more")})
APK2 = replace(APK, version="2-r0", files={"opt/foo": file("new apk", 0o755), "opt/more": file("more")})
TOOLS = Apk(name="apk-tools", version="3.0.3-r0", files={"sbin/apk": file("x", 0o755)})
DEBIAN, ALPINE = aptrepo.OS_RELEASE, apkrepo.OS_RELEASE
FIXES = {"debian": ("CVE-1", "1.0-1", "1.0-2"), "alpine": ("CVE-2", "1-r0", "2-r0")}
COPIED = "the {} packages in {} ({}) aren't the distribution's own, and stay as they are"


@dataclass
class Two:
    """Two repositories, and images that name both."""

    debs: aptrepo.Repository
    apks: apkrepo.ApkRepository

    def image(self, os_release: str = DEBIAN, **more: str) -> Image:
        files = {
            **apk_image(self.apks, [APK, TOOLS]),
            **installed_files([DEB]),
            "etc/apt/sources.list": f"{self.debs.definition}\n",
            "etc/apt/trusted.gpg.d/tests.gpg": self.debs.certificate,
            "etc/os-release": os_release,
            **more,
        }
        modes = {"usr/bin/foo": 0o755, "opt/foo": 0o755}
        items = [tar_file(path, data, mode=modes.get(path, 0o644)) for path, data in files.items()]
        programs = [*program_items(), *(tar_file(path, "x", mode=0o755) for path in ("sbin/apk", "usr/bin/other"))]
        return make_image([make_layer(items), make_layer(programs)])


@pytest.fixture
def two() -> Iterator[Two]:
    with serve_repository([DEB2]) as debs, serve_apks([APK2]) as apks:
        yield Two(debs, apks)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def report(path: Path, *families: str) -> Path:
    """As a scanner would write it that looks into both databases."""
    results = []
    for family in families:
        vulnerability, installed, fixed = FIXES[family]
        row = {"VulnerabilityID": vulnerability, "PkgName": "foo", "InstalledVersion": installed, "Severity": "HIGH"}
        results.append({"Class": "os-pkgs", "Type": family, "Vulnerabilities": [{**row, "FixedVersion": fixed}]})
    path.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))
    return path


def versions(outcome: copacetic.Outcome) -> dict[str, list[str]]:
    """Return what was planned, by type of package."""
    (platform,) = outcome.platforms
    assert platform.plan is not None
    sections = platform.plan.sections
    return {section.package_type: [update.candidate.version for update in section.updates] for section in sections}


def layer_of(case: Case) -> bytes:
    layer = json.loads(LayoutSource(case.target, "1").root()[1])["layers"][-1]
    blob = (case.target / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
    return decompress(blob, limit=1 << 24)


@pytest.mark.parametrize(
    ("os_release", "planned", "there"),
    [
        (DEBIAN, {"deb": ["1.0-2"]}, {"usr/bin/foo"}),
        ("ID=other\nID_LIKE=debian\n", {"deb": ["1.0-2"]}, {"usr/bin/foo"}),
        ("ID=other\n", {"deb": ["1.0-2"]}, {"usr/bin/foo"}),
        (ALPINE, {"apk": ["2-r0"]}, {"opt/foo"}),
    ],
)
def test_without_a_report_the_distribution_s_own_packages_are_updated_and_the_others_named(
    case: Case, two: Two, os_release: str, planned: dict[str, list[str]], there: set[str]
) -> None:
    outcome = case.patch(two.image(os_release))

    assert versions(outcome) == planned
    assert case.layer_paths() & {"usr/bin/foo", "opt/foo"} == there
    (platform,) = outcome.platforms
    assert platform.plan is not None
    others = ("apk", "lib/apk/db/installed", 2) if "deb" in planned else ("deb", "var/lib/dpkg/status", 1)
    assert platform.plan.image_notes == (COPIED.format(*others),)


def test_a_report_asks_for_what_it_names_whichever_database_lists_it(case: Case, two: Two, tmp_path: Path) -> None:
    outcome = case.patch(two.image(), reports=(report(tmp_path / "r.json", "alpine", "debian"),))

    assert versions(outcome) == {"deb": ["1.0-2"], "apk": ["2-r0"]}
    (platform,) = outcome.platforms
    assert platform.plan is not None
    assert platform.verified
    assert [found.finding.vulnerability_id for found in platform.closed] == ["CVE-2", "CVE-1"]
    assert platform.plan.notes == ()
    (fs,) = open_layers(f"oci:{case.target}:1", tmp_path / "read")
    assert (fs.read("usr/bin/foo", limit=99), fs.read("opt/foo", limit=99)) == (b"new deb", b"new apk")
    assert b"V:2-r0\n" in fs.read("lib/apk/db/installed", limit=9999)
    assert b"Version: 1.0-2\n" in fs.read("var/lib/dpkg/status", limit=9999)
    assert "opt/more" not in case.layer_paths()


def test_a_report_about_copied_packages_alone_leaves_the_distribution_s_own(
    case: Case, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = (report(tmp_path / "r.json", "alpine"),)

    assert versions(case.patch(two.image(), reports=reports)) == {"deb": [], "apk": ["2-r0"]}

    shutil.rmtree(case.target)
    finish = TreeBuilder.finish

    def finish_badly(tree: TreeBuilder) -> object:
        tree.remove("usr/bin/foo")
        return finish(tree)

    monkeypatch.setattr(TreeBuilder, "finish", finish_badly)
    shutil.rmtree(tmp_path / "cache")
    error = case.refused(VerificationError, two.image(), reports=reports)
    assert "usr/bin/foo of foo, which the plan leaves alone, would be taken away" in str(error)


def test_a_plan_with_two_sections_is_read_by_people_and_applied_from_its_file(
    case: Case, two: Two, tmp_path: Path
) -> None:
    image = two.image()
    reports = (report(tmp_path / "r.json", "debian", "alpine"),)
    made = case.patch(image, reports=reports)
    request = copacetic.PatchRequest(image=f"oci:{case.folder / 'layout'}:1", reports=reports)
    plans = copacetic.plan(request, settings=case.settings)
    (tmp_path / "plan.json").write_bytes(plans.to_json())

    text = plan_table(plans.plans)
    assert [line for line in text.splitlines() if line in {"deb:", "apk:"}] == ["deb:", "apk:"]
    assert "2 packages to install" in text
    again = case.patch(image, plan_file=tmp_path / "plan.json")
    assert again.digest == made.digest
    assert versions(again) == versions(made)


def test_a_plan_for_packages_that_the_image_has_no_database_of_is_refused(case: Case, two: Two, tmp_path: Path) -> None:
    image = two.image()
    document = json.loads(_plan(case, image).to_json())
    document["plans"][0]["sections"][0]["packageType"] = "rpm"
    (tmp_path / "plan.json").write_text(json.dumps(document))

    error = case.refused(UnsupportedImageError, image, plan_file=tmp_path / "plan.json")
    assert str(error).endswith("the plan is for rpm packages, the image has deb and apk")


def _plan(case: Case, image: Image) -> copacetic.PlanSet:
    location = aptrepo.write_image(case.folder / "layout", image)
    return copacetic.plan(copacetic.PatchRequest(image=location), settings=case.settings)


def test_what_can_t_be_had_of_one_database_is_left_out_there_alone(case: Case, two: Two, tmp_path: Path) -> None:
    two.debs.publish([replace(DEB2, scripts=RUNS)])
    image, reports = two.image(), (report(tmp_path / "r.json", "debian", "alpine"),)

    case.refused(NeedsExecutionError, image, reports=reports)
    outcome = case.patch(image, reports=reports, ignore_errors=True)

    assert versions(outcome) == {"deb": [], "apk": ["2-r0"]}
    (platform,) = outcome.platforms
    assert platform.plan is not None
    debs, apks = platform.plan.sections
    assert [(one.package.version, one.reason) for one in debs.skipped] == [("1.0-1", SkipReason.NEEDS_EXECUTION)]
    assert apks.skipped == ()
    assert [found.finding.vulnerability_id for found in platform.closed] == ["CVE-2"]


def test_a_fault_that_shows_in_unpacking_takes_its_own_package_out(case: Case, two: Two, tmp_path: Path) -> None:
    two.apks.publish([replace(APK2, files={**APK2.files, "usr/bin/foo/x": file("below a file")})])
    image, reports = two.image(), (report(tmp_path / "r.json", "debian", "alpine"),)

    error = case.refused(FixesMissingError, image, reports=reports)
    outcome = case.patch(image, reports=reports, ignore_errors=True)

    assert "foo 1-r0 can't be updated" in str(error)
    assert versions(outcome) == {"deb": ["1.0-2"], "apk": []}


def test_one_package_manager_runs_after_the_other_on_what_that_left(case: Case, two: Two, tmp_path: Path) -> None:
    image, reports = two.image(), (report(tmp_path / "r.json", "debian", "alpine"),)
    case.patch(image, Strategy.UNPACK, reports=reports)
    made, sent = layer_of(case), dict[str, int]()
    shutil.rmtree(case.target)

    def answer(_definition: Definition, inputs: Inputs) -> Sequence[bytes]:
        sent.update({name: len([*folder.iterdir()]) for name, folder in inputs.directories.items()})
        return [made]

    solver = case.builder(answer)
    outcome = case.patch(image, Strategy.EXEC, reports=reports)

    assert versions(outcome) == {"deb": ["1.0-2"], "apk": ["2-r0"]}
    assert layer_of(case) == made
    assert sent["packages"] == 1
    assert sent["apks"] >= 1
    operations = b"".join(solver.definitions[0].operations)
    assert b"/usr/bin/dpkg" in operations or b"apt-get" in operations
    assert b"/sbin/apk" in operations


def test_a_builder_that_plans_by_itself_upgrades_both(
    case: Case, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, reports = two.image(), (report(tmp_path / "r.json", "alpine", "debian"),)
    case.patch(image, Strategy.UNPACK, reports=reports)
    made = layer_of(case)
    shutil.rmtree(case.target)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    case.settings = replace(case.settings, builder=BuilderSettings(address=parse_address("unix:///run/named.sock")))
    two.debs.files.clear()
    solver = case.builder(lambda *_: [made])

    outcome = case.patch(image, reports=reports)

    assert versions(outcome) == {"deb": ["1.0-2"], "apk": ["2-r0"]}
    (platform,) = outcome.platforms
    assert platform.plan is not None
    assert platform.plan.strategy_reason.startswith("the builder upgrades by itself")
    assert [update.findings[0].vulnerability_id for update in platform.plan.updates] == ["CVE-1", "CVE-2"]
    assert platform.plan.skipped == ()
    operations = b"".join(solver.definitions[0].operations)
    assert b"foo:amd64" in operations
    assert b"/sbin/apk" in operations


@pytest.mark.parametrize("text", ["C:Q1nonsense\n\n", "\xff\n", "P:foo\nV:\n\n"])
def test_a_copied_database_that_is_broken_is_no_matter(case: Case, two: Two, text: str) -> None:
    outcome = case.patch(two.image(**{"lib/apk/db/installed": text}))

    assert versions(outcome) == {"deb": ["1.0-2"]}


def test_inspection_shows_both(case: Case, two: Two) -> None:
    location = aptrepo.write_image(case.folder / "layout", two.image())

    inspection = copacetic.inspect(location, settings=case.settings)

    (platform,) = inspection.platforms
    assert [(one.package_type, one.packages[-1][0].version) for one in platform.inventories] == [
        ("deb", "1.0-1"),
        ("apk", "1-r0"),
    ]
    text = inspection_table(inspection)
    assert "; dpkg status var/lib/dpkg/status; apk installed lib/apk/db/installed\n" in text
    assert text.count("\nfoo ") == 2
