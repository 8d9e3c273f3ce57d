# SPDX-License-Identifier: Apache-2.0
"""Hashes of certificates and the directory of links, against the real openssl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from copacetic.errors import ImageError, NeedsExecutionError
from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.handlers.certificates import update_certificates, update_configuration
from copacetic.scripts.handlers.x509 import read_certificates
from support.deb.composed import apply_changes, copy_root
from support.deb.debian import need
from support.deb.oracle import differences
from support.image.trees import symlink, tree

SUBJECTS = [
    ("/C=DE/O=Example  Trust /CN=Root CA", "utf8only"),
    ("/C=DE/O=Example Trust/CN=Root CA", "default"),
    ("/O=ÉCOLE  Numérique/CN=Racine Ω", "utf8only"),
    ("/O=École/CN=latin", "pkix"),
    ("/DC=org/DC=example/OU=a/OU=b/CN=Many/emailAddress=a@example.com", "default"),
    ("/CN=multi+serialNumber=7/O=x", "utf8only"),
]


def make_certificate(folder: Path, subject: str, mask: str = "utf8only", *, name: str) -> Path:
    (folder / "config").write_text(
        f"[req]\ndistinguished_name=dn\nstring_mask={mask}\nprompt=no\n[dn]\n", encoding="utf-8"
    )
    path = folder / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         folder / "key", "-utf8", "-multivalue-rdn", "-subj", subject, "-config", folder / "config", "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


@pytest.mark.system
@pytest.mark.parametrize(("subject", "mask"), SUBJECTS)
def test_the_subjects_hash_is_openssls(subject: str, mask: str, tmp_path: Path) -> None:
    need("openssl")
    path = make_certificate(tmp_path, subject, mask, name="one")
    expected = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash", "-in", path], check=True, capture_output=True, text=True
    ).stdout.strip()

    assert [certificate.subject_hash for certificate in read_certificates(path.read_bytes())] == [expected]


@pytest.mark.system
def test_the_links_are_those_of_the_real_tools(tmp_path: Path) -> None:
    need("openssl")
    root, made = tmp_path / "root", tmp_path / "made"
    made.mkdir()
    shipped, certs = root / "usr/share/ca-certificates/example", root / "etc/ssl/certs"
    shipped.mkdir(parents=True)
    certs.mkdir(parents=True)
    (root / "usr/local/share/ca-certificates").mkdir(parents=True)
    same = "/O=Same/CN=Name"
    for name, subject in (("Old", "/CN=Old"), ("Stays", "/CN=Stays"), ("Twin_1", same), ("Twin_2", same)):
        (shipped / f"{name}.crt").write_bytes(make_certificate(made, subject, name=name).read_bytes())
    local = make_certificate(made, "/CN=Local", name="Local (me), too").read_bytes()
    (root / "usr/local/share/ca-certificates/Local (me), too.crt").write_bytes(local.rstrip(b"\n"))
    (certs / "own.pem").write_bytes(make_certificate(made, same, name="own").read_bytes())
    lines = "# chosen\nexample/Old.crt\nexample/Stays.crt\nexample/Twin_1.crt\nexample/Twin_2.crt\n"
    (root / "etc/ca-certificates.conf").write_text(lines)
    run_ours(root)
    real = copy_root(root, tmp_path / "real")

    for there in (root, real):
        (there / "usr/share/ca-certificates/example/Old.crt").unlink()
        (there / "usr/share/ca-certificates/example/Fresh.crt").write_bytes(
            (made / "Fresh.crt").read_bytes()
            if (made / "Fresh.crt").exists()
            else make_certificate(made, same, name="Fresh").read_bytes()
        )
        (there / "etc/ca-certificates.conf").write_text(
            lines.replace("example/Old", "!example/Old") + "example/Fresh.crt\n"
        )
    run_real(real)
    run_ours(root)

    assert differences(real, root) == []
    hashes = [name for name in os.listdir(certs) if name[-2:-1] == "."]
    assert len(hashes) == 6


def run_ours(root: Path) -> None:
    changes = TreeBuilder(DirectoryFilesystem(root))
    update_certificates(changes, mtime=0)
    apply_changes(changes.finish(), root)


def run_real(root: Path) -> None:
    """What update-ca-certificates does, with the real rehash."""
    certs = root / "etc/ssl/certs"
    (certs / "Old.pem").unlink()
    (certs / "Fresh.pem").symlink_to("/usr/share/ca-certificates/example/Fresh.crt")
    bundle = b""
    for name in ("Stays", "Twin_1", "Twin_2", "Fresh"):
        bundle += (root / f"usr/share/ca-certificates/example/{name}.crt").read_bytes()
    bundle += (root / "usr/local/share/ca-certificates/Local (me), too.crt").read_bytes() + b"\n"
    (certs / "ca-certificates.crt").write_bytes(bundle)
    # rehash follows the absolute links, so it has to see this root as its own.
    links = [path for path in certs.iterdir() if path.is_symlink() and path.readlink().is_absolute()]
    targets = {path: path.readlink() for path in links}
    for path, target in targets.items():
        path.unlink()
        path.symlink_to(f"../../..{target}")
    subprocess.run(["openssl", "rehash", "."], cwd=certs, check=True, capture_output=True)
    for path, target in targets.items():
        path.unlink()
        path.symlink_to(target)


CONF = "etc/ca-certificates.conf"
CONFIG = '#!/bin/sh\nCERTS_LIST="new/A.crt, kept/B.crt, off/C.crt"\n'


def test_new_certificates_are_trusted_and_lost_ones_deselected() -> None:
    image = tree(
        {
            CONF: "# mine\nkept/B.crt\n!off/C.crt\nlost/D.crt\nlocal/E.crt\n",
            "usr/share/ca-certificates/kept/B.crt": "b",
            "usr/local/share/ca-certificates/local/E.crt": "e",
        }
    )
    changes = TreeBuilder(image)
    update_configuration(changes, CONFIG, mtime=0)

    assert changes.read(CONF, limit=1_000).decode() == (
        "# mine\nkept/B.crt\n!off/C.crt\n!lost/D.crt\nlocal/E.crt\nnew/A.crt\n"
    )
    assert changes.read(f"{CONF}.dpkg-old", limit=1_000) == image.read(CONF, limit=1_000)


def test_the_recorded_answer_about_new_certificates_holds() -> None:
    answer = "Name: ca-certificates/trust_new_crts\nTemplate: x\nValue: {}\n\n"
    changes = TreeBuilder(tree({CONF: "kept/B.crt\n!off/C.crt\n", "var/cache/debconf/config.dat": answer.format("no")}))
    update_configuration(changes, CONFIG, mtime=0)

    assert changes.read(CONF, limit=1_000) == b"kept/B.crt\n!off/C.crt\n!new/A.crt\n"
    asking = TreeBuilder(tree({CONF: "", "var/cache/debconf/config.dat": answer.format("ask")}))
    with pytest.raises(NeedsExecutionError, match="to ask"):
        update_configuration(asking, CONFIG, mtime=0)


def test_nothing_changes_when_nothing_is_new() -> None:
    changes = TreeBuilder(tree({CONF: "new/A.crt\nkept/B.crt\n!off/C.crt\n"}))
    update_configuration(changes, CONFIG, mtime=0)

    assert changes.changed_paths() == ()


def test_a_broken_certificate_gets_no_link() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    image = tree(
        {
            CONF: "x/broken.crt\n",
            "usr/share/ca-certificates/x/broken.crt": broken,
            "etc/ssl/certs/0badcafe.0": symlink("gone.pem"),
        }
    )
    changes = TreeBuilder(image)
    update_certificates(changes, mtime=0)

    assert changes.iterdir("etc/ssl/certs") == ("broken.pem", "ca-certificates.crt")


def test_links_that_lead_in_circles_come_to_an_end() -> None:
    folder = "usr/local/share/ca-certificates"
    circles = {f"{folder}/{name}": symlink(".") for name in "abcd"}
    changes = TreeBuilder(tree({CONF: "", "etc/ssl/certs/x": "", f"{folder}/mine.crt": "", **circles}))

    with pytest.raises(ImageError, match="leads to more than 50000 files"):
        update_certificates(changes, mtime=0)


def test_one_big_file_can_t_be_the_bundle_many_times() -> None:
    shipped = {"usr/share/ca-certificates/x.crt": bytes(8_000_000)}
    changes = TreeBuilder(tree({CONF: "x.crt\n" * 20, "etc/ssl/certs/x": "", **shipped}))

    with pytest.raises(ImageError, match="names certificates of more than 67108864 bytes"):
        update_certificates(changes, mtime=0)
