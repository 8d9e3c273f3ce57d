# SPDX-License-Identifier: Apache-2.0
"""
Which options of common programs are understood, and what that leaves of their words.

A grammar lists the options that are known to be without danger, or to be handled; with any other one nothing is known
about the command. GNU's abbreviations of long options count as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile

from msgspec import Struct

from copacetic.scripts.shell.expansion import Value, is_steering

__all__ = ["CHANGERS", "READERS", "Parsed", "parse_options", "take_wrapper_off"]


class Parsed(Struct, frozen=True):
    """A command's words, apart: `options` holds each with its value, which is empty for those without."""

    options: tuple[tuple[str, Value], ...]
    operands: tuple[Value, ...]

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.options)

    def values(self, *names: str) -> list[Value]:
        return [value for name, value in self.options if name in names]


def parse_options(words: Sequence[Value], grammar: str, *, permuted: bool = True) -> Parsed | None:
    """
    Take the options of a command off; `permuted` where they may follow operands. None for one that isn't known.

    In a grammar, `x=` is an option with a value and `x=?` one whose value may be attached to it.
    """
    known = frozenset(grammar.split())
    options: list[tuple[str, Value]] = []
    operands: list[Value] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            operands += reversed(rest)
            break
        if word is None and permuted:
            return None  # it may be an option
        if word is None or word == "-" or not word.startswith("-"):
            operands.append(word)
            if permuted:
                continue
            operands += reversed(rest)
            break
        found = _long(word, rest, known) if word.startswith("--") else _short(word, rest, known)
        if found is None:
            return None
        options += found
    return Parsed(tuple(options), tuple(operands))


def _long(word: str, rest: list[Value], known: frozenset[str]) -> list[tuple[str, Value]] | None:
    name, assigned, value = word.partition("=")
    if assigned:
        return [(name, value)] if known & {f"{name}=", f"{name}=?"} else None
    if name in known or f"{name}=?" in known:
        return [(name, "")]
    return [(name, rest.pop())] if f"{name}=" in known and rest else None


def _short(word: str, rest: list[Value], known: frozenset[str]) -> list[tuple[str, Value]] | None:
    if word[1:].isdecimal() and "-N" in known:
        return [("-N", word[1:])]
    options: list[tuple[str, Value]] = []
    for index, letter in enumerate(word[1:], start=2):
        name = f"-{letter}"
        if name in known:
            options.append((name, ""))
        elif f"{name}=?" in known:
            return [*options, (name, word[index:])]
        elif f"{name}=" in known and (word[index:] or rest):
            return [*options, (name, word[index:] or rest.pop())]
        else:
            return None
    return options


_WRAPPERS: Mapping[str, str] = {
    "env": "- -i -u= -0 --ignore-environment --unset= --null",
    "nice": "-n= -N --adjustment=",
    "ionice": "-c= -n= -t --class= --classdata= --ignore",
    "nohup": "",
    "builtin": "",
    "command": "-p -v -V",
    "exec": "-c -l -a=",
    "time": "-p",
    "timeout": "-k= -s= -v --foreground --preserve-status --kill-after= --signal= --verbose",
    "setsid": "-c -f -w --ctty --fork --wait",
    "stdbuf": "-i= -o= -e= --input= --output= --error=",
    "setpriv": "--reuid= --regid= --groups= --init-groups --clear-groups --keep-groups --reset-env --no-new-privs",
    "runuser": "-u= -g= -G= --user= --group= --supp-group=",
    "xargs": (
        "-0 -r -t -x -n= -L= -P= -I= -s= -d= -a= -E= -i=? -l=? --null --no-run-if-empty --verbose --exit --max-args= "
        "--max-lines= --max-procs= --replace= --delimiter= --arg-file= --max-chars="
    ),
}
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def take_wrapper_off(words: Sequence[Value]) -> Sequence[Value] | None:
    """
    Return the command that `env`, `nice` and the like run, itself where it is none of them, and none when they only
    print; None for a way to call them that isn't known.
    """
    name = (words[0] or "").rpartition("/")[2]
    grammar = _WRAPPERS.get(name)
    if grammar is None:
        return words
    parsed = parse_options(words[1:], grammar, permuted=False)
    if parsed is None:
        return None
    if name == "command" and parsed.has("-v", "-V"):
        return ()
    rest = parsed.operands[1:] if name == "timeout" or parsed.operands[:1] == ("-",) else parsed.operands
    if name == "env":
        assigned = [word or "" for word in takewhile(lambda word: word and _ASSIGNMENT.match(word), rest)]
        if any(is_steering(*word.split("=", 1)) for word in assigned):
            return None
        rest = rest[len(assigned) :]
    return (*rest, None) if name == "xargs" and rest else rest


