# SPDX-License-Identifier: Apache-2.0
"""Alpine and Wolfi images through the command line: reports, traps, images without an apk, other architectures."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from copacetic.cli import main
from copacetic.scripts.handlers.libcache import LibraryCache
from support.apk import adbs
from support.apk.apkoracle import ROOTS, alpine_image, alpine_image_on, alpine_root, run_in, snapshot
from support.apk.apkrepo import ApkRepository, apk_image, public_pem
from support.apk.apkreversion import VERSION, newer, reversion
from support.apk.apks import Apk, write_repository
from support.deb.composed import copy_root
from support.deb.debian import need
from support.deb.debs import file, hardlink
from support.deb.oracle import extract
from support.image.images import (
    assert_valid_image,
    fixture,
    make_attestation,
    make_image,
    make_index,
    make_layer,
    skopeo,
    umoci,
    write_layout,
)
from support.server.served import Served, serve
from support.value.plandocuments import notes_of, section_of
from support.value.replacing import replace

TRIVY_310 = "reports/trivy/aquasecurity__trivy__testdata__alpine-310.json.golden"


@pytest.fixture
def copa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--cache-dir", str(tmp_path / "cache")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@contextmanager
def served(folder: str) -> Iterator[Sequence[str]]:
    """Serve a repository of the fixtures; gives the flags that name it and its key."""
    path = fixture(f"alpine/{folder}")
    files = Served()
    files.add_folder(path)
    with serve(files):
        yield ["--repository", files.address, *(f"--key={key}" for key in path.glob("*.rsa.pub"))]


@contextmanager
def published(folder: Path, apks: Sequence[Apk]) -> Iterator[Sequence[str]]:
    """Serve packages of our own, signed; gives the flags."""
    repository = ApkRepository()
    (folder / repository.key_name).write_bytes(public_pem(repository.key))
    with serve(repository):
        repository.publish(apks)
        index = repository.files.pop(repository.index_path)
        for architecture in {apk.architecture for apk in apks}:
            repository.files[repository.index_path.replace("x86_64", architecture)] = index
        yield ["--repository", repository.url, f"--key={folder / repository.key_name}"]


def report(path: Path, package: str, installed: str, fixed: str) -> Path:
    row = {"VulnerabilityID": "CVE-2024-1", "PkgName": package, "InstalledVersion": installed, "FixedVersion": fixed}
    results = [{"Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": [{**row, "Severity": "HIGH"}]}]
    path.write_text(json.dumps({"SchemaVersion": 2, "Metadata": {"OS": {"Family": "alpine"}}, "Results": results}))
    return path


def index_of(layout: Path) -> list[dict[str, Any]]:
    manifests: list[dict[str, Any]] = json.loads((layout / "index.json").read_text())["manifests"]
    return manifests


def unpack(layout: Path, tag: str, target: Path) -> Path:
    umoci("unpack", "--image", f"{layout}:{tag}", target)
    return target / "rootfs"


# -- reports -------------------------------------------------------------------------------------------------


def test_a_real_report_about_a_real_image_is_closed_exactly(tmp_path: Path, copa: Any) -> None:
    image = alpine_image("3.10.2", tmp_path / "image")
    with served("repo-3.10.9") as flags:
        target = f"docker-archive:{tmp_path / 'patched.tar'}"
        code, _, err = copa(
            "patch", "-i", image, "-r", fixture(TRIVY_310), *flags, "--to", target, "-o", tmp_path / "o"
        )
    assert code == 0, err

    (platform,) = json.loads((tmp_path / "o").read_text())["platforms"]
    closed = {(row["vulnerabilityId"], row["package"]) for row in platform["findings"]["closed"]}
    assert closed == {(i, p) for i in ("CVE-2019-1549", "CVE-2019-1551") for p in ("libcrypto1.1", "libssl1.1")}
    assert platform["findings"]["open"] == []
    changed = {row["name"]: row["version"] for row in section_of(platform["plan"])["updates"]}
    assert changed == {"libcrypto1.1": "1.1.1k-r0", "libssl1.1": "1.1.1k-r0"}


@pytest.mark.parametrize("flags", [[], ["--ignore-errors"]])
def test_a_fix_that_a_pin_holds_back_is_named_with_its_holder(flags: list[str], tmp_path: Path, copa: Any) -> None:
    image = alpine_image("3.19.1", tmp_path / "image")
    found = report(tmp_path / "report.json", "libcrypto3", "3.1.4-r5", "3.1.7-r0")
    target = f"oci:{tmp_path / 'out'}:patched"
    with served("repo-3.19.4") as repository:
        code, out, err = copa("patch", "-i", image, "-r", found, *repository, *flags, "--to", target)

    assert "openssl 3.1.4-r5 needs libcrypto3=3.1.4-r5" in err
    assert code == (0 if flags else 4)
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_repository_that_lacks_its_own_packages_leaves_nothing_half_done(tmp_path: Path, copa: Any) -> None:
    image = alpine_image("3.19.1", tmp_path / "image")
    with served("repo-3.19-signed") as flags:
        code, out, err = copa("patch", "-i", image, *flags, "--to", f"oci:{tmp_path / 'out'}:patched")

    assert (code, out) == (4, "")
    assert "answers 404 for" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_repository_that_is_away_is_an_error(tmp_path: Path, copa: Any) -> None:
    image = alpine_image("3.18.2", tmp_path / "image")
    with served("repo-3.18.9") as flags:
        pass  # it was there a moment ago
    code, out, err = copa("patch", "-i", image, *flags, "--to", f"oci:{tmp_path / 'out'}:patched")

    assert (code, out) == (1, "")
    assert "127.0.0.1" in err
    assert not (tmp_path / "out").exists()


def test_a_stored_plan_gives_the_same_image(tmp_path: Path, copa: Any) -> None:
    image = alpine_image("3.18.2", tmp_path / "image")
    with served("repo-3.18.9") as flags:
        assert copa("plan", "-i", image, *flags, "--format", "json", "-o", tmp_path / "plan.json")[0] == 0
        code, direct, err = copa("patch", "-i", image, *flags, "--to", f"oci:{tmp_path / 'a'}:x")
        assert code == 0, err
        code, planned, err = copa(
            "patch", "-i", image, *flags, "--plan", tmp_path / "plan.json", "--to", f"oci:{tmp_path / 'b'}:x"
        )
        assert code == 0, err

    assert direct.strip().rpartition("@")[2] == planned.strip().rpartition("@")[2]


@pytest.mark.system
def test_the_tag_of_a_repository_is_recorded_as_apk_does(tmp_path: Path, copa: Any) -> None:
    """foo is in the tagged repository alone, bar in both, and qux asks for no tag."""
    need("umoci", root=True)
    old = [Apk(name=name, files={f"usr/bin/{name}": file("1")}) for name in ("bar", "foo", "qux")]
    new = [replace(apk, version="2-r0", files={f"usr/bin/{apk.name}": file("2")}) for apk in old]
    main_packages, tagged_packages = [new[0], new[2]], new[:2]
    main_repository, tagged = ApkRepository(), ApkRepository(folder="alpine/edge/main")
    with serve(main_repository), serve(tagged):
        main_repository.publish(main_packages)
        tagged.publish(tagged_packages)
        more = {
            "etc/apk/world": b"alpine-baselayout\nalpine-keys\napk-tools\nbar@edge\nbusybox\nfoo@edge\nlibc-utils\nqux\n",
            "etc/apk/repositories": f"@edge {tagged.url}\n{main_repository.url}\n".encode(),
        }
        image = alpine_image_on("3.20.3", tmp_path / "image", main_repository, old, more=more)
        assert copa("plan", "-i", image, "--format", "json", "-o", tmp_path / "plan.json")[0] == 0
        layout = tmp_path / "patched"
        for tag, flags in (("x", []), ("planned", ["--plan", tmp_path / "plan.json"])):
            code, _, err = copa("patch", "-i", image, *flags, "--to", f"oci:{layout}:{tag}")
            assert code == 0, err
    ours, real = unpack(layout, "x", tmp_path / "ours"), unpack(tmp_path / "image", "base", tmp_path / "real")
    write_repository(real / "main", main_packages)
    write_repository(real / "tagged", tagged_packages)
    (real / "definitions").write_text("@edge /tagged\n/main\n")
    run = run_in(real, "apk --allow-untrusted --no-cache --repositories-file /definitions upgrade")
    assert run.code == 0, run.output

    expected = (real / "lib/apk/db/installed").read_text()
    assert (ours / "lib/apk/db/installed").read_text() == expected
    assert [line for line in expected.splitlines() if line.startswith("s:")] == ["s:edge"]
    planned = unpack(layout, "planned", tmp_path / "planned")
    assert (planned / "lib/apk/db/installed").read_text() == expected


# -- images without an apk -----------------------------------------------------------------------------------


@pytest.mark.system
def test_a_wolfi_image_gets_what_apk_would_put_into_it(tmp_path: Path, copa: Any) -> None:
    need("umoci", "skopeo", root=True)
    source = fixture("images/apko/out")
    skopeo("copy", "--quiet", f"oci:{source}", f"oci:{tmp_path / 'image'}:base")
    host = alpine_root("3.20.3", tmp_path / "host")
    base = unpack(tmp_path / "image", "base", tmp_path / "base")
    apk = newer(base, "glibc", "lib/libBrokenLocale.so.1")
    real = copy_root(base, host / "t")
    write_repository(host / "r", [apk])
    options = "--allow-untrusted --no-cache --no-scripts --repositories-file /dev/null -X /r"
    run = run_in(host, f"apk --root /t {options} upgrade")
    assert run.commits == (("Upgrading", "glibc"),), run.output

    layout = tmp_path / "image"
    with published(tmp_path, [apk]) as flags:
        code, _, err = copa("patch", "-i", f"oci:{layout}:base", *flags, "--to", f"oci:{layout}:patched")
    assert code == 0, err
    ours = unpack(layout, "patched", tmp_path / "ours")

    expected, actual = snapshot(real), snapshot(ours)
    different = {path for path in expected.keys() | actual.keys() if expected.get(path) != actual.get(path)}
    # apk writes every record anew, in its own order; apko's stay as they are, but for the one that changed. And
    # glibc's trigger can't run in this image, which has no shell: apko has made the linker's cache, and so do we.
    assert different == {"lib/apk/db/installed", "etc/ld.so.cache"}
    cache = LibraryCache.parse((ours / "etc/ld.so.cache").read_bytes())
    assert all((ours / e.path.lstrip("/")).exists() for e in cache.entries if e.path.startswith("/lib/"))
    assert "libc.so.6" in {entry.name for entry in cache.entries}
    records = [_records(root) for root in (base, real, ours)]
    assert list(records[2]) == list(records[0])
    assert records[2]["glibc"] == records[1]["glibc"]
    assert all(records[2][name] == text for name, text in records[0].items() if name != "glibc")
    assert (ours / f"var/lib/db/sbom/glibc-{VERSION}.spdx.json").exists()
    assert not list((ours / "var/lib/db/sbom").glob("glibc-2.*"))


def _records(root: Path) -> dict[str, str]:
    text = (root / "lib/apk/db/installed").read_text()
    found = {}
    for stanza in filter(None, (part.strip("\n") for part in text.split("\n\n"))):
        name = next(line[2:] for line in stanza.split("\n") if line.startswith("P:"))
        found[name] = stanza
    return found


@pytest.mark.system
def test_a_database_that_hides_another_is_patched_and_the_hidden_one_named(tmp_path: Path, copa: Any) -> None:
    """Where apk itself gives up, since the hidden packages are asked for."""
    need("umoci", "skopeo", root=True)
    layout = tmp_path / "image"
    skopeo("copy", "--quiet", f"oci:{fixture('images/apko/out_on_top')}", f"oci:{layout}:base")
    base = unpack(layout, "base", tmp_path / "base")
    apk = newer(base, "libcrypto3", "usr/lib/libcrypto.so.3")
    apk = replace(apk, depends=["so:libc.so.6"])
    with published(tmp_path, [apk]) as flags:
        target = f"oci:{layout}:patched"
        code, _, err = copa("patch", "-i", f"oci:{layout}:base", *flags, "--to", target, "-o", tmp_path / "o")
    assert code == 0, err

    ours = unpack(layout, "patched", tmp_path / "ours")
    assert (ours / "usr/lib/libcrypto.so.3").read_bytes() == b"\x7fELF but not quite"
    before, after = snapshot(base), snapshot(ours)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {
        "usr/lib/libcrypto.so.3",
        "lib/apk/db/installed",
        f"var/lib/db/sbom/libcrypto3-{VERSION}.spdx.json",
        "var/lib/db/sbom/libcrypto3-3.2.1-r0.spdx.json",
    }
    (platform,) = json.loads((tmp_path / "o").read_text())["platforms"]
    assert "glibc" in " ".join(notes_of(platform["plan"]))
    assert "spdx" not in " ".join(notes_of(platform["plan"]))


@pytest.mark.parametrize("folder", ["lib/apk/db", "usr/lib/apk/db"])
def test_a_hidden_package_is_not_overwritten_when_a_part_of_it_is_gone(folder: str, tmp_path: Path, copa: Any) -> None:
    """Its database is that of a lower layer, or in the other folder; of its files a document was deleted."""
    libc = Apk(
        name="glibc", provides=["so:libc.so.6"], files={"usr/lib/libc": file("1"), "usr/share/doc/libc": file("")}
    )
    openssl = Apk(name="openssl", depends=["so:libc.so.6"], files={"usr/bin/openssl": file("1")})
    newer_ones = [replace(libc, version="2-r0", files={"usr/lib/libc": file("2")}), replace(openssl, version="2-r0")]
    repository = ApkRepository()
    lower = apk_image(None, [libc])
    lower[f"{folder}/installed"] = lower.pop("lib/apk/db/installed")
    with serve(repository):
        repository.publish(newer_ones)
        upper = {**apk_image(repository, [openssl]), "usr/share/doc/.wh.libc": ""}
        write_layout(tmp_path / "image", {"base": make_image([make_layer(lower), make_layer(upper)])})
        outcome, target = tmp_path / "o", f"oci:{tmp_path / 'image'}:patched"
        code, _, err = copa("patch", "-i", f"oci:{tmp_path / 'image'}:base", "--to", target, "-o", outcome)

    assert code == 0, err
    (platform,) = json.loads(outcome.read_text())["platforms"]
    assert [update["name"] for update in section_of(platform["plan"])["updates"]] == ["openssl"]
    assert "glibc is taken for installed, and can't be updated" in " ".join(notes_of(platform["plan"]))


def test_what_describes_the_image_and_is_stale_then_is_named(tmp_path: Path, copa: Any) -> None:
    """foo's own SBOM is replaced with it."""
    repository = ApkRepository()
    folder = "var/lib/db/sbom"
    old, new = (Apk(name="foo", version=v, files={f"{folder}/foo-{v}.spdx.json": file(v)}) for v in ("1-r0", "2-r0"))
    with serve(repository):
        repository.publish([new])
        more = {f"{folder}/image.spdx.json": b"{}", "etc/apko.json": b"{}"}
        base = make_image([make_layer(apk_image(repository, [old], more=more))])
        write_layout(tmp_path / "image", {"base": make_index([base, make_attestation(base)])})
        outcome = tmp_path / "o"
        target = f"oci:{tmp_path / 'image'}:patched"
        code, _, err = copa("patch", "-i", f"oci:{tmp_path / 'image'}:base", "--to", target, "-o", outcome)
        assert code == 0, err
        assert copa("plan", "-i", target, "--format", "json", "-o", tmp_path / "again")[0] == 0

    (platform,) = json.loads(outcome.read_text())["platforms"]
    assert notes_of(platform["plan"]) == [
        "etc/apko.json says what the image was built from, and doesn't follow updates",
        "the index has an attestation of this image (SBOM, provenance): copied as is, about the image before updates",
        f"{folder}/image.spdx.json is no installed package's, and doesn't follow updates",
    ]
    (again,) = json.loads((tmp_path / "again").read_text())["plans"]
    assert notes_of(again) == notes_of(platform["plan"])[:1]  # nothing changes any more


