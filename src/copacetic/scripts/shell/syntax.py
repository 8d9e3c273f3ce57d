# SPDX-License-Identifier: Apache-2.0
"""
The shell command language as values: what `parser` makes of a script and `interpret` walks over.

Follows POSIX.1-2017 volume 3 chapter 2. A tree holds no positions but the lines of simple commands, and is never run.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class ShellSyntaxError(ValueError):
    """The text is not in the part of the language that is understood."""


class Effort:
    """
    What reading or following one script may still cost. All that is made, copied or gone through for it is paid for:
    loops, calls, traps and values that double make much of a script that is small.
    """

    __slots__ = ("_left",)

    def __init__(self, amount: int) -> None:
        self._left = amount

    def spend(self, amount: int) -> None:
        """Pay for something, best before it is made; raises `ShellSyntaxError` when it is too much."""
        self._left -= amount
        if self._left < 0:
            raise ShellSyntaxError("it takes too much to follow")


class Literal(Struct, frozen=True):
    """Characters as they are."""

    text: str
    quoted: bool = False


class Variable(Struct, frozen=True):
    """A parameter expansion; `operator` is `:-`, `##`, `#length`, … or empty."""

    name: str
    operator: str = ""
    argument: Word | None = None
    quoted: bool = False


class Substitution(Struct, frozen=True):
    """The output of commands."""

    body: tuple[Node, ...]
    quoted: bool = False


class Opaque(Struct, frozen=True):
    """A value that is not modelled, such as arithmetic; what is expanded on the way to it is."""

    quoted: bool = False
    parts: tuple[Part, ...] = ()
    """Expansions inside; their commands are run."""
    numbers: tuple[str, ...] = ()
    """Variables whose values are read as arithmetic, in which bash may find commands again."""
    assigned: tuple[str, ...] = ()
    unsafe: bool = False
    """A value may be expanded once more, and run commands then."""


Part = Literal | Variable | Substitution | Opaque


class Word(Struct, frozen=True):
    """Parts that expand to zero or more fields."""

    parts: tuple[Part, ...]


class Redirect(Struct, frozen=True):
    """`operator` as written, without the descriptor; `target` is a here-document's content for `<<`."""

    operator: str
    target: Word
    descriptor: str = ""


class Simple(Struct, frozen=True):
    """A command with its words."""

    line: int
    assignments: tuple[tuple[str, Word], ...] = ()
    words: tuple[Word, ...] = ()
    redirects: tuple[Redirect, ...] = ()


class Pipeline(Struct, frozen=True):
    """Commands whose output feeds the next one."""

    commands: tuple[Node, ...]
    negated: bool = False


class AndOr(Struct, frozen=True):
    """A command, then others that depend on success (`&&`) or failure (`||`)."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


class If(Struct, frozen=True):
    """Conditions with their bodies; the last resort is `orelse`."""

    branches: tuple[tuple[tuple[Node, ...], tuple[Node, ...]], ...]
    orelse: tuple[Node, ...]


class For(Struct, frozen=True):
    """A loop over words, or over the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: tuple[Node, ...]


class While(Struct, frozen=True):
    """A `while` or `until` loop."""

    condition: tuple[Node, ...]
    body: tuple[Node, ...]
    until: bool = False


class Case(Struct, frozen=True):
    """Bodies behind patterns."""

    word: Word
    arms: tuple[tuple[tuple[Word, ...], tuple[Node, ...]], ...]


class Function(Struct, frozen=True):
    """A definition."""

    name: str
    body: Node


class Group(Struct, frozen=True):
    """`{ }` or `( )`, or any compound command with redirections; in the background, nobody waits for its status."""

    body: tuple[Node, ...]
    redirects: tuple[Redirect, ...] = ()
    subshell: bool = False
    line: int = 0
    background: bool = False


Node = Simple | Pipeline | AndOr | If | For | While | Case | Function | Group

_DECLARES = frozenset(("export", "readonly", "local", "declare", "typeset", "read", "getopts", "unset", "printf"))


class AssignedNames:
    """What commands may set and define; the answers are kept by the first node, which stays alive with them."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[tuple[Node, ...], frozenset[str], tuple[Function, ...]]] = {}

    def find(self, nodes: tuple[Node, ...]) -> tuple[frozenset[str], tuple[Function, ...]]:
        """
        Return the variables that these commands may set, with the names of all commands among them, and the functions
        that they define: a function sets more, and `.`, `eval`, `set` and `shift` set what can't be told from here.
        """
        key = (id(nodes[0]) if nodes else 0, len(nodes))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (nodes, *_find_assigned(nodes))
        return found[1:]


def _find_assigned(nodes: tuple[Node, ...]) -> tuple[frozenset[str], tuple[Function, ...]]:
    names: set[str] = set()
    functions: list[Function] = []
    for node in _walk(nodes):
        match node:
            case For():
                names.add(node.name)
            case Opaque():
                names.update(node.assigned)
            case Variable():
                if node.operator in ("=", ":="):
                    names.add(node.name)
            case Function():
                functions.append(node)
            case Simple():
                names.update(name for name, _ in node.assignments)
                words = [_plain(word) for word in node.words]
                names.update(words[:1])
                if words and words[0] in _DECLARES:
                    names.update(word.partition("=")[0] for word in words[1:])
                if words and words[0].startswith("db_"):
                    names.add("RET")
    return frozenset(names), tuple(functions)


def sole_command(nodes: tuple[Node, ...]) -> str | None:
    """Return the name of the only command, which `|| true` may follow; None for anything else."""
    node = nodes[0] if len(nodes) == 1 else None
    if isinstance(node, AndOr) and all(
        operator == "||" and sole_command((other,)) in ("true", ":") for operator, other in node.rest
    ):
        node = node.first
    if isinstance(node, Pipeline) and len(node.commands) == 1:
        node = node.commands[0]
    return _plain(node.words[0]) if isinstance(node, Simple) and node.words else None


def _plain(word: Word) -> str:
    return "".join(part.text for part in word.parts if isinstance(part, Literal))


_FIELDS: Mapping[type, tuple[str, ...]] = {
    kind: kind.__struct_fields__
    for kind in (
        *(Variable, Substitution, Opaque, Word, Redirect, Simple, Pipeline, AndOr, If, For, While, Case),
        *(Function, Group),
    )
}


def _walk(tree: object) -> list[object]:
    """Return every value in the tree but literals."""
    found: list[object] = []
    stack: list[object] = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, tuple):
            stack.extend(value)
            continue
        names = _FIELDS.get(type(value))
        if names is not None:
            found.append(value)
            stack.extend(getattr(value, name) for name in names)
    return found
