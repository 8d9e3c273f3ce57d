# SPDX-License-Identifier: Apache-2.0
"""
What the interpreter keeps while it follows a script, and what builtin commands see of it.

A state is one path through the script. What can't be known of the surroundings is None, and never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from copacetic.unpack.scripts.shell.expansion import Scope, Value, Variables
from copacetic.unpack.scripts.shell.syntax import Node, Simple, Substitution

__all__ = ["Machine", "Reached", "State", "Status", "Surroundings"]

MAX_CALLS = 16
Status = bool | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A command that a script may run."""

    line: int
    words: tuple[Value, ...]
    """The command and its arguments; None for those that aren't known."""
    writes: tuple[Value, ...]
    """Files that its output is redirected into."""
    certain: bool
    """Every run gets here."""


class Surroundings(Protocol):
    """What a script can ask its surroundings; None when the answer isn't known."""

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None: ...

    def test_file(self, operator: str, path: str) -> bool | None: ...

    def has_program(self, name: str) -> bool | None: ...

    def ask(self, words: Sequence[Value]) -> bool | None:
        """Whether a command that changes nothing succeeds."""
        ...

    def find_source(self, path: str) -> str | None:
        """The text of a file with more commands, if it is known."""
        ...


@dataclass(slots=True)
class State:
    variables: Variables
    arguments: tuple[Value, ...] | None
    stopped: str = ""
    """How this path ended: `exit`, `return`, or not at all."""
    certain: bool = True

    def copy(self) -> State:
        return State(self.variables.copy(), self.arguments, self.stopped, self.certain)


class Machine(Protocol):
    """The interpreter, as builtin commands use it."""

    state: State
    reached: list[Reached]

    @property
    def surroundings(self) -> Surroundings: ...

    @property
    def scope(self) -> Scope: ...

    def depth(self) -> int:
        """How many calls deep the script is."""
        ...

    def note(self, line: int, words: tuple[Value, ...], writes: tuple[Value, ...]) -> None: ...

    def substitute(self, part: Substitution) -> Value: ...

    def choose(self, *alternatives: Callable[[], object]) -> None: ...

    def isolate(self, nodes: Sequence[Node]) -> Status: ...

    def call(self, body: Node, arguments: Sequence[Value]) -> Status: ...

    def run_words(self, node: Simple, words: Sequence[Value]) -> Status: ...

    def keep_local(self, name: str) -> None:
        """Bring a variable back when the current function ends."""
        ...
