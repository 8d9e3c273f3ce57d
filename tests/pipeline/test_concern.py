# SPDX-License-Identifier: Apache-2.0
"""Which report is about which variant of an index, and which is about another image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from copacetic.errors import ReportError
from copacetic.oci import Digest
from copacetic.oci.location import Location
from copacetic.pipeline.open.image import SourceImage, load_image
from copacetic.pipeline.plan.concern import select_reports
from copacetic.session import ImageAccess
from copacetic.updates import Report
from support.image.images import MemorySource, make_image, make_index, make_layer
from support.value.values import finding

NAME = "registry.example/web:1"
AMD64, ARM64 = (make_image([make_layer({name: name})], platform=f"linux/{name}") for name in ("amd64", "arm64"))
INDEX = make_index([AMD64, ARM64])
IMAGE: SourceImage = load_image(ImageAccess(location=Location.parse(NAME), source=MemorySource(INDEX, NAME)), ())
OTHER = Digest.of(b"another")
ROWS = (finding("openssl"), finding("bash"), finding("zlib"))


def report(*digests: Digest, row: int = 0, architecture: str = "", path: str = "report.json") -> Report:
    return Report(
        scanner="x", path=path, findings=(ROWS[row],), image_digests=frozenset(digests), architecture=architecture
    )


def concerned(*reports: Report, lenient: bool = False) -> Sequence[tuple[str, ...] | None]:
    """Return the packages that reports name for amd64 and for arm64."""
    found = select_reports(reports, IMAGE, lenient=lenient)
    assert list(found) == [AMD64.descriptor.digest, ARM64.descriptor.digest]
    return [None if rows is None else tuple(row.package for row in rows) for rows in found.values()]


def config_of(image: SourceImage, architecture: str) -> Digest:
    return next(one.manifest.config.digest for one in image.variants if one.platform.architecture == architecture)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: report(), [("openssl",), ("openssl",)]),
        (lambda: report(architecture="arm64"), [None, ("openssl",)]),
        (lambda: report(ARM64.descriptor.digest), [None, ("openssl",)]),
        (lambda: report(config_of(IMAGE, "amd64")), [("openssl",), None]),
        (lambda: report(INDEX.descriptor.digest), [("openssl",), ("openssl",)]),
        (lambda: report(INDEX.descriptor.digest, architecture="amd64"), [("openssl",), None]),
        (lambda: report(INDEX.descriptor.digest, AMD64.descriptor.digest, OTHER), [("openssl",), None]),
        (lambda: report(ARM64.descriptor.digest, architecture="amd64"), [None, ("openssl",)]),
    ],
)
def test_a_platform_s_digest_decides_then_the_architecture_and_else_it_is_about_all(
    made: Callable[[], Report], expected: Sequence[tuple[str, ...] | None]
) -> None:
    assert concerned(made()) == expected


def test_several_reports_about_one_variant_are_taken_together_in_their_order() -> None:
    made = [report(row=2), report(ARM64.descriptor.digest, row=1), report(row=0, architecture="arm64")]

    assert concerned(*made) == [("zlib",), ("zlib", "bash", "openssl")]


@pytest.mark.parametrize(
    ("made", "named"), [(report(OTHER, architecture="amd64"), str(OTHER)), (report(architecture="s390x"), "s390x")]
)
def test_a_report_about_another_image_is_refused_unless_that_is_tolerated(made: Report, named: str) -> None:
    with pytest.raises(ReportError) as caught:
        concerned(report(path="fitting.json"), made)

    digest = INDEX.descriptor.digest
    assert str(caught.value) == f"report.json is about another image: it names {named}, {NAME} is {digest}"
    assert concerned(made, lenient=True) == [("openssl",), ("openssl",)]


def test_a_file_that_is_about_this_image_may_be_about_others_too() -> None:
    assert concerned(report(OTHER, row=1), report(AMD64.descriptor.digest)) == [("openssl",), None]


def test_without_a_report_nothing_is_said_of_any() -> None:
    assert concerned() == [None, None]
