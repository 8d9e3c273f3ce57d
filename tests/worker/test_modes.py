# SPDX-License-Identifier: Apache-2.0
"""Which sandbox is taken, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.worker import modes
from copacetic.worker.modes import Mode, ModeRefusedError, candidates, explain_refusals
from support.builder.confined import ROOT, run_as_user, run_in_pod

_ASK = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from copacetic.cache import Cache
from copacetic.errors import UnsupportedBuilderError
from copacetic.worker import WorkerSettings, WorkerSolver
import tempfile
worker = WorkerSolver(WorkerSettings(cache=Cache(Path(tempfile.mkdtemp()))))
try:
    found = worker.capabilities()
    print(found.name, dict(found.labels))
except UnsupportedBuilderError as error:
    print("REFUSED", error, "HINT", error.hint)
finally:
    worker.close()
""".format(tests=str(ROOT / "tests"))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nothing of this machine's settings be seen."""
    monkeypatch.setattr(modes, "_setting", lambda path: (tmp_path / path.strip("/").replace("/", "_")).read_text().strip()
                        if (tmp_path / path.strip("/").replace("/", "_")).exists() else "")  # fmt: skip
    return tmp_path


def test_root_tries_everything_and_a_user_what_a_user_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert [mode.name for mode in candidates()[0]] == ["root", "all", "chroot"]

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _program: None)
    found, refused = candidates()
    assert [mode.name for mode in found] == ["single"]
    assert "uidmap" in refused[0].fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tester:100000:65536\n", (100_000, 65_536)),
        ("other:1:1\n1000:5000:70000\n", (5000, 65_536)),
        ("tester:1:10\ntester:100:1000\n", (100, 1000)),
        ("tester:x:1\n:1:1\ntester\ntester:1:0\n", None),
        ("", None),
    ],
)
def test_subordinate_ids_are_read(tmp_path: Path, text: str, expected: tuple[int, int] | None) -> None:
    (tmp_path / "subuid").write_text(text)

    assert modes._subordinate(str(tmp_path / "subuid"), "tester", 1000) == expected


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("proc_sys_kernel_apparmor_restrict_unprivileged_userns", "1", "apparmor_restrict_unprivileged_userns=0"),
        ("proc_sys_kernel_unprivileged_userns_clone", "0", "unprivileged_userns_clone=1"),
        ("proc_sys_user_max_user_namespaces", "0", "max_user_namespaces="),
        ("proc_self_status", "Seccomp:\t2\n", "seccomp profile"),
    ],
)
def test_a_refusal_names_the_setting_and_the_fix(files: Path, setting: str, value: str, words: str) -> None:
    (files / setting).write_text(value)
    error = ModeRefusedError("single", "unshare(CLONE_NEWUSER)", 1, "Operation not permitted")

    message, hint = explain_refusals([error])

    assert "unshare(CLONE_NEWUSER): Operation not permitted" in message
    assert words in hint
    assert hint.endswith("--strategy unpack, which needs no sandbox")


def test_disks_are_not_shared_where_owners_mean_something_else() -> None:
    keys = {
        Mode(name="root", uid=0, gid=0).disk_key,
        Mode(name="ids", uid=1000, gid=1000, uids=(1, 2), gids=(3, 4)).disk_key,
        Mode(name="ids", uid=1000, gid=1000, uids=(5, 2), gids=(3, 4)).disk_key,
        Mode(name="single", uid=1000, gid=1000).disk_key,
        Mode(name="single", uid=1001, gid=1000).disk_key,
    }

    assert len(keys) == 5
    assert Mode(name="all", uid=0, gid=0).disk_key == Mode(name="chroot", uid=0, gid=0).disk_key == "root"


@pytest.mark.system
def test_a_pod_gets_a_chroot_and_is_told_why() -> None:
    said = run_in_pod(["-c", _ASK]).stdout

    assert said.startswith("worker (chroot)")
    assert "without root" in said
    assert "unshare(CLONE_NEWNS): Operation not permitted" in said.replace("unshare: ", "")


@pytest.mark.system
def test_a_pod_without_the_rights_for_a_chroot_is_told_what_is_missing() -> None:
    said = run_in_pod(["-c", _ASK], capabilities=(0, 1, 3, 5, 6, 7)).stdout

    assert said.startswith("REFUSED no sandbox can be made here")
    assert "chroot: Operation not permitted" in said
    assert "SYS_CHROOT" in said
    assert "--strategy unpack" in said


@pytest.mark.system
def test_a_user_without_subordinate_ids_is_told_how_to_get_some() -> None:
    said = run_as_user(["-c", _ASK], subordinate_ids=False).stdout

    assert said.startswith("worker (user namespace, one user)")
    assert "/etc/subuid gives tester no subordinate ids" in said


@pytest.mark.system
def test_a_user_with_subordinate_ids_gets_all_of_them() -> None:
    assert run_as_user(["-c", _ASK], subordinate_ids=True).stdout.startswith("worker (user namespace) ")
