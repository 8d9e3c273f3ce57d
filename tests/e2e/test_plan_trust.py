# SPDX-License-Identifier: Apache-2.0
"""Who vouches for a stored plan's packages: signed indexes, those it was made from or today's; the plan only when told so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Tsk

from copacetic.cli import main
from copacetic.oci import Manifest
from copacetic.oci.layout import LayoutSource
from copacetic.oci.selection import read_config
from support.apk.apkrepo import KEY_NAME, ApkRepository, apk_image, public_pem, serve_apks
from support.apk.apks import Apk
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.image.images import make_image, make_layer
from support.value.plandocuments import section_of
from support.value.replacing import replace

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = replace(FOO, version="1.0-2", files={"usr/bin/foo": file("new", 0o755)})
FOO3 = replace(FOO, version="1.0-3")
EVIL = replace(FOO2, files={"usr/bin/foo": file("EVIL", 0o4755)})
APK = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
APK2 = replace(APK, version="2-r0", files={"usr/bin/foo": file("new", 0o755)})
APK3 = replace(APK, version="3-r0")
EVIL_APK = replace(APK2, files={"usr/bin/foo": file("EVIL", 0o4755)})


class Planned:
    """An image with a plan in a file, which may be changed, and runs that apply it."""

    def __init__(self, folder: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self._file = folder / "plan.json"
        self.image = image
        self.published = folder / "out"

    def plan(self) -> None:
        arguments = ["-i", self.image, "--format", "json", "-o", str(self._file), "-q"]
        assert main(["plan", *arguments, "--cache-dir", str(self._folder / "cache")]) == 0

    def change(self, change: Callable[[Any, Any], object]) -> None:
        """Change the only update, and the only repository."""
        document = json.loads(self._file.read_text())
        plan = document["plans"][0]
        change(section_of(plan)["updates"][0], section_of(plan)["repositories"][0])
        self._file.write_text(json.dumps(document))

    def change_image(self, name: str) -> None:
        document = json.loads(self._file.read_text())
        document["plans"][0]["image"] = name
        self._file.write_text(json.dumps(document))

    def apply(self, *flags: str, cache: str = "cache") -> tuple[int, str]:
        more = ["-o", str(self._folder / "outcome.json"), "--cache-dir", str(self._folder / cache), *flags]
        code = main(["patch", "-i", self.image, "--plan", str(self._file), "--to", f"oci:{self.published}:1", *more])
        captured = self._capsys.readouterr()
        return code, captured.out + captured.err

    def outcome(self) -> Any:
        return json.loads((self._folder / "outcome.json").read_text())["platforms"][0]

    def refused(self, *flags: str, cache: str = "cache", code: int = 2) -> str:
        found, text = self.apply(*flags, cache=cache)
        assert (found, self.published.exists()) == (code, False), text
        assert "--trust-plan" in text
        return text


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2]) as served:
        yield served


@pytest.fixture
def planned(tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]) -> Planned:
    planned = Planned(tmp_path, write_image(tmp_path / "layout", debian_image(repository, [FOO])), capsys)
    planned.plan()
    return planned


def other_package(served: Repository | ApkRepository, data: bytes) -> Callable[[Any, Any], object]:
    """Offer somebody else's package, and have the plan name it."""
    served.files["evil"] = data
    more = {"url": f"{served.address}/evil", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return lambda update, _: update.update(more)


@pytest.mark.parametrize("cache", ["cache", "empty"])
def test_a_plan_that_names_another_package_is_refused(planned: Planned, repository: Repository, cache: str) -> None:
    planned.change(other_package(repository, EVIL.to_bytes()))

    text = planned.refused(cache=cache)

    assert "no signed index has the plan's foo 1.0-2 of " in text


def test_a_plan_is_not_asked_where_the_image_is_from(planned: Planned) -> None:
    planned.change_image("registry.example/somebody/else:1")

    code, text = planned.apply()

    assert code == 0, text
    source = LayoutSource(planned.published, "1")
    config = read_config(source, Manifest.parse(source.root()[1]).config)
    assert "sh.copa.patch.origin.digest" in config.labels
    assert "sh.copa.patch.origin.name" not in config.labels


def test_who_trusts_it_gets_it_and_is_told_that_nobody_else_vouches(planned: Planned, repository: Repository) -> None:
    planned.change(other_package(repository, EVIL.to_bytes()))

    code, text = planned.apply("--trust-plan")

    assert code == 0
    assert f"NOT VERIFIED: {repository.address} stable-security main (etc/apt/sources.list:1): " in text
    assert "1 package vouched for by the plan alone: allowed by --trust-plan" in text
    platform = planned.outcome()
    assert [row["uri"] for row in platform["notVerified"]] == [repository.address]
    assert section_of(platform["plan"])["repositories"][0]["signedBy"] == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda update, _: update.update(size=update["size"] + 1),
        lambda update, _: update.update(sha256="0" * 64),
        lambda update, _: update.update(version="1.0-9"),
        lambda update, _: update.update(architecture="all"),
    ],
)
def test_every_value_that_tells_packages_apart_is_held_against_the_index(
    planned: Planned, change: Callable[[Any, Any], object]
) -> None:
    planned.change(change)

    assert planned.apply()[0] in {2, 4}
    assert not planned.published.exists()


