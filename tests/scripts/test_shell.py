# SPDX-License-Identifier: Apache-2.0
"""The shell that is read and never run, held against one that runs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copacetic.scripts.shell.interpret import Reached, follow_script
from copacetic.scripts.shell.machine import ODDITY
from copacetic.scripts.shell.parser import is_bash, parse_shell
from copacetic.scripts.shell.syntax import ShellSyntaxError
from support.deb.debian import need
from support.floors import accepting, refusal


class Unknown:
    """Surroundings that answer nothing but versions, which are numbers here."""

    def compare_versions(self, left: str, operator: str, right: str) -> bool | None:
        if not (left.isdigit() and right.isdigit()):
            return None
        return {"lt": int(left) < int(right), "ge": int(left) >= int(right)}.get(operator)

    def test_file(self, operator: str, path: str) -> bool | None:
        return {
            "/run/systemd/system": False,
            "/": True,
            "/conf": True,
            "/none": True,
            "/gone": False,
            "/conf/a": True,
        }.get(path)

    def has_program(self, name: str) -> bool | None:
        return False if name == "absent" else None

    def reach(self, command: Reached) -> bool | None:
        return None

    def read_output(self, words: Sequence[str | None]) -> str | None:
        return {("readlink", "/bin/sh"): "/bin/busybox", ("readlink", "/bin/none"): ""}.get(tuple(words))  # type: ignore[arg-type]

    def find_paths(self, pattern: str) -> tuple[str, ...] | None:
        return {"/conf/*": ("/conf/a", "/conf/b.conf"), "/none/*": ()}.get(pattern)

    def has_package(self, name: str) -> bool | None:
        return None

    def find_source(self, path: str) -> str | None:
        return "included() { act from-include $1; }\nset=here\n" if path == "/lib/include" else None


def reached(text: str, *arguments: str, **variables: str) -> list[Reached]:
    bash = is_bash(text)
    nodes = parse_shell(text, bash=bash)
    followed = follow_script(nodes, arguments=arguments, variables=variables, surroundings=Unknown(), bash=bash)
    return list(followed.commands)


def acts(text: str, *arguments: str, **variables: str) -> list[str]:
    """Return what `act` is called with, `?` standing for what isn't known."""
    return [
        " ".join("?" if word is None else word for word in command.words[1:])
        for command in reached(text, *arguments, **variables)
        if command.words[0] == "act"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("act a; act b", ["a", "b"]),
        ("if [ \"$1\" = configure ]; then act yes; else act no; fi", ["yes"]),
        ("if [ \"$1\" != configure ]; then act yes; elif [ -n \"$2\" ]; then act two; fi", ["two"]),
        ("if unknown; then act yes; else act no; fi", ["yes", "no"]),
        ("case \"$1\" in install|upgrade) act a;; conf*) act b;; *) act c;; esac", ["b"]),
        ("case $x in a) act a;; *) act b;; esac", ["b"]),
        ("case \"$(unknown)\" in a) act a;; *) act b;; esac", ["a", "b"]),
        ("case b in [^a]) act a;; *) act b;; esac", ["a", "b"]),
        ("case b in [!a]) act a;; *) act b;; esac; case 7 in [[:digit:]]) act c;; esac", ["a", "c"]),
        ("x='\\*'; case '*' in $x) act a;; *) act b;; esac; case '\\*' in \"$x\") act c;; esac", ["a", "c"]),
        ("p='a*b'; act ${p%\"*b\"} ${p#'a*'}", ["a b"]),
        ("case \"*\" in \"*\") act star;; esac; case a in \"*\") act no;; esac", ["star"]),
        ("[ -d /run/systemd/system ] && act no", []),
        ("[ -d /run/systemd/system ] || act yes", ["yes"]),
        ("if [ -z \"${DPKG_ROOT:-}\" ] && [ -d /run/systemd/system ]; then act no; fi", []),
        ("if dpkg --compare-versions \"$2\" lt 7; then act yes; fi", ["yes"]),
        ("if dpkg --compare-versions -- \"$2\" lt 3; then act no; fi", []),
        ("if ! dpkg --compare-versions \"$2\" lt 3; then act yes; fi", ["yes"]),
        ("true && act a || act b; false && act c || act d", ["a", "b", "d"]),
        ("exit 0; act never", []),
        ("unknown && exit 0; act maybe", ["maybe"]),
        ("f() { act $1; return; act never; }; f x; act after", ["x", "after"]),
        ("f() { local v=in; }; v=out; f; act $v", ["out"]),
        ("f() { v=in; }; v=out; f; act $v", ["in"]),
        ("f() { v=in; }; v=out; unknown && f; act $v", ["?"]),
        ("f() { [ -n \"$1\" ] && return; v=in; }; v=out; f; act $v", ["in"]),
        ("for i in a b; do act $i; done", ["a", "b"]),
        ("for i in /etc/*; do act $i; done", ["?"]),
        ("for i; do act $i; done", ["configure", "5"]),
        ("while read x; do act $x; done", ["?"]),
        ("v=1; while unknown; do act $v; v=2; done; act $v", ["?", "?"]),
        ("v=1; (v=2; act $v); act $v", ["2", "1"]),
        ("v=1; unknown | v=2; act $v", ["1"]),
        ("v=\"a b\"; act $v \"$v\"", ["a b a b"]),
        ("set -- x \"y z\"; act $#; act \"$2\"; shift; act \"$1\"", ["2", "y z", "y z"]),
        ("act ${1%gure} ${1#con} ${x:-d} ${1:+set} ${#1}", ["confi figure d set 9"]),
        ("p=/usr/lib/x.so; act ${p##*/} ${p%/*}", ["x.so /usr/lib"]),
        ("act $(unknown) `unknown` $((1 + 1)) $UNSET end", ["? ? ? end"]),
        ("if [ -x \"$(command -v absent)\" ]; then act no; fi", []),
        ("if command -v absent >/dev/null; then act no; fi", []),
        ("if which present >/dev/null; then act maybe; fi", ["maybe"]),
        ("cat <<EOF\nact no $(act yes)\nEOF\nact after", ["yes", "after"]),
        ("cat <<'EOF'\n$(act no)\nEOF\nact after", ["after"]),
        ("cat <<-EOF | act piped\n\ttext\n\tEOF\nact after", ["piped", "after"]),
        ("trap 'act trapped' 0; act first", ["first", "trapped"]),
        ("trap -- 'f' EXIT; f() { act defined-later; }", ["defined-later"]),
        ("v=a w=$v; v=b x=$v; act $w $x", ["a b"]),
        ("v=a; trap 'act $v' EXIT; unknown && exit; v=b", ["?"]),
        (". /lib/include; included x; act $set", ["from-include x", "here"]),
        ("v=1; . /lib/other; act $v", ["?"]),
        ("v=1; eval \"$(thing)\"; act $v", ["?"]),
        ("v=1; eval 'v=2; act $v'; act $v", ["2", "2"]),
        ("if [ \"$1\" = configure ] # a comment ; then act no\nthen act yes; fi", ["yes"]),
        ("#!/bin/bash\nif [[ $1 = configure && -n $2 ]]; then act both; fi", ["both"]),
        ("if [ \"$1\" = x -o \"$1\" = configure -a -n \"$2\" ]; then act yes; fi", ["yes"]),
        ("act $HOME $LC_ALL $DPKG_OTHER $_", ["? ? ? ?"]),
        ("c=act; c=: & $c started", ["started"]),
        ("exit 0 & act after", ["after"]),
        ("if unknown; then f() { act one; }; else f() { act two; }; fi; f", ["one", "two"]),
        ("f() { act one; }; if unknown; then f() { act two; }; fi; f", ["two", "one"]),
        ("f() { act one; }; (f() { act two; }; f); f", ["two", "one"]),
        ("f() { act one; }; while unknown; do f; f() { act two; }; done", ["one", "two"]),
        ("act() { :; }; unset -f act; act real", ["real"]),
        ("f() { act in-f; }; command f; command -p act x; command -- act y", ["x", "y"]),
        (": $(( $(act 1) + 1 )); : $((a[$(act 2)])) ${x:$(act 3)} ${x/a/$(act 4)}", ["1", "2", "3", "4"]),
        ("x=( $(act 1) `act 2` )", ["1", "2"]),
        ("act${IFS}split", ["split"]),
        ("IFS=x; v=axb; act $v", ["?"]),
        ("act {a,b} \"{a,b}\"", ["? {a,b}"]),
        ("true < /no/such || act failed; : 2>/dev/null || act no", ["failed"]),
        ("[ a -eq 1 ] || act no-number; [ 010 -eq 8 ] && act octal", ["no-number", "octal"]),
        ("exit\r\nact after", ["after"]),
        ("exit 1 2; act after", ["after"]),
        ("time return 0; act after", ["after"]),
        ("time exit; act after", ["after"]),
        ("d=a; f() { d=b; }; time f; act $d", ["?"]),
        ("time act timed", ["timed"]),
        ("declare x=1; [ $x ] || act dash; typeset y=1; [ $y ] || act dash", ["dash", "dash"]),
        ("#!/bin/bash\ndeclare x=1; [ $x ] || act no; typeset y=1; [ $y ] || act no", []),
        ("local x=1; [ $x ] || act outside; f() { local x=1; [ $x ] || act no; }; f", ["outside"]),
        ("source /lib/include; act ${set:-unset}", ["?"]),
        ("#!/bin/bash\nsource /lib/include; act ${set:-unset}", ["here"]),
        ("#!/bin/bash\nreadonly x=1; x=2; [ $x = 2 ] || act kept; unset x; act $x", ["kept", "?"]),
        ("#!/bin/bash\ndeclare -r x=1; x=2; act $x", ["?"]),
        ("IFS=:; v=a:b; act $v", ["?"]),
        ("FOO=x exec act replaced; act never", ["replaced"]),
        ("{ act grouped; } > /etc/file", ["grouped"]),
        ("act 'quo''ted' \"a'b\" c\\ d", ["quoted a'b c d"]),
        ("! unknown || act maybe", ["maybe"]),
        ("until unknown; do act loop; done", ["loop"]),
        ("until false; do act loop; done; until true; do act no; done", ["loop"]),
        ("for i in /conf/*; do act $i; done", ["/conf/a", "/conf/b.conf"]),
        ("d=/conf; for i in \"$d\"/*; do act $i; done", ["/conf/a", "/conf/b.conf"]),
        ("d='/conf/*'; for i in \"$d\"*; do act \"$i\"; done", ["?"]),
        ("cd /conf; for i in *; do act $i; done", ["a", "b.conf"]),
        ("cd /; cd conf && for i in *; do act $i; done", ["a", "b.conf"]),
        ("cd /none; for i in *; do act \"$i\"; done", ["*"]),
        ("cd /gone && act no; cd /conf && [ -e a ] && act yes", ["yes"]),
        ("f() ( cd /conf; for i in *; do act $i; done; ); f; for i in *; do act \"$i\"; done", ["a", "b.conf", "?"]),
        ("cd /conf; unknown && cd /none; for i in *; do act \"$i\"; done", ["?"]),
        ("cd /conf; cd \"$(unknown)\"; for i in *; do act \"$i\"; done", ["?"]),
        ("cd /conf; cd ..; for i in *; do act \"$i\"; done", ["?"]),
        ("cd /conf; while unknown; do for i in *; do act \"$i\"; done; cd /none; done", ["?"]),
        ("cd /conf; . /unknown; for i in *; do act \"$i\"; done", ["?"]),
        ("for i in \"/conf/*\"; do act \"$i\"; done", ["?"]),
        ("for i in /none/*; do act $i; done", ["/none/*"]),
        ("for i in /conf/*; do case $i in *.*) continue;; esac; act $i; done; act after", ["/conf/a", "after"]),
        ("for i in a b c; do [ $i = b ] && break; act $i; done; act after", ["a", "after"]),
        ("for i in a b; do unknown && continue; act $i; done", ["a", "b"]),
        ("for i in a b; do x=$i; unknown && break; done; act $x", ["?"]),
        ("for i in a b; do for j in 1 2; do continue; act no; done; act $i; done", ["a", "b"]),
        ("for i in a; do f() { for j in b; do continue; act no; done; }; f; act in; done; act after", ["in", "after"]),
        ("while unknown; do act x; break; act no; done; act after", ["x", "after"]),
        ("continue; act outside", ["outside"]),
        ("act $(readlink /bin/sh)", ["/bin/busybox"]),
        ("case \"$(readlink /bin/none 2>/dev/null || true)\" in x) act no;; *) act other;; esac", ["other"]),
        ("exec act last; act never", ["last"]),
    ],
)  # fmt: skip
def test_commands_that_can_be_reached(text: str, expected: list[str]) -> None:
    assert acts(text, "configure", "5") == expected