READERS: Mapping[str, str] = {
    "sort": (
        "-b -c -C -d -f -g -h -i -m -M -n -r -R -s -u -V -z -k= -t= -S= --key= --field-separator= --unique --reverse "
        "--numeric-sort --version-sort --stable --zero-terminated --check --human-numeric-sort --ignore-case"
    ),
    "uniq": "-c -d -D -i -u -z -f= -s= -w= --count --repeated --unique --ignore-case",
    "file": "-b -i -L -h -k -N -p -r -s -z -0 -F= -m= --brief --mime --mime-type --mime-encoding --dereference",
    "date": "-u -R -I=? -d= -r= --date= --utc --universal --iso-8601=? --rfc-3339= --reference= --rfc-email",
    "hostname": "-a -A -d -f -i -I -s -y --alias --domain --fqdn --long --ip-address --all-ip-addresses --short",
    "gunzip": "-c -d -f -l -n -q -t --stdout --to-stdout --list --test",
    "gzip": "-c -d -f -l -n -q -t -N --stdout --to-stdout --list --test --decompress --best --fast",
    "bzip2": "-c -d -f -q -t -N --stdout --test --decompress",
    "xz": "-c -d -e -f -l -q -t -N --stdout --to-stdout --list --test --decompress",
    "zstd": "-c -d -f -l -q -t -N --stdout --list --test --decompress",
    "sed": "-n -E -r -s -u -z -l= -e= --quiet --silent --regexp-extended --null-data --posix --expression=",
    "awk": "-F= -v= --field-separator= --assign=",
    "hash": "-r",
    "ss": "-t -u -n -l -p -a -4 -6 -x -o -e -m -i -s -H",
    "mktemp": "-d -q -u -t -p= --directory --dry-run --quiet --tmpdir=? --suffix=",
    "tempfile": "",
    "dpkg-architecture": "-q= -a= -t= --query= --host-arch= -e= -i= -s -l",
}
"""Programs that write nothing but their output with these options, as far as `reading` finds nothing else."""

CHANGERS: Mapping[str, str] = {
    "rm": "-f -r -R -v -d --force --recursive --verbose --dir --one-file-system --preserve-root",
    "rmdir": "-p -v --parents --verbose --ignore-fail-on-non-empty",
    "unlink": "",
    "mkdir": "-p -v -m= --parents --verbose --mode=",
    "touch": "-a -c -m -f -r= -d= -t= --no-create --reference= --date=",
    "tee": "-a -i --append --ignore-interrupts",
    "mkfifo": "-m= --mode=",
    "truncate": "-s= -c -r= --size= --reference= --no-create",
    "mv": "-f -v -n -u --force --verbose --no-clobber --update",
    "cp": "-f -p -v -n -u -L --force --verbose --no-clobber --update --dereference --preserve=?",
    "install": "-d -m= -o= -g= -v -p --mode= --owner= --group= --directory --verbose --preserve-timestamps",
}
"""Programs that change the paths among their operands, all or the last one, and nothing else with these options."""
