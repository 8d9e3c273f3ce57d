# SPDX-License-Identifier: Apache-2.0
"""rpm repositories as a whole: found, verified, searched, fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.rpm.rpmfiles import Rpm
from support.rpm.rpmrepo import RpmServer, changes, opened, resolution, rpm_image, serve_rpms

OLD, NEW = Rpm(name="a"), Rpm(name="a", version="2")


@pytest.fixture
def served() -> Iterator[RpmServer]:
    with serve_rpms([NEW]) as repository:
        yield repository


def test_a_signed_package_of_unsigned_metadata_is_found_and_fetched(served: RpmServer, tmp_path: Path) -> None:
    found = resolution(rpm_image(served), [OLD], tmp_path)

    (update,) = found.updates
    candidate = update.candidate
    assert (candidate.name, candidate.version, candidate.architecture) == ("a", "2-1", "x86_64")
    assert candidate.url == f"{served.url}/Packages/a-2-1.x86_64.rpm"
    assert "nothing tells whether it is held back" in candidate.origin.doubt
    repository = opened(rpm_image(served), [OLD], tmp_path)
    (path,) = repository.fetch([candidate]).values()
    assert path.read_bytes() == served.files["el9/BaseOS/Packages/a-2-1.x86_64.rpm"]
    assert repository.remarks() == ("signatures of 1 package verified",)
    assert changes(found) == {"a": "2-1"}
