# SPDX-License-Identifier: Apache-2.0
"""
rpm's Lua scripts, rewritten for the shell as far as their forms are known: the engine follows one language.

What distributions' packages have is a small part of Lua: calls that make, move and remove files, conditions on what is
there, programs run by fork and exec. Whatever is none of that becomes a command that nothing knows, so a script needs
execution only where it gets to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from copacetic.unpack.rpm.luaforms import BLOCKS, CALLS, IGNORED, MOUNTED, STAT_TESTS, UNKNOWN_LUA
from copacetic.unpack.rpm.luareader import STOPS, LuaReader, UnknownFormError, from_root, quote, split_lua

__all__ = ["rewrite_lua"]

_MAX_DEPTH = 20
_MAX_STEPS = 2_000
_LIB = re.compile(r"/lib64\b")
_COMPARED = {">=": "-ge", ">": "-gt", "<=": "-le", "<": "-lt", "==": "-eq", "~=": "-ne"}


def rewrite_lua(body: str) -> str | None:
    """Return a script for the shell that does the same, as far as it is known; None for what isn't Lua at all."""
    tokens = split_lua(body)
    if tokens is None:
        return None
    rewriter = _Rewriter(tokens)
    lines = rewriter.block(0)
    if rewriter.at < len(tokens):
        lines.append(UNKNOWN_LUA)
    return "".join(f"{line}\n" for line in lines)