@pytest.mark.system
def test_the_build_description_of_apko_is_named_as_stale(tmp_path: Path, copa: Any) -> None:
    old = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
    new = Apk(name="foo", version="2-r0", files={"usr/bin/foo": file("new", 0o755)})
    layout = write_layout(
        tmp_path / "l", {"1": make_image([make_layer(apk_image(None, [old], more={"etc/apko.json": "{}"}))])}
    )
    with published(tmp_path, [new]) as flags:
        code, _, err = copa("patch", "-i", f"oci:{layout}:1", *flags, "--to", f"oci:{layout}:2", "-o", tmp_path / "o")
    assert code == 0, err

    (platform,) = json.loads((tmp_path / "o").read_text())["platforms"]
    assert any("etc/apko.json" in note for note in notes_of(platform["plan"]))


@pytest.mark.system
def test_a_script_that_has_to_be_run_is_refused_where_no_script_ever_is(tmp_path: Path, copa: Any) -> None:
    """A tooling image's apk would leave it out, and be content."""
    old = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
    new = replace(old, version="2-r0", scripts={"post-upgrade": "#!/usr/bin/perl\nunlink '/etc/foo';\n"})
    layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(apk_image(None, [old]))])})
    with published(tmp_path, [new]) as flags:
        code, out, err = copa("patch", "-i", f"oci:{layout}:1", *flags, "--to", f"oci:{tmp_path / 'out'}:2")

    assert (code, out) == (4, "")
    assert "foo 1-r0 can't be updated: post-upgrade: it is not a shell script" in err
    assert "scripts can't be run: the image has no shell" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("strategy", ["unpack"])
