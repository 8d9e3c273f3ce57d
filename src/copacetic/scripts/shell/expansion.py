# SPDX-License-Identifier: Apache-2.0
"""
Words to fields, as far as their values are known (POSIX.1-2017 volume 3, 2.6).

A value is a `str`, or None when it is not known. Field splitting happens on blanks; path names are not expanded,
so a pattern stays in a field as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from copacetic.glob import matches_glob, quote_glob
from copacetic.scripts.shell.syntax import Effort, Literal, Opaque, Part, Substitution, Variable, Word

__all__ = [
    "ITEM",
    "PROGRAM_PATH",
    "Journal",
    "Scope",
    "Value",
    "Variables",
    "expand_fields",
    "expand_pattern",
    "expand_value",
    "has_pattern",
    "is_pattern",
    "is_steering",
    "matches_pattern",
]

Value = str | None
EFFORT = 4_000_000
"""In characters that are written once more; six times what the longest scripts of distributions take."""
ITEM = 4
"""What a field, a variable or a definition costs wherever it is copied or looked at."""
PATTERN = 8
"""What a character of a pattern costs."""
BLANKS = " \t\n"
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = frozenset(
    (
        *("_", "OPTARG", "OPTIND", "OPTERR", "LINENO", "SECONDS", "FUNCNAME", "PIPESTATUS", "REPLY", "SHELLOPTS"),
        *("SHLVL", "PS1", "PS2", "PS4", "GROUPS", "DIRSTACK", "HOSTTYPE", "MACHTYPE", "OSTYPE", "BASHOPTS", "BASHPID"),
        *("EPOCHSECONDS", "EPOCHREALTIME", "SRANDOM", "HISTCMD", "MAIL", "MAILCHECK", "MAILPATH"),
        *("PATH", "HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TMPDIR"),
        *("HOSTNAME", "UID", "EUID", "PPID", "RANDOM", "COLUMNS", "LINES", "DISPLAY", "SUDO_USER", "SUDO_UID"),
        *("APT_CONFIG", "DEBIAN_HAS_FRONTEND", "DEBIAN_PRIORITY", "PERL_BADLANG", "BASH", "BASH_VERSION"),
    )
)
"""Names that a real run's environment, or the shell, may have set."""
_STEERING = re.compile(
    "PATH|ENV|PS4|LD_.*|BASH_.*|BASHOPTS|SHELLOPTS|PROMPT_COMMAND|CDPATH|GLOBIGNORE|EXECIGNORE|POSIXLY_CORRECT"
    "|PERL5?(OPT|LIB|DB)|PERL5DB_.*|PERLIO.*|PYTHON(PATH|HOME|STARTUP|BREAKPOINT|PLATLIBDIR|INSPECT|WARNINGS)"
    "|RUBY(OPT|LIB)|NODE_OPTIONS|NODE_PATH|_?JAVA_(TOOL_)?OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|GCONV_PATH|LOCPATH"
    "|GLIBC_TUNABLES|MALLOC_.*|(TAR|GREP|XZ|ZSTD)_.*|GZIP|BZIP2?|LESSOPEN|LESSCLOSE|(MAN)?PAGER|AWK(LIB)?PATH"
    "|DPKG_(ROOT|ADMINDIR|FORCE|DATADIR|DEBUG|PAGER)|APT_CONFIG|OPENSSL_(CONF|ENGINES|MODULES)|GIT_.*|RSYNC_.*"
    "|TMPDIR|XDG_.*|DEBCONF_.*|UCF_.*|DIFF_PAGER|MANPATH"
)
"""Names of variables that make the shell or a known program do something else."""
_PLAIN_NUMBER = re.compile(r"[0-9 \t\n+*/%-]*")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)")


class Journal:
    """What happened to variables on all ways through a script, and what following it may still cost."""

    __slots__ = ("_assigned", "bash", "effort", "moment", "oddities", "readonly")

    def __init__(self, *, bash: bool = False) -> None:
        self.bash = bash
        self.effort = Effort(EFFORT)
        self.moment = 0
        """Grows whenever something is assigned to."""
        self._assigned: dict[str, int] = {}
        """When each variable was assigned to last."""
        self.readonly: set[str] = set()
        """What may not be set any more: a shell goes on with the old value, or not at all."""
        self.oddities: list[str] = []
        """What from then on may run or change something that isn't followed."""

    def assign(self, name: str) -> None:
        """Remember that a variable may have another value from now on."""
        self.moment += 1
        self._assigned[name] = self.moment

    def assigned_since(self, moment: int) -> list[str]:
        """Return what may have been assigned to after a moment."""
        self.effort.spend(ITEM * len(self._assigned))
        return [name for name, last in self._assigned.items() if last > moment]


