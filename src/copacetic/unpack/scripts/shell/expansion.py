# SPDX-License-Identifier: Apache-2.0
"""
Words to fields, as far as their values are known (POSIX.1-2017 volume 3, 2.6).

A value is a `str`, or None when it is not known. Field splitting happens on blanks; path names are not expanded,
so a pattern stays in a field as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from copacetic.glob import matches_glob, quote_glob
from copacetic.unpack.scripts.shell.syntax import Literal, Opaque, Part, Substitution, Variable, Word

__all__ = [
    "Scope",
    "Value",
    "Variables",
    "expand_fields",
    "expand_pattern",
    "expand_value",
    "has_pattern",
    "is_unquoted",
    "matches_pattern",
]

Value = str | None
_ENVIRONMENT = frozenset(
    (
        *("PATH", "HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TMPDIR"),
        *("HOSTNAME", "UID", "EUID", "PPID", "RANDOM", "COLUMNS", "LINES", "DISPLAY", "SUDO_USER", "SUDO_UID"),
        *("APT_CONFIG", "DEBIAN_HAS_FRONTEND", "DEBIAN_PRIORITY", "PERL_BADLANG", "BASH", "BASH_VERSION"),
    )
)
"""Names that a real run's environment, or the shell, may have set."""
_CHOICES: Mapping[str, str] = {op: op[-1] for op in (":-", ":=", ":?", ":+", "-", "=", "?", "+")}


class Variables:
    """What a script's variables hold; when others may have set some, a name that isn't there is unknown too."""

    __slots__ = ("_others", "_values")

    def __init__(self, values: Mapping[str, Value], *, others: bool = False) -> None:
        self._values = dict(values)
        self._others = others

    def copy(self) -> Variables:
        return Variables(self._values, others=self._others)

    def find(self, name: str) -> tuple[bool, Value]:
        """Return whether a variable is set, and its value; an unknown one counts as set."""
        if name in self._values:
            return True, self._values[name]
        if self._others or name in _ENVIRONMENT or name.startswith(("DPKG_", "LC_", "DEBCONF_")):
            return True, None
        return False, ""

    def assign(self, name: str, value: Value) -> None:
        self._values[name] = value

    def unset(self, name: str) -> None:
        """Take a variable away."""
        self._values.pop(name, None)

    def forget(self, names: Iterable[str]) -> None:
        """Take these for unknown."""
        self._values.update(dict.fromkeys(names))

    def forget_all(self) -> None:
        """Take everything for unknown: something else may have set it."""
        self._values.clear()
        self._others = True

    def merge(self, other: Variables) -> None:
        """Keep what both agree on; the rest becomes unknown."""
        for name in self._values.keys() | other._values.keys():
            if self.find(name) != other.find(name):
                self._values[name] = None
        self._others = self._others or other._others


class Scope:
    """The variables and positional parameters that an expansion sees; None for parameters that aren't known."""

    __slots__ = ("arguments", "variables")

    def __init__(self, variables: Variables, arguments: tuple[Value, ...] | None) -> None:
        self.variables = variables
        self.arguments = arguments

    def find(self, name: str) -> tuple[bool, Value]:
        """Return whether a parameter is set, and its value; an unknown one counts as set."""
        arguments = self.arguments
        if name in ("?", "$", "!", "-", "0") or (arguments is None and (name in "@*#" or name.isdigit())):
            return True, None
        if arguments is None or not (name in "@*#" or name.isdigit()):
            return self.variables.find(name)
        if name == "#":
            return True, str(len(arguments))
        if name.isdigit():
            position = int(name)
            return (True, arguments[position - 1]) if position <= len(arguments) else (False, "")
        known = [value for value in arguments if value is not None]
        return bool(arguments), " ".join(known) if len(known) == len(arguments) else None


Run = Callable[[Substitution], Value]
"""Called with each substitution on the way; returns its output."""


