# SPDX-License-Identifier: Apache-2.0
"""
Builtin commands of the shell, and what debconf's library adds to them, as the interpreter follows them.

Each takes the machine, the command's place in the tree and its expanded words, and returns its exit status as far as
that is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from copacetic.scripts.shell.conditions import evaluate_test, is_evaluating
from copacetic.scripts.shell.expansion import ITEM, Value, expand_fields, expand_value, has_pattern
from copacetic.scripts.shell.loops import SEARCH
from copacetic.scripts.shell.machine import Machine, Status
from copacetic.scripts.shell.syntax import Group, Literal, Simple, Word

__all__ = ["BUILTINS", "CONFMODULE", "DEBCONF", "MAX_CALLS", "PROGRAM_SEARCHES", "SPECIAL", "Builtin"]

MAX_CALLS = 16
"""How deep functions and files with more commands may be nested."""


def _test(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    closing = {"[": "]", "[[": "]]"}.get(words[0] or "")
    if closing is not None and words[-1] != closing:
        machine.note(node.line, tuple(words), ())
        return None if words[-1] is None else False
    inner = words[1:-1] if closing is not None else words[1:]
    bash = machine.state.variables.journal.bash
    if is_evaluating(inner, arithmetic=words[0] == "[[", bash=bash):
        machine.state.variables.journal.oddities.append("a condition in which there may be commands")
    surroundings, state = machine.surroundings, machine.state
    if bash and len(inner) == 3 and inner[1] == "==":
        inner = [inner[0], "=", inner[2]]

    def test_file(operator: str, path: str) -> bool | None:
        state.spend(SEARCH if has_pattern(path) else ITEM * path.count("/"))
        return surroundings.test_file(operator, state.locate(path))

    answer = evaluate_test(inner, test_file)
    if words[0] == "[[" and not bash:
        answer = None
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
    journal = machine.state.variables.journal
    if len(words) > 2 or (journal.bash and words[0] == "return" and not machine.depth()):
        machine.state.certain = False
        return None  # bash says that this is wrong, and goes on
    machine.state.stopped = "return" if words[0] == "return" and machine.depth() else "exit"
    status = words[1] if len(words) > 1 else None
    return None if status is None else status == "0"


def _declare(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    variables, local = machine.state.variables, words[0] in ("local", "declare", "typeset")
    # Not every shell has each of them, and outside a function none has `local`.
    heard = machine.depth() > 0 if words[0] == "local" else variables.journal.bash or not local
    names: list[str] = []
    readonly = words[0] == "readonly"
    plain = True
    for word in node.words[1:]:
        first = word.parts[0]
        if isinstance(first, Literal) and "=" in first.text:
            name, _, start = first.text.partition("=")
            names.append(name.removesuffix("+"))
            rest = Word((Literal(start, first.quoted), *word.parts[1:]))
            machine.keep_local(name if local else "")
            value = None if name.endswith("+") else _plain_value(machine, rest)
            variables.assign(name.removesuffix("+"), value if heard else None)
            continue
        for field in expand_fields(word, machine.scope, machine.substitute):
            if field is None:
                variables.journal.oddities.append("variables of which the names aren't known are set")
                variables.forget_all()
                continue
            name, assigned, value = field.partition("=")
            plain = plain and not field.startswith("-")
            readonly = readonly or (local and field.startswith("-") and "r" in field)
            if field.startswith("-") and not set(field[1:]) <= set("xrpg"):
                variables.journal.oddities.append(f"{words[0]} {field} makes a variable of another kind")
            elif not field.startswith("-") and field != words[0]:
                names.append(name)
                machine.keep_local(name if local else "")
                # dash lets it have the outer value, bash doesn't.
                unclear = words[0] == "local" and variables.find(name)[1] != ""
                if assigned or unclear:
                    variables.assign(name, value if assigned and heard else None)
    plain = plain and variables.journal.readonly.isdisjoint(names) and all(map(str.isidentifier, names))
    if readonly:
        variables.journal.readonly.update(names)
    return True if heard and plain else None


def _plain_value(machine: Machine, word: Word) -> Value:
    return expand_value(word, machine.scope, machine.substitute)


def _set(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    first = words[1] if len(words) > 1 else ""
    if first is not None and first[:1] in ("-", "+") and first not in ("-", "--") and not _OPTIONS.fullmatch(first):
        machine.state.variables.journal.oddities.append(f"set {first}")
    if len(words) > 2 and first is not None and first.endswith("o") and words[2] not in _LONG_OPTIONS:
        machine.state.variables.journal.oddities.append(f"set {first} {words[2]}")
    if "--" in words:
        rest = words[words.index("--") + 1 :]
        machine.state.arguments = tuple(None if word is None or has_pattern(word) else word for word in rest)
    elif any(word is None or not word.startswith(("-", "+")) for word in words[1:2]):
        machine.state.arguments = None
    # Not every shell has every option by its name.
    return True if first is not None and (len(words) < 3 or not first.endswith("o")) else None


def _shift(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    arguments = machine.state.arguments
    count = words[1] if len(words) > 1 else "1"
    machine.state.spend(ITEM * len(arguments or ()))
    known = arguments is not None and count is not None and count.isdecimal() and len(count) < 10
    machine.state.arguments = arguments[int(count or 0) :] if known and arguments is not None else None
    return None


def _unset(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    functions, variables = machine.state.functions, machine.state.variables
    for word in words[1:]:
        if word is None:
            variables.forget_all()
            variables.journal.oddities.append("a variable of which the name isn't known is unset")
            for name in functions:
                machine.state.define(name, None)
        elif word in ("-f", "-v"):
            continue
        elif words[1] == "-f":
            functions.pop(word, None)
        else:
            if words[1] != "-v" and word in functions:
                machine.state.define(word, None)  # bash takes the function where there is no variable
            variables.unset(word)
    known = all(word is not None and (word in ("-f", "-v") or word.isidentifier()) for word in words[1:])
    return True if known and variables.journal.readonly.isdisjoint(words[1:]) else None


def _read(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    values = iter(words[1:])
    for word in values:
        if word is None:
            machine.state.variables.forget_all()
            machine.state.variables.journal.oddities.append("a variable of which the name isn't known is read")
        elif words[0] == "read" and word.startswith("-"):
            if word[-1] in "dinNptu":
                next(values, None)
        elif words[0] == "read" or word != words[1]:
            machine.state.variables.assign(word, None)
    return None


def _read_in(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow another file, also where a shell has no such command as `source`."""
    if words[0] == "." or machine.state.variables.journal.bash:
        return _source(machine, node, words)
    machine.choose(lambda: _source(machine, node, words), lambda: None)
    return None