_CHOICES: Mapping[str, str] = {op: op[-1] for op in (":-", ":=", ":?", ":+", "-", "=", "?", "+")}


class Variables:
    """What a script's variables hold; when others may have set some, a name that isn't there is unknown too."""

    __slots__ = ("_others", "_values", "journal")

    def __init__(self, values: Mapping[str, Value], journal: Journal | None = None, *, others: bool = False) -> None:
        self._values = dict(values)
        self._others = others
        self.journal = journal or Journal()

    def copy(self) -> Variables:
        self.journal.effort.spend(ITEM * (1 + len(self._values)))
        return Variables(self._values, self.journal, others=self._others)

    def find(self, name: str) -> tuple[bool, Value]:
        """Return whether a variable is set, and its value; an unknown one counts as set."""
        if name in self._values:
            return True, self._values[name]
        if name == "IFS" and not self._others:
            return True, BLANKS
        if name == "PATH" and not self._others:
            return True, PROGRAM_PATH
        if self._others or name in _ENVIRONMENT or name.startswith(("DPKG_", "LC_", "DEBCONF_")):
            return True, None
        return False, ""

    def splits_blanks(self) -> bool:
        """Tell whether fields are split as they are from the start."""
        return self.find("IFS")[1] == BLANKS

    def assign(self, name: str, value: Value) -> None:
        """Set a variable; one that steers the shell or its programs is an oddity."""
        self._values[name] = None if name in self.journal.readonly else value
        self.journal.effort.spend(ITEM + len(name))
        self.journal.assign(name)
        if not name.isidentifier() or not name.isascii():
            self.journal.oddities.append("a name that has to be expanded is assigned to")
        elif is_steering(name, value):
            self.journal.oddities.append(f"{name} is set")

    def unset(self, name: str) -> None:
        """Take a variable away."""
        self.journal.assign(name)
        if not name.isidentifier():
            self.journal.oddities.append("a name that has to be expanded is unset")
        if name in self.journal.readonly:
            self._values[name] = None
        else:
            self._values.pop(name, None)

    def forget(self, names: Iterable[str]) -> None:
        """Take these for unknown."""
        names = list(names)
        self.journal.effort.spend(ITEM * len(names))
        for name in names:
            self.journal.assign(name)
        self._values.update(dict.fromkeys(names))

    def forget_all(self) -> None:
        """Take everything for unknown: something else may have set it."""
        self.journal.effort.spend(ITEM * len(self._values))
        for name in self._values:
            self.journal.assign(name)
        self._values.clear()
        self._others = True

    def merge(self, other: Variables) -> None:
        """Keep what both agree on; the rest becomes unknown."""
        self.journal.effort.spend(ITEM * (len(self._values) + len(other._values)))
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
        if name in "@*#":
            self.variables.journal.effort.spend(ITEM * len(arguments))
        if name == "#":
            return True, None if None in arguments else str(len(arguments))
        if name.isdigit():
            position = int(name) if len(name) < 10 else len(arguments) + 1
            return (True, arguments[position - 1]) if position <= len(arguments) else (False, "")
        known = [value for value in arguments if value is not None]
        if not self.variables.splits_blanks():
            return bool(arguments), None
        return bool(arguments), " ".join(known) if len(known) == len(arguments) else None


Run = Callable[[Substitution], Value]
"""Called with each substitution on the way; returns its output."""


def expand_value(word: Word, scope: Scope, run: Run) -> Value:
    """Expand a word that is not split: an assigned value, a `case` subject, a redirection's target."""
    values = [_value(part, scope, run) for part in word.parts]
    value = None if None in values else "".join(value or "" for value in values)
    scope.variables.journal.effort.spend(ITEM * len(values) + len(value or ""))
    return value


