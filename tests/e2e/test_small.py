# SPDX-License-Identifier: Apache-2.0
"""The whole road on small images and a repository of our own: what is patched, what is left, what comes out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import copacetic
from copacetic.cli import main
from copacetic.oci.layout import LayoutSource
from copacetic.repository import RepositorySettings
from support.deb.aptrepo import Deb, Repository, debian_image, file, serve_repository, write_image
from support.deb.debs import directory
from support.image.images import (
    Image,
    assert_valid_image,
    make_attestation,
    make_index,
    open_layers,
    skopeo,
    write_layout,
)
from support.image.trees import layer_paths
from support.value.plandocuments import notes_of, section_of
from support.value.replacing import replace
from support.value.values import HERE

FOO = Deb(name="foo", version="1.0-1", architecture="amd64", files={"usr/bin/foo": file("old", 0o755)})
BAR = Deb(name="bar", version="1.0-1", architecture="amd64", files={"usr/share/bar": file("same")})
FOO2 = Deb(name="foo", version="1.0-1+deb12u1", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)})
BAR2 = Deb(name="bar", version="1.0-1+deb12u1", architecture="amd64", files={"usr/share/bar": file("same")})


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve_repository([FOO2, BAR2]) as served:
        yield served


class Run:
    """One call of `copa` and what it left."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def copa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str | Path, cache: str = "cache") -> Run:
        code = main([*map(str, arguments), "--cache-dir", str(tmp_path / cache)])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call


def trivy(path: Path, image: Image, *rows: tuple[str, str, str]) -> Path:
    """Write a report about an image: (vulnerability, package, fixed version)."""
    found = [
        {"VulnerabilityID": i, "PkgName": p, "InstalledVersion": "1.0-1", "FixedVersion": f, "Severity": "HIGH"}
        for i, p, f in rows
    ]
    document = {
        "SchemaVersion": 2,
        "Metadata": {"ImageID": image.document["config"]["digest"], "OS": {"Family": "debian", "Name": "12"}},
        "Results": [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": found}],
    }
    path.write_text(json.dumps(document))
    return path


def read(layout: Path, tag: str, path: str) -> bytes:
    """Read a file of an image through the product's own view."""
    (fs,) = open_layers(f"oci:{layout}:{tag}", layout.parent / "read-cache")
    return fs.read(path, limit=1 << 20)


def test_without_a_report_every_update_is_taken(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"
    image = debian_image(repository, [FOO, BAR])

    run = copa("patch", "-i", write_image(layout, image), "--to", f"oci:{layout}:patched")

    assert run.code == 0
    after = assert_valid_image(layout, "patched")
    assert run.out == f"oci:{layout}:patched@{LayoutSource(layout, 'patched').root()[0].digest}\n"
    assert after["layers"][:-1] == image.document["layers"]
    assert len(after["layers"]) == 2
    assert read(layout, "patched", "usr/bin/foo") == b"new"
    status = read(layout, "patched", "var/lib/dpkg/status").decode()
    assert status.count("Version: 1.0-1+deb12u1") == 2


def test_a_file_that_is_the_same_below_is_not_in_the_layer(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"

    copa("patch", "-i", write_image(layout, debian_image(repository, [FOO, BAR])), "--to", f"oci:{layout}:patched")

    source = LayoutSource(layout, "patched")
    from copacetic.compression import decompress
    from support.image.trees import scan_tar

    layer = json.loads(source.root()[1])["layers"][-1]
    blob = (layout / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
    paths = {row.path for row in scan_tar(decompress(blob, limit=1 << 20)).rows}
    assert "usr/bin/foo" in paths
    assert "usr/share/bar" not in paths


def test_a_report_decides_what_changes_and_every_row_is_accounted_for(
    tmp_path: Path, repository: Repository, copa: Any
) -> None:
    layout, outcome = tmp_path / "layout", tmp_path / "outcome.json"
    image = debian_image(repository, [FOO, BAR])
    report = trivy(
        tmp_path / "report.json", image,
        ("CVE-1", "foo", "1.0-1+deb12u1"), ("CVE-2", "bar", ""), ("CVE-3", "gone", "2.0"), ("CVE-4", "bar", "0.9"),
    )  # fmt: skip

    run = copa(
        "patch",
        "-i",
        write_image(layout, image),
        "-r",
        report,
        "--to",
        f"oci:{layout}:patched",
        "-o",
        f"json={outcome}",
    )

    assert run.code == 0
    (platform,) = json.loads(outcome.read_text())["platforms"]
    assert [(u["name"], u["findings"]) for u in section_of(platform["plan"])["updates"]] == [("foo", ["CVE-1"])]
    assert [f["status"] for f in platform["plan"]["findings"]] == [
        "fixable",
        "no-fix",
        "not-installed",
        "already-fixed",
    ]
    assert [f["vulnerabilityId"] for f in platform["findings"]["closed"]] == ["CVE-1"]
    assert [f["vulnerabilityId"] for f in platform["findings"]["open"]] == ["CVE-2"]
    assert platform["verified"] is True


def test_a_fix_that_nobody_offers_fails_closed_and_can_be_waived(
    tmp_path: Path, repository: Repository, copa: Any
) -> None:
    layout = tmp_path / "layout"
    image = debian_image(repository, [FOO, BAR])
    report = trivy(tmp_path / "r.json", image, ("CVE-1", "foo", "9.0"), ("CVE-2", "bar", "1.0-1+deb12u1"))
    arguments = ("patch", "-i", write_image(layout, image), "-r", report, "--to", f"oci:{tmp_path / 'out'}:1")

    refused = copa(*arguments)

    assert refused.code == 4
    assert "foo 1.0-1 can't be updated: 9.0 or later is needed, the newest offered is 1.0-1+deb12u1" in refused.err
    assert not (tmp_path / "out").exists()
    assert copa(*arguments, "--ignore-errors").code == 0
    assert read(tmp_path / "out", "1", "usr/bin/foo") == b"old"


def test_nothing_to_do_is_success_without_an_image(tmp_path: Path, repository: Repository, copa: Any) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO2, BAR2]))

    run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1")

    assert (run.code, run.out) == (0, "")
    assert "nothing to do" in run.err
    assert not (tmp_path / "out").exists()
    assert copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "--exit-code-no-change", "42").code == 42


