# SPDX-License-Identifier: Apache-2.0
"""
Builtin commands of the shell, and what debconf's library adds to them, as the interpreter follows them.

Each takes the machine, the command's place in the tree and its expanded words, and returns its exit status as far as
that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from copacetic.unpack.scripts.shell.conditions import evaluate_test
from copacetic.unpack.scripts.shell.expansion import Value, expand_value, has_pattern
from copacetic.unpack.scripts.shell.machine import Machine, Reached, Status
from copacetic.unpack.scripts.shell.parser import parse_shell
from copacetic.unpack.scripts.shell.syntax import Group, Literal, Simple, Word

__all__ = ["BUILTINS", "CONFMODULE", "MAX_CALLS", "PROGRAM_SEARCHES", "Builtin"]

MAX_CALLS = 16
"""How deep functions and files with more commands may be nested."""


def _test(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    closing = {"[": "]", "[[": "]]"}.get(words[0] or "")
    inner = words[1:-1] if closing is not None and words[-1] == closing else words[1:]
    answer = evaluate_test(inner, machine.surroundings.test_file)
    if answer is None:
        machine.note(node.line, tuple(words), ())
    return answer


def _dpkg(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    operands = [word for word in words[1:] if word != "--"]
    if operands[:1] != ["--compare-versions"]:
        machine.note(node.line, tuple(words), ())
        return None
    if len(operands) != 4 or operands[1] is None or operands[2] is None or operands[3] is None:
        return None
    return machine.surroundings.compare_versions(operands[1], operands[2], operands[3])


def _stop(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    machine.state.stopped = "return" if words[0] == "return" and machine.depth() else "exit"
    status = words[1] if len(words) > 1 else None
    return None if status is None else status == "0"


def _declare(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    for word in node.words[1:]:
        first = word.parts[0]
        name, assigned, value = first.text.partition("=") if isinstance(first, Literal) else ("", "", "")
        if words[0] in ("local", "declare", "typeset") and name:
            machine.keep_local(name)
        if assigned:
            rest = Word((Literal(value), *word.parts[1:]))
            machine.state.variables.assign(name, expand_value(rest, machine.scope, machine.substitute))
        elif not name:
            machine.state.variables.forget_all()
        elif words[0] == "local" and machine.state.variables.find(name)[1] != "":
            # dash lets it have the outer value, bash doesn't.
            machine.state.variables.assign(name, None)
    return True


def _set(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    if "--" in words:
        rest = words[words.index("--") + 1 :]
        machine.state.arguments = tuple(None if word is None or has_pattern(word) else word for word in rest)
    elif any(word is None or not word.startswith(("-", "+")) for word in words[1:2]):
        machine.state.arguments = None
    return True


def _shift(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    arguments = machine.state.arguments
    count = words[1] if len(words) > 1 else "1"
    known = arguments is not None and count is not None and count.isdecimal() and len(count) < 10
    machine.state.arguments = arguments[int(count or 0) :] if known and arguments is not None else None
    return None


def _unset(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    for word in words[1:]:
        machine.state.variables.unset(word or "")
    return True


def _read(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    for word in words[1:]:
        if word is not None and not word.startswith("-"):
            machine.state.variables.assign(word, None)
    return None


def _source(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow another file's commands; where they aren't known, it may have set everything."""
    path = words[1] if len(words) > 1 and words[0] != "eval" else None
    text = machine.surroundings.find_source(path) if path is not None and path != CONFMODULE else None
    if text is not None and machine.depth() < MAX_CALLS:
        return machine.call(Group(parse_shell(text, on_line=node.line)), machine.state.arguments or ())
    machine.note(node.line, tuple(words), ())
    if path == CONFMODULE:
        machine.state.variables.assign("RET", None)
    else:
        machine.state.variables.forget_all()
    return None


def _debconf(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    machine.note(node.line, tuple(words), ())
    machine.state.variables.assign("RET", None)
    return None


def _trap(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    action = words[1] if len(words) > 2 else "-"
    if action is None:
        machine.note(node.line, tuple(words), ())
    elif action not in ("-", "") and not action.isdigit():
        before = len(machine.reached)
        machine.choose(lambda: machine.isolate(parse_shell(action)), lambda: None)
        machine.reached[before:] = [
            Reached(node.line, r.words, r.writes, certain=False) for r in machine.reached[before:]
        ]
    return True


def _search(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Look for a program: `command -v`, `which`, `type`."""
    operands = [word for word in words[1:] if word is None or not word.startswith("-")]
    if words[0] == "command" and words[1:2] not in (["-v"], ["-V"]):
        return machine.run_words(node, words[1:])
    machine.note(node.line, tuple(words), ())
    if len(operands) != 1 or operands[0] is None:
        return None
    return machine.surroundings.has_program(operands[0])


def _exec(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    if len(words) == 1:
        return None
    status = machine.note(node.line, tuple(words[1:]), ())
    machine.state.stopped = "exit"
    return status


def _jump(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    """Leave a round of a loop; where several loops are meant, go on as if it were not known."""
    if len(words) > 1:
        machine.state.certain = False
    elif machine.in_loop():
        machine.state.stopped = words[0] or ""
    return True


def _known(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    return words[0] != "false"


def _ignore(machine: Machine, _node: Simple, _words: Sequence[Value]) -> Status:
    return None


PROGRAM_SEARCHES = frozenset(("command", "which", "type"))
CONFMODULE = "/usr/share/debconf/confmodule"
_DEBCONF = (
    "get set input go fset fget metaget subst reset version capb stop purge register unregister settitle title "
    "beginblock endblock info progress x_loadtemplatefile text clear previous_module"
)

Builtin = Callable[[Machine, Simple, Sequence[Value]], Status]

BUILTINS: Mapping[str, Builtin] = {
    name: builtin
    for names, builtin in (
        (": true false", _known),
        ("[ [[ test", _test),
        ("dpkg", _dpkg),
        ("exit return", _stop),
        ("export readonly local declare typeset", _declare),
        ("set", _set),
        ("shift", _shift),
        ("unset", _unset),
        ("read getopts", _read),
        (". source eval", _source),
        ("trap", _trap),
        ("exec", _exec),
        ("command which type", _search),
        ("break continue", _jump),
        ("umask wait", _ignore),
        (" ".join(f"db_{verb}" for verb in _DEBCONF.split()), _debconf),
    )
    for name in names.split()
}
