# SPDX-License-Identifier: Apache-2.0
"""No program is started where no script has to be run, and where one is started no shell reads its words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from copacetic.cli import main
from support.apk.apkrepo import apk_image, serve_apks
from support.apk.apks import Apk
from support.deb.aptrepo import debian_image, serve_repository, write_image
from support.deb.debs import Deb, file
from support.image.images import Image, make_image, make_layer
from support.value.replacing import replace

SCRIPT = "#!/bin/sh\nset -e\nldconfig\nexit 0\n"
FILES, NEW_FILES = {"usr/bin/tool": file("old", 0o755)}, {"usr/bin/tool": file("new", 0o755)}
_STARTS = re.compile(r"subprocess\.|os\.(?:exec|fork|posix_spawn|spawn|system|startfile)|pty\.spawn")
_watched: list[list[str]] = []


def _note(event: str, _arguments: tuple[object, ...]) -> None:
    if _watched and _STARTS.match(event):
        _watched[-1].append(event)


@contextmanager
def started() -> Iterator[list[str]]:
    """Collect what this process starts; a hook of the interpreter's can't be taken away, so it is told to look away."""
    if not hasattr(sys, "_copa_tests_hook"):
        sys.addaudithook(_note)
        sys._copa_tests_hook = True  # type: ignore[attr-defined]
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.clear()


def test_what_is_started_is_noticed() -> None:
    with started() as seen:
        subprocess.run([sys.executable, "--version"], check=True, capture_output=True)

    assert "subprocess.Popen" in seen


@contextmanager
def _debian() -> Iterator[Image]:
    tool = Deb(name="tool", version="1.0-1", architecture="amd64", files=FILES, scripts={"postinst": SCRIPT})
    with serve_repository([replace(tool, version="2.0-1", files=NEW_FILES)]) as repository:
        yield debian_image(repository, [tool])


@contextmanager
def _alpine() -> Iterator[Image]:
    scripts = {"post-upgrade": "#!/bin/sh\nexit 0\n"}
    tool = Apk(name="tool", version="1-r0", files=FILES, scripts=scripts)
    with serve_apks([replace(tool, version="2-r0", files=NEW_FILES)]) as repository:
        yield make_image([make_layer(apk_image(repository, [tool]))])


@pytest.mark.parametrize("more", [(), ("--strategy", "unpack")], ids=["by itself", "unpack"])
@pytest.mark.parametrize("family", [_debian, _alpine])
def test_an_image_is_patched_without_a_program_that_is_started(
    family: Callable[[], AbstractContextManager[Image]], more: tuple[str, ...], tmp_path: Path
) -> None:
    with family() as old:
        image = write_image(tmp_path / "layout", old)
        command = ["patch", "-i", image, "--to", f"oci:{tmp_path}/out:1", "--cache-dir", str(tmp_path / "cache"), *more]

        with started() as seen:
            code = main(command)

    assert code == 0
    assert (tmp_path / "out/index.json").exists()
    assert seen == []


def test_few_modules_start_programs_and_none_by_a_shell_s_words() -> None:
    root = Path(__file__).parents[2] / "src/copacetic"
    texts = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}
    starting = re.compile(
        r"^(?:import|from) (?:subprocess|pty)|\bos\.(?:exec[lv]|fork|posix_spawn|spawn|popen)", re.MULTILINE
    )
    by_words = re.compile(
        r"os\.(?:system|popen)|getoutput|getstatusoutput|(?:run|call|Popen|check_output)\([^)]*shell="
    )

    found = {name for name, text in texts.items() if starting.search(text)}
    assert {name for name in found if not name.startswith("worker/inside/")} == {
        "connect/dial/process.py", "oci/credentialhelper.py", "worker/agent.py", "worker/modes.py",
    }  # fmt: skip
    assert [name for name, text in texts.items() if by_words.search(text)] == []
