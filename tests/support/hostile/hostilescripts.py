# SPDX-License-Identifier: Apache-2.0
"""
Scripts that are small and cost a lot, made by name, for `BoundedChild`: judged as a .deb's postinst and as an apk's.

Nobody can tell what they come to, so that a package with one needs execution; `HARMLESS` lists those that end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.changes import ChangeSet
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.runner import ScriptCall, ScriptRunner
from copacetic.scripts.surroundings import ImageSurroundings
from copacetic.unpack.apk.scripts import APK
from copacetic.unpack.deb.scripts import ScriptSet, UpgradeJudge
from copacetic.updates import ScriptVerdict
from support.image.trees import Content, symlink, tree
from support.value.values import key

IMAGE: Mapping[str, Content] = {
    **{f"usr/bin/{name}": "x" for name in ("sh", "cat", "chmod", "env", "nice", "rm", "sort")},
    **{f"etc/many/{number}": "" for number in range(3_000)},
    "bin": symlink("usr/bin"),
    "loop": symlink("loop"),
}
FEW = " ".join(str(number) for number in range(64))
ASSIGNED = "".join(f"a{number}=1\n" for number in range(20_000))


def _around(opening: str, inner: str, closing: str, count: int) -> str:
    return opening * count + inner + closing * count


_LANGUAGE = {
    # what is small becomes large
    "values that double": "x=aaaaaaaa\n" + "x=$x$x\n" * 40,
    "a value that doubles in a loop": f"x=a; for i in {FEW}; do x=$x$x; done\n",
    "a text that doubles": f"x='{'a ' * 2_000}'\n" + 'x="$x $x"\n' * 20 + "cat $x\n",
    "arguments that double": "set -- a b c\n" + 'set -- "$@" "$@"\n' * 40 + 'true "$@"\n',
    # what is done once is done again and again
    "a trap that sets two": "f() {\ntrap f EXIT\ntrap f EXIT\nx=1\n}\nf\n",
    "traps over variables": ASSIGNED + "trap 'cat a' EXIT\n" * 20_000,
    "many arguments that are given on": "set -- " + "a " * 300_000 + "\nf() { cat $@; }\n" + "f $@; f $@; f $@\n" * 9,
    "many arguments that are shifted": "set -- " + "a " * 200_000 + "\n" + "shift\n" * 20_000,
    "variables on paths that part": ASSIGNED + "$x && :\n" * 15_000,
    "definitions on paths that part": "$x && f() { :; }\n" * 15_000 + "f\n",
    "commands that are put together": f"x='case a in {'b) ;; ' * 2_000}esac'\n" + 'eval "$x"\n' * 1_000,
    "a prefix of a long value": f"x={'a' * 3_000}; y=${{x##*{'a' * 1_500}b}}\n",
    # what takes long to read
    "arithmetic that is none": "x=" + _around("$((", "a", ") )", 25) + "\n",
    "here-documents": "cat <<E\nE\n" * 60_000,
    "here-documents on one line": "cat " + "<<E " * 20_000 + "\n" + "E\n" * 20_000,
    "very many commands": "a\n" * 400_000,
    "very many parts of a word": "x=" + "`a`" * 200_000 + "\n",
    # what is deep
    "values in values": "x=" + _around("${a:-", "1", "}", 2_000) + "\n",
    "quotes in values": "x=" + _around('"${a:-', "1", '}"', 2_000) + "\n",
    "arithmetic in arithmetic": "x=" + _around("$((", "1", "))", 2_000) + "\n",
    "functions of functions": "f() " * 3_000 + "{ :; }\n",
    "very many conditions": "if $x; then a\n" + "elif $x; then a\n" * 3_000 + "fi\n",
    "calls in conditions": "".join(
        f"f{n + 1}() {{\n{_around('if $x; then :; ', f'f{n}; ', 'fi; ', 50)}\n}}\n" for n in range(14)
    )
    + "f0() { cat a; }\nf13\n",
    "very many negations": "[ " + "! " * 3_000 + "a ] && sort\n",
}
_AROUND = {
    "files that are removed, and others": "".join(f"rm -f /tmp/{n}\n" for n in range(15_000))
    + "chmod 755 /bin/sh\n" * 15_000,
    "patterns in a loop": f"for i in {FEW}; do for j in {FEW}; do for x in /etc/many/1*; do :; done; done; done\n",
    "patterns that are removed": "rm -f /etc/many/x*\n" * 4_000,
    "paths of very many names": "".join(f"cat /{'a/' * 2_000}{n}\n" for n in range(200)),
    "programs around programs": "nice " * 5_000 + "sort\n",
    "very many assignments before a program": "env " + "A=b " * 100_000 + "sort\n",
    "programs around programs with assignments": "env A=b " * 5_000 + "sort\n",
    "a parameter of very many digits": "sort ${" + "1" * 6_000 + "}\n",
    "one path of very many names": "cat /" + "a/" * 200_000 + "b\n",
    "links that lead to each other": "[ -e /loop ] || [ -e /loop/x ] && sort\nfor i in /loop/*; do cat /loop/$i; done\n",
    "very many arms": "case $(sort) in\n" + "".join(f"a{n}) cat a{n};;\n" for n in range(2_000)) + "esac\n",
}
"""In which what is around a script has a part, and so the family."""
_CASES = _LANGUAGE | _AROUND
HARMLESS = {
    "a parameter of very many digits",
    "one path of very many names",
    "links that lead to each other",
    "very many arms",
}


def cases() -> list[tuple[str, str]]:
    """Return names, each with the family that the script is judged by."""
    return [*((name, "apk") for name in _CASES), *((name, "deb") for name in _AROUND)]


def make(folder: Path, name: str, _family: str) -> str:
    """Write it into a folder."""
    text = f"#!/bin/sh\n{_CASES[name]}"
    (folder / "script").write_text(text)
    return str(len(text))


def use(folder: Path, _name: str, family: str) -> str:
    """Return the verdict, and what it says."""
    text = (folder / "script").read_text()
    verdict = _judge_deb(text) if family == "deb" else _run_apk(text)
    return f"{verdict.verdict.value}: {verdict.reason}"


def _judge_deb(text: str) -> ScriptVerdict:
    changes = ChangeSet()
    around = ImageSurroundings(TreeBuilder(tree(IMAGE)), changes, lambda *_: None)
    scripts = ScriptSet(key("x:all"), "", "1", {}, {"postinst": text})
    judge = UpgradeJudge(around, changes)
    around.unstable = judge.unstable_paths([scripts])
    (judged,) = judge.judge_package(scripts)
    return judged.verdict


def _run_apk(text: str) -> ScriptVerdict:
    image = tree(IMAGE)
    runner = ScriptRunner(APK, ScriptEngine(TreeBuilder(image), 0), image, "apk")
    return runner.run(ScriptCall(key("x:all"), "post-install", text, ("1",)))
