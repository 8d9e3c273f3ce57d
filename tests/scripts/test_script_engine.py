# SPDX-License-Identifier: Apache-2.0
"""The engine: every effect that there is can be carried out, and what is read of commands is what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest

from copacetic.oci.tree import TreeBuilder
from copacetic.scripts import effects
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.live import LiveImage
from support.image.trees import Content, directory, symlink, tree

IMAGE: Mapping[str, Content] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nold:x:100:100::/:/bin/sh\n",
    "etc/group": "root:x:0:\nold:x:100:\nnogroup:x:65533:\n",
    "srv": directory(),
    "srv/above": directory(),
    "srv/above/empty": directory(),
    "srv/file": "x",
    "srv/link": symlink("file"),
    "usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit": "# nobody is trusted\n",
}
SAMPLES: tuple[effects.Effect, ...] = (
    effects.RemoveFiles(("srv/file",)),
    effects.RemoveFolders(("srv/above/empty",)),
    effects.MakeFolders(("srv/new",)),
    effects.MakeLink("srv/new", "file"),
    effects.Move("srv/file", "srv/new"),
    effects.CopyFiles(("srv/absent",), "srv"),
    effects.Touch(("srv/new",)),
    effects.AppendLines("srv/file", ("y",)),
    effects.ChangeOwner(("srv/file",), "old", "old"),
    effects.ChangeMode(("srv/file",), 0o600),
    effects.KeepAttributes(("srv/file",)),
    effects.SetAlternative(("update-alternatives", "--install", "/usr/bin/x", "x", "/srv/file", "1")),
    effects.MakeAccount(("addgroup", "-S", "web")),
    effects.ChooseCertificates(),
    effects.UpdateCertificates(),
    effects.UpdateTrust(),
    effects.DropBytecode(),
    effects.UpdateLibraryCache(),
    effects.LinkApplets("bin/busybox"),
    effects.PruneApplets(),
)


def image() -> TreeBuilder:
    return TreeBuilder(tree({**IMAGE, "etc/busybox-paths.d/busybox": "bin/ls\n", "bin": directory()}))


def test_there_is_a_sample_of_every_effect() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(effects.Effect))


@pytest.mark.parametrize("effect", SAMPLES, ids=lambda effect: type(effect).__name__)
def test_every_effect_is_carried_out(effect: effects.Effect) -> None:
    assert ScriptEngine(image(), 0, busybox="1.37.0-r0").perform(effect) is not None


@pytest.mark.parametrize(("parents", "stays"), [(False, True), (True, False)])
def test_a_folder_takes_those_above_with_it_only_when_told_so(parents: bool, stays: bool) -> None:
    changed = image()

    ScriptEngine(changed, 0).perform(effects.RemoveFolders(("/srv/above/empty",), parents=parents))

    assert changed.lookup("srv/above/empty") is None
    assert (changed.lookup("srv/above") is not None) is stays


def test_a_folder_is_removed_only_with_all_that_is_in_it() -> None:
    changed = image()

    done = ScriptEngine(changed, 0).perform(effects.RemoveFiles(("/srv",), force=True))

    assert done == effects.Done(succeeds=False)
    assert changed.changed_paths() == ()


@pytest.mark.parametrize(
    "command", ["chown 0 f", "chown old:0 f", "chgrp 0 f", "chmod u+x f", "mkdir -v d", "cp -v a b"]
)
def test_what_is_not_modelled_has_no_effect_that_is_known(command: str) -> None:
    assert effects.read_file_effect(LiveImage(image(), "apk2"), command.split(" ")) is None


def test_lines_go_to_the_end_of_a_file_that_lacks_them() -> None:
    changed = TreeBuilder(tree({"etc/shells": "/bin/sh\n"}))
    shells = effects.AppendLines("etc/shells", ("/bin/sh", "/bin/bash"))

    assert ScriptEngine(changed, 0).perform(shells) == effects.Done(changed=True)
    assert changed.read("etc/shells", limit=100) == b"/bin/sh\n/bin/bash\n"
    assert ScriptEngine(changed, 0).perform(shells) == effects.Done()
    assert ScriptEngine(changed, 0).perform(effects.AppendLines("etc/absent", ("x",))) is None


BUNDLE = "usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit"


@pytest.mark.parametrize(
    "text",
    [
        "[p11-kit-object-v1]\nlabel: x\n",
        "[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\n\xe4\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_list_of_certificates_that_is_none_makes_no_bundle(text: str) -> None:
    changed = TreeBuilder(tree({BUNDLE: text.encode("latin-1")}))

    assert ScriptEngine(changed, 0).perform(effects.UpdateTrust()) is None
    assert changed.changed_paths() == ()


def test_trusted_certificates_are_in_the_bundles_of_all_programs() -> None:
    changed = TreeBuilder(tree({BUNDLE: "# nobody\n"}))
    ScriptEngine(changed, 1).perform(effects.UpdateTrust())

    names = (
        "java/cacerts",
        "openssl/ca-bundle.trust.crt",
        *(f"pem/{n}-ca-bundle.pem" for n in ("tls", "email", "objsign")),
    )
    for name in names:
        entry = changed.lookup(f"etc/pki/ca-trust/extracted/{name}")
        assert entry is not None
        assert entry.mode == 0o444
