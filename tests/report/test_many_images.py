# SPDX-License-Identifier: Apache-2.0
"""Documents of Amazon's that are about many images, and about machines."""

from __future__ import annotations

from typing import Any

import pytest

from copacetic.errors import ReportError
from support.value.reports import load


def test_a_document_about_many_images_is_a_report_for_each() -> None:
    one, other = load("inspector.json")

    assert [report.image_name for report in (one, other)] == ["web", "api"]
    assert [report.architecture for report in (one, other)] == ["amd64", "arm64"]
    assert one.image_digests.isdisjoint(other.image_digests)
    assert [f.package for f in one.findings] == ["openssl"]
    assert one.unreadable == {"resources that are no image": 1}


@pytest.mark.parametrize("name", ["inspector.json", "asff.json"])
def test_findings_about_machines_are_no_image_s(name: str) -> None:
    def forget(document: Any) -> None:
        for finding in document.get("findings") or document["Findings"]:
            for resource in finding.get("resources") or finding["Resources"]:
                resource.pop("details", None)
                resource.pop("Details", None)

    with pytest.raises(ReportError, match="is about no image: "):
        load(name, forget)


def test_a_small_document_does_not_stand_for_a_million_findings() -> None:
    def multiply(document: Any) -> None:
        finding = document["findings"][0]
        finding["resources"] *= 500
        finding["packageVulnerabilityDetails"]["vulnerablePackages"] *= 101

    with pytest.raises(ReportError, match="repeats its packages for more than 100000 images"):
        load("inspector.json", multiply)