def test_certainty_is_told() -> None:
    found = reached("act 1; if unknown; then act 2; fi; act 3; unknown && exit 1; act 4")

    assert [(c.words[1], c.certain) for c in found if c.words[0] == "act"] == [
        ("1", True),
        ("2", False),
        ("3", True),
        ("4", False),
    ]


def test_redirections_into_files_are_told() -> None:
    found = reached("act > /etc/a 2>/dev/null; act >> $HOME/b; act 2>&1 </etc/c; > /etc/d")

    assert [c.writes for c in found] == [("/etc/a",), (None,), (), ("/etc/d",)]


def test_lines_are_told() -> None:
    text = "act 1\n\n# comment\nif true; then\n  act \\\n   2\nfi\ncat <<E\nx\nE\nact 3\n"

    assert [(c.words[1], c.line) for c in reached(text) if c.words[0] == "act"] == [("1", 1), ("2", 5), ("3", 11)]


@pytest.mark.parametrize(
    "text",
    [
        "if true; then act",
        "if true; then fi; act",
        "if true; then act; else fi",
        "while act; do done",
        "f() { }; act",
        "case x in a) act;; ",
        "act 'open",
        'act "open',
        "act $(open",
        "act ${open",
        "done",
        "fi; act",
        "act )",
        "case x in a) act;& esac",
        "{ act; ",
        "f() ",
        "for x in a; do act",
        "( " * 100 + "act" + ")" * 100,
        "((x = 1))",
        "function f { act; }",
        "[[ a && act ]]",
        "act $'a\\'b'",
        "act $\\\nx",
        "act \0",
        "cat <<E 'x\ny'\nE\n",
    ],
)
def test_what_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ShellSyntaxError):
        parse_shell(text)