def test_a_world_that_is_missing_is_not_made_empty(tmp_path: Path, copa: Any, strategy: str) -> None:
    """apk takes an empty one for its word, and removes the whole system."""
    tools, old = Apk(name="apk-tools", version="2.14.4-r0"), Apk(name="foo", version="1-r0", files={"a": file("old")})
    image = apk_image(None, [tools, old])
    del image["etc/apk/world"]
    layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(image)])})
    with published(tmp_path, [replace(old, version="2-r0", files={"a": file("new")})]) as flags:
        outcome = tmp_path / "outcome.json"
        target = ["--to", f"oci:{layout}:2", "--strategy", strategy, "-o", f"json={outcome}"]
        code, _, err = copa("patch", "-i", f"oci:{layout}:1", *flags, *target)
    assert code == 0, err

    layer = assert_valid_image(layout, "2")["layers"][-1]["digest"].replace(":", "/")
    with tarfile.open(layout / "blobs" / layer) as tar:
        assert {"a", "lib/apk/db/installed"} <= set(tar.getnames())
        assert "etc/apk/world" not in tar.getnames()
    (platform,) = json.loads(outcome.read_text())["platforms"]
    assert notes_of(platform["plan"]) == [
        "etc/apk/world is missing: every package counts as wanted here, and apk itself refuses to change anything"
    ]


