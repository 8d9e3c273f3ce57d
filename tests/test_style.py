# SPDX-License-Identifier: Apache-2.0
"""The linters, the import rules and the project's own rules, as tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_LINES = 400
MAX_FUNCTION = 60
VAGUE = {"utils", "util", "common", "helpers", "misc", "base"}


def _run(*command: str) -> None:
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_the_formatter_has_nothing_to_do() -> None:
    _run("ruff", "format", "--check", ".")


def test_the_linter_finds_nothing() -> None:
    _run("ruff", "check", ".")


@pytest.mark.xdist_group("types")
def test_the_types_are_right() -> None:
    _run("mypy")


@pytest.mark.xdist_group("groups")
def test_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """What they share takes minutes to make; pytest-xdist goes by the end of the name."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("there is only one process")
    assert request.node.nodeid.endswith("@groups")


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest would leave out all but one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]

    assert sorted(set(names)) == sorted(names)


def test_no_two_classes_have_one_name() -> None:
    """A word means one thing, in whichever room."""
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), re.MULTILINE):
            homes.setdefault(name, []).append(str(path.relative_to(ROOT)))

    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_function_of_the_road_takes_more_than_four_parameters() -> None:
    greedy = []
    for path in (ROOT / "src/copacetic/pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in taken if one.arg not in {"self", "cls"}]) > 4:
                    greedy.append(f"{path.name}: {node.name}")

    assert greedy == []


def test_the_worker_s_helper_needs_nothing_but_the_standard_library() -> None:
    """It runs in images' roots, and imports nothing once it is there."""
    names = [
        f"copacetic.worker.inside.{path.stem}" for path in (ROOT / "src/copacetic/worker/inside").glob("[a-z]*.py")
    ]
    code = f"import sys; sys.path.append({str(ROOT / 'src')!r})\n" + "\n".join(f"import {name}" for name in names)
    subprocess.run([sys.executable, "-IS", "-c", code], check=True)


def test_imports_go_down_only() -> None:
    _run("lint-imports")


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_a_module_is_short_and_says_what_it_is() -> None:
    wrong = [f"{path.relative_to(ROOT)}: {what}" for path in SOURCES for what in _find_wrong(path)]

    assert len(SOURCES) > 300
    assert wrong == []


def _find_wrong(path: Path) -> Iterator[str]:
    text = path.read_text()
    tree = ast.parse(text)
    if path.stem in VAGUE:
        yield "a vague name"
    if not text.startswith("# SPDX-License-Identifier: Apache-2.0\n"):
        yield "no licence"
    if not ast.get_docstring(tree):
        yield "no module docstring"
    if text.count("\n") > MAX_LINES:
        yield "too long"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > MAX_FUNCTION:
            yield f"{node.name} is long"


def test_only_the_command_line_reads_the_environment_prints_or_exits() -> None:
    pattern = re.compile(r"os\.environ|os\.getenv|sys\.exit|(?<![\w.])print\(|sys\.std(?:out|err)")
    allowed = {"cli", "console.py"}
    offenders = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not allowed.intersection(path.relative_to(ROOT / "src/copacetic").parts) and pattern.search(path.read_text())
    ]

    assert offenders == []


def test_no_file_names_a_place_of_somebody_s_machine_or_a_lock_an_address() -> None:
    for path in _tracked():
        text = path.read_text("utf-8", "replace")
        assert str(ROOT) not in text, path
        if path.parent.name == "requirements":
            assert "://" not in text, path


def test_every_promise_is_held_by_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/SECURITY.md").read_text())
    assert len(named) > 50
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)


def test_the_command_line_reference_is_up_to_date() -> None:
    from copacetic.cli.reference import reference

    assert (ROOT / "docs/reference/cli.md").read_text() == reference()


def test_the_texts_for_help_and_completion_are_up_to_date() -> None:
    """`python -m copacetic.cli.reference` writes them."""
    from copacetic.cli.page import FOLDER
    from copacetic.cli.reference import help_pages

    assert {path.name: path.read_text() for path in Path(FOLDER).iterdir()} == help_pages()


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--version"], ["--help"], ["-h"], ["help"], ["patch", "--help"], ["plan", "-h"], ["help", "inspect"]),
        *(["cache", "--help"], ["help", "cache", "prune"], ["completion", "fish"], ["completion", "--help"]),
    ],
)
def test_help_is_the_same_without_what_parses_flags(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from copacetic.cli import main
    from copacetic.cli.page import find_page

    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0

    assert find_page(arguments, {"COLUMNS": "200"}) == capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["patch"], ["--help", "patch"], ["nothing", "--help"], ["../cli", "--help"], ["help", "--help"]),
        *(["completion", "tcsh"], ["patch", "--help", "-q"], ["help", "patch", "plan"], ["--version", "x"]),
    ],
)
def test_what_takes_more_than_a_text_is_left_to_what_parses_flags(arguments: list[str]) -> None:
    from copacetic.cli.page import find_page

    assert find_page(arguments, {"COLUMNS": "80"}) is None
    assert find_page(["--help"], {"COLUMNS": "60"}) is None
    assert find_page(["completion", "bash"], {"_COPA_COMPLETE": "bash_complete"}) is None


def test_help_imports_no_parser_of_flags() -> None:
    code = (
        "import sys; sys.argv[1:] = ['patch', '--help']\nfrom copacetic.cli import run\ntry: run()\nexcept SystemExit: "
    )
    code += "print('click' in sys.modules, 'copacetic.cli.ending' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.endswith("False False\n")


def test_patching_without_running_anything_loads_nothing_that_runs_something() -> None:
    code = "import sys, copacetic.api, copacetic.pipeline.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "copacetic.pipeline.run" in loaded
    assert not [name for name in loaded if re.match(r"h2|google|copacetic\.(llb|worker|pkgmgr|buildkit\.solver)", name)]


@pytest.mark.parametrize("module", ["copacetic", "copacetic.cli", "copacetic.cli.root"])
def test_importing_the_command_line_loads_nothing_heavy(module: str) -> None:
    heavy = {"urllib3", "msgspec", "pysequoia", "isal", "zstandard", "rich", "copacetic.api"}
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert heavy.intersection(loaded) == set()
