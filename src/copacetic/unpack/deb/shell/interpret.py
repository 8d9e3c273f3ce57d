# SPDX-License-Identifier: Apache-2.0
"""
Which commands can a script reach? An abstract interpreter of the shell language, in which nothing is executed.

Values and exit statuses are known or not known. Where a condition is known, only its branch is followed; where it is
not, all are, and what they leave behind is merged. So the commands found include every one that a real run could
reach with the given arguments in a clean environment; there may be more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from copacetic.unpack.deb.shell.conditions import evaluate_test
from copacetic.unpack.deb.shell.expansion import (
    Scope,
    Value,
    Variables,
    expand_fields,
    expand_pattern,
    expand_value,
    matches_pattern,
)
from copacetic.unpack.deb.shell.parser import parse_shell
from copacetic.unpack.deb.shell.syntax import (
    AndOr,
    Case,
    For,
    Function,
    Group,
    If,
    Literal,
    Node,
    Pipeline,
    Redirect,
    ShellSyntaxError,
    Simple,
    Substitution,
    While,
    Word,
    find_assigned,
    has_jump,
)

__all__ = ["Reached", "Surroundings", "reach_commands"]

_NOWHERE = frozenset(("/dev/null", "/dev/stderr", "/dev/stdout", "/dev/tty"))
MAX_STEPS = 50_000
MAX_CALLS = 16
MAX_ROUNDS = 64

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


def reach_commands(
    nodes: Sequence[Node],
    *,
    arguments: Sequence[str] | None,
    variables: Mapping[str, str],
    surroundings: Surroundings,
) -> tuple[Reached, ...]:
    """
    Return the commands that a script may run; without arguments, whatever they may be. Raises `ShellSyntaxError` when it is
    too complex to tell.
    """
    interpreter = _Interpreter(arguments, variables, surroundings)
    interpreter.run(nodes)
    return tuple(interpreter.reached)


@dataclass(slots=True)
class _State:
    variables: Variables
    arguments: tuple[Value, ...] | None
    stopped: str = ""
    """How this path ended: `exit`, `return`, or not at all."""
    certain: bool = True

    def copy(self) -> _State:
        return _State(self.variables.copy(), self.arguments, self.stopped, self.certain)


class _Interpreter:
    def __init__(
        self, arguments: Sequence[str] | None, variables: Mapping[str, str], surroundings: Surroundings
    ) -> None:
        self.reached: list[Reached] = []
        self._state = _State(Variables(variables), None if arguments is None else tuple(arguments))
        self._surroundings = surroundings
        self._functions: dict[str, Node] = {}
        self._returned: list[list[_State]] = []
        self._steps = 0

    # -- control ---------------------------------------------------------------------------------------------

    def run(self, nodes: Sequence[Node]) -> Status:
        status: Status = True
        for node in nodes:
            if self._state.stopped:
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

    def _choose(self, *alternatives: Callable[[], object]) -> None:
        """Follow all alternatives from here, and go on with what they have in common."""
        start = self._state
        ends: list[_State] = []
        for alternative in alternatives:
            self._state = start.copy()
            self._state.certain = False
            alternative()
            ends.append(self._state)
        self._merge(ends, certain=start.certain)

    def _maybe(self, node: Node) -> Status:
        """Follow a command that may be left out, and return its own status."""
        statuses: list[Status] = []
        self._choose(lambda: statuses.append(self._node(node)), lambda: None)
        return statuses[0]

    def _merge(self, ends: Sequence[_State], *, certain: bool) -> None:
        alive = [state for state in ends if not state.stopped]
        for state in ends:
            if state.stopped == "return" and self._returned:
                self._returned[-1].append(state)
        if not alive:
            stopped = "return" if any(state.stopped == "return" for state in ends) else "exit"
            self._state = _State(ends[0].variables.copy(), ends[0].arguments, stopped, certain=False)
            return
        merged = alive[0].copy()
        for state in alive[1:]:
            merged.variables.merge(state.variables)
            if state.arguments != merged.arguments:
                merged.arguments = None
        merged.certain = certain and len(alive) == len(ends)
        self._state = merged

    def _isolated(self, nodes: Sequence[Node]) -> Status:
        """Run in a subshell: whatever happens to variables there is gone afterwards."""
        saved, functions = self._state, dict(self._functions)
        self._state = saved.copy()
        status = self.run(nodes)
        ended = self._state.stopped
        self._state, self._functions = saved, functions
        return None if ended else status

    def _substitute(self, part: Substitution) -> Value:
        before = len(self.reached)
        status = self._isolated(part.body)
        silent = all(reached.words[0] in PROGRAM_SEARCHES for reached in self.reached[before:])
        return "" if status is False and silent else None

    @property
    def _scope(self) -> Scope:
        return Scope(self._state.variables, self._state.arguments)

    # -- compound commands -----------------------------------------------------------------------------------

    def _and_or(self, node: AndOr) -> Status:
        status = self._node(node.first)
        for operator, following in node.rest:
            if self._state.stopped:
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
                self._isolated((command,))
            return None
        status = self._node(node.commands[0])
        return None if status is None else status is not node.negated

    def _if(
        self, branches: Sequence[tuple[tuple[Node, ...], tuple[Node, ...]]], orelse: tuple[Node, ...]
    ) -> Status:
        if not branches:
            return self.run(orelse)
        condition, body = branches[0]
        status = self.run(condition)
        if self._state.stopped:
            return None
        if status is None:
            self._choose(lambda: self.run(body), lambda: self._if(branches[1:], orelse))
            return None
        return self.run(body) if status else self._if(branches[1:], orelse)

    def _case(self, node: Case) -> Status:
        subject = expand_value(node.word, self._scope, self._substitute)
        return self._arms(subject, node.arms)

    def _arms(self, subject: Value, arms: Sequence[tuple[tuple[Word, ...], tuple[Node, ...]]]) -> Status:
        if not arms:
            return True
        patterns, body = arms[0]
        answer: Status = False
        for word in patterns:
            pattern = expand_pattern(word, self._scope, self._substitute)
            if pattern == "*" or (
                subject is not None and pattern is not None and matches_pattern(subject, pattern)
            ):
                answer = True
                break
            if subject is None or pattern is None:
                answer = None
        if answer is None:
            self._choose(lambda: self.run(body), lambda: self._arms(subject, arms[1:]))
            return None
        return self.run(body) if answer else self._arms(subject, arms[1:])

    def _for(self, node: For) -> Status:
        values: list[Value] = []
        if node.words is None:
            values = [None] if self._state.arguments is None else list(self._state.arguments)
        for word in node.words or ():
            values += expand_fields(word, self._scope, self._substitute)
        plain = all(value is not None and not any(char in value for char in "*?[") for value in values)
        if plain and len(values) <= MAX_ROUNDS and not has_jump(node.body):
            for value in values:
                self._state.variables.assign(node.name, value)
                self.run(node.body)
            return None
        self._forget(node.body)
        self._state.variables.assign(node.name, None)
        self._choose(lambda: self.run(node.body), lambda: None)
        self._state.variables.assign(node.name, None)
        self._forget(node.body)
        return None

    def _while(self, node: While) -> Status:
        loop = (*node.condition, *node.body)
        self._forget(loop)
        status = self.run(node.condition)
        if status is not False and not self._state.stopped:
            self._choose(lambda: self.run(node.body), lambda: None)
        self._forget(loop)
        return None

    def _group(self, node: Group) -> Status:
        writes = self._redirections(node.redirects)
        if writes:
            self._note(node.line, ("{",), writes)
        return self._isolated(node.body) if node.subshell else self.run(node.body)

    def _forget(self, nodes: tuple[Node, ...]) -> None:
        """Take every variable that these commands may set for unknown, as a loop's first round is not its last."""
        names = find_assigned(nodes)
        if names & self._functions.keys():
            names |= find_assigned(tuple(self._functions.values()))
        self._state.variables.forget(names)
        if names & {".", "source", "eval"}:
            self._state.variables.forget_all()
        if names & {"shift", "set"}:
            self._state.arguments = None

    # -- simple commands -------------------------------------------------------------------------------------

    def _simple(self, node: Simple) -> Status:
        words: list[Value] = []
        for word in node.words:
            words += expand_fields(word, self._scope, self._substitute)
        writes = self._redirections(node.redirects)
        values = [(name, expand_value(word, self._scope, self._substitute)) for name, word in node.assignments]
        if not words:
            for name, value in values:
                self._state.variables.assign(name, value)
            if writes:
                self._note(node.line, (":",), writes)
            return None if node.words or any(value is None for _, value in values) else True
        return self._run_words(node, words, writes)

    def _run_words(self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...] = ()) -> Status:
        command = words[0] if words else ":"
        function = self._functions.get(command) if command is not None else None
        builtin = _BUILTINS.get(command) if command is not None else None
        if function is None and builtin is None:
            self._note(node.line, tuple(words), writes)
            return self._surroundings.ask(words)
        if writes:
            self._note(node.line, (":",), writes)
        if function is not None:
            return self._call(function, words[1:])
        return builtin(self, node, words) if builtin is not None else None

    def _redirections(self, redirects: Sequence[Redirect]) -> tuple[Value, ...]:
        """Return the files that are written to."""
        writes: list[Value] = []
        for redirect in redirects:
            target = expand_value(redirect.target, self._scope, self._substitute)
            descriptor = redirect.operator == ">&" and target is not None and target.isdigit()
            closes = redirect.operator == ">&" and target == "-"
            if ">" in redirect.operator and not descriptor and not closes and target not in _NOWHERE:
                writes.append(target)
        return tuple(writes)

    def _note(self, line: int, words: tuple[Value, ...], writes: tuple[Value, ...]) -> None:
        self.reached.append(Reached(line, words, writes, self._state.certain))

    def _call(self, body: Node, arguments: Sequence[Value]) -> Status:
        if len(self._returned) >= MAX_CALLS:
            raise ShellSyntaxError("calls nested too deeply to follow")
        saved, certain = self._state.arguments, self._state.certain
        self._state.arguments = tuple(arguments)
        self._returned.append([])
        status = self._node(body)
        returned = self._returned.pop()
        if returned or self._state.stopped == "return":
            ends = [*returned, self._state]
            exits = self._state.stopped == "exit"
            for state in returned:
                state.stopped = ""
            self._state.stopped = "" if self._state.stopped == "return" else self._state.stopped
            self._merge(ends, certain=certain)
            self._state.certain = certain and not exits
            status = None
        self._state.arguments = saved
        return status

    # -- builtins --------------------------------------------------------------------------------------------

    def do_test(self, node: Simple, words: Sequence[Value]) -> Status:
        closing = {"[": "]", "[[": "]]"}.get(words[0] or "")
        inner = words[1:-1] if closing is not None and words[-1] == closing else words[1:]
        answer = evaluate_test(inner, self._surroundings.test_file)
        if answer is None:
            self._note(node.line, tuple(words), ())
        return answer

    def do_dpkg(self, node: Simple, words: Sequence[Value]) -> Status:
        operands = [word for word in words[1:] if word != "--"]
        if operands[:1] != ["--compare-versions"]:
            self._note(node.line, tuple(words), ())
            return None
        if len(operands) != 4 or operands[1] is None or operands[2] is None or operands[3] is None:
            return None
        return self._surroundings.compare_versions(operands[1], operands[2], operands[3])

    def do_stop(self, _node: Simple, words: Sequence[Value]) -> Status:
        self._state.stopped = "return" if words[0] == "return" and self._returned else "exit"
        status = words[1] if len(words) > 1 else None
        return None if status is None else status == "0"

    def do_declare(self, node: Simple, words: Sequence[Value]) -> Status:
        for word in node.words[1:]:
            first = word.parts[0]
            name, assigned, value = first.text.partition("=") if isinstance(first, Literal) else ("", "", "")
            if assigned:
                rest = Word((Literal(value), *word.parts[1:]))
                self._state.variables.assign(name, expand_value(rest, self._scope, self._substitute))
            elif not name:
                self._state.variables.forget_all()
            elif words[0] == "local":
                self._state.variables.assign(name, "")
        return True

    def do_set(self, _node: Simple, words: Sequence[Value]) -> Status:
        if "--" in words:
            self._state.arguments = tuple(words[words.index("--") + 1 :])
        elif any(word is None or not word.startswith(("-", "+")) for word in words[1:2]):
            self._state.arguments = None
        return True

    def do_shift(self, _node: Simple, words: Sequence[Value]) -> Status:
        arguments = self._state.arguments
        count = words[1] if len(words) > 1 else "1"
        known = arguments is not None and count is not None and count.isdigit()
        self._state.arguments = arguments[int(count or 0) :] if known and arguments is not None else None
        return None

    def do_unset(self, _node: Simple, words: Sequence[Value]) -> Status:
        for word in words[1:]:
            self._state.variables.unset(word or "")
        return True

    def do_read(self, _node: Simple, words: Sequence[Value]) -> Status:
        for word in words[1:]:
            if word is not None and not word.startswith("-"):
                self._state.variables.assign(word, None)
        return None

    def do_source(self, node: Simple, words: Sequence[Value]) -> Status:
        """Follow another file's commands; where they aren't known, it may have set everything."""
        path = words[1] if len(words) > 1 and words[0] != "eval" else None
        text = self._surroundings.find_source(path) if path is not None and path != CONFMODULE else None
        if text is not None and len(self._returned) < MAX_CALLS:
            return self._call(Group(parse_shell(text, on_line=node.line)), self._state.arguments or ())
        self._note(node.line, tuple(words), ())
        if path == CONFMODULE:
            self._state.variables.assign("RET", None)
        else:
            self._state.variables.forget_all()
        return None

    def do_debconf(self, node: Simple, words: Sequence[Value]) -> Status:
        self._note(node.line, tuple(words), ())
        self._state.variables.assign("RET", None)
        return None

    def do_trap(self, node: Simple, words: Sequence[Value]) -> Status:
        action = words[1] if len(words) > 2 else "-"
        if action is None:
            self._note(node.line, tuple(words), ())
        elif action not in ("-", "") and not action.isdigit():
            before = len(self.reached)
            self._choose(lambda: self._isolated(parse_shell(action)), lambda: None)
            self.reached[before:] = [
                Reached(node.line, r.words, r.writes, certain=False) for r in self.reached[before:]
            ]
        return True

    def do_search(self, node: Simple, words: Sequence[Value]) -> Status:
        """Look for a program: `command -v`, `which`, `type`."""
        operands = [word for word in words[1:] if word is None or not word.startswith("-")]
        if words[0] == "command" and words[1:2] not in (["-v"], ["-V"]):
            return self._run_words(node, words[1:])
        self._note(node.line, tuple(words), ())
        if len(operands) != 1 or operands[0] is None:
            return None
        return self._surroundings.has_program(operands[0])

    def do_exec(self, node: Simple, words: Sequence[Value]) -> Status:
        if len(words) > 1:
            self._note(node.line, tuple(words[1:]), ())
            self._state.stopped = "exit"
        return None

    def do_known(self, _node: Simple, words: Sequence[Value]) -> Status:
        return words[0] != "false"

    def do_ignore(self, _node: Simple, _words: Sequence[Value]) -> Status:
        return None