# -- apk-tools 3 ---------------------------------------------------------------------------------------------


def test_packages_of_the_third_format_work_behind_their_flag(tmp_path: Path, copa: Any) -> None:
    tools = Apk(name="apk-tools", version="3.0.1-r0")
    old = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755), "etc/foo.conf": file("1")})
    files = {"usr/bin/foo": file("new", 0o755), "usr/bin/zoo": hardlink("usr/bin/foo"), "etc/foo.conf": file("2")}
    new = replace(old, version="2-r0", files=files, scripts={"post-install": "#!/bin/sh\nexit 0\n"})
    image = apk_image(None, [tools, old], world="apk-tools foo", more={"etc/foo.conf": "mine"})
    layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(image)])})
    repository = ApkRepository()
    (tmp_path / repository.key_name).write_bytes(public_pem(repository.key))
    with serve(repository):
        folder = f"{repository.folder}/x86_64"
        repository.files[f"{folder}/Packages.adb"] = adbs.index([new], key=repository.key)
        repository.files[f"{folder}/{new.file_name}"] = adbs.package(new, key=repository.key)
        flags = ["--repository", f"v3 {repository.url}", f"--key={tmp_path / repository.key_name}"]
        target = ["--to", f"oci:{layout}:2"]
        refused, _, why = copa("patch", "-i", f"oci:{layout}:1", *flags, *target)
        code, _, err = copa("patch", "-i", f"oci:{layout}:1", *flags, *target, "--experimental-apk-v3")
    assert refused != 0
    assert "--experimental-apk-v3" in why
    assert code == 0, err

    layers = assert_valid_image(layout, "2")["layers"]
    with tarfile.open(layout / "blobs" / layers[-1]["digest"].replace(":", "/")) as tar:
        members = list(tar)
        contents = {m.name: data.read() for m in members if m.isfile() and (data := tar.extractfile(m)) is not None}
        links = {m.name: m.linkname for m in members if m.islnk()}
    record = contents["lib/apk/db/installed"].decode().split("\n\n")[1].split("\n")
    assert contents["usr/bin/foo"] == b"new"
    assert links == {"usr/bin/zoo": "usr/bin/foo"}
    assert contents["etc/foo.conf.apk-new"] == b"2"
    assert "etc/foo.conf" not in contents
    assert "f:S" in record
    digest = base64.b64encode(hashlib.sha256(b"new").digest()[:20]).decode()
    at = record.index("R:foo")
    assert record[at : at + 3] == ["R:foo", "a:0:0:755", f"Z:Q1{digest}"]
    at = record.index("R:zoo")
    assert f"Z:Q1{digest}" in record[at : at + 3]
    scripts = gzip.decompress(contents["lib/apk/db/scripts.tar.gz"])
    assert f"foo-2-r0.X1{_identity(record).hex()}.post-install".encode() in scripts


