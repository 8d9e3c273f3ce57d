# SPDX-License-Identifier: Apache-2.0
"""The pages for developers, held against the code that they speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/copacetic"
MODULES = sorted(SOURCE.rglob("*.py"))
DEVELOPERS = [
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/adr").glob("*.md")),
]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _names(page: Path) -> list[tuple[str, str]]:
    """Return paths of files and folders, each with what is said to be in it."""
    return re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)(?:::(\w+))?`", page.read_text())


def _find(path: str) -> Path | None:
    return next((found for root in (SOURCE, ROOT) if (found := root / path).exists()), None)


@pytest.mark.parametrize("page", DEVELOPERS, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    for path, name in _names(page):
        found = _find(path)
        assert found is not None, path
        if name:
            defined = re.search(rf"^\s*(?:(?:class|def) {name}\b|{name}\b.*=)", found.read_text(), re.MULTILINE)
            assert defined, f"{path}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()]
    assert len(rooms) > 15
    for room in rooms:
        assert f"| `{room}/`" in text or re.search(rf"^\| .*`{room}/`.* \|", text, re.MULTILINE), room


def test_the_map_of_the_tests_has_every_folder_and_nothing_that_is_not_there() -> None:
    here = ROOT / "tests"
    places = [name for row in re.findall(r"^\| (`.*?) \|", (here / "README.md").read_text(), re.MULTILINE)
              for name in re.findall(r"`([\w*./]+)`", row)]  # fmt: skip
    assert [name for name in places if not list(here.glob(name))] == []
    mapped = {found.name for name in places for found in here.glob(name)}
    there = {path.name for path in here.iterdir() if path.name.startswith("test_") or any(path.glob("[!_]*.py"))}
    assert there <= mapped
    text = (here / "README.md").read_text()
    for name in re.findall(r"`(test_[\w*]+)`", text):
        assert list(here.rglob(f"{name}.py")), name
    for folder in (path.name for path in (here / "support").iterdir() if any(path.glob("[!_]*.py"))):
        assert f"`{folder}/`" in text, folder


def test_every_kind_of_cache_entry_is_described() -> None:
    text = (ROOT / "docs/on-disk.md").read_text()
    made = {
        (name, version)
        for path in MODULES
        for name, version in re.findall(r'(?:\.bucket\(|Memo\(\w+, )"([\w-]+)", version=(\w+)\)', path.read_text())
    }
    assert len(made) > 10
    for name, version in made:
        assert re.search(rf"^\| .*`{name}`.* \| `[\w/.]+::{version}` \|", text, re.MULTILINE), (name, version)
    for name in re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| `[\w/.]+::\w+_VERSION`", text, re.MULTILINE):
        assert set(re.findall(r"[\w-]+", name)) <= {known for known, _ in made}, name