PROGRAM_SEARCHES = frozenset(("command", "which", "type"))
CONFMODULE = "/usr/share/debconf/confmodule"

Builtin = Callable[[_Interpreter, Simple, Sequence[Value]], Status]

_BUILTINS: Mapping[str, Builtin] = {
    name: builtin
    for names, builtin in (
        (": true false", _Interpreter.do_known),
        ("[ [[ test", _Interpreter.do_test),
        ("dpkg", _Interpreter.do_dpkg),
        ("exit return", _Interpreter.do_stop),
        ("export readonly local declare typeset", _Interpreter.do_declare),
        ("set", _Interpreter.do_set),
        ("shift", _Interpreter.do_shift),
        ("unset", _Interpreter.do_unset),
        ("read getopts", _Interpreter.do_read),
        (". source eval", _Interpreter.do_source),
        ("trap", _Interpreter.do_trap),
        ("exec", _Interpreter.do_exec),
        ("command which type", _Interpreter.do_search),
        ("break continue umask wait", _Interpreter.do_ignore),
        (
            " ".join(
                f"db_{verb}"
                for verb in ["get", "set", "input", "go", "fset", "fget", "metaget", "subst", "reset", "version", "capb", "stop", "purge", "register", "unregister", "settitle", "title", "beginblock", "endblock", "info", "progress", "x_loadtemplatefile", "text", "clear", "previous_module"]
            ),
            _Interpreter.do_debconf,
        ),
    )
    for name in names.split()
}