def test_a_plan_is_a_lock_file(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout, plan = tmp_path / "layout", tmp_path / "plan.json"
    image = write_image(layout, debian_image(repository, [FOO, BAR]))
    assert copa("plan", "-i", image, "--format", "json", "-o", plan).code == 0
    newer = Deb(name="foo", version="1.0-1+deb12u2", architecture="amd64")
    repository.publish([newer, BAR2])

    run = copa("patch", "-i", image, "--plan", plan, "--to", f"oci:{layout}:patched")

    assert run.code == 0
    assert "Version: 1.0-1+deb12u1" in read(layout, "patched", "var/lib/dpkg/status").decode()


def test_a_plan_that_leaves_something_out_is_refused_like_the_patch_itself(tmp_path: Path, copa: Any) -> None:
    script = "#!/bin/sh\nset -e\n/usr/bin/foo --rebuild-database > /var/lib/foo.db\n"
    needs = Deb(name="foo", version="2", architecture="amd64", scripts={"postinst": script})
    plan, target = tmp_path / "plan.json", f"oci:{tmp_path / 'out'}:1"
    with serve_repository([needs, BAR2]) as repository:
        image = write_image(tmp_path / "layout", debian_image(repository, [FOO, BAR]))
        assert copa("plan", "-i", image, "--format", "json", "-o", plan).code == 0
        refused = copa("patch", "-i", image, "--plan", plan, "--to", target)
        nothing = not (tmp_path / "out").exists()
        partial = copa("patch", "-i", image, "--plan", plan, "--to", target, "--ignore-errors")

    assert (refused.code, nothing, partial.code) == (4, True, 0)
    assert "foo 1.0-1 can't be updated: postinst" in refused.err


def test_a_plan_can_t_smuggle_in_a_script_that_would_have_to_run(tmp_path: Path, copa: Any) -> None:
    script = "#!/bin/sh\nset -e\n/usr/bin/foo --rebuild-database > /var/lib/foo.db\n"
    needs = Deb(name="foo", version="2", architecture="amd64", scripts={"postinst": script})
    data = needs.to_bytes()
    plan = tmp_path / "plan.json"
    with serve_repository([FOO2]) as repository:
        image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
        assert copa("plan", "-i", image, "--format", "json", "-o", plan).code == 0
        repository.files["evil.deb"] = data
        document = json.loads(plan.read_text())
        (update,) = section_of(document["plans"][0])["updates"]
        update |= {
            "version": "2", "sourceVersion": "2", "url": f"{repository.address}/evil.deb", "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(), "scripts": [],
        }  # fmt: skip
        plan.write_text(json.dumps(document))
        run = copa("patch", "-i", image, "--plan", plan, "--trust-plan", "--to", f"oci:{tmp_path / 'out'}:1")

    assert (run.code, run.out, (tmp_path / "out").exists()) == (4, "", False)
    assert "postinst would have to be run" in run.err


def test_the_same_input_gives_the_same_digest(tmp_path: Path, repository: Repository, copa: Any) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO, BAR]))

    first = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'a'}:1", cache="one")
    second = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'b'}:1", cache="two")
    reused = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'c'}:1", cache="two")

    digests = {run.out.strip().rpartition("@")[2] for run in (first, second, reused)}
    assert len(digests) == 1


