# SPDX-License-Identifier: Apache-2.0
"""The commands of Debian's maintainer scripts that have a rule of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from copacetic.scripts import effects
from copacetic.scripts.commands import BYTE_COMPILERS
from copacetic.scripts.handlers.adduser import is_for_debian
from copacetic.scripts.judge import CommandJudge, Rule, is_plain, known_words
from copacetic.scripts.judgement import HARMLESS, Harmless, Judgement, NeedsExecution, Reproduced
from copacetic.scripts.options import CHANGERS, parse_options
from copacetic.scripts.shell.expansion import Value
from copacetic.unpack.deb.recognised import BYTECODE, LINKS, LOCAL_FOLDERS

__all__ = ["DebJudge"]


@dataclass(slots=True)
class DebJudge(CommandJudge):
    """Judges what debhelper and the maintainers of Debian's packages write."""

    installed_version: str = ""
    """Of the package whose script it is, before the upgrade; empty for one that is new."""
    relinked: frozenset[str] = frozenset()
    """Words of what was reproduced of update-alternatives by now: what it has to do is another matter from then on."""
    precedes: Callable[[str, str], bool | None] = field(default=lambda _left, _right: None)
    """Tells whether the first version is older than or equal to the second."""

    def find_rule(self, name: str) -> Rule | None:
        """See `CommandJudge.find_rule`."""
        method = _RULES.get(name)
        return CommandJudge.find_rule(self, name) if method is None else partial(method, self)

    def do_maintscript(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """
        dpkg-maintscript-helper acts on upgrades from a version up to the one that it is given, and only when what it
        is to move away is there.
        """
        operands = list(words[1 : words.index("--")]) if "--" in words else list(words[1:])
        verb, path = (*operands, None, None)[:2]
        position = 2 if verb == "rm_conffile" else 3
        prior = operands[position] if len(operands) > position else ""
        if not self.installed_version:
            return HARMLESS
        if prior and self.precedes(self.installed_version, prior) is False:
            return HARMLESS
        test = "-L" if verb == "symlink_to_dir" else "-d" if verb == "dir_to_symlink" else "-e"
        there = self.image.test_file(test, path) if path is not None else None
        if there is False or (verb == "dir_to_symlink" and path and self.image.test_file("-L", path)):
            return HARMLESS
        return NeedsExecution(f"dpkg-maintscript-helper {verb or ''} has to act on {path or 'a path'}")

    def do_alternatives(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        known = known_words(words[1:])
        moved = not self.relinked.isdisjoint(known) or (bool(self.relinked) and not _names_alternative(words[1:]))
        if not moved and self.is_settled(words):
            return HARMLESS
        verbs = {word for word in known if word.startswith("--")} - {"--slave", "--force", "--quiet", "--verbose"}
        if len(known) < len(words) - 1 or not certain or verbs not in _ALTERNATIVES:
            return (
                HARMLESS
                if repeated and not moved
                else NeedsExecution("update-alternatives with words that are not known")
            )
        return Reproduced(
            "update-alternatives is reproduced", (effects.SetAlternative(("update-alternatives", *known)),)
        )

    def do_divert(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        return HARMLESS if repeated or self.is_settled(words) else NeedsExecution("dpkg-divert may move a file")

    def do_rmdir(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        parsed = parse_options(words[1:], CHANGERS["rmdir"])
        if not certain or parsed is None or repeated or self.is_settled(words):
            return self._changer("rmdir", words, repeated=repeated, certain=certain)
        if not all(map(is_plain, parsed.operands)) or not parsed.has("--ignore-fail-on-non-empty"):
            return self._changer("rmdir", words, repeated=repeated, certain=certain)
        parents = parsed.has("-p", "--parents")
        return Reproduced("rmdir is reproduced", (effects.RemoveFolders(known_words(parsed.operands), parents),))

    def do_touch(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        """libc6 puts a mark there for the time of its installation."""
        if words[1:] == ("/etc/ld.so.nohwcap",) and self.package.startswith("libc6"):
            return Harmless("its mark is there only while it is installed")
        return self._changer("touch", words, repeated=repeated, certain=certain)

    def do_links(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """Links to a file go; where there are none, nothing does."""
        target, pending = words[2], [words[1] or "/"]
        while pending and target is not None:
            found = self.image.find_paths(f"{pending.pop()}/*")
            if found is None:
                return NeedsExecution("links may have to go")
            for path in found:
                if self.image.test_file("-L", path) is False:
                    pending += [path] if self.image.test_file("-d", path) else []
                elif self.image.read_output(("readlink", path)) in (None, target):
                    return NeedsExecution(f"{path} may have to go")
        return HARMLESS if target is not None else NeedsExecution("links may have to go")

    def do_local_folders(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return HARMLESS

    def do_unmanaged(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """libgcrypt20's own program looks for builds of the library that no package has."""
        triplet, name = (*words, None, None)[-4:-2] if len(words) > 2 else (None, None)
        if triplet is None or name is None:
            return NeedsExecution("it may move libraries away")
        for folder in (f"/lib/{triplet}", f"/usr/lib/{triplet}"):
            for path in self.image.find_paths(f"{folder}/{name}*") or ():
                if self.image.resolve(path) not in self.changes.files and not self.image.test_file("-L", path):
                    return NeedsExecution(f"it may move {path} away")
        return HARMLESS

    def do_certificates(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return Reproduced("update-ca-certificates is reproduced", (effects.UpdateCertificates(),))

    def do_bytecode(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        return Reproduced(
            "byte code of modules that change is removed, Python makes it again", (effects.DropBytecode(),)
        )

    def do_python(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        if any(word is not None and word.endswith("/py_compile.py") for word in words):
            return self.do_bytecode(words, repeated, certain)
        return HARMLESS if repeated else NeedsExecution("it runs a Python program")

    def do_java(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        """Class data archives only speed up starting, and Java ignores one of another build."""
        program = words[0] or ""
        if "-version" in words:
            return HARMLESS
        if "-Xshare:dump" not in words or not program.endswith("/bin/java"):
            return self.judge_unknown("java", program, words, repeated=repeated)
        archive = f"{program.removesuffix('/bin/java')}/lib/server/classes.jsa"
        return Harmless(
            "the old build's class data archive is left out and no new one made: Java starts without, more slowly",
            (effects.RemoveFiles((archive,)),),
        )

    def do_users(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        known = known_words(words)
        if repeated or self.is_settled(words):
            return HARMLESS
        understood = len(known) == len(words) and is_for_debian(known)
        if not understood or not certain or self.image.has_program(known[0]) is not True:
            return NeedsExecution(f"{words[0]} may add a user or a group")
        return Reproduced(f"{words[0]} is reproduced", (effects.MakeAccount(known),))

    def do_ucf(self, words: Sequence[Value], repeated: bool, _certain: bool) -> Judgement:
        operands = [word for word in words[1:] if word is None or not word.startswith("-")]
        source = operands[0] if operands else None
        if not repeated:
            return NeedsExecution("ucf may change a configuration file")
        if source is not None and self.image.resolve(source) in self.changes.news:
            return NeedsExecution(f"ucf has to offer the new {source}")
        return HARMLESS

    def do_trigger(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """Activated triggers are judged by themselves."""
        return HARMLESS


def _names_alternative(words: Sequence[Value]) -> bool:
    """Tell whether it is known which alternative is meant, and with which others, whatever else isn't."""
    last = max((at + _NAME_AT[word] for at, word in enumerate(words) if word in _NAME_AT), default=0)
    return last < len(words) and None not in words[: last + 1]


_NAME_AT = {"--install": 2, "--slave": 2, "--set": 1, "--auto": 1, "--remove": 1, "--remove-all": 1}
"""How far after a verb of update-alternatives a name stands."""
_ALTERNATIVES = ({"--install"}, {"--remove"}, {"--auto"})
"""What is done of update-alternatives."""
_RULES: Mapping[str, Callable[[DebJudge, Sequence[Value], bool, bool], Judgement]] = {
    "dpkg-maintscript-helper": DebJudge.do_maintscript,
    "update-alternatives": DebJudge.do_alternatives,
    "update-ca-certificates": DebJudge.do_certificates,
    "clean-up-unmanaged-libraries": DebJudge.do_unmanaged,
    "dpkg-divert": DebJudge.do_divert,
    "rmdir": DebJudge.do_rmdir,
    "touch": DebJudge.do_touch,
    BYTECODE: DebJudge.do_bytecode,
    LOCAL_FOLDERS: DebJudge.do_local_folders,
    LINKS: DebJudge.do_links,
    "java": DebJudge.do_java,
    "ucf": DebJudge.do_ucf,
    "dpkg-trigger": DebJudge.do_trigger,
    **dict.fromkeys(("adduser", "addgroup", "useradd", "groupadd"), DebJudge.do_users),
    **dict.fromkeys(BYTE_COMPILERS, DebJudge.do_bytecode),
    **{f"python{version}": DebJudge.do_python for version in ("", "2", "3", *(f"3.{n}" for n in range(7, 20)))},
}
