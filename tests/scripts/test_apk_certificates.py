# SPDX-License-Identifier: Apache-2.0
"""Alpine's update-ca-certificates: what is made of new certificates, and when that is not known."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from copacetic.errors import ImageError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.effects import Bundling
from copacetic.scripts.handlers.certificates import learn_bundling, update_certificates
from copacetic.updates import ScriptClass
from support.apk.apkcomposed import compose, open_unpacker, plan_apks
from support.apk.apkrepo import apk_image
from support.apk.apks import Apk
from support.deb.debian import need
from support.deb.debs import Member, file
from support.image.trees import Content, directory, symlink, tree
from support.value.values import key

SHIPPED = "usr/share/ca-certificates/mozilla"
TRIGGER = "#!/bin/sh\n/usr/sbin/update-ca-certificates > /dev/null 2>&1\nexit 0\n"
HOOK = "#!/bin/sh\nexec /usr/bin/c_rehash /etc/ssl/certs\n"
CONF = "# generated\n!mozilla/no.crt\nmozilla/a.crt\nmozilla/b (c), d.crt\n"


def image(bundle: str, more: Mapping[str, Content] | None = None, *, hook: str = "") -> ImageFilesystem:
    files: dict[str, Content] = {
        "etc/ca-certificates.conf": CONF,
        "etc/ssl/certs/ca-certificates.crt": bundle,
        "etc/ssl/certs/ca-cert-a.pem": symlink(f"/{SHIPPED}/a.crt"),
        "etc/ssl/certs/ca-cert-b_=c=__d.pem": symlink(f"/{SHIPPED}/b (c), d.crt"),
        f"{SHIPPED}/a.crt": "A\n",
        f"{SHIPPED}/b (c), d.crt": "B\n",
        **(more or {}),
    }
    if hook:
        files |= {"usr/bin/run-parts": "program", "etc/ca-certificates/update.d/certhash": hook}
    parents = {path.rpartition("/")[0] for path in files} - {""}
    folders = {"/".join(p.split("/")[:n]) for p in parents for n in range(1, p.count("/") + 2)}
    return tree({**{path: directory() for path in sorted(folders)}, **files})


@pytest.mark.parametrize(("bundle", "after"), [("A\nB\n", ""), ("A\n\nB\n\n", "\n")])
def test_what_goes_between_certificates_is_told_by_the_bundle(bundle: str, after: str) -> None:
    assert learn_bundling(image(bundle)) == Bundling(after, ())


def test_the_order_of_the_administrators_certificates_is_told_by_the_bundle() -> None:
    local = {f"usr/local/share/ca-certificates/{name}.crt": f"{name}\n" for name in ("one", "two", "three")}
    links: dict[str, Content] = {
        f"etc/ssl/certs/ca-cert-{name}.pem": symlink(f"/usr/local/share/ca-certificates/{name}.crt")
        for name in ("one", "two", "three")
    }
    found = learn_bundling(image("A\nB\ntwo\none\nthree\n", {**local, **links}))

    assert found is not None
    assert [path.rpartition("/")[2] for path in found.local] == ["two.crt", "one.crt", "three.crt"]


@pytest.mark.parametrize(
    ("bundle", "more"),
    [
        ("B\nA\n", {}),
        ("A\nB\nmine\n", {}),
        ("A\nB\n", {"etc/ssl/certs/ca-cert-old.pem": symlink(f"/{SHIPPED}/old.crt")}),
        ("A\nB\n", {"etc/ssl/certs/ca-cert-a.pem": symlink("/elsewhere")}),
        ("A\nB\n", {"usr/local/share/ca-certificates/new.crt": "new\n"}),
    ],
)
def test_a_state_that_does_not_follow_from_the_certificates_teaches_nothing(
    bundle: str, more: Mapping[str, Content]
) -> None:
    assert learn_bundling(image(bundle, more)) is None


def test_bundle_and_links_follow_the_new_certificates() -> None:
    changed = TreeBuilder(image("A\nB\n"))
    changed.remove(f"{SHIPPED}/a.crt")
    changed.write(f"{SHIPPED}/e.crt", b"E\n", mtime=0)
    changed.write("etc/ca-certificates.conf", b"mozilla/b (c), d.crt\nmozilla/e.crt\n", mtime=0)

    update_certificates(changed, Bundling("", ()), mtime=0)

    assert changed.read("etc/ssl/certs/ca-certificates.crt", limit=99) == b"B\nE\n"
    links = {name: changed.lookup(f"etc/ssl/certs/{name}", follow=False) for name in changed.iterdir("etc/ssl/certs")}
    assert {name: entry.target for name, entry in links.items() if entry and entry.target} == {
        "ca-cert-b_=c=__d.pem": f"/{SHIPPED}/b (c), d.crt",
        "ca-cert-e.pem": f"/{SHIPPED}/e.crt",
    }


def test_one_big_file_can_t_be_the_bundle_many_times() -> None:
    changed = TreeBuilder(image("A\nB\n"))
    changed.write(f"{SHIPPED}/big.crt", bytes(8_000_000), mtime=0)
    changed.write("etc/ca-certificates.conf", b"mozilla/big.crt\n" * 20, mtime=0)

    with pytest.raises(ImageError, match="names certificates of more than 67108864 bytes"):
        update_certificates(changed, Bundling("", ()), mtime=0)


def certificate(folder: Path, name: str) -> str:
    need("openssl")
    path = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         f"/O=Example/CN={name}", "-keyout", folder / "key", "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path.read_text()


def subject_hash(folder: Path, name: str) -> str:
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(folder / f"{name}.pem")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def certificates_package(version: str, names: list[str], bodies: Mapping[str, str]) -> Apk:
    conf = "".join(f"mozilla/{name}.crt\n" for name in names)
    return Apk(
        name="ca-certificates",
        version=version,
        files={
            **{f"{SHIPPED}/{name}.crt": file(bodies[name]) for name in names},
            "etc/ca-certificates.conf": file(conf),
            "etc/ca-certificates/update.d/certhash": Member(content=HOOK.encode(), mode=0o755),
            "usr/sbin/update-ca-certificates": file("program", 0o755),
        },
        triggers=["/usr/share/ca-certificates", "/usr/share/ca-certificates/*", "/etc/ssl/certs"],
        scripts={"trigger": TRIGGER},
    )


@pytest.mark.system
@pytest.mark.parametrize("hook", [HOOK, "#!/bin/sh\nexec /usr/bin/elsewhere\n"])
def test_an_upgrade_of_the_certificates_needs_no_execution(hook: str, tmp_path: Path) -> None:
    bodies = {name: certificate(tmp_path, name) for name in ("a", "b", "c")}
    old, new = (certificates_package(v, n, bodies) for v, n in (("1-r0", ["a", "b"]), ("2-r0", ["b", "c"])))
    hashes = {name: f"{subject_hash(tmp_path, name)}.0" for name in bodies}
    files: dict[str, Content] = {
        **apk_image(None, [old]),
        "bin/sh": "shell",
        "usr/bin/run-parts": "program",
        "etc/ssl/certs/ca-certificates.crt": bodies["a"] + bodies["b"],
    }
    for name in ("a", "b"):
        files[f"etc/ssl/certs/ca-cert-{name}.pem"] = symlink(f"/{SHIPPED}/{name}.crt")
        files[f"etc/ssl/certs/{hashes[name]}"] = symlink(f"ca-cert-{name}.pem")
    parents = {path.rpartition("/")[0] for path in files} - {""}
    folders = {"/".join(p.split("/")[:n]) for p in parents for n in range(1, p.count("/") + 2)}
    below = tree({**{path: directory() for path in sorted(folders)}, **files})
    fs = _executable(below, "etc/ca-certificates/update.d/certhash", hook)
    rows = [(new.row(), new.write(tmp_path))]

    (verdict,) = open_unpacker(fs).classify(plan_apks(fs, rows))[key("ca-certificates:x86_64")]
    if hook != HOOK:
        assert verdict.verdict is ScriptClass.NEEDS_EXECUTION
        return
    assert verdict.verdict is ScriptClass.REPRODUCED
    composition = compose(fs, rows, tmp_path / "scratch")

    changes = {change.path: change for change in composition.changes.entries}
    bundle = changes["etc/ssl/certs/ca-certificates.crt"]
    assert bundle.content == (bodies["b"] + bodies["c"]).encode()
    for name, gone in (("a", True), ("c", False)):
        for path in (f"etc/ssl/certs/ca-cert-{name}.pem", f"etc/ssl/certs/{hashes[name]}"):
            assert (changes[path].entry is None) is gone
    assert f"etc/ssl/certs/{hashes['b']}" not in changes


def _executable(fs: ImageFilesystem, path: str, text: str) -> ImageFilesystem:
    import io
    import tarfile

    from copacetic.oci.layered import LayeredFilesystem
    from support.image.trees import indexed

    assert isinstance(fs, LayeredFilesystem)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(text), 0o755
        tar.addfile(info, io.BytesIO(text.encode()))
    layer = buffer.getvalue()
    return fs.stacked_with(indexed(layer))