def test_a_function_that_leaves_its_callers_loop_is_an_error() -> None:
    with pytest.raises(ShellSyntaxError, match="only some shells"):
        reached("for i in a; do f() { continue; }; f; act no; done")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("PATH=/opt/x:$PATH", "PATH is set"),
        ("PATH=/opt/x other", "PATH is set"),
        ("export LD_PRELOAD=/x", "LD_PRELOAD is set"),
        ("read PATH", "PATH is set"),
        (": ${ENV:=/x}", "ENV is set"),
        ("PS4='$(act)'; set -x; :", "PS4 is set"),
        ("test() { act; }", "test is defined"),
        ("command_not_found_handle() { act; }", "command_not_found_handle is defined"),
        ("#!/bin/bash\n[[ -v 'a[$(act)]' ]]", "a condition in which there may be commands"),
        (
            "ulimit -n 10; until command -v sh >/dev/null; do act; break; done",
            "a limit is set, under which what follows",
        ),
        ("#!/bin/bash\nx='a[$(act)]'; [[ $x -eq 0 ]]", "a condition in which there may be commands"),
        ("#!/bin/bash\nx='a[$(act)]'; : $((x))", "x is read as arithmetic"),
        ("#!/bin/bash\nx='a[$(act)]'; : ${!x} ${x@P}", "expanded again"),
        ("printf -v 'a[$(act)]' x", "has to be expanded"),
        ("declare -n r=PATH", "a variable of another kind"),
        ("unset 'a[$(act)]'", "has to be expanded"),
    ],
)
def test_what_may_run_more_than_is_followed_is_told(text: str, why: str) -> None:
    assert any(c.words[0] == ODDITY and why in (c.words[1] or "") for c in reached(text)), reached(text)


