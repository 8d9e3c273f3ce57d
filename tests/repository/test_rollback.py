# SPDX-License-Identifier: Apache-2.0
"""A repository that shows an older state than before, although a valid one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from pysequoia import Tsk

from copacetic.cache import Cache
from copacetic.errors import RolledBackRepositoryError
from copacetic.repository.seen import SeenDates
from support.apk.apkcontext import found
from support.apk.apkrepo import KEY_NAME, ApkRepository, apk_image, make_key, public_pem, serve_apks
from support.apk.apks import Apk
from support.deb.aptimage import Image, changes, deb
from support.deb.aptrepo import Repository, serve_repository
from support.deb.debs import MTIME

NOW = datetime.now(UTC)


def published(repository: Repository, version: str, *, hours: float | None) -> None:
    """Publish a version, so many hours ago; None: without saying when."""
    date = "" if hours is None else format_datetime(NOW - timedelta(hours=hours))
    repository.publish([deb("a", version)], release={"Date": date})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([]) as served:
        published(served, "2", hours=2)
        yield served


def test_an_older_release_after_a_newer_one_takes_a_flag(tmp_path: Path, repository: Repository) -> None:
    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}
    published(repository, "1.5", hours=3)

    with pytest.raises(RolledBackRepositoryError, match=r"stable-security is of .*, and was of .* before") as caught:
        Image(tmp_path, repository, deb("a", "1")).resolve()
    assert "--allow-repository-rollback" in str(caught.value.hint)

    allowed = Image(tmp_path, repository, deb("a", "1"), allow_rollback=True).resolve()
    assert changes(allowed) == {"a": "1.5"}
    assert allowed.origins[0].doubt.endswith("allowed by --allow-repository-rollback")
    with pytest.raises(RolledBackRepositoryError):  # what was allowed once isn't so for ever
        Image(tmp_path, repository, deb("a", "1")).resolve()


def test_so_does_one_that_says_no_date_any_more(tmp_path: Path, repository: Repository) -> None:
    Image(tmp_path, repository, deb("a", "1")).resolve()
    published(repository, "1.5", hours=None)

    with pytest.raises(RolledBackRepositoryError, match="is without a date"):
        Image(tmp_path, repository, deb("a", "1")).resolve()


def test_the_same_state_and_a_newer_one_are_fine(tmp_path: Path, repository: Repository) -> None:
    for version, hours in (("2", 2), ("3", 2), ("4", 1)):
        published(repository, version, hours=hours)
        image = Image(tmp_path, repository, deb("a", "1"))
        assert changes(image.resolve()) == changes(image.resolve()) == {"a": version}


def test_another_suite_and_another_address_have_dates_of_their_own(tmp_path: Path, repository: Repository) -> None:
    Image(tmp_path, repository, deb("a", "1")).resolve()
    repository.suite = "stable"
    published(repository, "1.5", hours=5)

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "1.5"}


def test_a_date_by_a_key_that_only_another_image_trusts_counts_for_that_one(
    tmp_path: Path, repository: Repository
) -> None:
    own = repository.key
    repository.key = Tsk.generate("Somebody else <else@example.com>")
    published(repository, "9", hours=0)
    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "9"}
    repository.key = own
    published(repository, "2", hours=2)

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}


def test_what_nobody_vouched_for_is_not_remembered(tmp_path: Path, repository: Repository) -> None:
    published(repository, "3", hours=0)
    signed = (
        repository.files.pop("dists/stable-security/InRelease"),
        repository.files.pop("dists/stable-security/Release.gpg"),
    )
    assert changes(Image(tmp_path, repository, deb("a", "1"), allow_unsigned=True).resolve()) == {"a": "3"}
    assert all(signed)
    published(repository, "2", hours=2)

    assert changes(Image(tmp_path, repository, deb("a", "1")).resolve()) == {"a": "2"}


def test_runs_side_by_side_remember_the_newest(tmp_path: Path) -> None:
    def hold(hours: int) -> None:
        try:
            SeenDates(Cache(tmp_path), now=NOW, allow=False).hold(
                "a", NOW - timedelta(hours=hours), key="k", trusted={"k"}
            )
        except RolledBackRepositoryError:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [5, 1, 4, 2, 3, 1, 5, 2] * 4))

    last = SeenDates(Cache(tmp_path), now=NOW, allow=False)
    assert last.hold("a", NOW - timedelta(hours=1), key="k", trusted={"k"}) == ""
    with pytest.raises(RolledBackRepositoryError):
        last.hold("a", NOW - timedelta(hours=1, seconds=1), key="k", trusted={"k"})


def test_a_date_far_ahead_is_not_remembered(tmp_path: Path) -> None:
    seen = SeenDates(Cache(tmp_path), now=NOW, allow=False)

    seen.hold("a", NOW + timedelta(days=400), key="k", trusted={"k"})
    assert seen.hold("a", NOW, key="k", trusted={"k"}) == ""


# -- apk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[ApkRepository]:
    with serve_apks() as served:
        yield served


def apk(version: str) -> Apk:
    return Apk(name="foo", version=version)


def image(served: ApkRepository) -> dict[str, object]:
    return {**apk_image(served, [apk("1-r0")], world="foo"), f"etc/apk/keys/{KEY_NAME}": public_pem(served.key)}


def test_an_index_of_apk_s_that_was_built_before_the_last_takes_the_flag_too(
    tmp_path: Path, served: ApkRepository
) -> None:
    served.publish([apk("3-r0")], built=MTIME + 60)
    assert [c.version for c in found(image(served), tmp_path)] == ["3-r0"]  # type: ignore[arg-type]
    served.publish([apk("2-r0")], built=MTIME)

    with pytest.raises(RolledBackRepositoryError, match=r"alpine/v3.19/main x86_64 is of .*, and was of .* before"):
        found(image(served), tmp_path)  # type: ignore[arg-type]
    (candidate,) = found(image(served), tmp_path, allow_rollback=True)  # type: ignore[arg-type]
    assert (candidate.version, candidate.origin.doubt[-36:]) == ("2-r0", "allowed by --allow-repository-rollback"[-36:])


def test_an_index_without_a_time_is_not_older_than_one_without(tmp_path: Path, served: ApkRepository) -> None:
    for version in ("3-r0", "2-r0"):
        served.publish([apk(version)], built=0)
        assert [c.version for c in found(image(served), tmp_path)] == [version]  # type: ignore[arg-type]


def test_an_index_by_a_key_that_is_not_trusted_any_more_says_nothing(tmp_path: Path, served: ApkRepository) -> None:
    served.publish([apk("3-r0")], built=MTIME + 60)
    found(image(served), tmp_path)  # type: ignore[arg-type]
    served.key = make_key("other")
    served.publish([apk("2-r0")], built=MTIME)

    assert [c.version for c in found(image(served), tmp_path)] == ["2-r0"]  # type: ignore[arg-type]
