# SPDX-License-Identifier: Apache-2.0
"""
What the interpreter keeps while it follows a script, and what builtin commands see of it.

A state is one path through the script. What can't be known of the surroundings is None, and never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from copacetic.scripts.shell.expansion import ITEM, Scope, Value, Variables
from copacetic.scripts.shell.syntax import Node, Simple, Substitution

__all__ = ["ODDITY", "Followed", "Machine", "Reached", "ShellState", "Status", "Surroundings", "merge_states"]

Status = bool | None
Definitions = tuple[Node | None, ...]
ODDITY = "\0"
"""Stands first among the words of a command that is none: something that may run commands, and why."""


class Reached(Struct, frozen=True):
    """A command that a script may run."""

    line: int
    words: tuple[Value, ...]
    """The command and its arguments; None for those that aren't known."""
    writes: tuple[Value, ...]
    """Files that its output is redirected into."""
    certain: bool
    """Every run gets here."""
    directory: Value = "/"
    """Where it runs."""


class Followed(Struct, frozen=True):
    """What became of a script."""

    commands: tuple[Reached, ...]
    succeeds: Status
    """None where it isn't known how the script ends, or not the same on every way through it."""


class Surroundings(Protocol):
    """What a script can ask its surroundings; None when the answer isn't known, as where nothing is."""

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None:
        return None

    def test_file(self, operator: str, path: str) -> bool | None:
        return None

    def has_program(self, name: str) -> bool | None:
        return None

    def has_package(self, name: str) -> bool | None:
        """Whether dpkg has a package of this name, or has been told to have it."""
        return None

    def reach(self, command: Reached) -> bool | None:
        """
        Whether a command succeeds that the script may run. They come in the script's order: who simulates a script
        does what a certain one does, and answers from then on accordingly.
        """
        return None

    def read_output(self, words: Sequence[Value]) -> str | None:
        """What a command that only asks would print, without the last newline."""
        return None

    def find_paths(self, pattern: str) -> tuple[str, ...] | None:
        """The paths that match a pattern, in the shell's order."""
        return None

    def find_source(self, path: str) -> str | None:
        """The text of a file with more commands, if it is known."""
        return None


@dataclass(slots=True)
class ShellState:
    variables: Variables
    arguments: tuple[Value, ...] | None
    stopped: str = ""
    """How this path ended: `exit`, `return`, `break`, `continue`, or not at all."""
    certain: bool = True
    functions: dict[str, Definitions] = field(default_factory=dict)
    """What a name may be defined as by now; None among them where it may be no function."""
    directory: Value = "/"
    """The working directory; package managers start scripts in the root of the system."""

    def spend(self, amount: int) -> None:
        """Pay for what is about to be made."""
        self.variables.journal.effort.spend(amount)

    def copy(self) -> ShellState:
        if self.functions:
            self.spend(ITEM * len(self.functions))
        functions = dict(self.functions)
        return ShellState(self.variables.copy(), self.arguments, self.stopped, self.certain, functions, self.directory)

    def locate(self, path: str) -> str:
        """Return a path as it is from anywhere; one that isn't known stays relative."""
        return path if path.startswith("/") or self.directory is None else f"{self.directory.rstrip('/')}/{path}"

    def define(self, name: str, *bodies: Node | None) -> None:
        """Add definitions that a name may have."""
        known = self.functions.get(name, (None,))
        self.spend(ITEM + len(known) * len(bodies))
        self.functions[name] = (*known, *(body for body in bodies if not any(body is other for other in known)))


def merge_states(ends: Sequence[ShellState], *, certain: bool) -> ShellState:
    """Return what several paths have in common where they meet; those that ended don't get there."""
    alive = [state for state in ends if not state.stopped]
    if not alive:
        stopped = "return" if any(state.stopped == "return" for state in ends) else "exit"
        ended = ends[0].copy()
        ended.stopped, ended.certain = stopped, False
        return ended
    merged = alive[0].copy()
    for state in alive[1:]:
        merged.variables.merge(state.variables)
        merged.spend(ITEM * (len(merged.functions) + len(state.functions)))
        for name in merged.functions.keys() | state.functions.keys():
            if merged.functions.get(name) is not state.functions.get(name):
                merged.define(name, *state.functions.get(name, (None,)))
        if state.arguments is not merged.arguments:
            merged.spend(ITEM * min(len(state.arguments or ()), len(merged.arguments or ())))
            if state.arguments != merged.arguments:
                merged.arguments = None
        if state.directory != merged.directory:
            merged.directory = None
    merged.certain = certain and len(alive) == len(ends)
    return merged


class Machine(Protocol):
    """The interpreter, as builtin commands use it."""

    state: ShellState
    reached: list[Reached]

    @property
    def surroundings(self) -> Surroundings: ...

    @property
    def scope(self) -> Scope: ...

    def depth(self) -> int:
        """How many calls deep the script is."""
        ...

    def in_loop(self) -> bool: ...

    def on_exit(self, line: int, action: str) -> None:
        """Follow a trap's commands when the script is at its end."""
        ...

    def note(self, line: int, words: tuple[Value, ...], writes: tuple[Value, ...]) -> Status:
        """Report a command that the script gets to; returns its status."""
        ...

    def substitute(self, part: Substitution) -> Value: ...

    def choose(self, *alternatives: Callable[[], object]) -> None: ...

    def read_more(self, text: str, line: int) -> tuple[Node, ...]:
        """Parse commands that the script has from elsewhere, or has put together."""
        ...

    def isolate(self, nodes: Sequence[Node]) -> Status: ...

    def run(self, nodes: Sequence[Node]) -> Status: ...

    def call(self, body: Node, arguments: Sequence[Value]) -> Status: ...

    def run_words(
        self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...] = (), *, functions: bool = True
    ) -> Status: ...

    def keep_local(self, name: str) -> None:
        """Bring a variable back when the current function ends."""
        ...
