# SPDX-License-Identifier: Apache-2.0
"""
The shell command language, as far as maintainer scripts use it: text in, a syntax tree out.

Follows POSIX.1-2017 volume 3 chapter 2, with bash's `[[ ]]`, `function`, `<<<` and `&>`. Nothing is ever executed.
What the grammar doesn't cover raises `ShellSyntaxError`; a caller must take that for a script about which nothing
is known.
"""

from __future__ import annotations

import re
from functools import lru_cache

from copacetic.scripts.shell.syntax import (
    AndOr,
    Case,
    Effort,
    For,
    Function,
    Group,
    If,
    Literal,
    Node,
    Opaque,
    Part,
    Pipeline,
    Redirect,
    ShellSyntaxError,
    Simple,
    While,
    Word,
)
from copacetic.scripts.shell.words import WordParser

MAX_PARTS = 50_000
"""Of commands, words and what they consist of."""
_BASH = re.compile(r"#![^\n]*\bbash\b")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_FUNCTION = re.compile(r"([A-Za-z0-9_.:+@-]+)[ \t]*\([ \t]*\)")
_REDIRECT = re.compile(r"(\d*)(<<<|<<-|<<|<>|<&|<|>>|>&|>\||>|&>>|&>)")
_CLOSING = frozenset(("then", "elif", "else", "fi", "do", "done", "esac", "}"))


def is_bash(text: str) -> bool:
    """Tell whether a script asks for bash."""
    return _BASH.match(text) is not None


@lru_cache(maxsize=2_048)
def parse_shell(text: str, *, on_line: int = 0, bash: bool = False) -> tuple[Node, ...]:
    """
    Parse a script. Raises `ShellSyntaxError` where the grammar ends.

    With `on_line`, every command counts as standing there: on the line that includes this text. What only `bash`
    understands is an error otherwise, as another shell makes something else of it.
    """
    if "\0" in text:
        raise ShellSyntaxError("a null character, which shells take in different ways")
    parser = _Parser(text, on_line or 1, 0, Effort(MAX_PARTS), bash=bash)
    if on_line:
        parser.stay_on_line()
    body = parser.parse_list(frozenset())
    if parser.position < len(text):
        raise parser.error("unexpected text")
    return body