def expand_value(word: Word, scope: Scope, run: Run) -> Value:
    """Expand a word that is not split: an assigned value, a `case` subject, a redirection's target."""
    values = [_value(part, scope, run) for part in word.parts]
    return None if any(value is None for value in values) else "".join(value or "" for value in values)


def expand_fields(word: Word, scope: Scope, run: Run) -> list[Value]:
    """Expand a command's word. What is unknown and unquoted is taken for one unknown field."""
    fields: list[Value] = []
    current: Value = ""
    started = False
    for part in word.parts:
        if isinstance(part, Variable) and part.name == "@" and part.quoted and not part.operator:
            arguments = list(scope.arguments) if scope.arguments is not None else [None]
            if arguments:
                head = arguments[0]
                current = None if current is None or head is None else current + head
                fields += [current, *arguments[1:]]
                current = fields.pop()
                started = True
            continue
        value = _value(part, scope, run)
        if value and not isinstance(part, Literal) and not part.quoted and scope.variables.find("IFS")[0]:
            value = None  # it is split in a way that isn't followed
        if isinstance(part, Literal) or part.quoted or value is None:
            current = None if current is None or value is None else current + value
            started = True
            continue
        pieces = value.split()
        if value[:1].isspace() and started:
            fields.append(current)
            current, started = "", False
        for index, piece in enumerate(pieces):
            if index:
                fields.append(current)
                current = ""
            current = None if current is None else current + piece
            started = True
        if pieces and value[-1:].isspace():
            fields.append(current)
            current, started = "", False
    return [*fields, current] if started else fields


def expand_pattern(word: Word, scope: Scope, run: Run) -> Value:
    """Expand a `case` pattern to one for `matches_pattern`, in which quoted characters stand for themselves."""
    result = ""
    for part in word.parts:
        value = _value(part, scope, run)
        if value is None or (not part.quoted and "[^" in value):  # dash takes the ^ for a character, others negate
            return None
        result += quote_glob(value) if part.quoted else value
    return result


def has_pattern(value: str) -> bool:
    """Tell whether a field would be expanded to path names."""
    return any(char in value for char in "*?[")


def is_unquoted(word: Word) -> bool:
    """Tell whether nothing in a word is quoted, so that patterns in it are expanded to path names."""
    return not any(part.quoted for part in word.parts)


def matches_pattern(value: str, pattern: str) -> bool:
    """Match as `case` does."""
    return matches_glob(value, pattern)


def _value(part: Part, scope: Scope, run: Run) -> Value:
    if isinstance(part, Literal):
        return part.text
    if isinstance(part, Opaque):
        return None
    if isinstance(part, Substitution):
        return run(part)
    return _parameter(part, scope, run)


def _parameter(part: Variable, scope: Scope, run: Run) -> Value:
    known, value = scope.find(part.name)
    operator = part.operator
    expand = expand_value if operator in _CHOICES else expand_pattern
    argument = None if part.argument is None else expand(part.argument, scope, run)
    if operator in _CHOICES:
        return _choose(part, known=known, value=value, argument=argument, scope=scope)
    if value is None or not operator:
        return value
    if operator == "#length":
        return str(len(value))
    return None if argument is None else _trim(value, operator, argument)


def _choose(part: Variable, *, known: bool, value: Value, argument: Value, scope: Scope) -> Value:
    """Expand `${name:-word}` and its kin."""
    if known and value is None and part.operator.startswith(":"):
        return None
    present = known and (value != "" or not part.operator.startswith(":"))
    kind = _CHOICES[part.operator]
    if kind == "+":
        return argument if present else ""
    if present:
        return value
    if kind == "=":
        scope.variables.assign(part.name, argument)
    return None if kind == "?" else argument


def _trim(value: str, operator: str, pattern: str) -> Value:
    """Remove a prefix (`#`, `##`) or suffix (`%`, `%%`) that matches the pattern."""
    lengths = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for length in lengths:
        if operator[0] == "#" and matches_glob(value[:length], pattern):
            return value[length:]
        if operator[0] == "%" and matches_glob(value[len(value) - length :], pattern):
            return value[: len(value) - length]
    return value