def _identity(record: Sequence[str]) -> bytes:
    return base64.b64decode(next(line for line in record if line.startswith("C:Q1"))[4:])


# -- where repositories come from ----------------------------------------------------------------------------

FOO = Apk(name="foo", version="1-r0", files={"usr/bin/foo": file("old", 0o755)})
FOO2 = replace(FOO, version="2-r0", files={"usr/bin/foo": file("new", 0o755)})


def test_an_image_without_repositories_is_patched_from_those_of_the_configuration(
    tmp_path: Path, copa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(apk_image(None, [FOO]))])})
    configuration = tmp_path / "config.toml"
    monkeypatch.setenv("COPA_CONFIG", str(configuration))
    with published(tmp_path, [FOO2]) as (_, address, key):
        definition = address.replace("/alpine/v3.19/main", "/${OS_ID}/${OS_BRANCH} main")
        table = f'repository = ["{definition}"]\nkeyring = ["{key.removeprefix("--key=")}"]\n'
        configuration.write_text(f"[plan]\n{table}[patch]\n{table}")
        _, plan, _ = copa("plan", "-i", f"oci:{layout}:1", "--format", "json")
        code, _, err = copa("patch", "-i", f"oci:{layout}:1", "--to", f"oci:{layout}:2")

    assert code == 0, err
    (only,) = json.loads(plan)["plans"]
    (origin,) = section_of(only)["repositories"]
    assert (origin["definedIn"], origin["signedBy"]) == ("--repository", "tests@example.com-0a1b2c3d.rsa.pub")
    assert origin["uri"].endswith("/alpine/v3.19/main")


