# SPDX-License-Identifier: Apache-2.0
"""What isn't known by option, builtin and path needs execution: one line for each way to do something unseen."""

from __future__ import annotations

import pytest

from copacetic.updates import ScriptClass
from scripts import test_scripts
from scripts.test_scripts import IMAGE, classify, script
from support.image.trees import Content

folder = test_scripts.folder

PROGRAMS = (
    "awk basename cat cp date dd env find grep head id install ln ls mktemp mv nice rm sed sort stat tar tee touch"
)
MORE: dict[str, Content] = {
    **IMAGE,
    **{f"usr/bin/{name}": "" for name in (*PROGRAMS.split(), "uniq", "xargs", "timeout", "file", "gzip", "systemctl")},
    "usr/local/bin/stat": "",
    "usr/bin/db_load": "",
}

ACTS = [
    # wrappers, of which an option's value is no program
    "nice -n 10 other",
    "ionice -c 3 other",
    "env -u X other",
    "env PATH=/opt/x id",
    "env -S 'touch x'",
    "xargs -n 1 other",
    "xargs -I {} other {}",
    "command -p other",
    "command -- other",
    "timeout 5 other",
    "exec -a x other",
    "exec command other",
    # what the shell itself knows
    "alias id=other; id",
    "coproc other",
    "let x=1",
    "mapfile -C other x </etc/passwd",
    "enable -n test",
    "hash -p /usr/bin/touch date",
    "shopt -s expand_aliases",
    "PATH=/usr/lib/tool/bin:$PATH; mytool",
    "PA\\\nTH=/opt; mytool",
    "command_not_found_handle() { other; }; no-such",
    # programs of the package's own
    "/usr/lib/tool/stat /x",
    "/usr/lib/tool/service x",
    "/usr/bin/../lib/tool/id",
    "stat /x",
    "db_load x",
    # programs that read, until they are told to write
    "sed 'w /etc/x' /etc/passwd",
    "sed 's/a/b/w /etc/x' /etc/passwd",
    "sed '1e other' /etc/passwd",
    "sed -n -f /etc/x /etc/passwd",
    "sed --in-place=.bak s/a/b/ /etc/passwd",
    "sed -n --in-pl s/a/b/ /etc/passwd",
    "awk 'BEGIN { f = \"/etc/x\"; print > f }'",
    "awk 'BEGIN { \"other\" | getline }'",
    "awk -f /etc/x",
    "sort -o/etc/x /etc/passwd",
    "sort --output=/etc/x /etc/passwd",
    "sort --outp=/etc/x /etc/passwd",
    "sort $(other) /etc/passwd",
    "find /etc -fls /etc/x",
    "find /etc -okdir other \\;",
    "find /etc -exec other {} +",
    "find /etc $(id)",
    "uniq /etc/passwd /etc/x",
    "file -C",
    "mktemp /etc/x.XXXX",
    "mktemp -p /etc x.XXXX",
    "mktemp x.XXXX",
    "gzip /etc/passwd",
    "systemctl enable x",
    # where something goes to
    "cp --target-directory=/etc /tmp/x",
    "cp -t /etc /tmp/x",
    "cp -a /etc/x /tmp/x",
    "cp /etc/x",
    "ln -s /etc /tmp/x",
    "ln -s /tmp/x",
    "mv /etc/x /tmp/x",
    "install -D -t /etc /tmp/x",
    "tar -xf /tmp/x --directory=/etc",
    "dd if=/etc/passwd of=/etc/x",
    "tee /etc/x",
    "touch /tmp/../etc/x",
    "touch /proc/self/root/etc/x",
    "touch /tmp/{a,../etc/x}",
    "rm -f -- $(id)",
    "rm -f /etc/pass*",
    # what is run while something else is expanded
    ": $(( $(other) ))",
    ": ${x:-$(other)}",
    "PS4='$(other)'; set -x; :",
    "cat <<E\n$(other)\nE",
    "trap -- other EXIT",
    "$(id) x",
    "{touch,/etc/x}",
    # what only fails in some shells
    "trap : DEBUG || other",
    "trap : EXIT 99 || other",
    "trap nothing || other",
    "export 1a || other",
    "export -g x || other",
    "readonly x=1; export x=2 || other",
    "readonly x=1; unset x || other",
    "unset -z x || other",
    "set -o errtrace || other",
    "/usr/bin/touc? /etc/x",
]  # fmt: skip


@pytest.mark.parametrize("line", ACTS)
def test_what_may_do_something_needs_execution(line: str) -> None:
    verdict = classify(None, script(line), fresh=True, more=MORE)

    assert verdict.verdict is ScriptClass.NEEDS_EXECUTION, verdict


ONLY_LOOKS = [
    "nice -n 10 grep x /etc/passwd; env LC_ALL=C sort -u -k 2,2 /etc/passwd",
    "nice -n 10 absent; env -u X absent",
    "timeout -k 1 5 ls | xargs -r -n 1 basename",
    "sed -n -e 's/^a: //p' -e '/x/,$!d;q' /etc/passwd",
    "sed ':a;N;$!ba;s/\\n/ /g' /etc/passwd",
    "awk -F: '$3 >= 1000 || NR == 1 { print $1 }' /etc/passwd",
    "find /etc -maxdepth 1 -type f -name 'x*' -print0 | xargs -0 grep x",
    "find /etc -name x -exec grep -q y {} \\;",
    "t=$(mktemp); mktemp -d -t x.XXXX; mktemp -d /tmp/x.XXXX",
    "cp /etc/passwd /tmp/x; rm -rf /tmp/x /tmp/y.*; touch /run/x; echo x | tee /tmp/y",
    "gzip -dc /etc/x.gz; dd if=/dev/urandom bs=1 count=4 2>/dev/null",
    "PATH=/usr/sbin:$PATH; systemctl daemon-reload",
    "command -v absent >/dev/null && absent",
    "trap 'rm -f /tmp/x' EXIT; hash; type id",
    "trap 'rm -f /tmp/x' 0 INT 15 || other; trap - EXIT || other; export A=b C || other; unset -f a b || other",
]  # fmt: skip


@pytest.mark.parametrize("line", ONLY_LOOKS)
def test_what_only_looks_does_not(line: str) -> None:
    more = {path: content for path, content in MORE.items() if path != "usr/local/bin/stat"}
    verdict = classify(None, script(line), fresh=True, more=more)

    assert verdict.verdict is ScriptClass.HARMLESS, verdict