@pytest.mark.parametrize("bucket", ["patch-layers", "layers", "layer-contents"])
def test_a_kept_layer_that_is_damaged_is_made_again(
    tmp_path: Path, repository: Repository, copa: Any, bucket: str
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO, BAR]))
    first = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'a'}:1", cache="kept")
    entries = [path for path in (tmp_path / "kept").glob(f"{bucket}.v*/*") if path.is_file()]
    for kept in entries:
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")

    again = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'b'}:1", cache="kept")

    assert entries
    assert (again.code, again.out.rpartition("@")[2]) == (0, first.out.rpartition("@")[2])
    assert_valid_image(tmp_path / "b", "1")


def test_source_date_epoch_dates_the_image(
    tmp_path: Path, repository: Repository, copa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    layout = tmp_path / "layout"

    copa("patch", "-i", write_image(layout, debian_image(repository, [FOO])), "--to", f"oci:{layout}:patched")

    raw = LayoutSource(layout, "patched").root()[1]
    config = json.loads((layout / "blobs" / json.loads(raw)["config"]["digest"].replace(":", "/")).read_bytes())
    assert config["created"] == config["history"][-1]["created"] == "2027-01-15T08:00:00Z"


@pytest.mark.parametrize(
    ("base", "result"),
    [
        ("2023-11-14T20:00:00-10:00", "2023-11-14T20:00:00-10:00"),  # 06:00 of the next day
        ("2023-11-15T20:00:00+23:00", "2023-11-14T22:13:20Z"),  # the evening before
        ("2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20.5Z"),
        ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"),
        ("9999-12-31t23:59:59z", "2023-11-14T22:13:20Z"),
        ("yesterday", "2023-11-14T22:13:20Z"),
        ("9999-99-99T99:99:99Z", "2023-11-14T22:13:20Z"),
    ],
)
def test_the_result_is_as_old_as_the_younger_of_base_and_packages(
    base: str, result: str, tmp_path: Path, repository: Repository, copa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    layout = tmp_path / "layout"
    image = write_image(layout, debian_image(repository, [FOO], config={"created": base}))

    copa("patch", "-i", image, "--to", f"oci:{layout}:patched")

    raw = LayoutSource(layout, "patched").root()[1]
    config = json.loads((layout / "blobs" / json.loads(raw)["config"]["digest"].replace(":", "/")).read_bytes())
    assert config["created"] == config["history"][-1]["created"] == result


def test_the_config_keeps_everything_else(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"
    odd: dict[str, Any] = {
        "x-unknown": {"a": [1]},
        "config": {"User": "1000", "Entrypoint": ["/x"], "Labels": {"mine": "1"}},
    }
    image = debian_image(repository, [FOO], config=odd)

    copa("patch", "-i", write_image(layout, image), "--to", f"oci:{layout}:patched")

    raw = LayoutSource(layout, "patched").root()[1]
    config = json.loads((layout / "blobs" / json.loads(raw)["config"]["digest"].replace(":", "/")).read_bytes())
    assert config["x-unknown"] == {"a": [1]}
    assert {**config["config"], "Labels": None} == {**odd["config"], "Labels": None}
    assert config["config"]["Labels"]["mine"] == "1"
    assert config["config"]["Labels"]["sh.copa.patch.origin.digest"] == str(image.descriptor.digest)
    assert config["history"][:-1] == image.config["history"]


def test_a_held_package_stays_and_is_named(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"
    image = debian_image(repository, [FOO, BAR], held=["foo"])

    run = copa("patch", "-i", write_image(layout, image), "--to", f"oci:{layout}:patched")

    assert run.code == 0
    assert "left: foo 1.0-1 (held" in run.err
    assert read(layout, "patched", "usr/bin/foo") == b"old"


@pytest.mark.parametrize(("flags", "code"), [((), 4), (("--ignore-errors",), 0)])
def test_a_report_that_asks_for_a_held_package_ends_in_a_missing_fix(
    flags: tuple[str, ...], code: int, tmp_path: Path, repository: Repository, copa: Any
) -> None:
    layout, report = tmp_path / "layout", tmp_path / "report.json"
    image = write_image(layout, debian_image(repository, [FOO, BAR], held=["foo"]))
    rows = [
        {
            "VulnerabilityID": f"CVE-{name}",
            "PkgName": name,
            "InstalledVersion": "1.0-1",
            "FixedVersion": "1.0-1+deb12u1",
        }
        for name in ("foo", "bar")
    ]
    results = [{"Class": "os-pkgs", "Type": "debian", "Vulnerabilities": rows}]
    report.write_text(json.dumps({"SchemaVersion": 2, "Results": results}))

    run = copa("patch", "-i", image, "-r", report, "--to", f"oci:{tmp_path / 'out'}:1", *flags)

    assert run.code == code
    assert ("foo 1.0-1 can't be updated" if code else "left: foo 1.0-1 (held") in run.err
    assert (tmp_path / "out").exists() is not bool(code)


def test_a_new_dependency_comes_in(tmp_path: Path, copa: Any) -> None:
    library = Deb(name="libfoo", version="1", architecture="amd64", files={"usr/lib/libfoo": file("lib")})
    needs = Deb(name="foo", version="2", architecture="amd64", fields={"Depends": "libfoo (>= 1)"})
    layout, outcome = tmp_path / "layout", tmp_path / "o.json"
    with serve_repository([needs, library]) as repository:
        image = write_image(layout, debian_image(repository, [FOO]))
        run = copa("patch", "-i", image, "--to", f"oci:{layout}:patched", "-o", outcome)

    assert run.code == 0
    updates = section_of(json.loads(outcome.read_text())["platforms"][0]["plan"])["updates"]
    assert [(u["name"], u["installedVersion"], u["requiredBy"]) for u in updates] == [
        ("foo", "1.0-1", []),
        ("libfoo", None, ["foo"]),
    ]
    assert read(layout, "patched", "usr/lib/libfoo") == b"lib"


def test_an_update_whose_dependency_nobody_offers_is_kept_back(tmp_path: Path, copa: Any) -> None:
    needs = Deb(name="foo", version="2", architecture="amd64", fields={"Depends": "libmissing"})
    with serve_repository([needs, BAR2]) as repository:
        image = write_image(tmp_path / "layout", debian_image(repository, [FOO, BAR]))
        run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1")

    assert run.code == 0
    assert "left: foo 1.0-1 (dependency: foo Depends libmissing, which is not installed" in run.err


def test_a_script_that_must_run_refuses_its_package_by_name(tmp_path: Path, copa: Any) -> None:
    script = "#!/bin/sh\nset -e\n/usr/bin/foo --rebuild-database > /var/lib/foo.db\n"
    needs = Deb(
        name="foo", version="2", architecture="amd64", files={"usr/bin/foo": file("new", 0o755)},
        scripts={"postinst": script},
    )  # fmt: skip
    with serve_repository([needs, BAR2]) as repository:
        layout = tmp_path / "layout"
        arguments = ("patch", "-i", write_image(layout, debian_image(repository, [FOO, BAR])))
        refused = copa(*arguments, "--to", f"oci:{tmp_path / 'out'}:1")
        partial = copa(*arguments, "--to", f"oci:{layout}:patched", "--ignore-errors")

    assert refused.code == 4
    assert "foo 1.0-1 can't be updated: postinst" in refused.err
    assert not (tmp_path / "out").exists()
    assert partial.code == 0
    assert read(layout, "patched", "usr/bin/foo") == b"old"
    assert read(layout, "patched", "var/lib/dpkg/status").decode().count("+deb12u1") == 1


def test_an_empty_folder_of_the_package_goes_when_its_script_says_so(tmp_path: Path, copa: Any) -> None:
    text = "#!/bin/sh\nset -e\nrm -f /usr/lib/x/mods/cache\nrmdir -p --ignore-fail-on-non-empty /usr/lib/x/mods\n"
    foo = replace(FOO, files={**FOO.files, "usr/lib/x/mods": directory()}, scripts={"postrm": text})
    with serve_repository([replace(foo, version=FOO2.version)]) as served:
        programs = {"usr/bin/rm": "", "usr/bin/rmdir": "", "usr/lib/other": "", "usr/lib/x/mods/cache": "made"}
        image = write_image(tmp_path / "layout", debian_image(served, [foo], more=programs))
        run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'layout'}:patched", "-q")

    assert run.code == 0, run.err
    assert "usr/lib/x" in layer_paths(tmp_path / "layout", "patched")


@pytest.mark.parametrize(
    ("kind", "compression"),
    [("oci", "none"), ("oci", "gzip"), ("oci", "zstd"), ("docker", "none"), ("docker", "gzip")],  # which has no more
)
def test_the_output_keeps_the_input_s_kind(
    tmp_path: Path, repository: Repository, copa: Any, kind: str, compression: str
) -> None:
    layout = tmp_path / "layout"
    image = debian_image(repository, [FOO], kind=kind, compression=compression)

    run = copa("patch", "-i", write_image(layout, image), "--to", f"oci:{layout}:patched")

    assert run.code == 0
    after = assert_valid_image(layout, "patched")
    assert after["mediaType"] == image.document["mediaType"]
    assert after["layers"][0] == image.document["layers"][0]
    expected = "zstd" if compression == "zstd" else "gzip"
    assert after["layers"][1]["mediaType"].endswith(expected)


def test_an_index_keeps_what_is_not_patched_byte_for_byte(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"
    amd64 = debian_image(repository, [FOO])
    other = debian_image(repository, [FOO], platform="linux/arm64/v8")
    attestation = make_attestation(amd64)
    index = make_index([amd64, other, attestation], annotations={"mine": "1"})

    run = copa(
        "patch", "-i", write_image(layout, index), "--to", f"oci:{tmp_path / 'out'}:1", "--platform", "linux/amd64"
    )

    assert run.code == 0
    before, after = index.document, json.loads(LayoutSource(tmp_path / "out", "1").root()[1])
    assert after["manifests"][1:] == before["manifests"][1:]
    assert after["annotations"] == {"mine": "1"}
    assert after["manifests"][0]["platform"] == before["manifests"][0]["platform"]
    assert after["manifests"][0]["digest"] != before["manifests"][0]["digest"]
    for entry in before["manifests"][1:]:
        blob = Path("blobs") / entry["digest"].replace(":", "/")
        assert (tmp_path / "out" / blob).read_bytes() == (layout / blob).read_bytes()


def test_an_sbom_that_no_package_has_and_an_attestation_are_named(
    tmp_path: Path, repository: Repository, copa: Any
) -> None:
    odd = "var/lib/db/sbom/a\x1b.spdx.json"
    image = debian_image(repository, [FOO], more={odd: "{}", "var/lib/db/sbom/readme": "no SBOM"})
    location = write_image(tmp_path / "layout", make_index([image, make_attestation(image)]))

    run = copa("plan", "-i", location, "--format", "json", "-o", tmp_path / "plan.json")

    assert run.code == 0
    (plan,) = json.loads((tmp_path / "plan.json").read_text())["plans"]
    assert notes_of(plan) == [
        "the index has an attestation of this image (SBOM, provenance): copied as is, about the image before updates",
        "var/lib/db/sbom/a\\x1b.spdx.json is no installed package's, and doesn't follow updates",
    ]


def test_all_linux_platforms_of_an_index_are_patched(tmp_path: Path, repository: Repository, copa: Any) -> None:
    layout = tmp_path / "layout"
    repository.files["dists/stable-security/main/binary-arm64/Packages"] = b""
    arm = Deb(name="foo", version="1.0-1", architecture="arm64")
    index = make_index([debian_image(repository, [FOO]), debian_image(repository, [arm], platform="linux/arm64")])

    run = copa("patch", "-i", write_image(layout, index), "--to", f"oci:{tmp_path / 'out'}:1")

    assert run.code == 0
    assert "linux/amd64" in run.err
    assert "linux/arm64" in run.err


@pytest.mark.parametrize("form", ["oci-archive:{}/a.tar:1", "docker-archive:{}/d.tar:example.com/x:1", "oci:{}/l:1"])
def test_every_output_can_be_read_by_others(tmp_path: Path, repository: Repository, copa: Any, form: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    target = form.format(tmp_path)

    assert copa("patch", "-i", image, "--to", target).code == 0

    where = target if not target.startswith("docker-archive") else target.rsplit(":", 2)[0]
    assert len(json.loads(skopeo("inspect", where))["Layers"]) == 2
    assert copa("inspect", target, "--format", "json").code == 0


def test_the_library_does_the_same_in_silence(
    tmp_path: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    settings = copacetic.Settings(repository=RepositorySettings(reach=HERE))
    request = copacetic.PatchRequest(image=image, destination=f"oci:{tmp_path / 'out'}:1")

    plans = copacetic.plan(copacetic.PatchRequest(image=image), settings=settings).plans
    outcome = copacetic.patch(request, settings=settings)

    assert [u.candidate.name for plan in plans for u in plan.updates] == ["foo"]
    assert outcome.changed
    assert outcome.platforms[0].verified
    assert capsys.readouterr() == ("", "")


def test_github_gets_the_digest_and_a_summary(
    tmp_path: Path, repository: Repository, copa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))

    run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1")

    name, _, digest = run.out.strip().partition("@")
    assert (tmp_path / "output").read_text() == f"changed=true\nimage={name}@{digest}\ndigest={digest}\n"
    assert "| foo | 1.0-1 | 1.0-1+deb12u1 | - |" in (tmp_path / "summary").read_text()


def test_github_is_told_that_nothing_changed(
    tmp_path: Path, repository: Repository, copa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO2, BAR2]))

    copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1")

    assert (tmp_path / "output").read_text() == "changed=false\n"


def test_documents_and_the_digest_are_written_whole_where_they_are_wanted(
    tmp_path: Path, repository: Repository, copa: Any
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))
    outcome, digest, plan = tmp_path / "o.json", tmp_path / "digest", tmp_path / "p.json"
    outcome.write_text("old")
    outcome.chmod(0o640)
    plan.symlink_to(tmp_path / "real.json")

    assert copa("plan", "-i", image, "--format", "json", "-o", plan).code == 0
    run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", "-o", outcome, "--digestfile", digest)

    assert json.loads(outcome.read_text())["reference"] == run.out.strip()
    assert outcome.stat().st_mode & 0o777 == 0o640
    assert digest.read_text().strip() == run.out.strip().rpartition("@")[2]
    assert plan.is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["kind"] == "copacetic.plan"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("layout", "out", "cache", "o.json", "digest", "p.json", "real.json"),
    }


@pytest.mark.parametrize("flag", ["-o", "--digestfile"])
@pytest.mark.parametrize("target", ["nowhere/file", "."])
def test_a_file_that_can_t_be_written_is_named_before_anything_is_done(
    tmp_path: Path, repository: Repository, copa: Any, flag: str, target: str
) -> None:
    image = write_image(tmp_path / "layout", debian_image(repository, [FOO]))

    run = copa("patch", "-i", image, "--to", f"oci:{tmp_path / 'out'}:1", flag, tmp_path / target)

    assert run.code == 2
    assert "directory" in run.err
    assert not (tmp_path / "out").exists()
    assert repository.requests == []
    if flag == "-o":
        assert copa("plan", "-i", image, flag, tmp_path / target).code == 2


def test_a_second_image_on_the_same_base_takes_the_same_layer(
    tmp_path: Path, repository: Repository, copa: Any
) -> None:
    one = debian_image(repository, [FOO], labels={"app": "one"})
    two = debian_image(repository, [FOO], labels={"app": "two"})
    layers: list[Sequence[Any]] = []
    for number, image in enumerate((one, two)):
        layout = tmp_path / str(number)
        write_layout(layout, {"1": image})
        copa("patch", "-i", f"oci:{layout}:1", "--to", f"oci:{layout}:patched")
        layers.append(json.loads(LayoutSource(layout, "patched").root()[1])["layers"])

    assert layers[0][-1] == layers[1][-1]
