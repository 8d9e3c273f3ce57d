# SPDX-License-Identifier: Apache-2.0
"""rpm's Lua in the shell's words: what is known, what isn't, and what is there to take long."""

from __future__ import annotations

import random
import time

import pytest

from copacetic.scripts.shell.parser import parse_shell
from copacetic.unpack.rpm.lua import rewrite_lua
from copacetic.unpack.rpm.luaforms import UNKNOWN_LUA


def _lines(body: str) -> list[str]:
    text = rewrite_lua(body)
    assert text is not None
    return text.splitlines()


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ('os.execute("/usr/bin/newaliases >/dev/null")', ["(/usr/bin/newaliases >/dev/null) || :"]),
        ("posix.unlink('/etc/old') -- gone", ["rm -f /etc/old"]),
        ('posix.symlink("usr/bin", "bin")', ["if [ ! -e /bin ] && [ ! -L /bin ]; then ln -s usr/bin /bin || :; fi"]),
        ('posix.chmod("/proc", 0555)', [":"]),
        ('posix.chmod("/opt", 0750)', ["chmod 0750 /opt || :"]),
        ('if arg[2] == "0" then anything(at, all) end', ['if [ "$1" = 0 ]; then', UNKNOWN_LUA, "fi"]),
        ("if arg[2] == 0 then anything() end", ["if false; then", UNKNOWN_LUA, "fi"]),
        (
            'if posix.access("/x", "x") and not posix.stat("/y") then os.remove("/z") else print("no") end',
            [
                "if { [ -x /x ] && ! { [ -e /y ] || [ -L /y ]; }; }; then",
                "if [ -d /z ] && [ ! -L /z ]; then rmdir /z || :; else rm -f /z; fi",
                "else",
                ":",
                "fi",
            ],
        ),
        (
            'pid = posix.fork()\nif pid == 0 then posix.exec("/bin/a", "-b") elseif pid > 0 then posix.wait(pid) end',
            ["/bin/a -b || :"],
        ),
        ('rpm.execute("/bin/a", "b")', ["/bin/a b || :"]),
        ('path = "/opt"\nposix.rmdir(path .. "/x")', ["rmdir /opt/x || :"]),
        ("return 0", ["exit 0"]),
        ("posix.frobnicate()", [UNKNOWN_LUA]),
        ('posix.mkdir("/a b")', [UNKNOWN_LUA]),
        ('posix.mkdir("/a\\nb")', [UNKNOWN_LUA]),
        ("posix.mkdir(somewhere)", [UNKNOWN_LUA]),
        ('rpm.execute("/bin/a", "$(b)")', [UNKNOWN_LUA]),
        ('rpm.execute("exit", "1")', [UNKNOWN_LUA]),
        ("x = function() end", [UNKNOWN_LUA]),
        ("end end", [":", UNKNOWN_LUA]),
    ],
)
def test_a_form_becomes_what_the_shell_calls_it(body: str, lines: list[str]) -> None:
    assert _lines(body) == lines


def test_what_is_no_lua_is_nothing() -> None:
    assert rewrite_lua("\x00\x01") is None
    assert rewrite_lua("x" * 100_000) is None


NESTED = "for _, a in ipairs({" + ", ".join(['"x"'] * 50) + "}) do "
HOSTILE = {
    "conditions in brackets": "if " + "(" * 20_000 + "x",
    "conditions turned round": "if " + "not " * 15_000 + "x then end",
    "blocks in blocks": 'if posix.access("/x") then ' * 2_000,
    "loops in loops": NESTED * 20 + "y = 'z' " + "end " * 20,
    "functions that call each other": "".join(
        f"function f{n}() f{n + 1}() f{n + 1}() f{n + 1}() end " for n in range(40)
    )
    + "function f40() print('x') end f0()",
    "a function that calls itself": "function f() f() end f()",
    "definitions without end": "function f(" * 5_000,
    "comments": "x --[[ ]]" * 5_000,
    "texts": 'a = "x" .. ' * 5_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_there_to_take_long_takes_no_time(name: str) -> None:
    began = time.process_time()
    text = rewrite_lua(HOSTILE[name])

    assert time.process_time() - began < 2
    assert text is None or UNKNOWN_LUA in text


def test_whatever_comes_is_a_script_that_the_shell_can_read() -> None:
    pieces = [
        *("if ", "then ", "end ", "else ", "for ", "do ", "function f() ", "return 0 ", "(", ")", "not ", "and "),
        *('posix.mkdir("/x") ', 'posix.access("/y", "x") ', "os.remove('/z') ", "arg[2] ", '== "0" ', "local x = "),
        *('"text" ', ".. ", "f() ", 'posix.stat("/x") ', "{", "}", "pid ", ", "),
    ]
    chance = random.Random(18)
    for _ in range(1_000):
        text = rewrite_lua("".join(chance.choices(pieces, k=chance.randrange(30))))
        assert text is not None
        parse_shell(f"#!/bin/sh\n{text}")