def expand_fields(word: Word, scope: Scope, run: Run) -> list[Value]:
    """Expand a command's word. What is unknown and unquoted is taken for one unknown field."""
    effort = scope.variables.journal.effort
    if len(word.parts) == 1 and isinstance(sole := word.parts[0], Literal):
        effort.spend(ITEM + len(sole.text))
        return [None if not sole.quoted and _BRACES.search(sole.text) else sole.text]
    fields: list[Value] = []
    current: Value = ""
    started = False
    for part in word.parts:
        if isinstance(part, Variable) and part.name == "@" and part.quoted and not part.operator:
            effort.spend(ITEM * (1 + len(scope.arguments or ())) + len(current or ""))
            arguments = list(scope.arguments) if scope.arguments is not None else [None]
            if arguments:
                head = arguments[0]
                current = None if current is None or head is None else current + head
                fields += [current, *arguments[1:]]
                current = fields.pop()
                started = True
            continue
        value = _value(part, scope, run)
        effort.spend(ITEM + len(current or "") + len(value or ""))
        if value and not isinstance(part, Literal) and not part.quoted and not scope.variables.splits_blanks():
            value = None  # it is split in a way that isn't followed
        if value and not part.quoted and isinstance(part, Literal) and _BRACES.search(value):
            value = None  # bash makes several of it
        if isinstance(part, Literal) or part.quoted or value is None:
            current = None if current is None or value is None else current + value
            started = True
            continue
        pieces = _SPLIT.split(value.strip(BLANKS)) if value.strip(BLANKS) else []
        effort.spend(ITEM * len(pieces))
        if value[:1] in BLANKS and value and started:
            fields.append(current)
            current, started = "", False
        for index, piece in enumerate(pieces):
            if index:
                fields.append(current)
                current = ""
            current = None if current is None else current + piece
            started = True
        if pieces and value[-1:] in BLANKS:
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
        scope.variables.journal.effort.spend(PATTERN * len(result))
    return result


def has_pattern(value: str) -> bool:
    """Tell whether a field would be expanded to path names."""
    return any(char in value for char in "*?[")


def is_pattern(word: Word, scope: Scope) -> bool:
    """Tell whether no part of a word is quoted that has something of a pattern, so that it is one as it is written."""
    quoted = [_value(part, scope, _ignore) for part in word.parts if part.quoted]
    return not any(value is None or has_pattern(value) or "\\" in value for value in quoted)


def _ignore(_part: Substitution) -> Value:
    return None


def matches_pattern(value: str, pattern: str, effort: Effort) -> bool:
    """Match as `case` does."""
    effort.spend(len(value) * len(pattern) // 16)
    return matches_glob(value, pattern)


def _value(part: Part, scope: Scope, run: Run) -> Value:
    if isinstance(part, Literal):
        return part.text
    if isinstance(part, Opaque):
        return _opaque(part, scope, run)
    if isinstance(part, Substitution):
        return run(part)
    return _parameter(part, scope, run)


def _opaque(part: Opaque, scope: Scope, run: Run) -> Value:
    """Expand what is inside of a value that isn't known, and tell where that may do more."""
    journal = scope.variables.journal
    values = [_value(inner, scope, run) for inner in part.parts]
    if part.unsafe or (part.numbers and any(value is not None and "[" in value for value in values)):
        journal.oddities.append("an expansion of which the value may be expanded again")
    journal.effort.spend(ITEM * (len(part.numbers) + len(part.assigned)))
    for name in part.numbers:
        value = scope.find(name)[1]
        if journal.bash if value is None else _PLAIN_NUMBER.fullmatch(value) is None:
            journal.oddities.append(f"{name} is read as arithmetic, in which there may be commands")
    for name in part.assigned:
        scope.variables.assign(name, None)
    return None


def is_steering(name: str, value: Value) -> bool:
    """Tell whether a variable with this value makes the shell or a known program do something else."""
    if name == "PATH" and value is not None:
        return not set(value.rstrip(":").split(":")) <= set(PROGRAM_PATH.split(":"))
    if name == "PS4" and value is not None:
        return "$" in value or "`" in value
    return _STEERING.fullmatch(name) is not None


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
        return str(len(value)) if value.isascii() else None
    if argument is None:
        return None
    scope.variables.journal.effort.spend(len(value) * len(value) * (len(argument) + 1) // 16)
    return _trim(value, operator, argument)


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


_SPLIT = re.compile(f"[{BLANKS}]+")


def _trim(value: str, operator: str, pattern: str) -> Value:
    """Remove a prefix (`#`, `##`) or suffix (`%`, `%%`) that matches the pattern."""
    if not value.isascii() and has_pattern(pattern):
        return None  # shells match bytes or characters
    lengths = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for length in lengths:
        if operator[0] == "#" and matches_glob(value[:length], pattern):
            return value[length:]
        if operator[0] == "%" and matches_glob(value[len(value) - length :], pattern):
            return value[: len(value) - length]
    return value