@pytest.mark.parametrize(
    "text", ["PATH=/usr/sbin:/sbin:$PATH", "export PATH=/bin:/usr/bin", "IFS=:", "PS4=+", "f() { :; }"]
)
def test_what_steers_nothing_elsewhere_is_no_matter(text: str) -> None:
    assert reached(text) == []


def test_a_script_that_never_ends_is_an_error() -> None:
    with pytest.raises(ShellSyntaxError, match="too"):
        reached("f() { f; f; }; f")


@accepting(0.1)
@given(st.text(alphabet="if then fi()|&;<>$`'\"\\{}!#\n a=1*[]"))
def test_any_text_is_a_script_or_an_error(text: str) -> None:
    with refusal(ShellSyntaxError):
        follow_script(parse_shell(text), arguments=None, variables={}, surroundings=Unknown())


# A generator of scripts that a real shell can run: `act` writes its arguments down, `maybe` takes its status from the
# next digit of a given list.
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["x", "y", "'p q'", '"$a"', "$b", '"$1"', "${c:-z}", "$(maybe && echo w)", "${a%x}", "''"])
PLAIN_CONDITIONS = ("maybe", "! maybe", "true", "false", '[ "$a" = x ]', '[ -n "$b" ]', '[ -z "$c" -o "$1" = 1 ]')
MORE_CONDITIONS = ('[ "$#" -gt 1 ]', "{ maybe && true; }", "a=$(maybe)")


