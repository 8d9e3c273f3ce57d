# SPDX-License-Identifier: Apache-2.0
"""Lua's words, read from left to right: as much of the language as rpm's scripts need to be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["STOPS", "LuaReader", "UnknownFormError", "from_root", "quote", "split_lua"]

MAX_BODY = 64 * 1024
_TOKEN = re.compile(
    r"(?P<none>--\[\[.*?\]\]|--[^\n]*|[\s;]+)|(?P<text>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<word>[A-Za-z_]\w*|\d+|\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^#<>=(){}\[\]:,.])",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_PLAIN = re.compile(r"[A-Za-z0-9_./+:@%=,-]+")
_OPENERS = frozenset(("if", "for", "while", "function", "repeat"))
_CLOSERS = frozenset(("end", "until"))
STOPS = frozenset(("end", "else", "elseif", "until"))
_KEYWORDS = _OPENERS | STOPS | frozenset(("do", "then", "local", "return", "and", "or", "not", "nil", "true", "false"))


class UnknownFormError(Exception):
    """What follows is none of the forms."""


def split_lua(body: str) -> list[str] | None:
    """Return a script's words without comments; None for what isn't Lua. A text begins with a quotation mark."""
    tokens: list[str] = []
    end = 0
    while end < len(body):
        match = _TOKEN.match(body, end)
        if match is None or len(body) > MAX_BODY:
            return None
        if match["text"]:
            tokens.append(f'"{match["text"][1:-1]}')
        elif match["word"]:
            tokens.append(match["word"])
        end = match.end()
    return tokens


@dataclass(slots=True)
class LuaReader:
    """Takes tokens one after the other, and knows the texts of variables."""

    tokens: Sequence[str]
    at: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    """Variables with a text that is known."""

    # -- tokens ----------------------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """Take the next token, or as many as are expected."""
        for token in expected or (self.peek(),):
            if not token or self.peek() != token:
                raise UnknownFormError
            self.at += 1
        return self.tokens[self.at - 1]

    def has(self, *expected: str) -> bool:
        """Take some tokens, if they are the next ones."""
        found = all(self.peek(n) == token for n, token in enumerate(expected))
        self.at += len(expected) if found else 0
        return found

    def is_name(self) -> bool:
        token = self.peek()
        return _NAME.fullmatch(token) is not None and token not in _KEYWORDS

    def name(self) -> str:
        if not self.is_name():
            raise UnknownFormError
        return self.take()

    def skip_block(self) -> None:
        """Go to the end of the block that we are in."""
        depth = 0
        while self.at < len(self.tokens):
            token = self.peek()
            if depth == 0 and token in STOPS:
                return
            depth += (token in _OPENERS) - (token in _CLOSERS)
            self.at += 1

    # -- values ----------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Read a text, a number or a variable with one, or several in a row."""
        parts = [self.text_part()]
        while self.has(".."):
            parts.append(self.text_part())
        return "".join(parts)

    def text_part(self) -> str:
        token = self.take()
        value = token[1:] if token.startswith('"') else token if token.isdigit() else self.texts.get(token)
        if value is None or "\\" in value or "\n" in value:
            raise UnknownFormError
        return value

    def path(self) -> str:
        return quote(from_root(self.text()))

    def words(self) -> str:
        """Read the arguments of a call as words of a command, with the closing bracket; a program has its path."""
        found = [quote(self.text())]
        if not found[0].startswith("/"):
            raise UnknownFormError
        while self.has(","):
            found.append(quote(self.text()))
        self.take(")")
        return " ".join(found)


def from_root(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def quote(text: str) -> str:
    if _PLAIN.fullmatch(text) is None:
        raise UnknownFormError
    return text
