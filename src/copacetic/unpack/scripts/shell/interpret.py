# SPDX-License-Identifier: Apache-2.0
"""
Which commands can a script reach? An abstract interpreter of the shell language, in which nothing is executed.

Values and exit statuses are known or not known. Where a condition is known, only its branch is followed; where it is
not, all are, and what they leave behind is merged. So the commands found include every one that a real run could
reach with the given arguments in a clean environment; there may be more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from copacetic.unpack.scripts.shell.builtin import BUILTINS, CONFMODULE, MAX_CALLS, PROGRAM_SEARCHES
from copacetic.unpack.scripts.shell.expansion import (
    Scope,
    Value,
    Variables,
    expand_fields,
    expand_pattern,
    expand_value,
    has_pattern,
    is_unquoted,
    matches_pattern,
)
from copacetic.unpack.scripts.shell.machine import Followed, Reached, State, Status, Surroundings, merge_states
from copacetic.unpack.scripts.shell.syntax import (
    AndOr,
    AssignedNames,
    Case,
    For,
    Function,
    Group,
    If,
    Node,
    Pipeline,
    Redirect,
    ShellSyntaxError,
    Simple,
    Substitution,
    While,
    Word,
    sole_command,
)

__all__ = ["CONFMODULE", "PROGRAM_SEARCHES", "Followed", "Reached", "Surroundings", "follow_script"]

_NOWHERE = frozenset(("/dev/null", "/dev/stderr", "/dev/stdout", "/dev/tty"))
_JUMPS = frozenset(("break", "continue"))
MAX_STEPS = 50_000
MAX_ROUNDS = 64


def follow_script(
    nodes: Sequence[Node],
    *,
    arguments: Sequence[str] | None,
    variables: Mapping[str, str],
    surroundings: Surroundings,
) -> Followed:
    """
    Return the commands that a script may run and how it ends; without arguments, whatever they may be.

    Raises `ShellSyntaxError` when it is too complex to tell.
    """
    interpreter = _Interpreter(arguments, variables, surroundings)
    status = interpreter.run(nodes)
    return Followed(tuple(interpreter.reached), status if interpreter.state.certain else None)


class _Interpreter:
    def __init__(
        self, arguments: Sequence[str] | None, variables: Mapping[str, str], surroundings: Surroundings
    ) -> None:
        self.reached: list[Reached] = []
        self.state = State(Variables(variables), None if arguments is None else tuple(arguments))
        self.surroundings = surroundings
        self._locals: list[dict[str, tuple[bool, Value]]] = []
        self._functions: dict[str, Node] = {}
        self._returned: list[list[State]] = []
        self._jumped: list[list[State]] = []
        """For each loop around, the states in which a round may have been left early."""
        self._ended = Counter[str]()
        """How often a path was seen to end the script (`exit`) or a function (`return`)."""
        self._steps = 0
        self._assigned = AssignedNames()

    # -- control ---------------------------------------------------------------------------------------------

    def run(self, nodes: Sequence[Node]) -> Status:
        status: Status = True
        for node in nodes:
            if self.state.stopped:
                break
            status = self._node(node)
        return status

    def _node(self, node: Node) -> Status:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ShellSyntaxError("too many steps to follow")
        match node:
            case Simple():
                return self._simple(node)
            case AndOr():
                return self._and_or(node)
            case Pipeline():
                return self._pipeline(node)
            case If():
                return self._if(node.branches, node.orelse)
            case Case():
                return self._case(node)
            case For():
                return self._for(node)
            case While():
                return self._while(node)
            case Function():
                self._functions[node.name] = node.body
                return True
            case Group():
                return self._group(node)

    def choose(self, *alternatives: Callable[[], object]) -> None:
        """Follow all alternatives from here, and go on with what they have in common."""
        start, ended = self.state, self._ended.copy()
        ends: list[State] = []
        for alternative in alternatives:
            self.state = start.copy()
            self.state.certain = False
            alternative()
            ends.append(self.state)
        self._merge(ends, certain=start.certain and self._ended == ended)

    def _maybe(self, node: Node) -> Status:
        """Follow a command that may be left out, and return its own status."""
        statuses: list[Status] = []
        self.choose(lambda: statuses.append(self._node(node)), lambda: None)
        return statuses[0]

    def _merge(self, ends: Sequence[State], *, certain: bool) -> None:
        for state in ends:
            if state.stopped == "return" and self._returned:
                self._returned[-1].append(state)
                self._ended["return"] += 1
            elif state.stopped in _JUMPS:
                self._jumped[-1].append(state)
            else:
                self._ended[state.stopped] += bool(state.stopped)
        self.state = merge_states(ends, certain=certain)

    def isolate(self, nodes: Sequence[Node]) -> Status:
        """Run in a subshell: whatever happens to variables there is gone afterwards."""
        saved, functions, counted = self.state, dict(self._functions), self._ended.copy()
        self.state = saved.copy()
        status = self.run(nodes)
        ended = self.state.stopped
        self.state, self._functions, self._ended = saved, functions, counted
        return None if ended else status

    def substitute(self, part: Substitution) -> Value:
        before, certain = len(self.reached), self.state.certain
        status = self.isolate(part.body)
        sole = sole_command(part.body)
        known = sole is not None and sole not in self._functions and len(self.reached) > before
        if known and self.reached[-1].certain == certain:
            output = self.surroundings.read_output(self.reached[-1].words)
            if output is not None:
                return output
        silent = all(reached.words[0] in PROGRAM_SEARCHES for reached in self.reached[before:])
        return "" if status is False and silent else None

    @property
    def scope(self) -> Scope:
        return Scope(self.state.variables, self.state.arguments)

    # -- compound commands -----------------------------------------------------------------------------------

    def _and_or(self, node: AndOr) -> Status:
        status = self._node(node.first)
        for operator, following in node.rest:
            if self.state.stopped:
                break
            wanted = operator == "&&"
            if status is None:
                status = (not wanted) if self._maybe(following) is (not wanted) else None
            elif status is wanted:
                status = self._node(following)
        return status

    def _pipeline(self, node: Pipeline) -> Status:
        if len(node.commands) > 1:
            for command in node.commands:
                self.isolate((command,))
            return None
        status = self._node(node.commands[0])
        return None if status is None else status is not node.negated

    def _if(self, branches: Sequence[tuple[tuple[Node, ...], tuple[Node, ...]]], orelse: tuple[Node, ...]) -> Status:
        if not branches:
            return self.run(orelse)
        condition, body = branches[0]
        status = self.run(condition)
        if self.state.stopped:
            return None
        if status is None:
            self.choose(lambda: self.run(body), lambda: self._if(branches[1:], orelse))
            return None
        return self.run(body) if status else self._if(branches[1:], orelse)

    def _case(self, node: Case) -> Status:
        subject = expand_value(node.word, self.scope, self.substitute)
        return self._arms(subject, node.arms)

    def _arms(self, subject: Value, arms: Sequence[tuple[tuple[Word, ...], tuple[Node, ...]]]) -> Status:
        if not arms:
            return True
        patterns, body = arms[0]
        answer: Status = False
        for word in patterns:
            pattern = expand_pattern(word, self.scope, self.substitute)
            if pattern == "*" or (subject is not None and pattern is not None and matches_pattern(subject, pattern)):
                answer = True
                break
            if subject is None or pattern is None:
                answer = None
        if answer is None:
            self.choose(lambda: self.run(body), lambda: self._arms(subject, arms[1:]))
            return None
        return self.run(body) if answer else self._arms(subject, arms[1:])

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
                    paths = self.surroundings.find_paths(value) if is_unquoted(word) else None
                found += paths or [value]  # a pattern that matches nothing stays as it is written
                plain = plain and paths is not None
        return found, plain

    def _rounds(self, body: tuple[Node, ...], name: str, values: Sequence[Value]) -> None:
        """Run a loop's body for each value of a variable (or just so), and go on from wherever it may have ended."""
        certain, ended = self.state.certain, self._ended.copy()
        left: list[State] = []
        for value in values:
            if name:
                self.state.variables.assign(name, value)
            if self._round(body, left) or self.state.stopped:
                break
        if left:
            self._merge([*left, self.state], certain=certain and self._ended == ended)

    def _round(self, body: tuple[Node, ...], left: list[State]) -> bool:
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
        if status is not False and not self.state.stopped:
            self.choose(lambda: self._rounds(node.body, "", [None]), lambda: None)
        self._forget(loop)
        return None

    def _group(self, node: Group) -> Status:
        writes = self._redirections(node.redirects)
        if writes:
            self.note(node.line, ("{",), writes)
        return self.isolate(node.body) if node.subshell else self.run(node.body)

    def _forget(self, nodes: tuple[Node, ...]) -> None:
        """Take every variable that these commands may set for unknown, as a loop's first round is not its last."""
        names = self._assigned.find(nodes)
        if names & self._functions.keys():
            names = names.union(*(self._assigned.find((body,)) for body in self._functions.values()))
        self.state.variables.forget(names)
        if names & {".", "source", "eval"}:
            self.state.variables.forget_all()
        if names & {"shift", "set"}:
            self.state.arguments = None

    # -- simple commands -------------------------------------------------------------------------------------

    def _simple(self, node: Simple) -> Status:
        words: list[Value] = []
        for word in node.words:
            words += expand_fields(word, self.scope, self.substitute)
        writes = self._redirections(node.redirects)
        values = [(name, expand_value(word, self.scope, self.substitute)) for name, word in node.assignments]
        if not words:
            for name, value in values:
                self.state.variables.assign(name, value)
            if writes:
                self.note(node.line, (":",), writes)
            return None if node.words or any(value is None for _, value in values) else True
        return self.run_words(node, words, writes)

    def run_words(self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...] = ()) -> Status:
        command = words[0] if words else ":"
        function = self._functions.get(command) if command is not None else None
        builtin = BUILTINS.get(command) if command is not None else None
        if function is None and builtin is None:
            return self.note(node.line, tuple(words), writes)
        if writes:
            self.note(node.line, (":",), writes)
        if function is not None:
            for name, word in node.assignments:
                self.state.variables.assign(name, expand_value(word, self.scope, self.substitute))
            return self.call(function, words[1:])
        return builtin(self, node, words) if builtin is not None else None

    def _redirections(self, redirects: Sequence[Redirect]) -> tuple[Value, ...]:
        """Return the files that are written to."""
        writes: list[Value] = []
        for redirect in redirects:
            target = expand_value(redirect.target, self.scope, self.substitute)
            descriptor = redirect.operator == ">&" and target is not None and target.isdigit()
            closes = redirect.operator == ">&" and target == "-"
            if ">" in redirect.operator and not descriptor and not closes and target not in _NOWHERE:
                writes.append(target)
        return tuple(writes)

    def in_loop(self) -> bool:
        return bool(self._jumped)

    def note(self, line: int, words: tuple[Value, ...], writes: tuple[Value, ...]) -> Status:
        command = Reached(line, words, writes, self.state.certain)
        self.reached.append(command)
        return self.surroundings.reach(command)

    def call(self, body: Node, arguments: Sequence[Value]) -> Status:
        if len(self._returned) >= MAX_CALLS:
            raise ShellSyntaxError("calls nested too deeply to follow")
        saved, certain, counted = self.state.arguments, self.state.certain, self._ended.copy()
        # A pattern is expanded before a function sees it.
        self.state.arguments = tuple(None if value is None or has_pattern(value) else value for value in arguments)
        self._returned.append([])
        self._locals.append({})
        status = self._node(body)
        returned = self._returned.pop()
        if returned or self.state.stopped == "return":
            ends = [*returned, self.state]
            exits = self.state.stopped == "exit" or self._ended["exit"] != counted["exit"]
            for state in ends:
                state.stopped = "" if state.stopped == "return" else state.stopped
            self._merge(ends, certain=certain)
            self.state.certain = certain and not exits
            status = None
        self._ended["return"] = counted["return"]
        for name, (known, value) in self._locals.pop().items():
            if known:
                self.state.variables.assign(name, value)
            else:
                self.state.variables.unset(name)
        self.state.arguments = saved
        return status

    def depth(self) -> int:
        return len(self._returned)

    def keep_local(self, name: str) -> None:
        if self._locals:
            self._locals[-1].setdefault(name, self.state.variables.find(name))