@dataclass(slots=True)
class _Rewriter(LuaReader):
    """Turns statements into lines for the shell."""

    tests: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Variables that hold what was found out about a path: how, and which."""
    runners: set[str] = field(default_factory=set)
    """Functions that run a program and wait for it."""
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Those without parameters: where their bodies begin and end."""
    steps: int = 0
    nesting: int = 0

    # -- statements ------------------------------------------------------------------------------------------

    def block(self, depth: int) -> list[str]:
        """Return the lines for the statements up to the end of a block; what isn't known ends it."""
        found: list[str] = []
        while self.peek() and self.peek() not in STOPS:
            start = self.at
            try:
                found += self.statement(depth)
            except UnknownFormError:
                self.at = start
                self.skip_block()
                found.append(UNKNOWN_LUA)
        return found or [":"]

    def statement(self, depth: int) -> list[str]:
        self.steps += 1
        if depth > _MAX_DEPTH or self.steps > _MAX_STEPS:
            raise UnknownFormError
        known = self.known_block()
        if known:
            return [known]
        if self.has("return"):
            if self.peek() not in STOPS:
                self.at += bool(self.peek())
            return ["exit 0"]
        if self.has("if"):
            return self.condition(depth)
        if self.has("function"):
            self.define(self.name())
            return []
        if self.has("for"):
            return self.loop(depth)
        is_local = self.has("local")
        if self.has("pid", "=", "posix", ".", "fork", "(", ")"):
            return [self.forked()]
        if self.is_name() and self.peek(1) == "=":
            self.assign()
            return []
        return [] if is_local else self.call(depth)

    def known_block(self) -> str:
        """Return what a block stands for that is known as a whole."""
        for start, count, digest, shell in BLOCKS:
            if self.peek() == start[0] and tuple(self.tokens[self.at : self.at + len(start)]) == start:
                text = " ".join(self.tokens[self.at : self.at + count])
                if hashlib.sha256(_LIB.sub("/lib", text).encode()).hexdigest() == digest:
                    self.at += count
                    return shell.replace("@lib@", "/usr/lib64" if _LIB.search(text) else "/usr/lib")
        return ""

    def condition(self, depth: int) -> list[str]:
        self.nesting = 0
        lines = [f"if {self.test()}; then"]
        self.take("then")
        lines += self.block(depth + 1)
        while self.has("elseif"):
            self.nesting = 0
            lines.append(f"elif {self.test()}; then")
            self.take("then")
            lines += self.block(depth + 1)
        if self.has("else"):
            lines += ["else", *self.block(depth + 1)]
        self.take("end")
        return [*lines, "fi"]

    def define(self, name: str) -> None:
        """Remember a function: one that runs a program, or one without parameters."""
        self.take("(")
        first = self.peek()
        while not self.has(")"):
            self.at += 1
            if self.at >= len(self.tokens):
                raise UnknownFormError
        start = self.at
        self.skip_block()
        body = self.tokens[start : self.at]
        self.take("end")
        runs = ("posix", ".", "exec", "(", first, ",", "...", ")")
        if any(tuple(body[n : n + len(runs)]) == runs for n in range(len(body))) and "fork" in body:
            if not _HARMLESS_WORDS.issuperset(word for word in body if word != first):
                raise UnknownFormError
            self.runners.add(name)
        elif first == ")":
            self.functions[name] = start, self.at - 1
        else:
            raise UnknownFormError

    def loop(self, depth: int) -> list[str]:
        """`for _, name in ipairs({"one", "two"}) do`."""
        self.name()
        self.take(",")
        name = self.name()
        self.take("in", "ipairs", "(", "{")
        values = [self.text()]
        while self.has(","):
            values.append(self.text())
        self.take("}", ")", "do")
        start, lines = self.at, []
        for value in values:
            self.at = start
            self.texts[name] = value
            lines += self.block(depth + 1)
        self.take("end")
        return lines

    def forked(self) -> str:
        """What follows a fork: the child runs a program, and the parent waits."""
        self.take("if", "pid", "==", "0", "then")
        self.has("posix", ".", "redirect2null", "(", "2", ")")
        asserted = self.has("assert", "(")
        self.take("posix", ".", "exec", "(")
        words = self.words()
        if asserted:
            self.take(")")
        self.take("elseif", "pid")
        if not (self.has("~=", "-", "1") or self.has(">", "0")):
            raise UnknownFormError
        self.take("then", "posix", ".", "wait", "(", "pid", ")", "end")
        return f"{words} || :"

    def assign(self) -> None:
        name = self.name()
        self.take("=")
        self.texts.pop(name, None)
        self.tests.pop(name, None)
        if self.has("posix", ".", "uname", "(", '"%r', ")"):
            self.tests[name] = "kernel", ""
        elif self.peek() == "posix" and self.peek(2) in ("stat", "readlink"):
            how = self.peek(2)
            self.take("posix", ".", how, "(")
            self.tests[name] = how, self.path()
            self.take(")")
        else:
            self.texts[name] = self.text()

    def call(self, depth: int) -> list[str]:
        """A function of rpm's, or of the script's own."""
        start = self.at
        parts = [self.name()]
        while self.peek() in (".", ":"):
            parts += [self.take(), self.name()]
        name = "".join(parts)
        self.take("(")
        if name in self.functions and self.has(")"):
            back, (self.at, end) = self.at, self.functions[name]
            lines = self.block(depth + 1)
            if self.at != end:
                raise UnknownFormError
            self.at = back
            return lines
        if name in IGNORED:
            self.at = start
            self.ignore()
            return [IGNORED[name]]
        if name in self.runners or name == "rpm.execute":
            return [f"{self.words()} || :"]
        if name == "os.execute":
            command = self.text()
            self.take(")")
            return [f"({command}) || :"]
        if name == "io.open":
            return [self.emptied()]
        form = CALLS.get(name, "")
        arguments = [self.text()]
        while self.has(","):
            arguments.append(self.text())
        self.take(")")
        if not form or not _fits(form, arguments):
            raise UnknownFormError
        if name == "posix.chmod" and arguments[0] in MOUNTED:
            return []
        verbatim = {"posix.symlink": 0, "posix.chmod": 1}.get(name)
        rooted = [one if place == verbatim else from_root(one) for place, one in enumerate(arguments)]
        return [form.format(*map(quote, rooted))]

    def emptied(self) -> str:
        """`io.open(path, "w"):close()`."""
        path = self.path()
        self.take(",", '"w', ")", ":", "close", "(", ")")
        return f"if [ -s {path} ]; then {UNKNOWN_LUA}; else touch {path}; fi"

    def ignore(self) -> None:
        """Skip a call that only says something."""
        depth = 0
        while self.peek():
            token = self.take()
            depth += (token == "(") - (token == ")")  # noqa: S105
            if token == ")" and depth == 0:  # noqa: S105
                return
        raise UnknownFormError

    # -- conditions ------------------------------------------------------------------------------------------

    def test(self) -> str:
        found = self.test_all()
        while self.has("or"):
            found = f"{{ {found} || {self.test_all()}; }}"
        return found

    def test_all(self) -> str:
        found = self.test_one()
        while self.has("and"):
            found = f"{{ {found} && {self.test_one()}; }}"
        return found

    def test_one(self) -> str:
        self.nesting += 1
        if self.nesting > _MAX_DEPTH:
            raise UnknownFormError
        if self.has("not"):
            found = f"! {self.test_one()}"
        elif self.has("("):
            found = self.test()
            self.take(")")
        else:
            found = self.test_plain()
        self.nesting -= 1
        return found

    def test_plain(self) -> str:
        if self.peek() == "posix":
            return self.test_path()
        if self.has("rpm", ".", "vercmp", "("):
            return self.test_kernel()
        if self.has("tonumber", "(", "arg", "[", "2", "]", ")"):
            return self.compare()
        if self.has("arg", "[", "2", "]", "=="):
            value = self.take()
            # A number is never equal to what is a text.
            return f'[ "$1" = {quote(value[1:])} ]' if value.startswith('"') else "false"
        how, path = self.tests.get(self.name(), ("", ""))
        if how == "stat" and self.has(".", "type", "=="):
            form = STAT_TESTS.get(self.text())
            if form is None:
                raise UnknownFormError
            return form.format(path)
        if how not in ("stat", "readlink"):
            raise UnknownFormError
        return STAT_TESTS[how].format(path)

    def test_path(self) -> str:
        self.take("posix", ".")
        how = self.name()
        self.take("(")
        path = self.path()
        kind = self.text() if self.has(",") else ""
        self.take(")")
        if how == "utime":
            self.has("==", "0")
        if how == "access" and kind == "x":
            return f"[ -x {path} ]"
        if how not in ("access", "stat", "readlink", "utime") or kind not in ("", "f", "r", "w"):
            raise UnknownFormError
        if how == "stat" and self.has(".", "type", "=="):
            form = STAT_TESTS.get(self.text())
            if form is None:
                raise UnknownFormError
            return form.format(path)
        return STAT_TESTS[how].format(path)

    def test_kernel(self) -> str:
        """Whatever kernel runs a container later is new enough: what is too old for its libc runs nothing of it."""
        if self.tests.get(self.name(), ("", ""))[0] != "kernel":
            raise UnknownFormError
        self.take(",")
        self.text()
        self.take(")", "<", "0")
        return "false"

    def compare(self) -> str:
        operator = _COMPARED.get(self.take())
        value = self.take()
        if operator is None or not value.isdigit():
            raise UnknownFormError
        return f'[ "$1" {operator} {value} ]'


_HARMLESS_WORDS = frozenset(
    (
        *("local", "pid", "=", "posix", ".", "fork", "(", ")", "if", "==", "0", "then", "exec", ",", "...", "assert"),
        *("nil", "elseif", ">", "wait", "end", "not", "error", "..", "errno", "io", "write", "os", "exit", "1"),
        *('": exec failed: ', '": fork failed: ', '"\\n'),
    )
)
"""All that is in a function that runs a program and waits for it."""


def _fits(form: str, arguments: Sequence[str]) -> bool:
    return all((f"{{{number}}}" in form) is (number < len(arguments)) for number in range(3))
