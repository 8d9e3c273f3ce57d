# SPDX-License-Identifier: Apache-2.0
"""
Which commands can a script reach? An abstract interpreter of the shell language, in which nothing is executed.

Values and exit statuses are known or not known. Where a condition is known, only its branch is followed; where it is
not, all are, and what they leave behind is merged. So the commands found include every one that a real run could
reach with the given arguments in a clean environment; there may be more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from copacetic.scripts.shell.builtin import BUILTINS, CONFMODULE, MAX_CALLS, PROGRAM_SEARCHES, SPECIAL
from copacetic.scripts.shell.expansion import (
    Journal,
    Scope,
    Value,
    Variables,
    expand_fields,
    expand_value,
    has_pattern,
    is_steering,
)
from copacetic.scripts.shell.loops import MAX_DEPTH, SEARCH, Loops, too_deep
from copacetic.scripts.shell.machine import ODDITY, Followed, Reached, ShellState, Status, Surroundings
from copacetic.scripts.shell.parser import parse_shell
from copacetic.scripts.shell.pipes import finds_nothing
from copacetic.scripts.shell.syntax import (
    AndOr,
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
    sole_command,
)

__all__ = ["CONFMODULE", "PROGRAM_SEARCHES", "Followed", "Reached", "Surroundings", "follow_script"]

_SILENT = frozenset((":", "true", "test", "[", "[["))
"""Print nothing."""
_NOWHERE = frozenset(("/dev/null", "/dev/stderr", "/dev/stdout", "/dev/tty"))
STEP = 40
"""What each command costs that is followed."""
REACHED = 400
"""What a command costs that may be run, as it is judged afterwards."""
NAME = 16
"""What each name in a path costs: it is looked for."""
PARSING = 16
"""What a character costs of commands that are put together."""


def follow_script(
    nodes: Sequence[Node],
    *,
    arguments: Sequence[str] | None,
    variables: Mapping[str, str],
    surroundings: Surroundings,
    bash: bool = False,
) -> Followed:
    """
    Return the commands that a script may run and how it ends; without arguments, whatever they may be.

    Raises `ShellSyntaxError` when it is too complex to tell.
    """
    interpreter = _Interpreter(arguments, variables, surroundings, bash=bash)
    try:
        status = interpreter.run(nodes)
        certain = interpreter.state.certain
        interpreter.note_oddities(0)
        interpreter.follow_traps()
    except RecursionError as error:
        raise too_deep() from error
    return Followed(tuple(interpreter.reached), status if certain else None)


class _Interpreter(Loops):
    def __init__(
        self, arguments: Sequence[str] | None, variables: Mapping[str, str], surroundings: Surroundings, *, bash: bool
    ) -> None:
        journal = Journal(bash=bash)
        super().__init__(ShellState(Variables(variables, journal), None if arguments is None else tuple(arguments)))
        self.journal = journal
        self.reached: list[Reached] = []
        self.surroundings = surroundings
        self._locals: list[dict[str, tuple[bool, Value]]] = []
        self._calls: list[int] = []
        """How many loops there were around each call."""
        self._defined: list[Function] = []
        self._unread = 0
        """In how many pipes we are with others behind: what prints there fails when nobody reads it to its end."""
        self._traps: list[tuple[int, str, ShellState, int]] = []

    # -- control ---------------------------------------------------------------------------------------------

    def run(self, nodes: Sequence[Node]) -> Status:
        status: Status = True
        for node in nodes:
            if self.state.stopped:
                break
            status = self._node(node)
        return status

    def _node(self, node: Node) -> Status:
        self.journal.effort.spend(STEP)
        if self.journal.oddities:
            self.note_oddities(node.line if isinstance(node, Simple) else 0)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_deep()
        status = self._follow(node)
        self._depth -= 1
        return status

    def _follow(self, node: Node) -> Status:
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
                return self._define(node)
            case Group():
                return self._group(node)

    def _maybe(self, node: Node) -> Status:
        """Follow a command that may be left out, and return its own status."""
        statuses: list[Status] = []
        self.choose(lambda: statuses.append(self._node(node)), lambda: None)
        return statuses[0]

    def isolate(self, nodes: Sequence[Node]) -> Status:
        """Run in a subshell: whatever happens to variables and functions there is gone afterwards."""
        saved, counted = self.state, self._ended.copy()
        self.state = saved.copy()
        status = self.run(nodes)
        ended = self.state.stopped
        self.state, self._ended = saved, counted
        return None if ended else status

    def _define(self, node: Function) -> Status:
        self._defined.append(node)
        self.state.functions[node.name] = (node.body,)
        if node.name in SPECIAL or node.name.endswith("_not_found_handle"):
            self.journal.oddities.append(f"{node.name} is defined, which shells take in different ways")
            self.note_oddities(0)
        return True

    def substitute(self, part: Substitution) -> Value:
        before, certain = len(self.reached), self.state.certain
        status = self.isolate(part.body)
        sole = sole_command(part.body)
        known = sole is not None and sole not in self.state.functions and len(self.reached) > before
        if known and self.reached[-1].certain == certain:
            output = self.surroundings.read_output(self.reached[-1].words)
            if output is not None:
                return output
        silent = sole in PROGRAM_SEARCHES and all(r.words[0] in PROGRAM_SEARCHES for r in self.reached[before:])
        return "" if status is False and silent else None

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
            starts: list[int] = []
            for command in node.commands:
                starts.append(len(self.reached))
                self._unread += command is not node.commands[-1]
                self.isolate((command,))
                self._unread -= command is not node.commands[-1]
            return self._piped(starts, negated=node.negated)
        status = self._node(node.commands[0])
        return None if status is None else status is not node.negated

    def _piped(self, starts: Sequence[int], *, negated: bool) -> Status:
        """Return the status of a pipe: nothing is found in an output that is known to be empty."""
        if [start - starts[0] for start in starts] != [0, 1] or len(self.reached) != starts[0] + 2:
            return None
        first, last = self.reached[-2:]
        return negated if finds_nothing(first, last, self.surroundings) else None

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

    def _group(self, node: Group) -> Status:
        writes = self._redirections(node.redirects)
        if writes:
            self.note(node.line, ("{",), writes)
        if self._may_fail(node.redirects):
            self.choose(lambda: self._body(node), lambda: None)
            return None
        return self._body(node)

    def _body(self, node: Group) -> Status:
        status = self.isolate(node.body) if node.subshell else self.run(node.body)
        return True if node.background else status

    def _may_fail(self, redirects: Sequence[Redirect]) -> bool:
        """Tell whether redirections may fail, so that their command isn't run."""
        for redirect in redirects:
            target = expand_value(redirect.target, Scope(self.state.variables.copy(), self.state.arguments), _unknown)
            duplicates = redirect.operator in (">&", "<&") and target in ("0", "1", "2", "-")
            if not (duplicates or target in _NOWHERE or redirect.operator in ("<<", "<<-", "<<<")):
                return True
        return False

    # -- simple commands -------------------------------------------------------------------------------------

    def _simple(self, node: Simple) -> Status:
        words: list[Value] = []
        for word in node.words:
            words += expand_fields(word, self.scope, self.substitute)
        writes = self._redirections(node.redirects)
        if words and self._may_fail(node.redirects):
            self.choose(lambda: self._complete(node, words, writes), lambda: None)
            return None
        status = self._complete(node, words, writes)
        return None if status and self._unread and words and words[0] not in _SILENT else status

    def _complete(self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...]) -> Status:
        values: list[tuple[str, Value]] = []
        for name, word in node.assignments:
            values.append((name, expand_value(word, self.scope, self.substitute)))
            if not words:
                self.state.variables.assign(*values[-1])  # the next one sees it
        if not words:
            if writes:
                self.note(node.line, (":",), writes)
            unknown = node.words or self._may_fail(node.redirects) or any(value is None for _, value in values)
            return None if unknown else True
        self.journal.oddities += [f"{name} is set" for name, value in values if is_steering(name, value)]
        return self.run_words(node, words, writes)

    def run_words(
        self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...] = (), *, functions: bool = True
    ) -> Status:
        command = words[0] if words else ":"
        definitions = self.state.functions.get(command or "", (None,)) if functions else (None,)
        if definitions == (None,):
            return self._run_known(node, words, writes)
        if writes:
            self.note(node.line, (":",), writes)
        for name, word in node.assignments:
            self.state.variables.assign(name, expand_value(word, self.scope, self.substitute))
        if len(definitions) == 1 and definitions[0] is not None:
            return self.call(definitions[0], words[1:])
        self.choose(*(partial(self._run_one, node, words, body) for body in definitions))
        return None

    def _run_one(self, node: Simple, words: Sequence[Value], body: Node | None) -> None:
        if body is None:
            self._run_known(node, words, ())
        else:
            self.call(body, words[1:])

    def _run_known(self, node: Simple, words: Sequence[Value], writes: tuple[Value, ...]) -> Status:
        """Run a builtin or a program."""
        builtin = BUILTINS.get(words[0]) if words and words[0] is not None else None
        if builtin is None:
            if not words or words[0] in (None, "builtin", "pushd", "popd"):
                self.state.directory = None
            return self.note(node.line, tuple(words or (":",)), writes)
        if writes:
            self.note(node.line, (":",), writes)
        return builtin(self, node, words)

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
        if self._calls and self._jumped and self._calls[-1] == len(self._jumped):
            raise ShellSyntaxError("a function that leaves the loop it is called in, as only some shells do")
        return bool(self._jumped)

    def on_exit(self, line: int, action: str) -> None:
        self._traps.append((line, action, self.state.copy(), self.journal.moment))

    def follow_traps(self) -> None:
        """Follow the commands of traps, which find variables and functions as any way through the script left them."""
        defined = list(self._defined)
        for line, action, state, since in self._traps:
            self.state = state
            self.state.stopped, self.state.certain, self.state.arguments = "", False, None
            self.state.directory = None
            self.state.variables.forget(self.journal.assigned_since(since))
            for function in defined:
                self.state.define(function.name, function.body)
            self.isolate(self.read_more(action, line))
            self.note_oddities(line)

    def read_more(self, text: str, line: int) -> tuple[Node, ...]:
        self.journal.effort.spend(PARSING * len(text))
        return parse_shell(text, on_line=line, bash=self.journal.bash)

    def note_oddities(self, line: int) -> None:
        oddities, self.journal.oddities = dict.fromkeys(self.journal.oddities), []
        self.reached += (Reached(line, (ODDITY, oddity), (), self.state.certain) for oddity in oddities)

    def note(self, line: int, words: tuple[Value, ...], writes: tuple[Value, ...]) -> Status:
        if self.journal.oddities:
            self.note_oddities(line)
        cost = REACHED
        for word in (*words, *writes):
            if word is not None and "/" in word:
                cost += NAME * word.count("/") + (SEARCH if has_pattern(word) else 0)
        self.journal.effort.spend(cost)
        command = Reached(line, words, writes, self.state.certain, self.state.directory)
        self.reached.append(command)
        return self.surroundings.reach(command)

    def call(self, body: Node, arguments: Sequence[Value]) -> Status:
        if len(self._returned) >= MAX_CALLS:
            raise ShellSyntaxError("calls nested too deeply to follow")
        saved, certain, counted = self.state.arguments, self.state.certain, self._ended.copy()
        # A pattern is expanded before a function sees it.
        self.state.arguments = tuple(None if value is None or has_pattern(value) else value for value in arguments)
        self._returned.append([])
        self._calls.append(len(self._jumped))
        self._locals.append({})
        status = self._node(body)
        self._calls.pop()
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


def _unknown(_part: Substitution) -> Value:
    return None