def test_a_branch_that_moved_to_an_archive_is_found_there(tmp_path: Path, copa: Any) -> None:
    with serve(ApkRepository(folder="archive/v3.19/main")) as repository:
        assert isinstance(repository, ApkRepository)
        repository.publish([FOO2])
        files = apk_image(repository, [FOO])
        files["etc/apk/repositories"] = f"{repository.address}/alpine/v3.19/main\n"
        layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(files)])})
        call = ["patch", "-i", f"oci:{layout}:1", "--to", f"oci:{layout}:2"]
        gone, _, why = copa(*call)
        mirror = f"{repository.address}/alpine={repository.address}/archive"
        code, out, err = copa(*call, "--repository-mirror", mirror)

    assert gone == 1
    assert "--repository-mirror" in why
    assert code == 0, err
    assert out.startswith(f"oci:{layout}:2@sha256:")


@pytest.mark.parametrize("branch", ["v3.19", "edge"])
def test_an_image_that_is_newer_than_its_repository_is_left_as_it_is(tmp_path: Path, copa: Any, branch: str) -> None:
    release = {"etc/os-release": "ID=alpine\nVERSION_ID=3.20_alpha20240329\nPRETTY_NAME=Alpine\n"}
    with serve(ApkRepository(folder=f"alpine/{branch}/main")) as repository:
        assert isinstance(repository, ApkRepository)
        repository.publish([FOO])
        files = apk_image(repository, [FOO2], more=release if branch == "edge" else {})
        layout = write_layout(tmp_path / "l", {"1": make_image([make_layer(files)])})
        found = report(tmp_path / "r.json", "foo", "2-r0", "3-r0")
        code, out, err = copa("patch", "-i", f"oci:{layout}:1", "--to", f"oci:{layout}:2")
        asked = copa("patch", "-i", f"oci:{layout}:1", "-r", found, "--to", f"oci:{layout}:2")

    assert (code, out) == (0, ""), err
    assert (asked[0], asked[1]) == (4, "")
    assert "foo" in asked[2]
    assert [m["annotations"]["org.opencontainers.image.ref.name"] for m in index_of(layout)] == ["1"]


