# SPDX-License-Identifier: Apache-2.0
"""The published schemas are what the documents are; `conftest` holds every document of every test against them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from copacetic.buildkit.probe import BuilderReport, Probe, ProbeState
from copacetic.cli import main
from copacetic.documents import encode
from copacetic.errors import PlanFileError
from copacetic.oci import Descriptor, Digest, Platform
from copacetic.pipeline.outcome import Outcome, PlatformOutcome
from copacetic.pipeline.plan import planfile
from copacetic.pipeline.plan.document import write_plans
from copacetic.pipeline.plan.planfile import read_plans
from copacetic.updates import Finding, FindingStatus, MatchedFinding, PackageKey, PlannedUpdate
from support.value.replacing import replace
from support.value.schemas import SCHEMAS, faults
from support.value.values import candidate, finding, installed, plan

REFERENCE = (Path(__file__).parents[1] / "docs/reference/json.md").read_text()
FOUND = MatchedFinding(
    finding=finding("foo", "2.0-1"), status=FindingStatus.FIXABLE, packages=(PackageKey("foo", "amd64"),)
)
PLAN = plan(PlannedUpdate(installed=installed("foo", "1.0-1"), candidate=candidate("foo", "2.0-1")), matched=(FOUND,))
PATCHED = PlatformOutcome(
    platform=Platform(os="linux", architecture="amd64"),
    plan=PLAN,
    before=Digest.of(b"before"),
    after=Digest.of(b"after"),
    layer=Descriptor(media_type="application/x", digest=Digest.of(b"layer"), size=5),
    matched=(replace(FOUND, status=FindingStatus.ALREADY_FIXED),),
)
OUTCOME = Outcome(image="a:1", reference="", digest=None, platforms=(PATCHED,), seconds=0.5)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Find every description of an object."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from objects(part)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        yield schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_leaves_no_object_without_its_fields(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])

    found = list(objects(SCHEMAS[name]))
    assert found
    assert json.dumps(SCHEMAS[name]).count('"type": "object"') == len(found)
    for one in found:
        optional = one["properties"].keys() - set(one["required"])
        assert optional == ({"error"} if one is SCHEMAS["outcome.json"] else set())


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_reference_has_every_field_of_a_schema(name: str) -> None:
    _, _, after = REFERENCE.partition(f"\n## `copacetic.{name.removesuffix('.json')}`\n")
    section = after.partition("\n## ")[0]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))

    named = {field for one in objects(SCHEMAS[name]) for field in one["properties"]}
    assert named - words == {"schemaVersion", "kind"}


def _plan(change: Callable[[Any], None]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(write_plans([PLAN]))
    change(document["plans"][0])
    return document


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda plan: plan.update(later=1), "'later' was unexpected"),
        (lambda plan: plan["sections"][0]["updates"][0].update(fields={}), "'fields' was unexpected"),
        (lambda plan: plan["findings"][0].pop("severity"), "'severity' is a required property"),
        (lambda plan: plan["sections"][0]["updates"][0].update(sha256="beef"), "does not match"),
        (lambda plan: plan.update(strategy="auto"), "is not one of"),
    ],
)
def test_a_document_with_a_field_more_or_less_is_seen(change: Callable[[Any], None], fault: str) -> None:
    assert faults(_plan(lambda _: None)) == []
    (found,) = faults(_plan(change))
    assert fault in found


def test_a_document_of_no_kind_is_seen() -> None:
    assert faults({"schemaVersion": 1, "kind": "copacetic.other"}) == ["other.json: there is no such schema"]


class Grown(Finding, frozen=True, kw_only=True):
    """A finding of a later version of the code."""

    status: str = "not the one of the document"
    later: str = "nobody has described this"


def test_an_attribute_that_a_value_gains_changes_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Grown(**{name: getattr(FOUND.finding, name) for name in Finding.__struct_fields__})
    later = replace(PLAN, matched=(replace(FOUND, finding=value),))

    assert write_plans([later]) == write_plans([PLAN])

    monkeypatch.setattr(planfile, "Finding", Grown)
    assert read_plans(write_plans([PLAN]), where="plan.json") == (later,)


def test_documents_of_every_kind_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each is held against its schema as it is written."""
    probe = Probe(address="worker://", origin="default", state=ProbeState.SKIPPED)
    documents = [BuilderReport(probes=(probe,)).to_json(), OUTCOME.to_json()]
    documents.append(Outcome.failed("a:1", PlanFileError("no plan")).to_json())
    for command in (["version"], ["cache", "info", "--cache-dir", str(tmp_path)]):
        assert main([*command, "--format", "json"]) == 0
        documents.append(capsys.readouterr().out.encode())

    for data in documents:
        document = json.loads(data)
        assert (encode(document), faults(document)) == (data, [])