def test_what_the_plan_says_of_its_repositories_is_not_repeated(planned: Planned, repository: Repository) -> None:
    planned.change(
        lambda update, row: (update.update(url="http://127.0.0.1:1/x"), row.update(signedBy="AB" * 20, label="Evil"))
    )

    assert planned.apply("--no-cache")[0] == 0
    (row,) = section_of(planned.outcome()["plan"])["repositories"]
    assert row["signedBy"] == str(repository.key.extract_certificate().fingerprint).upper()
    assert row["label"] == "Tests-Security"


def test_without_a_network_the_kept_indexes_vouch(planned: Planned, repository: Repository) -> None:
    repository.files.clear()
    repository.requests.clear()

    code, text = planned.apply()

    assert (code, repository.requests) == (0, [])
    assert "NOT VERIFIED" not in text


def test_a_repository_that_has_moved_on_vouches_no_more_but_what_is_kept_does(
    planned: Planned, repository: Repository
) -> None:
    repository.publish([FOO3])

    assert "no signed index has the plan's foo 1.0-2" in planned.refused(cache="empty")
    assert planned.apply()[0] == 0
    assert planned.apply("--trust-plan", cache="another")[0] == 0


def test_where_nothing_is_kept_and_nothing_can_be_reached_the_flag_is_named(
    planned: Planned, repository: Repository
) -> None:
    repository.files.clear()

    assert "nothing vouches for the plan's packages" in planned.refused(cache="empty", code=1)


def test_what_is_kept_has_expired_by_then_which_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_repository([FOO2]) as repository:
        repository.publish(release={"Valid-Until": "Thu, 01 Jan 2015 00:00:00 UTC"})
        planned = Planned(tmp_path, write_image(tmp_path / "layout", debian_image(repository, [FOO])), capsys)
        arguments = ["-i", planned.image, "--format", "json", "-o", str(tmp_path / "plan.json"), "-q"]
        cache = ["--cache-dir", str(tmp_path / "cache")]
        assert main(["plan", *arguments, *cache, "--allow-expired-repository"]) == 0

        code, text = planned.apply()

    assert code == 0
    assert "has expired on 2015-01-01: allowed by --plan, which names it" in text


def test_a_kept_index_that_another_image_s_key_has_signed_vouches_for_nothing(
    tmp_path: Path, planned: Planned, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    own, repository.key = repository.key, Tsk.generate("Somebody else <else@example.com>")
    repository.publish([EVIL])
    other = Planned(tmp_path / "other", write_image(tmp_path / "other/layout", debian_image(repository, [FOO])), capsys)
    cache = str(tmp_path / "cache")
    document = tmp_path / "other.json"
    assert main(["plan", "-i", other.image, "--format", "json", "-o", str(document), "-q", "--cache-dir", cache]) == 0
    evil = json.loads(document.read_text())["plans"][0]
    repository.key = own
    repository.publish([FOO2])

    planned.change(
        lambda update, row: (
            update.update(section_of(evil)["updates"][0]),
            row.update(section_of(evil)["repositories"][0]),
        )
    )

    planned.refused()


# -- apk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[ApkRepository]:
    with serve_apks([APK2]) as served:
        yield served


@pytest.fixture
def planned_apk(tmp_path: Path, served: ApkRepository, capsys: pytest.CaptureFixture[str]) -> Planned:
    files = {**apk_image(served, [APK], world="foo"), f"etc/apk/keys/{KEY_NAME}": public_pem(served.key)}
    image = make_image([make_layer(files)])
    planned = Planned(tmp_path, write_image(tmp_path / "layout", image), capsys)
    planned.plan()
    return planned


def test_a_plan_of_apk_packages_is_held_against_the_index_too(planned_apk: Planned, served: ApkRepository) -> None:
    planned_apk.change(other_package(served, EVIL_APK.to_bytes()))

    planned_apk.refused()
    code, text = planned_apk.apply("--trust-plan")
    assert code == 0
    assert "1 package vouched for by the plan alone" in text


def test_the_file_has_to_be_the_one_that_the_index_identifies(planned_apk: Planned, served: ApkRepository) -> None:
    """An index of apk's names no digest of the whole file: one that the plan names and that has the right size."""
    real, evil = APK2.to_bytes(), EVIL_APK.to_bytes()
    size = max(len(real), len(evil))
    served.publish([APK2], rows=[])
    path = next(path for path in served.files if path.endswith("foo-2-r0.apk"))
    evil += bytes(size - len(evil))
    served.files[path] = evil
    planned_apk.change(lambda update, _: update.update(sha256=hashlib.sha256(evil).hexdigest()))

    code, text = planned_apk.apply()

    assert (code, planned_apk.published.exists()) == (1, False)
    assert "foo" in text


def test_the_kept_index_of_apk_vouches_without_a_network_and_when_the_repository_has_moved_on(
    planned_apk: Planned, served: ApkRepository
) -> None:
    served.publish([APK3])

    assert "no signed index has the plan's foo 2-r0" in planned_apk.refused(cache="empty")
    served.files.clear()
    served.requests.clear()
    code, text = planned_apk.apply()

    assert (code, served.requests) == (0, [])
    assert "NOT VERIFIED" not in text
    assert section_of(planned_apk.outcome()["plan"])["repositories"][0]["signedBy"] == KEY_NAME
