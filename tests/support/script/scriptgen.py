# SPDX-License-Identifier: Apache-2.0
"""
Scripts at random: everything that the grammar has, around commands that do something in every way they can be told to.

Many do nothing after all, and many can't be judged harmless by anyone. What counts are those in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

__all__ = ["make_script"]

COMMANDS = tuple(Path(__file__).with_name("scripts.txt").read_text(encoding="utf-8").splitlines())
"""In them `T` is a path that may be written, `I` one that is read, `D` a directory, `C` any command, `\\n` a new line."""
TARGETS = (
    "/etc/made",
    "/etc/conf",
    "/var/lib/there",
    "/etc/new/x",
    "/tmp/../etc/made",
    "/etc//conf",
    "/run/x",
    "/tmp/x",
)
INPUTS = ("/etc/passwd", "/etc/conf", "/etc/more", "/tmp/x", "/dev/null", "-")
FOLDERS = ("/etc", "/var/lib", "/tmp", "/etc/new", "/tmp/..", "/tmp/l")
CONDITIONS = (
    *("true", "false", "[ -e /etc/conf ]", "[ -e /proc/1/cmdline ]", "[ -e /etc/absent ]", '[ "$1" = configure ]'),
    *('[ -z "$2" ]', "test -d /run/none", "grep -q a /etc/conf", "! true", "[ a = b -o c = c ]", "read x < /etc/conf"),
    *("[ ! -e /tmp/x ]", "[ $# -gt 1 ]", "command -v touch >/dev/null", "true < /etc/absent", "f", "id -u old"),
    *('[ "$x" = "" ]', "[ 010 -eq 8 ]", "[ a == a ]", "case $1 in c*) true;; *) false;; esac", "which absent"),
    *("[ -e conf ]", "[ -e etc/conf ]", "cd /etc", "cd /etc/absent", "cd var/lib"),
)
_SLOT = re.compile(r"(?<![A-Za-z_$])[TIDC](?![A-Za-z_=])")


def make_script(seed: int) -> tuple[str, str]:
    """Return a shell and a script for it."""
    return _Maker(Random(seed)).make()


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.left = random.randint(1, 9)

    def make(self) -> tuple[str, str]:
        shell = self.random.choice(("dash", "dash", "busybox", "bash"))
        body = "\n".join(self.statement(3) for _ in range(self.random.randint(1, 3)))
        if self.random.random() < 0.05:
            body = body.replace("\n", "\r\n")
        line = "#!/bin/bash" if shell == "bash" else "#!/bin/sh"
        return shell, f"{line}\n{self.random.choice(('', '', 'set -e' + chr(10)))}{body}\n"

    def command(self, depth: int = 2) -> str:
        row = self.random.choice(COMMANDS).replace("\\n", "\n")
        return self.disguise(_SLOT.sub(lambda match: self.fill(match[0], depth), row))

    def fill(self, slot: str, depth: int) -> str:
        if slot == "C":
            return self.command(depth - 1) if depth > 0 else f"touch {self.random.choice(TARGETS)}"
        return self.random.choice({"T": TARGETS, "I": INPUTS, "D": FOLDERS}[slot])

    def disguise(self, command: str) -> str:
        """Write the first word in another way, now and then."""
        if self.random.random() > 0.12:
            return command
        name, blank, rest = command.partition(" ")
        if not name.isalpha():
            return command
        rest = blank + rest
        ways: tuple[Callable[[], str], ...] = (
            lambda: f"c={name}; $c{rest}",
            lambda: f"{name[0]}'{name[1:]}'{rest}",
            lambda: f'"{name}"{rest}',
            lambda: f"{name[0]}\\{name[1:]}{rest}",
            lambda: f"{name[:1]}\\\n{name[1:]}{rest}",
            lambda: f"$(echo {name}){rest}",
            lambda: f"`echo {name}`{rest}",
            lambda: f"${{c:-{name}}}{rest}",
            lambda: f"c=x; c=:& ${{c#x}}{name}{rest}",
            lambda: f"/usr/bin/{name}{rest}",
            lambda: f"/bin/{name[:-1]}?{rest}",
            lambda: f"/bin/[{name[0]}]{name[1:]}{rest}",
            lambda: f"{{{name},{rest.strip() or 'x'}}}",
            lambda: f"{name}$IFS{rest.strip()}",
            lambda: f"$'{name}'{rest}",
            lambda: f'$"{name}"{rest}',
            lambda: f": {name}; $_{rest}",
            lambda: f'set -- {name}{rest}; "$@"',
            lambda: f"{name}\\{rest}" if rest else name,
            lambda: f"e=; $e {name}{rest}",
            lambda: f"X=1 {name}{rest}",
            lambda: f"> /dev/null {name}{rest}",
        )
        return self.random.choice(ways)()

    def statement(self, depth: int) -> str:
        self.left -= 1
        if depth <= 0 or self.left <= 0 or self.random.random() < 0.3:
            return self.command()
        inner = partial(self.statement, depth - 1)
        condition = self.random.choice(CONDITIONS)
        ways: tuple[Callable[[], str], ...] = (
            lambda: f"{inner()}\n{inner()}",
            lambda: f"if {condition}; then\n{inner()}\nelse\n{inner()}\nfi",
            lambda: f"if {inner()}; then\n{inner()}\nfi",
            lambda: f"{condition} && {inner()}",
            lambda: f"{condition} || {inner()}",
            lambda: f"{inner()} || true",
            lambda: f"{condition} && {self.command()} || {inner()}",
            lambda: f"! {inner()}",
            lambda: (
                f"for x in {self.random.choice(('a b', '/etc/c*', '$(echo q)', 'touch', '$x', '/etc/none*', 'c*', 'etc/c*'))}; do\n{inner()}\ndone"
            ),
            lambda: f"for x; do\n{inner()}\nbreak\ndone",
            lambda: f"n=0; while [ $n -lt 2 ]; do n=$((n + 1))\n{inner()}\ndone",
            lambda: f"until {condition}; do\n{inner()}\nbreak\ndone",
            lambda: (
                f"case {self.random.choice(('$1', 'x', '$x', '$(echo a)'))} in configure|a) {inner()}\n;; *) {inner()}\n;; esac"
            ),
            lambda: f"(\n{inner()}\n)",
            lambda: f"{{\n{inner()}\n}} > {self.random.choice(('/dev/null', '/tmp/out', '/etc/made', '&2'))}",
            lambda: f"{inner()} &\nwait",
            lambda: f"{{\n{inner()}\n}} | {self.command()}",
            lambda: f"{self.command()} | {{\n{inner()}\n}}",
            lambda: f"f() {{\n{inner()}\n}}\n{inner()}",
            lambda: f"f() {{\n{inner()}\n}}\n{inner()}\nf",
            lambda: f"if {condition}; then f() {{\n{inner()}\n}}\nelse f() {{ :; }}; fi\nf",
            lambda: f"f() {{ {self.command()}\n}}\nif {condition}; then unset -f f; fi\n{inner()}\nf",
            lambda: f"cat <<E\n$({inner()}\n)\nE",
            lambda: f"cat <<'E' >/dev/null\n{inner()}\nE",
            lambda: f"x=$(\n{inner()}\n)\n{inner()}",
            lambda: f"trap '{inner()}' EXIT" if "'" not in condition else inner(),
            lambda: f"{inner()} < /etc/more",
            lambda: f"{inner()} 2>/dev/null >&2",
            lambda: (
                f"x={self.random.choice(('touch', 'a[$(touch /etc/made)]', '/etc/made', '', '-i', '-o/etc/made'))}\n{inner()}"
            ),
            lambda: f"x='{self.random.choice(('a b', '$(touch /etc/made)', 'x', '/tmp'))}'\n{inner()}",
        )
        return self.random.choice(ways)()