def _source(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow another file's commands; where they aren't known, it may have set everything."""
    path = words[1] if len(words) > 1 and words[0] != "eval" else None
    if path is not None and "/" in path:
        path = machine.state.locate(path)
    text = machine.surroundings.find_source(path) if path is not None and path != CONFMODULE else None
    if text is not None and machine.depth() < MAX_CALLS:
        arguments = machine.state.arguments if len(words) == 2 else None
        body = Group(machine.read_more(text, node.line))
        return machine.call(body, [None] if arguments is None else arguments)
    machine.note(node.line, tuple(words), ())
    if path == CONFMODULE:
        machine.state.variables.assign("RET", None)
    else:
        machine.state.variables.forget_all()
        machine.state.directory = None
    return None


def _cd(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Go to a folder; where it isn't known whether that works, the script may be anywhere."""
    machine.note(node.line, tuple(words), ())
    state, target = machine.state, words[1] if len(words) == 2 else None
    if not target or has_pattern(target) or target.startswith("-") or not {".", ".."}.isdisjoint(target.split("/")):
        state.directory = None
        return None
    path = state.locate(target)
    answer = machine.surroundings.test_file("-d", path) if path.startswith("/") else None
    if answer is not False:
        state.directory = path if answer else None
    return answer


def _debconf(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    machine.note(node.line, tuple(words), ())
    machine.state.variables.assign("RET", None)
    return None


def _trap(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    operands = words[2:] if words[1:2] == ["--"] else words[1:]
    action = operands[0] if len(operands) > 1 else "-"
    if action is None or (len(operands) == 1 and operands[0] is None):
        machine.note(node.line, tuple(words), ())
    elif action not in ("-", "") and not action.isdigit():
        machine.on_exit(node.line, action)
    conditions = operands[1:] or operands
    return True if all(word is not None and _CONDITION.fullmatch(word) for word in conditions) else None


def _search(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Look for a program: `command -v`, `which`, `type`."""
    if words[0] == "command":
        rest = list(words[1:])
        options = ""
        while rest and (option := rest[0]) is not None and option.startswith("-"):
            options += rest.pop(0) or ""
            if option == "--":
                break
        if not set(options) <= set("-pvV"):
            machine.note(node.line, tuple(words), ())
            return None
        if "v" not in options and "V" not in options:
            return machine.run_words(node, rest, functions=False) if rest else True
    operands = [word for word in words[1:] if word is None or not word.startswith("-")]
    machine.note(node.line, tuple(words), ())
    has_program = machine.surroundings.has_program
    there = words[0] != "which" or has_program("which")  # the others are the shell's own
    if not there:
        return there
    return has_program(operands[0]) if len(operands) == 1 and operands[0] is not None else None


def _exec(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    rest = words[2:] if words[1:2] == ["--"] else words[1:]
    if not rest:
        return None
    status = machine.note(node.line, ("exec", *rest) if rest[0] is None or rest[0][:1] == "-" else tuple(rest), ())
    machine.state.stopped = "exit"
    return status


def _jump(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    """Leave a round of a loop; where several loops are meant, go on as if it were not known."""
    if len(words) > 1:
        machine.state.certain = False
    elif machine.in_loop():
        machine.state.stopped = words[0] or ""
    return True if len(words) == 1 else None


def _eval(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow commands that are put together, where they are known."""
    known = [word for word in words[1:] if word is not None]
    if len(known) < len(words) - 1 or machine.depth() >= MAX_CALLS:
        return _source(machine, node, words)
    status: Status = True
    for inner in machine.read_more(" ".join(known), node.line):
        status = machine.run((inner,))
    return status


def _time(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow what bash times itself, functions among it, and other shells with a program of that name."""
    rest = list(words[1:])
    while rest and rest[0] in ("-p", "--"):
        rest.pop(0)
    if rest and (rest[0] is None or rest[0].startswith("-")):
        machine.note(node.line, tuple(words), ())
    elif rest and (rest[0] in BUILTINS or rest[0] in machine.state.functions):
        # Not even `return` or `cd` does anything to the shell where a program is given it.
        machine.choose(lambda: machine.run_words(node, rest), lambda: _run_apart(machine, node, rest))
    elif rest:
        machine.run_words(node, rest)
    return None


def _run_apart(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Follow a command as another program runs it: the program of that name, if there is one."""
    return None if words[0] in BUILTINS else machine.run_words(node, words, functions=False)


def _printf(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Print, which in bash may be into a variable."""
    if len(words) > 2 and words[1] is not None and words[1].startswith("-v"):
        machine.state.variables.assign(words[1][2:] or words[2] or "", None)
    return machine.note(node.line, tuple(words), ())


def _known(machine: Machine, _node: Simple, words: Sequence[Value]) -> Status:
    return words[0] != "false"


def _limit(machine: Machine, node: Simple, words: Sequence[Value]) -> Status:
    """Under a limit of its own, whatever a script does later may fail."""
    if any(word is None or not word.startswith("-") for word in words[1:]):
        machine.state.variables.journal.oddities.append("a limit is set, under which what follows may fail")
    machine.note(node.line, tuple(words), ())
    return None


def _ignore(machine: Machine, _node: Simple, _words: Sequence[Value]) -> Status:
    return None


_CONDITION = re.compile("EXIT|HUP|INT|QUIT|ABRT|KILL|ALRM|TERM|USR[12]|PIPE|CHLD|[12]?[0-9]")
"""What every shell can set a trap for."""
_OPTIONS = re.compile("[-+][abefhmnuvxCET]*o?")
_LONG_OPTIONS = frozenset(
    (
        *("allexport", "errexit", "errtrace", "functrace", "hashall", "monitor", "noclobber", "noexec", "noglob"),
        *("notify", "nounset", "pipefail", "posix", "verbose", "xtrace"),
    )
)
SPECIAL = frozenset(
    (
        *(".", ":", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set", "shift"),
        *("source", "times", "trap", "unset", "[", "[[", "test", "command", "builtin", "local", "declare", "typeset"),
    )
)
"""Builtins of which shells tell in different ways whether a function may take their place."""
PROGRAM_SEARCHES = frozenset(("command", "which", "type"))
CONFMODULE = "/usr/share/debconf/confmodule"
DEBCONF = (
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
        (". source", _read_in),
        ("cd chdir", _cd),
        ("trap", _trap),
        ("exec", _exec),
        ("command which type", _search),
        ("break continue", _jump),
        ("umask wait", _ignore),
        ("ulimit", _limit),
        ("eval", _eval),
        ("time", _time),
        ("printf", _printf),
        (" ".join(f"db_{verb}" for verb in DEBCONF.split()), _debconf),
    )
    for name in names.split()
}
