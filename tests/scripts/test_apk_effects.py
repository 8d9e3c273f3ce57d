# SPDX-License-Identifier: Apache-2.0
"""Single commands of scripts: what is done in the tree is what Alpine's own shell and busybox do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copacetic.oci.directory import DirectoryFilesystem
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts.engine import ScriptEngine
from copacetic.scripts.judgement import FAILS
from copacetic.scripts.runner import ScriptCall, ScriptRunner
from copacetic.unpack.apk.scripts import APK
from copacetic.updates import ScriptClass, ScriptVerdict
from support.apk.apkoracle import alpine_root, differences, run_in
from support.deb.composed import apply_changes, copy_root
from support.value.values import key

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("apk")]

NAMES = ("a", "b", "d", "d/a", "d/x.conf", "d/e", "l", "missing", "d/*", "*.conf", "none/*")
SETTING = """\
mkdir -p d/e; echo 1 > a; echo 2 > b; echo 3 > d/a; echo 4 > d/x.conf; ln -s d l; ln -s nowhere dangling
chmod 4755 b; chown 1:1 d/a; chown -h 2:2 dangling
"""


def follow(root: Path, script: str, *, busybox: str = "") -> ScriptVerdict:
    """Follow a script over a root, and change the root accordingly."""
    image = DirectoryFilesystem(root)
    tree = TreeBuilder(image)
    runner = ScriptRunner(APK, ScriptEngine(tree, int(time.time()), busybox=busybox), image, "apk2")
    verdict = runner.run(ScriptCall(key("demo:x86_64"), "post-upgrade", f"#!/bin/sh\n{script}", ("2-r0", "1-r0")))
    apply_changes(tree.finish(), root)
    return verdict


def make_script(rng: random.Random, folder: str) -> str:
    def path() -> str:
        return f"{folder}/{rng.choice(NAMES)}"

    def test() -> str:
        return f"[ {rng.choice(['', '! '])}-{rng.choice('edfLxs')} {path()} ]"

    def command() -> str:
        kinds: list[Callable[[], str]] = [
            lambda: f"rm {rng.choice(['', '-f ', '-rf '])}{path()}",
            lambda: f"rmdir {path()}",
            lambda: f"mkdir {rng.choice(['', '-p '])}{path()}/{rng.choice(['n', 'n/m'])}",
            lambda: f"ln -s{rng.choice(['', 'f', 'fn'])} {rng.choice(['a', 'x/y', '/etc'])} {path()}",
            lambda: f"mv {path()} {path()}",
            lambda: f"chmod {rng.choice(['644', '0755', '4711', '2644', '600'])} {path()} {path()}",
            lambda: (
                f"chown {rng.choice(['daemon', 'root:daemon', ':mail', 'nosuch', 'bin:0', 'games:', 'bin.mail'])} {path()}"
            ),
            lambda: f"chown -h daemon {path()}",
            lambda: f"chgrp {rng.choice(['mail', 'nosuch'])} {path()}",
            lambda: f"touch {path()}",
            lambda: f"cp -a {path()} {folder}/d",
            lambda: (
                f"for i in {path()}; do [ -e $i ] || continue; case $i in *.conf) continue;; esac; mv $i $i.conf; done"
            ),
            lambda: f'if [ "$(readlink {path()})" = d ]; then rm -f {path()}; fi',
        ]
        return rng.choice(kinds)()

    lines = []
    for _ in range(rng.randrange(1, 6)):
        chance = rng.random()
        if chance < 0.6:
            lines.append(command())
        elif chance < 0.8:
            lines.append(f"if {test()}; then {command()}; else {command()}; fi")
        else:
            lines.append(f"{test()} && {command()} {rng.choice(['&&', '||'])} {command()}")
    return "\n".join(f"{line} 2>/dev/null" if not line.startswith(("if", "for")) else line for line in lines) + "\n"


def compare(tmp_path: Path, seeds: range) -> tuple[int, int]:
    """Run scripts and follow them; returns how many could be followed, and how many made a difference."""
    real = alpine_root("3.20.3", tmp_path / "real")
    scripts = {seed: make_script(random.Random(seed), f"/t/{seed}") for seed in seeds}
    each = f"for seed in $(seq {seeds.start} {seeds.stop - 1}); do"
    run_in(real, f"{each} mkdir -p /t/$seed; cd /t/$seed; {SETTING} done")
    for seed, script in scripts.items():
        (real / f"t/{seed}.sh").write_text(script)
    ours = copy_root(real, tmp_path / "ours")
    statuses = run_in(real, f"cd /; {each} sh /t/$seed.sh 2>/dev/null; echo $?; done").output.split()
    verdicts = {seed: follow(ours, script) for seed, script in scripts.items()}
    found = differences(real, ours)
    failed = [seed for seed in seeds if verdicts[seed].reason == FAILS.reason]
    assert "0" not in {statuses[seed - seeds.start] for seed in failed}
    followed = [seed for seed in seeds if verdicts[seed].verdict is not ScriptClass.NEEDS_EXECUTION or seed in failed]
    assert [seed for seed in followed if seed not in failed and statuses[seed - seeds.start] != "0"] == []
    for seed in followed:
        wrong = [line for line in found if line.startswith(f"t/{seed}/")]
        assert not wrong, f"seed {seed}:\n{scripts[seed]}\n{verdicts[seed]}\n" + "\n".join(wrong)
    return len(followed), sum(verdicts[seed].verdict is ScriptClass.REPRODUCED for seed in seeds)


def test_random_scripts_do_what_the_real_shell_does(tmp_path: Path) -> None:
    followed, different = compare(tmp_path, range(150))

    assert followed > 70
    assert different > 25


@pytest.mark.soak
def test_many_random_scripts_do_what_the_real_shell_does(tmp_path: Path) -> None:
    for start in range(1_000, 6_000, 1_000):
        compare(tmp_path / str(start), range(start, start + 1_000))


BUSYBOX = {
    "3.10.2": "1.30.1-r2",
    "3.18.2": "1.36.1-r0",
    "3.20.3": "1.36.1-r29",
    "3.22.0": "1.37.0-r18",
    "3.23.6": "1.37.0-r30",
}


def account_command(rng: random.Random) -> str:
    name, group = rng.choice(["web", "db", "klogd", "ntp"]), rng.choice(["web", "db", "shadow", "nosuch"])
    return rng.choice(
        [
            f"addgroup -S {name}",
            f"addgroup -S -g {rng.choice(['42', '77', '150'])} {name}",
            f"adduser -S -D -H -h /dev/null -s /sbin/nologin -G {group} -g '{rng.choice(['x', 'web server'])}' {name}",
            f"adduser -SDH -G {group} {name}",
            f"adduser -S -D -u {rng.choice(['22', '555'])} -h /var/lib/{name} {name}",
            f"adduser -S {name}",
            f"adduser {name} {group}",
            f"addgroup {name} {group}",
        ]
    )


@pytest.mark.parametrize("release", BUSYBOX)
@pytest.mark.parametrize("seed", range(3))
def test_accounts_are_those_that_busybox_makes(release: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    real = alpine_root(release, tmp_path / "real")
    with (real / "etc/passwd").open("a") as passwd:
        passwd.write("odd:x:900:900:one line\x0c with\x85 ends\u2028that are none:/:/bin/false\n")
    ours = copy_root(real, tmp_path / "ours")
    script = "".join(f"{account_command(rng)} 2>/dev/null\n" for _ in range(12)) + "true\n"

    run_in(real, script)
    verdict = follow(ours, script, busybox=BUSYBOX[release])

    assert verdict.verdict is ScriptClass.REPRODUCED, verdict
    assert differences(real, ours) == [], script