class _Parser(WordParser):
    """Recursive descent over the text."""

    # -- lists -------------------------------------------------------------------------------------------------

    def parse_list(self, ends: frozenset[str]) -> tuple[Node, ...]:
        """Parse commands up to one of the reserved words, `)`, `;;` or the end; leaves it unread."""
        items: list[Node] = []
        while True:
            self._skip_newlines()
            if self._at_end(ends):
                break
            items.append(self._and_or())
            self._blanks()
            start = self.text[self.position : self.position + 2]
            if start[:1] in (";", "&") and start != ";;":
                self.position += 1
                if start[0] == "&":
                    items[-1] = Group((items[-1],), subshell=True, background=True)
            elif start[:1] not in ("", "\n", ")") and start != ";;" and self._reserved() not in ends:
                raise self.error(f"unexpected {start!r}")
        if not items and ends and "esac" not in ends and self.position < len(self.text):
            raise self.error("nothing where a command belongs")
        return tuple(items)

    def _at_end(self, ends: frozenset[str]) -> bool:
        start = self.text[self.position : self.position + 2]
        return start in ("", ";;") or start[0] == ")" or self._reserved() in ends

    def _and_or(self) -> Node:
        first = self._pipeline()
        rest: list[tuple[str, Node]] = []
        while (operator := self._operator("&&", "||")) is not None:
            self._skip_newlines()
            rest.append((operator, self._pipeline()))
        return AndOr(first, tuple(rest)) if rest else first

    def _pipeline(self) -> Node:
        negated = False
        while self._take("!"):
            negated = not negated
            self._blanks()
        commands = [self._command()]
        while not self.text.startswith("||", self._peek()) and self._operator("|&", "|") is not None:
            self._skip_newlines()
            commands.append(self._command())
        return commands[0] if len(commands) == 1 and not negated else Pipeline(tuple(commands), negated)

    # -- commands ----------------------------------------------------------------------------------------------

    def _command(self) -> Node:
        self.enter()
        node = self._entered()
        self.depth -= 1
        return node

    def _entered(self) -> Node:
        self._blanks()
        line = self.line()
        if self._reserved() in _CLOSING:
            raise self.error(f"unexpected {self._reserved()}")
        node = self._compound()
        if node is None:
            return self._simple(line)
        redirects: list[Redirect] = []
        while self._redirect(redirects):
            pass
        return Group((node,), tuple(redirects), line=line) if redirects else node

    def _compound(self) -> Node | None:
        word = self._reserved()
        if self.text.startswith("((", self.position):
            raise self.error("arithmetic, or a subshell in another")
        if self.text.startswith("(", self.position):
            self.position += 1
            body = self.parse_list(frozenset())
            self._expect_char(")")
            return Group(body, subshell=True)
        if word == "{":
            self._expect("{")
            body = self.parse_list(frozenset("}"))
            self._expect("}")
            return Group(body)
        if word == "if":
            return self._if()
        if word in ("while", "until"):
            self._expect(word)
            condition = self.parse_list(frozenset(("do",)))
            return While(condition, self._do(), until=word == "until")
        if word == "for":
            return self._for()
        if word == "case":
            return self._case()
        return self._function(word)

    def _function(self, word: str | None) -> Node | None:
        if word == "function":
            if not self.bash:
                raise self.error("function is a word of bash")
            self._expect("function")
            self._blanks()
            name = _FUNCTION.match(self.text, self.position) or _NAME.match(self.text, self.position)
        elif word is None:
            name = _FUNCTION.match(self.text, self.position)
        else:
            name = None
        if name is None:
            return None
        self.position = name.end()
        self._skip_newlines()
        title = name[1] if name.re is _FUNCTION else name[0]
        return Function(title, self._command())

    def _if(self) -> Node:
        branches: list[tuple[tuple[Node, ...], tuple[Node, ...]]] = []
        self._expect("if")
        while True:
            condition = self.parse_list(frozenset(("then",)))
            self._expect("then")
            branches.append((condition, self.parse_list(frozenset(("elif", "else", "fi")))))
            if not self._take("elif"):
                break
        orelse = self.parse_list(frozenset(("fi",))) if self._take("else") else ()
        self._expect("fi")
        return If(tuple(branches), orelse)

    def _do(self) -> tuple[Node, ...]:
        self._skip_newlines()
        self._expect("do")
        body = self.parse_list(frozenset(("done",)))
        self._expect("done")
        return body

    def _for(self) -> Node:
        self._expect("for")
        self._blanks()
        name = _NAME.match(self.text, self.position)
        if name is None:
            raise self.error("expected a name")
        self.position = name.end()
        self._skip_newlines()
        words: list[Word] | None = None
        if self._take("in"):
            words = []
            while (word := self._word()) is not None:
                words.append(word)
        self._blanks()
        if self.text.startswith(";", self.position):
            self.position += 1
        return For(name[0], None if words is None else tuple(words), self._do())

    def _case(self) -> Node:
        self._expect("case")
        subject = self._word()
        if subject is None:
            raise self.error("expected a word")
        self._skip_newlines()
        self._expect("in")
        arms: list[tuple[tuple[Word, ...], tuple[Node, ...]]] = []
        while True:
            self._skip_newlines()
            if self._take("esac"):
                return Case(subject, tuple(arms))
            self._operator("(")
            patterns: list[Word] = []
            while True:
                pattern = self._word()
                if pattern is None:
                    raise self.error("expected a pattern")
                patterns.append(pattern)
                if self._operator("|") is None:
                    break
            self._expect_char(")")
            arms.append((tuple(patterns), self.parse_list(frozenset(("esac",)))))
            if self._operator(";;&", ";&") is not None:
                raise self.error("a case that falls through")
            self._operator(";;")

    def _simple(self, line: int) -> Simple:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        if self._take("[["):
            return Simple(line, words=self._double_bracket())
        while True:
            if self._redirect(redirects):
                continue
            match = _ASSIGNMENT.match(self.text, self._peek()) if not words else None
            if match is not None:
                self.position = match.end()
                value = self._assigned()
                assignments.append((match[1], Word((Opaque(parts=value.parts),)) if match[2] else value))
                continue
            word = self._word()
            if word is None:
                break
            words.append(word)
        if not (assignments or words or redirects):
            raise self.error("expected a command")
        return Simple(line, tuple(assignments), tuple(words), tuple(redirects))

    def _assigned(self) -> Word:
        if self.text.startswith("(", self.position):
            self.position += 1
            parts: list[Part] = []
            while True:
                self._skip_newlines()
                word = self._word()
                if word is None:
                    break
                parts += word.parts
            self._expect_char(")")
            return Word((Opaque(parts=tuple(parts)),))
        return self._word(blanks=False) or Word(())

    def _double_bracket(self) -> tuple[Word, ...]:
        words = [Word((Literal("[["),))]
        while True:
            self._skip_newlines()
            self.effort.spend(1)
            operator = self._operator("&&", "||", "(", ")", "<", ">")
            if operator is not None and not self.bash:
                raise self.error(f"{operator} between [[ and ]]")
            word = Word((Literal(operator),)) if operator is not None else self._word()
            if word is None:
                raise self.error("unterminated [[")
            words.append(word)
            if word.parts == (Literal("]]"),):
                return tuple(words)

    # -- redirections ------------------------------------------------------------------------------------------

    def _redirect(self, found: list[Redirect]) -> bool:
        match = _REDIRECT.match(self.text, self._peek())
        if match is None:
            return False
        self.position = match.end()
        target = self._word()
        if target is None:
            raise self.error("expected a redirection's target")
        if match[2] in ("<<", "<<-"):
            target = self._here_document(target, strip=match[2] == "<<-")
        found.append(Redirect(match[2], target, match[1]))
        return True

    def _here_document(self, delimiter: Word, *, strip: bool) -> Word:
        """Read the lines after this one up to the delimiter, and blank them out so that nobody reads them again."""
        self.effort.spend(len(self.text) // 2_000)  # it is copied for each
        end = "".join(part.text for part in delimiter.parts if isinstance(part, Literal))
        newline = self.text.find("\n", self.position)
        rest = self.text[self.position : newline if newline >= 0 else len(self.text)]
        if any(rest.count(quote) % 2 for quote in "'\"`") or rest.endswith("\\") or rest.count("(") > rest.count(")"):
            raise self.error("a here-document that starts on a later line")
        start = position = len(self.text) if newline < 0 else newline + 1
        lines: list[str] = []
        while position < len(self.text):
            newline = self.text.find("\n", position)
            following = len(self.text) if newline < 0 else newline + 1
            text = self.text[position:following].rstrip("\n")
            position = following
            text = text.lstrip("\t") if strip else text
            if text == end:
                break
            lines.append(text + "\n")
        else:
            raise self.error("a here-document without an end")
        line = self.line() + 1
        self.effort.spend(len(lines) // 16)
        self.text = self.text[:start] + re.sub(r"[^\n]", " ", self.text[start:position]) + self.text[position:]
        content = "".join(lines)
        if any(not isinstance(part, Literal) or part.quoted for part in delimiter.parts):
            return Word((Literal(content, quoted=True),))
        return Word(tuple(_Parser(content, line, self.depth, self.effort, bash=self.bash).quoted(terminated=False)))
