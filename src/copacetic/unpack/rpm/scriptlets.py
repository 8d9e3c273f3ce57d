# SPDX-License-Identifier: Apache-2.0
"""
The scripts of a package as its header has them, and what others do when it comes or goes: triggers.

A script is turned into one for the shell, which the engine follows: a program without a text is a script of one
command, and Lua is rewritten where its form is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from copacetic.errors import PackageError
from copacetic.rpm import RpmHeader, tags
from copacetic.rpm.dependency import EQUAL, GREATER, LESS, RpmDependency, RpmDependencyError, make_requirement
from copacetic.unpack.rpm.lua import rewrite_lua
from copacetic.unpack.rpm.scripts import PROGRAMS

__all__ = [
    "CRITICAL",
    "LUA",
    "Scriptlet",
    "Trigger",
    "all_scripts",
    "has_trigger",
    "read_scriptlet",
    "read_triggers",
    "require_triggers",
    "shell_text",
    "trigger_kinds",
]

LUA = "<lua>"
CRITICAL = frozenset(("pre", "preun", "pretrans", "preuntrans"))
"""Scripts without whose success rpm does nothing to a package."""
_TAGS: Mapping[str, tuple[int, int, int]] = {
    "pre": (tags.PREIN, tags.PREIN_PROGRAM, tags.PREIN_FLAGS),
    "post": (tags.POSTIN, tags.POSTIN_PROGRAM, tags.POSTIN_FLAGS),
    "preun": (tags.PREUN, tags.PREUN_PROGRAM, tags.PREUN_FLAGS),
    "postun": (tags.POSTUN, tags.POSTUN_PROGRAM, tags.POSTUN_FLAGS),
    "pretrans": (tags.PRETRANS, tags.PRETRANS_PROGRAM, tags.PRETRANS_FLAGS),
    "posttrans": (tags.POSTTRANS, tags.POSTTRANS_PROGRAM, tags.POSTTRANS_FLAGS),
    "preuntrans": (tags.PREUNTRANS, tags.PREUNTRANS_PROGRAM, tags.PREUNTRANS_FLAGS),
    "postuntrans": (tags.POSTUNTRANS, tags.POSTUNTRANS_PROGRAM, tags.POSTUNTRANS_FLAGS),
}
_PACKAGE = (
    *(tags.TRIGGER_NAMES, tags.TRIGGER_VERSIONS, tags.TRIGGER_FLAGS, tags.TRIGGER_INDEXES),
    *(tags.TRIGGER_SCRIPTS, tags.TRIGGER_PROGRAMS, tags.TRIGGER_SCRIPT_FLAGS, 0),
)
_FILE = (
    *(tags.FILE_TRIGGER_NAMES, tags.FILE_TRIGGER_VERSIONS, tags.FILE_TRIGGER_FLAGS, tags.FILE_TRIGGER_INDEXES),
    *(tags.FILE_TRIGGER_SCRIPTS, tags.FILE_TRIGGER_PROGRAMS, tags.FILE_TRIGGER_SCRIPT_FLAGS),
    tags.FILE_TRIGGER_PRIORITIES,
)
_TRANSACTION = (
    *(tags.TRANSACTION_FILE_TRIGGER_NAMES, tags.TRANSACTION_FILE_TRIGGER_VERSIONS),
    *(tags.TRANSACTION_FILE_TRIGGER_FLAGS, tags.TRANSACTION_FILE_TRIGGER_INDEXES),
    *(tags.TRANSACTION_FILE_TRIGGER_SCRIPTS, tags.TRANSACTION_FILE_TRIGGER_PROGRAMS),
    *(tags.TRANSACTION_FILE_TRIGGER_SCRIPT_FLAGS, tags.TRANSACTION_FILE_TRIGGER_PRIORITIES),
)
_KINDS = {"": _PACKAGE, "file": _FILE, "transfile": _TRANSACTION}
_EVENTS: Mapping[str, int] = {"in": 1 << 16, "un": 1 << 17, "postun": 1 << 18, "prein": 1 << 25}
_EXPANDED = 0b11
"""Flags of a script in which rpm expands macros, or the header's values."""
_MAX_TRIGGERS = 10_000
_EARLY = 10_000
"""The least priority with which a trigger is run before the scripts of the package that sets it off."""


class Scriptlet(Struct, frozen=True):
    """One script."""

    name: str
    """As spec files have it, without the percent sign: post, triggerin, transfiletriggerin, …"""
    program: tuple[str, ...]
    body: str
    expanded: bool = False


class Trigger(Struct, frozen=True):
    """A script that other packages set off, by their name or by their files."""

    scriptlet: Scriptlet
    conditions: tuple[tuple[str, int, str], ...]
    """Any of them: a package's name with a range of versions, or a path's beginning."""
    is_early: bool = False
    """Of one that files set off: it is run before the moving package's own script, and not after it."""

    def hears_package(self, name: str, evr: str) -> bool:
        """Tell whether a package sets it off."""
        return any(_meets(condition, evr) for condition in self.conditions if condition[0] == name)

    def hears_files(self, paths: Sequence[str]) -> bool:
        """Tell whether one of these paths, without the leading slash, sets it off."""
        prefixes = tuple(name.removeprefix("/") for name, _, _ in self.conditions)
        return any(path.startswith(prefixes) for path in paths)


