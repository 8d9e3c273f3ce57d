# SPDX-License-Identifier: Apache-2.0
"""Cases and loops, as an interpreter follows them that doesn't know which and how often."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from copacetic.scripts.shell.expansion import (
    ITEM,
    Scope,
    Value,
    expand_fields,
    expand_pattern,
    expand_value,
    has_pattern,
    is_pattern,
    matches_pattern,
)
from copacetic.scripts.shell.machine import ShellState, Status, Surroundings, merge_states
from copacetic.scripts.shell.syntax import AssignedNames, Case, For, Node, ShellSyntaxError, Substitution, While, Word

__all__ = ["MAX_DEPTH", "SEARCH", "Loops", "too_deep"]

MAX_ROUNDS = 64
MAX_DEPTH = 80
"""How deep commands, calls and paths that part may be nested; each is a few of Python's own calls."""
SEARCH = 15_000
"""What looking for the paths of a pattern costs."""
_JUMPS = frozenset(("break", "continue"))


def too_deep() -> ShellSyntaxError:
    return ShellSyntaxError("nested too deeply to follow")


class Loops(ABC):
    """The part of the interpreter that knows of loops, and of paths that part and meet."""

    surroundings: Surroundings

    def __init__(self, state: ShellState) -> None:
        self.state = state
        self._returned: list[list[ShellState]] = []
        self._jumped: list[list[ShellState]] = []
        """For each loop around, the states in which a round may have been left early."""
        self._ended = Counter[str]()
        """How often a path was seen to end the script (`exit`) or a function (`return`)."""
        self._assigned = AssignedNames()
        self._depth = 0

    @abstractmethod
    def run(self, nodes: Sequence[Node]) -> Status: ...

    @abstractmethod
    def substitute(self, part: Substitution) -> Value: ...

    @property
    def scope(self) -> Scope:
        return Scope(self.state.variables, self.state.arguments)

    def choose(self, *alternatives: Callable[[], object]) -> None:
        """Follow all alternatives from here, and go on with what they have in common."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_deep()
        start, ended = self.state, self._ended.copy()
        ends: list[ShellState] = []
        for alternative in alternatives:
            self.state = start.copy()
            self.state.certain = False
            alternative()
            ends.append(self.state)
        self._merge(ends, certain=start.certain and self._ended == ended)
        self._depth -= 1

    def _merge(self, ends: Sequence[ShellState], *, certain: bool) -> None:
        for state in ends:
            if state.stopped == "return" and self._returned:
                self._returned[-1].append(state)
                self._ended["return"] += 1
            elif state.stopped in _JUMPS:
                self._jumped[-1].append(state)
            else:
                self._ended[state.stopped] += bool(state.stopped)
        self.state = merge_states(ends, certain=certain)

    def _case(self, node: Case) -> Status:
        subject = expand_value(node.word, self.scope, self.substitute)
        certain, journal = self.state.certain, self.state.variables.journal
        moment = journal.moment
        ways: list[Callable[[], object]] = []
        for patterns, body in node.arms:
            answer = self._matches(subject, patterns)
            if answer and not ways:
                return self.run(body)
            if answer is not False:
                ways.append(partial(self.run, body))
                self.state.certain = False
            if answer:
                break
        else:
            ways.append(lambda: None)
        if len(ways) == 1:
            return True
        self.state.certain = certain
        if journal.moment != moment:
            self.state.variables.forget(journal.assigned_since(moment))  # not every way comes to every pattern
        self.choose(*ways)
        return None

    def _matches(self, subject: Value, patterns: Sequence[Word]) -> Status:
        """Tell whether one of the patterns of an arm matches."""
        answer: Status = False
        for word in patterns:
            pattern = expand_pattern(word, self.scope, self.substitute)
            if pattern is not None and has_pattern(pattern.replace("*", "")) and not (subject or "").isascii():
                pattern = None  # shells match bytes or characters
            if pattern == "*":
                return True
            if subject is None or pattern is None:
                answer = None
            elif matches_pattern(subject, pattern, self.state.variables.journal.effort):
                return True
        return answer

    def _for(self, node: For) -> Status:
        values, plain = self._loop_values(node)
        if plain and len(values) <= MAX_ROUNDS:
            self._rounds(node.body, node.name, values)
            return None
        self._forget(node.body)
        self.state.variables.assign(node.name, None)
        self.choose(lambda: self._rounds(node.body, "", [None]), lambda: None)
        self.state.variables.assign(node.name, None)
        self._forget(node.body)
        return None

    def _loop_values(self, node: For) -> tuple[list[Value], bool]:
        """Return what a loop goes through, and whether that is known."""
        if node.words is None:
            values: list[Value] = [None] if self.state.arguments is None else list(self.state.arguments)
            return values, all(value is not None and not has_pattern(value) for value in values)
        found, plain = list[Value](), True
        for word in node.words:
            for value in expand_fields(word, self.scope, self.substitute):
                paths: Sequence[Value] | None = None if value is None else [value]
                if value is not None and has_pattern(value):
                    paths = self._find_paths(value) if is_pattern(word, self.scope) else None
                found += paths or [value]  # a pattern that matches nothing stays as it is written
                plain = plain and paths is not None
        return found, plain

    def _find_paths(self, pattern: str) -> Sequence[str] | None:
        """Expand a pattern where the script is; what is found is written as the pattern is."""
        self.state.spend(SEARCH)
        located = self.state.locate(pattern)
        found = self.surroundings.find_paths(located)
        return None if found is None else [path[len(located) - len(pattern) :] for path in found]

    def _rounds(self, body: tuple[Node, ...], name: str, values: Sequence[Value]) -> None:
        """Run a loop's body for each value of a variable (or just so), and go on from wherever it may have ended."""
        certain, ended = self.state.certain, self._ended.copy()
        left: list[ShellState] = []
        for value in values:
            if name:
                self.state.variables.assign(name, value)
            if self._round(body, left) or self.state.stopped:
                break
        if left:
            self._merge([*left, self.state], certain=certain and self._ended == ended)

    def _round(self, body: tuple[Node, ...], left: list[ShellState]) -> bool:
        """Run a loop's body once; states that may leave the loop go to `left`. Returns whether it ends for certain."""
        certain, ended = self.state.certain, self._ended.copy()
        self._jumped.append([])
        self.run(body)
        jumped = self._jumped.pop()
        breaks = self.state.stopped == "break"
        if self.state.stopped in _JUMPS:
            self.state.stopped = ""
        going = [state for state in jumped if state.stopped == "continue"]
        left += (state for state in jumped if state.stopped == "break")
        for state in jumped:
            state.stopped = ""
        if breaks and going:
            left.append(self.state)
            self.state = going.pop()
            breaks = False
        if going:
            self._merge([*going, self.state], certain=certain and self._ended == ended)
        self.state.certain = self.state.certain and not left
        return breaks

    def _while(self, node: While) -> Status:
        loop = (*node.condition, *node.body)
        self._forget(loop)
        status = self.run(node.condition)
        if status is not node.until and not self.state.stopped:
            self.choose(lambda: self._rounds(node.body, "", [None]), lambda: None)
        self._forget(loop)
        return None

    def _forget(self, nodes: tuple[Node, ...]) -> None:
        """Take every variable that these commands may set for unknown, as a loop's first round is not its last."""
        functions = dict(self.state.functions)
        names, defined = self._assigned.find(nodes)
        if names & functions.keys():
            for body in (body for bodies in functions.values() for body in bodies if body is not None):
                more, inner = self._assigned.find((body,))
                self.state.spend(ITEM * (1 + len(names) + len(more) + len(defined) + len(inner)))
                names, defined = names | more, (*defined, *inner)
        for function in defined:
            self.state.define(function.name, function.body)
        if "unset" in names:
            for name in functions:
                self.state.define(name, None)
        self.state.variables.forget(name for name in names if name.isidentifier())
        if names & {".", "source", "eval"}:
            self.state.variables.forget_all()
        if names & {"shift", "set"}:
            self.state.arguments = None
        if names & {"cd", "chdir", "pushd", "popd", "builtin", ".", "source", "eval", "command"}:
            self.state.directory = None