# -- another architecture ------------------------------------------------------------------------------------


@pytest.mark.system
def test_an_image_of_another_architecture_needs_no_emulation(tmp_path: Path, copa: Any) -> None:
    """apk of x86_64 is the judge, but its shell can't run there: so the one account that scripts make is told apart."""
    need("umoci", root=True)
    archive = ROOTS["3.20.3"].replace("x86_64", "aarch64")
    host = alpine_root("3.20.3", tmp_path / "host")
    base = extract(fixture(archive), tmp_path / "base")
    names = ("alpine-baselayout", "alpine-baselayout-data", "busybox", "busybox-binsh", "ssl_client", "musl", "zlib")
    apks = [replace(apk, architecture="aarch64") for name in names if (apk := reversion(base, name)) is not None]
    apks = [replace(apk, files={**apk.files, f"usr/share/{apk.name}": file(apk.name)}) for apk in apks]
    apks = [replace(apk, raw_order=False) for apk in apks]
    copy_root(base, host / "t")
    write_repository(host / "r", apks, architecture="aarch64")
    options = "--arch aarch64 --allow-untrusted --no-cache --no-scripts --repositories-file /dev/null -X /r"
    run = run_in(host, f"apk --root /t {options} upgrade")
    assert len(run.commits) == len(apks), run.output

    layout = tmp_path / "image"
    image = alpine_image("3.20.3", layout, architecture="arm64", archive=archive)
    with published(tmp_path, apks) as flags:
        code, _, err = copa("patch", "-i", image, *flags, "--to", f"oci:{layout}:patched")
    assert code == 0, err
    assert "linux/arm64" in err
    ours = unpack(layout, "patched", tmp_path / "ours")

    expected, actual = snapshot(host / "t"), snapshot(ours)
    different = {path for path in expected.keys() | actual.keys() if expected.get(path) != actual.get(path)}
    assert different == {f"etc/{name}{end}" for name in ("group", "passwd", "shadow") for end in ("", "-")}
    assert "\nklogd:x:100:101:klogd:/dev/null:/sbin/nologin\n" in (ours / "etc/passwd").read_text()
    assert_valid_image(layout, "patched")
