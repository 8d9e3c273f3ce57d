# SPDX-License-Identifier: Apache-2.0
"""
What `test`, `[` and `[[` answer, as far as it is known (POSIX.1-2017 volume 3, test).

Every answer is True, False, or None for one that depends on what isn't known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from copacetic.scripts.shell.expansion import Value

__all__ = ["evaluate_test", "is_evaluating"]

FileTest = Callable[[str, str], bool | None]

_NUMERIC: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}
_NUMBER = re.compile("[-+]?(0|[1-9][0-9]{0,17})")
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*|[-+]?[0-9]*")
_CONFUSING = frozenset(("!", "(", ")", "-a", "-o"))
_FILE = frozenset("-" + letter for letter in "abcdefghkprsuwxGLNOS")


def evaluate_test(words: Sequence[Value], file_test: FileTest) -> bool | None:
    """Evaluate a condition's words, without the brackets."""
    if "-o" in words[1:] or "-a" in words[1:]:
        # With few words, or some of them like operators, shells don't agree on what connects what.
        unclear = len(words) < 5 and any(word in _CONFUSING for word in (*words[:1], *words[2:3]))
        return None if unclear else _connected(words, file_test)
    if words and words[0] == "!":
        answer = evaluate_test(words[1:], file_test)
        return None if answer is None else not answer
    if len(words) == 0:
        return False
    if len(words) == 1:
        return None if words[0] is None else words[0] != ""
    if len(words) == 2:
        return _unary(words[0], words[1], file_test)
    if len(words) == 3:
        return _binary(words[0], words[1], words[2])
    return None


def _connected(words: Sequence[Value], file_test: FileTest) -> bool | None:
    """Evaluate conditions joined by `-a` and `-o`, of which the former binds tighter."""
    if any(word in ("(", ")", "&&", "||") for word in words):
        return None
    answers: list[bool | None] = []
    for alternative in _split(words, "-o"):
        parts = [evaluate_test(part, file_test) if part else None for part in _split(alternative, "-a")]
        answers.append(False if False in parts else None if None in parts else True)
    return True if True in answers else None if None in answers else False


def _split(words: Sequence[Value], separator: str) -> list[list[Value]]:
    parts: list[list[Value]] = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _unary(operator: Value, operand: Value, file_test: FileTest) -> bool | None:
    if operand is None or operator is None:
        return None
    if operator == "-n":
        return operand != ""
    if operator == "-z":
        return operand == ""
    if operator not in _FILE:
        return None
    return file_test(operator, operand) if operand else False


def _binary(left: Value, operator: Value, right: Value) -> bool | None:
    if left is None or right is None or operator is None:
        return None
    if operator in ("=", "!="):  # dash has no ==
        if any(char in right for char in "*?["):
            return None
        return (left == right) == (operator != "!=")
    compare = _NUMERIC.get(operator)
    if compare is None:
        return None
    if not (_NUMBER.fullmatch(left) and _NUMBER.fullmatch(right)):
        return None if any(char.isdigit() for char in left + right) else False
    return compare(int(left), int(right))


def is_evaluating(words: Sequence[Value], *, arithmetic: bool, bash: bool) -> bool:
    """Tell whether bash might find commands in a condition's words: in subscripts, and in what it reads as numbers."""
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if word in ("-v", "-R") and (following is None or _PLAIN.fullmatch(following) is None):
            return True
        if arithmetic and word in _NUMERIC:
            around = (words[index - 1] if index else "", following)
            if any(bash if value is None else not re.fullmatch("[-+]?[0-9]*", value) for value in around):
                return True
    return False
