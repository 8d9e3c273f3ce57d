# SPDX-License-Identifier: Apache-2.0
"""
The lower half of the shell grammar: blanks, comments, operators, quotes, expansions and words.

Follows POSIX.1-2017 volume 3, 2.2 (quoting), 2.3 (tokens) and 2.6 (expansions, which are parsed and not performed).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right

from copacetic.scripts.shell.syntax import (
    Effort,
    Literal,
    Node,
    Opaque,
    Part,
    ShellSyntaxError,
    Substitution,
    Variable,
    Word,
)

MAX_DEPTH = 60
_RESERVED = re.compile(
    r"(if|then|elif|else|fi|for|while|until|do|done|case|esac|in|function|[{}!]|\[\[)(?=[ \t\n;&|()<>]|\\\n|\Z)"
)
_BLANK = re.compile(r"(?:[ \t]|\\\n)*")
_COMMENT = re.compile(r"#[^\n]*")
_PLAIN = re.compile(r"[^ \t\n;&|<>()'\"\\$`]+")
_PLAIN_BRACED = re.compile(r"[^}'\"\\$`]+")
_PLAIN_QUOTED = re.compile(r"[^\"\\$`]+")
_EXPANSION = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|([0-9@*#?$!-]))")
_BRACED = re.compile(r"\{(?:#([A-Za-z_][A-Za-z0-9_]*|[0-9@*])\}|([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]))")
_NAME = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNING = re.compile(r"(?<![=!<>])=(?!=)|<<=|>>=|\+\+|--")
_ANSI_QUOTED = re.compile(r"'[^'\\]*'")
_OPERATORS = (":-", ":=", ":?", ":+", "-", "=", "?", "+", "##", "#", "%%", "%")


class WordParser(ABC):
    """Reads words from the text; commands inside substitutions are the subclass's part."""

    def __init__(self, text: str, line: int, depth: int, effort: Effort, *, bash: bool) -> None:
        self.text = text
        self.bash = bash
        self.effort = effort
        self.position = 0
        self.depth = depth
        self._line = line
        self._newlines = [match.start() for match in re.finditer("\n", text)]

    @abstractmethod
    def parse_list(self, ends: frozenset[str]) -> tuple[Node, ...]:
        """Parse commands up to one of the reserved words, `)`, `;;` or the end; leaves it unread."""

    def error(self, what: str) -> ShellSyntaxError:
        return ShellSyntaxError(f"line {self.line()}: {what}")

    def enter(self) -> None:
        """Begin with something that may hold another of its kind; whoever ends it takes the depth back."""
        self.effort.spend(1)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("nested too deeply")

    def stay_on_line(self) -> None:
        """Count everything as being on the first line."""
        self._newlines = []

    def line(self) -> int:
        return self._line + bisect_right(self._newlines, self.position - 1)

    # -- words -------------------------------------------------------------------------------------------------

    def _word(self, *, blanks: bool = True) -> Word | None:
        if blanks:
            self._blanks()
        parts: list[Part] = []
        text = self.text
        while self.position < len(text):
            char = text[self.position]
            self.effort.spend(1)
            match = _PLAIN.match(text, self.position)
            if match is not None:
                parts.append(Literal(match[0]))
                self.position = match.end()
            elif char in "'\"\\$`":
                parts.extend(self._special(char, quoted=False))
            else:
                break
        return Word(tuple(parts)) if parts else None

    def _special(self, char: str, *, quoted: bool) -> list[Part]:
        """Parse what starts with a quote, a backslash or a dollar sign."""
        if char == "'":
            end = self.text.find("'", self.position + 1)
            if end < 0:
                raise self.error("unterminated quote")
            text = self.text[self.position + 1 : end]
            self.position = end + 1
            return [Literal(text, quoted=True)]
        if char == '"':
            self.position += 1
            return self.quoted(terminated=True) or [Literal("", quoted=True)]
        if char == "\\":
            escaped = self.text[self.position + 1 : self.position + 2]
            self.position += 2
            return [Literal(escaped, quoted=True)] if escaped not in ("\n", "") else []
        return [self._expansion(quoted=quoted)]

    def quoted(self, *, terminated: bool) -> list[Part]:
        """Parse the inside of double quotes, up to and with the closing one, or a whole here-document."""
        parts: list[Part] = []
        while self.position < len(self.text):
            self.effort.spend(1)
            char = self.text[self.position]
            match = _PLAIN_QUOTED.match(self.text, self.position)
            if match is not None:
                parts.append(Literal(match[0], quoted=True))
                self.position = match.end()
            elif char == '"':
                self.position += 1
                if terminated:
                    return parts
                parts.append(Literal('"', quoted=True))
            elif char == "\\":
                escaped = self.text[self.position + 1 : self.position + 2]
                kept = escaped if escaped in ("$", "`", '"', "\\") else "" if escaped == "\n" else "\\" + escaped
                parts.append(Literal(kept, quoted=True))
                self.position += 2
            else:
                parts.append(self._expansion(quoted=True))
        if terminated:
            raise self.error("unterminated quote")
        return parts

    def _expansion(self, *, quoted: bool) -> Part:
        self.enter()
        part = self._expanded(quoted=quoted)
        self.depth -= 1
        return part

    def _expanded(self, *, quoted: bool) -> Part:
        text, start = self.text, self.position
        if text[start] == "`":
            return self._backquoted(quoted=quoted)
        match = _EXPANSION.match(text, start)
        if match is not None:
            self.position = match.end()
            self._refuse_continuation()
            return Variable(match[1] or match[2], quoted=quoted)
        if text.startswith("$((", start):
            self.position = start + 3
            found = self._arithmetic("))", quoted=quoted)
            if found is not None:
                return found
        if text.startswith("$[", start):
            self.position = start + 2
            return self._arithmetic("]", quoted=quoted) or Opaque(quoted, unsafe=True)
        if text.startswith("$(", start):
            self.position = start + 2
            body = self.parse_list(frozenset())
            self._expect_char(")")
            return Substitution(body, quoted)
        if text.startswith("${", start):
            self.position = start + 1
            return self._braced(quoted=quoted)
        self.position = start + 1
        self._refuse_continuation()
        if text.startswith("'", self.position) and not quoted:
            ansi = _ANSI_QUOTED.match(text, self.position)
            if ansi is None:
                raise self.error("a quoted string with escapes")
            self.position = ansi.end()
            return Opaque(quoted)
        if text.startswith('"', self.position) and not quoted:
            return Opaque(quoted, tuple(self._special('"', quoted=False)))
        return Literal("$", quoted)

    def _refuse_continuation(self) -> None:
        if self.text.startswith("\\\n", self.position):
            raise self.error("a name that goes on in the next line")

    def _backquoted(self, *, quoted: bool) -> Part:
        match = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL).match(self.text, self.position)
        if match is None:
            raise self.error("unterminated backquote")
        inner = type(self)(re.sub(r"\\([`\\$])", r"\1", match[1]), self.line(), self.depth, self.effort, bash=self.bash)
        self.position = match.end()
        body = inner.parse_list(frozenset())
        if inner.position < len(inner.text):
            raise self.error("unexpected text in backquotes")
        return Substitution(body, quoted)

    def _arithmetic(self, end: str, *, quoted: bool) -> Opaque | None:
        """Parse an arithmetic expression up to and with its end; None, with nothing read, where it isn't one."""
        start, depth, opening = self.position, 0, "(" if end == "))" else "["
        parts: list[Part] = []
        plain: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            if char in "$`":
                parts.append(self._expansion(quoted=True))
                plain.append("0")
                continue
            if char == end[0] and not depth:
                if not self.text.startswith(end, self.position):
                    break
                self.position += len(end)
                return _number("".join(plain), tuple(parts), quoted=quoted)
            depth += (char == opening) - (char == end[0])
            plain.append(char)
            self.position += 1
        self.effort.spend((self.position - start) // 16)  # all of it is read once more
        self.position = start
        return None

    def _braced(self, *, quoted: bool) -> Part:
        match = _BRACED.match(self.text, self.position)
        if match is None:
            raise self.error("unknown expansion")
        self.position = match.end()
        if match[1] is not None:
            return Variable(match[1], "#length", quoted=quoted)
        if self.text.startswith("}", self.position):
            self.position += 1
            return Variable(match[2], quoted=quoted)
        operator = next((o for o in _OPERATORS if self.text.startswith(o, self.position)), None)
        argument = self._braced_argument(len(operator or ""), quoted=quoted)
        if operator is not None:
            return Variable(match[2], operator, argument, quoted)
        plain = "".join(part.text for part in argument.parts if isinstance(part, Literal))
        if plain.startswith(":"):
            return _number(plain, argument.parts, quoted=quoted)
        return Opaque(quoted, argument.parts, unsafe=not plain.startswith(("/", "^", ",")))

    def _braced_argument(self, skip: int, *, quoted: bool) -> Word:
        self.position += skip
        parts: list[Part] = []
        while self.position < len(self.text):
            self.effort.spend(1)
            char = self.text[self.position]
            match = _PLAIN_BRACED.match(self.text, self.position)
            if char == "}":
                self.position += 1
                return Word(tuple(parts))
            if match is not None:
                parts.append(Literal(match[0]))
                self.position = match.end()
            elif char == "'" and quoted:
                parts.append(Literal("'", quoted=True))
                self.position += 1
            else:
                parts.extend(self._special(char, quoted=False))
        raise self.error("unterminated expansion")

    # -- tokens ------------------------------------------------------------------------------------------------

    def _blanks(self) -> None:
        match = _BLANK.match(self.text, self.position)
        self.position = match.end() if match is not None else self.position
        comment = _COMMENT.match(self.text, self.position)
        if comment is not None:
            self.position = comment.end()

    def _peek(self) -> int:
        self._blanks()
        return self.position

    def _skip_newlines(self) -> None:
        while True:
            self._blanks()
            if not self.text.startswith("\n", self.position):
                return
            self.position += 1

    def _reserved(self) -> str | None:
        match = _RESERVED.match(self.text, self.position)
        return match[1] if match is not None else None

    def _take(self, word: str) -> bool:
        self._blanks()
        if self._reserved() != word:
            return False
        self.position += len(word)
        return True

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise self.error(f"expected {word}")

    def _expect_char(self, char: str) -> None:
        self._skip_newlines()
        if not self.text.startswith(char, self.position):
            raise self.error(f"expected {char}")
        self.position += 1

    def _operator(self, *operators: str) -> str | None:
        self._blanks()
        for operator in operators:
            if self.text.startswith(operator, self.position):
                self.position += len(operator)
                return operator
        return None


def _number(plain: str, parts: tuple[Part, ...], *, quoted: bool) -> Opaque:
    """Return the value of an arithmetic expression, of which `plain` is what isn't an expansion."""
    names = tuple(dict.fromkeys(_NAME.findall(plain)))
    inside = tuple(part.name for part in parts if isinstance(part, Variable) and part.name.isidentifier())
    assigned = names if _ASSIGNING.search(plain) else ()
    return Opaque(quoted, parts, (*names, *inside), assigned, unsafe="[" in plain)
