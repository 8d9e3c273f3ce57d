# SPDX-License-Identifier: Apache-2.0
"""
Programs that read and print, as long as nothing among their words makes them write or run something.

Programs for sed and awk, and find's expressions, are little languages: what isn't known to be harmless in them isn't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from copacetic.scripts.options import READERS, Parsed, parse_options
from copacetic.scripts.shell.expansion import Value

__all__ = ["Commands", "find_commands", "only_reads"]

_AWK = frozenset(("awk", "gawk", "mawk", "original-awk"))
_SQUEEZERS = frozenset(("gunzip", "gzip", "bzip2", "xz", "zstd"))
_TO_OUTPUT = ("-c", "-l", "-t", "--stdout", "--to-stdout", "--list", "--test")
_AWK_DANGER = re.compile(r"\||getline|system|@|\binplace\b")
_SED_PLAIN = re.compile(r"[dDgGhHnNpPxzF=](?=[ \t]*(?:[;\n}#]|\Z))|[qQlL][ \t]*[0-9]*(?=[ \t]*(?:[;\n}#]|\Z))")
_SED_ADDRESS = re.compile(r"(?:[0-9]+|\$)(?:~[0-9]+)?|[+~][0-9]+")
_SED_FLAGS = re.compile(r"[gpiImM0-9]*(?=[ \t]*(?:[;\n}#]|\Z))")
_SED_LABEL = re.compile(r"[btT][ \t]*[A-Za-z0-9_]*(?=[ \t]*(?:[;\n}]|\Z))|:[ \t]*[A-Za-z0-9_]+[ \t]*(?=[;\n]|\Z)")
_SED_LINE = re.compile(r"[aicrR](?:\\\n|\\)?(?:[^\\\n]|\\.)*", re.DOTALL)


def only_reads(name: str, words: Sequence[Value]) -> bool:
    """Tell whether a program of `READERS` writes nothing but its output."""
    grammar = READERS["awk" if name in _AWK else name]
    # What follows awk's program is never an option, and neither is what follows a template's.
    parsed = parse_options(words[1:], grammar, permuted=name not in _AWK)
    if parsed is None:
        return False
    if name in _AWK:
        return bool(parsed.operands) and _is_plain_awk(parsed.operands[0])
    if name == "sed":
        scripts = parsed.values("-e", "--expression") or list(parsed.operands[:1])
        return all(script is not None and _is_plain_sed(script) for script in scripts)
    if name == "uniq":
        return len(parsed.operands) < 2
    if name == "date":
        return all(operand is not None and operand.startswith("+") for operand in parsed.operands)
    if name in ("hostname", "tempfile", "hash"):
        return not parsed.operands
    if name in _SQUEEZERS:
        return not parsed.operands or parsed.has(*_TO_OUTPUT)
    return _makes_temporary(parsed) if name == "mktemp" else True


def _makes_temporary(parsed: Parsed) -> bool:
    """Tell whether mktemp makes something only where temporary files are."""
    if parsed.has("-u", "--dry-run"):
        return True
    places = [value or "/tmp" for value in parsed.values("-p", "--tmpdir")]
    named = bool(places) or parsed.has("-t")
    places += [operand or "" for operand in parsed.operands if not named or "/" in (operand or "/")]
    return all(f"{place}/".startswith("/tmp/") and ".." not in place for place in places)


def _is_plain_awk(program: Value) -> bool:
    if program is None:
        return False
    plain = program.replace("||", " ").replace(">=", " ")
    return _AWK_DANGER.search(plain) is None and not (">" in plain and "print" in plain)


def _is_plain_sed(script: str) -> bool:
    """Go through a sed script as far as its commands are known to write nothing but the output."""
    position = 0
    while position < len(script):
        char = script[position]
        if char in " \t\n;{}!,":
            position += 1
            continue
        if char == "#" and position:
            position = script.find("\n", position) % (len(script) + 1)
            continue
        end = _sed_command(script, position)
        if end is None:
            return False
        position = end
    return True


def _sed_command(script: str, position: int) -> int | None:
    """Return where an address or a command ends."""
    for pattern in (_SED_ADDRESS, _SED_PLAIN, _SED_LABEL, _SED_LINE):
        match = pattern.match(script, position)
        if match is not None:
            return match.end()
    char = script[position]
    if char == "/":
        end = _delimited(script, position + 1, "/")
        return None if end is None else _skip(script, end, "IM")
    if char == "\\" and position + 1 < len(script):
        end = _delimited(script, position + 2, script[position + 1])
        return None if end is None else _skip(script, end, "IM")
    if char not in "sy" or position + 1 >= len(script):
        return None
    delimiter = script[position + 1]
    middle = _delimited(script, position + 2, delimiter)
    end = None if middle is None else _delimited(script, middle, delimiter)
    flags = None if end is None else _SED_FLAGS.match(script, end)
    return None if flags is None else flags.end()


def _skip(script: str, position: int, letters: str) -> int:
    while script[position : position + 1] in letters and position < len(script):
        position += 1
    return position


def _delimited(script: str, position: int, delimiter: str) -> int | None:
    """Return what follows the next delimiter; programs disagree about one in brackets, which is no answer."""
    start = position
    while position < len(script):
        if script[position] == "\\":
            position += 2
            continue
        if script[position] == delimiter:
            inside = re.sub(r"\\.", "", script[start:position], flags=re.DOTALL)
            return position + 1 if inside.count("[") <= inside.count("]") else None
        position += 1
    return None


Commands = tuple[tuple[Value, ...], ...]
_FIND_PLAIN = frozenset(
    (
        *("-H", "-L", "-P", "-depth", "-d", "-xdev", "-mount", "-follow", "-daystart", "-noleaf", "-empty", "-nouser"),
        *("-nogroup", "-readable", "-writable", "-executable", "-prune", "-print", "-print0", "-ls", "-quit", "-true"),
        *("-false", "-ignore_readdir_race", "-o", "-or", "-a", "-and", "-not", "!", "(", ")", ","),
    )
)
_FIND_VALUED = re.compile(
    "-(maxdepth|mindepth|i?name|i?path|i?wholename|i?regex|regextype|x?type|user|group|uid|gid|perm|size|newer..|newer"
    "|[acm]newer|[acm]time|[acm]min|links|i?lname|samefile|inum|printf|fstype|context|used)"
)
_FIND_RUNS: Mapping[str, bool] = {"-exec": True, "-execdir": True, "-ok": True, "-okdir": True}


def find_commands(words: Sequence[Value]) -> Commands | None:
    """Return the commands that a `find` runs; None when its expression isn't known, or changes something itself."""
    found: list[tuple[Value, ...]] = []
    rest = list(words[1:])
    started = False
    while rest:
        word = rest.pop(0)
        if word is None:
            return None
        if word in _FIND_RUNS:
            ends = [
                index for index, value in enumerate(rest) if value == ";" or (value == "+" and rest[index - 1] == "{}")
            ]
            if not ends:
                return None
            found.append(tuple(None if value is None or "{}" in value else value for value in rest[: ends[0]]))
            rest = rest[ends[0] + 1 :]
        elif _FIND_VALUED.fullmatch(word):
            if not rest or rest.pop(0) is None:
                return None
        elif word not in _FIND_PLAIN and (started or word.startswith("-")):
            return None
        started = started or (word.startswith("-") and word not in ("-H", "-L", "-P")) or word in ("!", "(")
    return tuple(found)