def read_scriptlet(header: RpmHeader, name: str) -> Scriptlet | None:
    """Return a header's script; None where it has none."""
    body, program, flags = _TAGS[name]
    if body not in header and program not in header:
        return None
    words = header.texts(program) or ("/bin/sh",)
    return Scriptlet(name, words, header.text(body), _is_expanded(header.number(flags) or 0, header.text(body)))


def read_triggers(header: RpmHeader, kind: str, event: str) -> Iterator[Trigger]:
    """
    Yield a header's triggers of a kind ("": by packages, `file`, `transfile`) that an event sets off: `in`, `un`,
    `postun`, `prein`. Raises `PackageError` for lists that don't fit each other.
    """
    names, versions, flags, indexes, scripts, programs, expansions, priorities = _KINDS[kind]
    bodies = header.texts(scripts)
    if not bodies:
        return
    count = header.count(names)
    columns = [header.texts(names), header.texts(versions) or ("",) * count]
    senses, places = header.numbers(flags), header.numbers(indexes)
    fits = len(columns[1]) == len(senses) == len(places) == count and max(places, default=0) < len(bodies)
    if count > _MAX_TRIGGERS or not fits:
        raise PackageError(f"{header.text(tags.NAME)}: the triggers in its header don't fit each other")
    interpreters = header.texts(programs)
    expanded, ranks = header.numbers(expansions), header.numbers(priorities)
    heard: dict[int, list[tuple[str, int, str]]] = {}
    for name, version, sense, place in zip(*columns, senses, places, strict=True):
        if sense & _EVENTS[event]:
            heard.setdefault(place, []).append((name, sense & (LESS | GREATER | EQUAL), version))
    for place, conditions in sorted(heard.items()):
        body = bodies[place]
        program = interpreters[place] if place < len(interpreters) else "/bin/sh"
        flag = expanded[place] if place < len(expanded) else 0
        scriptlet = Scriptlet(f"{kind}trigger{event}", (program,), body, _is_expanded(flag, body))
        rank = ranks[place] if place < len(ranks) else _EARLY
        yield Trigger(scriptlet, tuple(conditions), rank >= _EARLY)


def trigger_kinds(header: RpmHeader) -> frozenset[str]:
    """Return the kinds of triggers that a header has."""
    return frozenset(kind for kind, found in _KINDS.items() if found[4] in header)


def require_triggers(header: RpmHeader) -> None:
    """Raise `PackageError` for a package with triggers that `read_triggers` refuses, whatever would set them off."""
    for kind in _KINDS:
        next(read_triggers(header, kind, "in"), None)


def has_trigger(header: RpmHeader, trigger: Trigger) -> bool:
    """Tell whether a header has a trigger's script among its own of the same kind."""
    kind = trigger.scriptlet.name.partition("trigger")[0]
    return trigger.scriptlet.body in header.texts(_KINDS[kind][4])


def shell_text(scriptlet: Scriptlet, shell: str) -> str | None:
    """
    Return a script as one for the shell, which is called `shell` where the distribution's own is asked for; None for
    one that can't be told.
    """
    program = scriptlet.program
    known = PROGRAMS.get(program[0].rpartition("/")[2].partition(".")[0])
    if known is not None and not scriptlet.body:
        return f"#!{shell}\n{known}"
    if program[0] == LUA:
        commands = rewrite_lua(scriptlet.body)
        return None if commands is None else f"#!{shell}\n{commands}"
    if scriptlet.body:
        first = shell if program[0] in ("/bin/sh", "/usr/bin/sh") else program[0]
        return f"#!{' '.join((first, *program[1:]))}\n{scriptlet.body}"
    return f"#!{shell}\n{' '.join(program)}\n" if all(map(_is_word, program)) else None


def _is_word(word: str) -> bool:
    return bool(word) and all(char.isalnum() or char in "/._-+=" for char in word)


def _is_expanded(flags: int, body: str) -> bool:
    return bool(flags & _EXPANDED) and "%" in body


def _meets(condition: tuple[str, int, str], evr: str) -> bool:
    """Tell whether a version is in a trigger's range; a range that can't be read takes in every version."""
    name, sense, version = condition
    if not sense or not version:
        return True
    try:
        wanted, present = make_requirement(name, sense, version), make_requirement(name, EQUAL, evr)
    except RpmDependencyError:
        return True
    return not isinstance(wanted, RpmDependency) or not isinstance(present, RpmDependency) or wanted.matches(present)


def all_scripts(header: RpmHeader) -> str:
    """Return the text of all scripts and triggers that a header has; empty for one without any."""
    bodies = [header.text(body) for body, _, _ in _TAGS.values()]
    triggers = [text for kind in _KINDS.values() for text in header.texts(kind[4])]
    return "\n".join(filter(None, (*bodies, *triggers)))
