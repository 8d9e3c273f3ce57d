# SPDX-License-Identifier: Apache-2.0
"""Where an image makes this machine connect to, and what becomes of the logins for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.apk.apkrepo import ApkRepository, apk_image, serve_apks
from support.apk.apks import Apk
from support.builder.running import Run, copa
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.image.images import make_image, make_layer
from support.value.plandocuments import section_of

SECRET = "s3cr3t"
LOGIN = f"ann:{SECRET}"


@dataclass
class Case:
    """An image of one family with an update in a repository on loopback."""

    repository: Repository | ApkRepository
    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def definition(self) -> str:
        return self.repository.definition if isinstance(self.repository, Repository) else self.repository.url

    def with_login(self, login: str = LOGIN) -> str:
        return self.definition.replace("http://", f"http://{login}@")

    def image(self, definition: str = "", more: dict[str, bytes | str] | None = None, name: str = "foo") -> str:
        """Write the image with a definition in the place of the repository's own."""
        line = f"{definition or self.definition}\n"
        if isinstance(self.repository, Repository):
            debs = [Deb(name=name, version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})]
            image = debian_image(self.repository, debs, more={"etc/apt/sources.list": line, **(more or {})})
        else:
            apks = [Apk(name=name, version="1-r0", files={"usr/bin/foo": file("old", 0o755)})]
            image = make_image([make_layer(apk_image(self.repository, apks, more={"etc/apk/repositories": line}))])
        return write_image(self.folder / f"layout{len(list(self.folder.glob('layout*')))}", image)

    def run(self, command: str, image: str, *flags: str) -> Run:
        return copa(self.capsys, command, "-i", image, "--cache-dir", str(self.folder / "cache"), *flags)

    def patch(self, image: str, *flags: str) -> Run:
        """Patch into a layout of its own."""
        return self.run("patch", image, "--to", f"oci:{self.folder / 'out'}:1", "-o", str(self.outcome), *flags)

    @property
    def outcome(self) -> Path:
        return self.folder / "outcome.json"

    def leaks(self) -> list[Path]:
        """Return the files that were written, of which one holds the secret."""
        written = [self.outcome, *self.folder.glob("*.json"), *(self.folder / "out").rglob("*")]
        return [path for path in written if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.fixture(params=["deb", "apk"])
def case(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    new = {"usr/bin/foo": file("new", 0o755)}
    if request.param == "deb":
        with serve_repository([Deb(name="foo", version="1.0-2", architecture="amd64", files=new)]) as repository:
            yield Case(repository, tmp_path, capsys)
    else:
        with serve_apks([Apk(name="foo", version="2-r0", files=new)]) as apks:
            yield Case(apks, tmp_path, capsys)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is permitted that a user hasn't said."""
    monkeypatch.delenv("COPA_ALLOW_NETWORK")


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("command", ["plan", "patch"])
def test_an_image_that_leads_to_loopback_is_refused_and_nobody_is_asked(case: Case, command: str) -> None:
    image = case.image()

    done = case.patch(image) if command == "patch" else case.run("plan", image)

    assert done.code == 1
    assert "an image's repository may not lead to 127.0.0.1, which is on loopback" in done.error
    assert "--allow-network" in done.error
    assert case.repository.requests == []
    assert not (case.folder / "out").exists()


@pytest.mark.usefixtures("strict")
def test_a_user_may_permit_it_by_network_mirror_or_definition(case: Case) -> None:
    image, elsewhere = case.image(), case.image(case.definition.replace("127.0.0.1", "deb.invalid"))
    port = case.repository.address.rpartition(":")[2]

    assert case.run("plan", image, "--allow-network", "10.0.0.0/8,127.0.0.1").code == 0
    assert case.run("plan", image, "--repository", case.definition).code == 0
    mirror = f"http://deb.invalid:{port}={case.repository.address}"
    assert case.run("plan", elsewhere, "--repository-mirror", mirror).code == 0
    assert case.run("plan", image, "--public-only").code == 1


@pytest.mark.usefixtures("strict")
def test_what_is_no_network_is_said_to_be_none(case: Case) -> None:
    done = case.run("plan", "oci:nothing", "--allow-network", "127.0.0.1/99")

    assert done.code == 2
    assert "is not a network such as 10.0.0.0/8" in done.error


@pytest.mark.parametrize("how", ["image", "definition", "mirror"])
def test_a_login_in_an_address_is_used_and_gets_nowhere_else(case: Case, how: str) -> None:
    case.repository.login = LOGIN
    image = case.image(case.with_login()) if how == "image" else case.image()
    address = case.repository.address
    flags = {
        "image": [],
        "definition": ["--repository", case.with_login()],
        "mirror": ["--repository-mirror", f"{address}={address.replace('http://', f'http://{LOGIN}@')}"],
    }[how]
    plan = str(case.folder / "plan.json")

    runs = [
        case.run("plan", image, *flags),
        case.run("plan", image, *flags, "--format", "json", "-o", plan),
        case.patch(image, "--plan", plan, "--no-cache", "--debug", *flags),
        case.patch(image, *flags),
    ]

    assert [run.code for run in runs] == [0, 0, 0, 0], runs
    assert case.leaks() == []
    assert not any(SECRET in run.out + run.err for run in runs)
    url = section_of(json.loads(Path(plan).read_text())["plans"][0])["updates"][0]["url"]
    assert url.startswith(case.repository.address)


def test_a_plan_with_a_login_in_it_is_refused_without_showing_it(case: Case) -> None:
    plan = case.folder / "plan.json"
    image = case.image()
    case.run("plan", image, "--format", "json", "-o", str(plan))
    plan.write_text(plan.read_text().replace('"url": "http://', f'"url": "http://{LOGIN}@'))

    done = case.patch(image, "--plan", str(plan))

    assert done.code == 2
    assert "no usable address" in done.error
    assert SECRET not in done.err


@pytest.mark.parametrize("case", ["deb"], indirect=True)
@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("machine http://{host} login ann password s3cr3t", 0),
        ("# mine\nmachine http://{host}/\n  login ann\n  password s3cr3t\n", 0),
        ("machine {host} login ann password s3cr3t", 1),  # without a scheme it is about https
        ("machine http://{host}/other login ann password s3cr3t", 1),
        ("machine http://127.0.0.1 login ann password s3cr3t", 1),  # another port
    ],
)
def test_logins_that_an_image_keeps_for_apt_are_used_as_apt_does(case: Case, entry: str, code: int) -> None:
    case.repository.login = LOGIN
    text = entry.format(host=case.repository.address.removeprefix("http://"))
    image = case.image(more={"etc/apt/auth.conf.d/mine.conf": text})

    done = case.patch(image)

    assert done.code == code, done.error
    assert SECRET not in done.out + done.err


def test_a_plus_in_a_file_name_reaches_storages_that_take_one_for_a_blank(case: Case) -> None:
    new = {"usr/bin/foo": file("new", 0o755)}
    if isinstance(case.repository, Repository):
        case.repository.publish([Deb(name="foo++", version="1.0-2+deb12u1", architecture="amd64", files=new)])
    else:
        case.repository.publish([Apk(name="foo++", version="2-r0", files=new)])

    done = case.patch(case.image(name="foo++"))

    assert done.code == 0, done.error
    assert any("foo++" in path for path in case.repository.requests)