def simple_commands(stop: str, *more: str) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(NAMES, VALUES).map(lambda t: f"{t[0]}={t[1]}"),
        st.tuples(VALUES, VALUES).map(lambda t: f"act {t[0]} {t[1]}"),
        NAMES.map(lambda n: f"unset {n}"),
        NAMES.map(lambda n: f'act "${n}"'),
        st.sampled_from(["shift || :", "set -- p q", "break", "continue", stop, *more]),
    )


def blocks(
    children: st.SearchStrategy[str], conditions: st.SearchStrategy[str], simple: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(conditions, children, children).map(lambda t: f"if {t[0]}; then\n{t[1]}\nelse\n{t[2]}\nfi"),
        st.tuples(conditions, simple).map(lambda t: f"{t[0]} && {t[1]} || :"),
        st.tuples(conditions, simple).map(lambda t: f"{t[0]} || {t[1]} || :"),
        st.tuples(VALUES, children, children).map(lambda t: f"case {t[0]} in x|'p q') {t[1]}\n;; y*) {t[2]}\n;; esac"),
        st.tuples(NAMES, VALUES, children).map(lambda t: f"for {t[0]} in k {t[1]}; do\n{t[2]}\ndone"),
        children.map(lambda t: f"while maybe; do\n{t}\ndone"),
        children.map(lambda t: f"(\n{t}\n)"),
        children.map(lambda t: f"{{\n{t}\n}} | cat"),
        st.lists(children, min_size=1, max_size=3).map("\n".join),
    )


def programs(stop: str, *calls: str) -> st.SearchStrategy[str]:
    conditions = st.sampled_from((*PLAIN_CONDITIONS, *MORE_CONDITIONS, *calls))
    simple = simple_commands(stop, *calls)
    return st.recursive(simple, lambda children: blocks(children, conditions, simple), max_leaves=10)


SCRIPTS = st.builds(
    lambda local, body, main: f'f() {{\n{local}\nact in-f "$a" "$1"\n{body}\n}}\n{main}\nact end',
    st.sampled_from([":", "local a", "local a=l b"]),
    programs("return 0"),
    programs("exit 0", "f", "f x"),
)
PRELUDE = """
exec 9>"$LOG"
act() { for _word; do printf '%s\\037' "$_word" >&9; done; printf '\\n' >&9; }
maybe() { read -r digit <&8 || digit=1; return "$digit"; }
exec 8<"$DIGITS"
"""


# No generated function calls itself, and every loop ends with a list that is finite: nothing can multiply.
@pytest.mark.system
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=SCRIPTS, digits=st.lists(st.sampled_from("01"), max_size=12))
def test_a_real_run_reaches_what_is_certain_and_nothing_that_was_not_found(
    script: str, digits: list[str], tmp_path: Path
) -> None:
    need("dash")
    (tmp_path / "digits").write_text("".join(f"{digit}\n" for digit in digits))
    log = tmp_path / "log"
    environment = {"LOG": str(log), "DIGITS": str(tmp_path / "digits"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        ["dash", "-c", PRELUDE + script, "script", "1", "two words"],
        env=environment, capture_output=True, text=True, check=False, timeout=5,
    )  # fmt: skip
    ran = [line.split("\x1f")[:-1] for line in log.read_text().splitlines()]
    commands = [c for c in reached(script, "1", "two words") if c.words[0] == "act"]
    found = [c.words[1:] for c in commands]

    assert "Syntax error" not in run.stderr
    for words in ran:
        assert any(_may_be(words, candidate) for candidate in found), (words, found)
    for command in commands if run.returncode == 0 else ():
        if command.certain:
            assert any(_may_be(words, command.words[1:]) for words in ran), (command, ran)


def _may_be(words: Sequence[str], found: Sequence[str | None]) -> bool:
    """Tell whether a call may be one that was found; an unknown word may be any number of words."""
    if None not in found:
        return list(words) == list(found)
    if not found:
        return not words
    first, rest = found[0], found[1:]
    if first is None:
        return any(_may_be(words[n:], rest) for n in range(len(words) + 1))
    return bool(words) and words[0] == first and _may_be(words[1:], rest)


class Known(Unknown):
    """Surroundings with these programs, and no others."""

    def __init__(self, *programs: str) -> None:
        self.programs = programs

    def has_program(self, name: str) -> bool | None:
        return name in self.programs


@pytest.mark.parametrize(
    ("programs", "text", "expected"),
    [
        (("which", "touch"), "which touch || act no", []),
        (("touch",), "which touch || act yes", ["yes"]),
        (("touch",), "command -v touch || act no", []),
        (("which", "touch"), "{ which touch || act maybe; } | :", ["maybe"]),
        (("touch",), "{ command -v touch || act maybe; } | :", ["maybe"]),
        (("touch",), ": | { command -v touch || act no; }", []),
        (("touch",), "{ true || act no; [ a = b ] && act no; :; } | :", []),
    ],
)
def test_a_search_needs_its_program_and_what_prints_somebody_who_reads(
    programs: tuple[str, ...], text: str, expected: list[str]
) -> None:
    followed = follow_script(
        parse_shell(text), arguments=("configure", "5"), variables={}, surroundings=Known(*programs)
    )

    assert [command.words[1] for command in followed.commands if command.words[0] == "act"] == expected
