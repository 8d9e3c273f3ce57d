# SPDX-License-Identifier: Apache-2.0
"""
Inputs made wrong where it matters: by the format's own grammar, with lengths and checksums put right again.

A change of bytes at random ends at a parser's first check, and so would all of them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from support.deb.debs import ar

Mutate = Callable[[Random, bytes], bytes]

NUMBERS = [
    b"0",
    b"-1",
    b"+10",
    b"1_0",
    b"0o17",
    b"0x10",
    b" 7",
    b"1e5",
    b"9" * 30,
    b"9" * 4400,
    b"\xd9\xa3",
    b"\xc2\xb2",
]
WORDS = [
    b"", b"..", b"/", b"a/../../b", b"\0", b"\xff", b"\x1b[31m", b"\xe2\x80\xae", b"\xc2\x85", b"a" * 300, b"x" * 5_000,
    b"http://[x/", b"http://a:b/", b"http://u:p@h:80/p?q#f", b"file:///etc/passwd", b"${a}", b"$(ARCH)", b"(", b")", b"[",
    b"]", b"<", b"|", b",", b"=", b":", b"@", b"'", b'"', b"\\", b"*", b"?", b"~", b"%s", b"{}", b"foo", b"a b", b"1:2-3",
    b"\xed\xa0\x80", b"Package: foo", b"-", b"#", b"!", b"obsolete", b"all", b"amd64", b"Q1", b"virtual",
    *NUMBERS,
]  # fmt: skip
_TOKEN = re.compile(rb"[^\s:,=/()<>|\[\]]+")
_VALUES: list[Any] = [
    None, True, False, 0, -1, 10**30, 1.5, "", "x", "\0", "\ud800", "..", "http://[x/", "a" * 5_000, [], {}, [[]], [None],
    {"": None}, ["x"] * 50, "sha256:" + "a" * 64, "deb", 2, "1_0", "-1",
]  # fmt: skip


def change_bytes(random: Random, data: bytes) -> bytes:
    """Change, remove or repeat a few bytes."""
    if not data:
        return bytes(random.randrange(256) for _ in range(random.randrange(8)))
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = random.randrange(256)
        elif kind == 1:
            changed[at:at] = random.choice(WORDS)
        elif kind == 2:
            del changed[at : at + random.randrange(1, 20)]
        elif kind == 3:
            changed[at:at] = changed[at : at + random.randrange(1, 60)]
        else:
            other = random.randrange(len(changed) + 1)
            changed[at:at] = changed[other : other + random.randrange(1, 60)]
    return bytes(changed)


def change_lines(random: Random, data: bytes) -> bytes:
    """Change words of lines, and lines as wholes, as a text of fields or of rows has them."""
    lines = data.split(b"\n")
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(lines))
        kind = random.randrange(9)
        if kind < 4:
            lines[at] = _change_word(random, lines[at])
        elif kind == 4:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif kind == 5 and len(lines) > 1:
            del lines[at]
        elif kind == 6:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 7:
            lines.insert(at, random.choice((b"", b" ", b" .", b"# x", b"X: y", b"\t", random.choice(WORDS))))
        else:
            lines[at] = random.choice((b" ", b"")) + lines[at] + random.choice((b" ", b"\r", b"\t", b":"))
    return b"\n".join(lines)


def _change_word(random: Random, line: bytes) -> bytes:
    words = list(_TOKEN.finditer(line))
    if not words:
        return line + random.choice(WORDS)
    word = random.choice(words)
    old = word[0]
    pool = NUMBERS if old.isdigit() and random.random() < 0.7 else WORDS
    new = random.choice((random.choice(pool), old + old, old + random.choice(WORDS), old[:-1], old.swapcase()))
    return line[: word.start()] + new + line[word.end() :]


def change_json(random: Random, data: bytes) -> bytes:
    """Change values of a document, whatever type they are of."""
    document = json.loads(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        document = _change_value(random, document, 0)
    text = json.dumps(document).encode()
    return change_bytes(random, text) if random.random() < 0.1 else text


def _change_value(random: Random, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and value and (depth < 2 or random.random() < 0.85):
        key = random.choice(list(value))
        kind = random.randrange(12)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {**value, random.choice(("x", "", key.upper(), "a" * 300)): random.choice(_VALUES)}
        return {**value, key: _change_value(random, value[key], depth + 1)}
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        kind = random.randrange(10)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return [*value, *value]
        return [*value[:at], _change_value(random, value[at], depth + 1), *value[at + 1 :]]
    if isinstance(value, str) and random.random() < 0.5:
        return _change_word(random, value.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    if isinstance(value, int) and random.random() < 0.5:
        return value + random.choice((1, -1, 1 << 31, 1 << 63, -(1 << 63), -value))
    return random.choice(_VALUES)


# -- tar -------------------------------------------------------------------------------------------------------------

_FIELDS = (
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (157, 100),
    (265, 32),
    (297, 32),
    (329, 8),
    (345, 155),
)
_NAMES = [
    b"../x", b"/", b"./", b"a//b", b".wh.x", b".wh..wh..opq", b"\xff", b"a/\0/b", b"usr/../..", b"control", b".PKGINFO",
    b"\x1b[0m", b"x" * 100, b"APKINDEX", b"usr", b"usr/",
]  # fmt: skip
_RECORDS = (
    b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"uname", b"SCHILY.xattr.user.x", b"GNU.sparse.major", b"comment",
    b"APK-TOOLS.checksum.SHA1", b"hdrcharset",
)  # fmt: skip


def change_tar(random: Random, data: bytes) -> bytes:
    """Change headers, and put others in front of them; each with a checksum that is right."""
    entries = _entries(data)
    for _ in range(random.choice((1, 1, 2))):
        if not entries:
            break
        at = random.randrange(len(entries))
        header, content = entries[at]
        kind = random.randrange(10)
        if kind < 5:
            entries[at] = (_change_header(random, header), content)
        elif kind == 5:
            entries.insert(at, _extension(random))
        elif kind == 6:
            entries.insert(at, random.choice(entries))
        elif kind == 7 and len(entries) > 1:
            del entries[at]
        elif kind == 8:
            entries[at] = (header, change_bytes(random, content)[: len(content)].ljust(len(content), b"\0"))
        else:
            other = random.randrange(len(entries))
            entries[at], entries[other] = entries[other], entries[at]
    end = bytes(random.choice((1024, 1024, 1024, 1024, 512, 0)))
    return b"".join(header + content for header, content in entries) + end


def _entries(data: bytes) -> list[tuple[bytes, bytes]]:
    entries = []
    at = 0
    while at + 512 <= len(data) and any(header := data[at : at + 512]):
        size = int(header[124:135].strip(b"\0 ") or b"0", 8)
        end = at + 512 + size + -size % 512
        entries.append((header, data[at + 512 : end]))
        at = end
    return entries


def _change_header(random: Random, header: bytes) -> bytes:
    if random.random() < 0.2:
        return seal(header[:156] + random.choice(b"0123456LKxgS7V\0D").to_bytes() + header[157:])
    offset, size = random.choice(_FIELDS)
    numbers = [
        b"\xff" * size, b"\x80" + bytes(size - 1), b"\x80" + bytes(size - 2) + b"\1", b"7" * (size - 1), b"-1", b"1_0", b"0o17",
        b"+7", b" " * size, b"", b"8", b"\xff" * (size - 1) + b"\0", b"00000000001",
    ]  # fmt: skip
    value = random.choice(
        _NAMES if offset in {0, 157, 345} else [b"", b"root", b"\xff", b"a:b"] if offset in {265, 297} else numbers
    )
    return seal(header[:offset] + value[:size].ljust(size, b"\0") + header[offset + size :])


def _extension(random: Random) -> tuple[bytes, bytes]:
    kind = random.choice((b"x", b"x", b"x", b"g", b"L", b"K"))
    if kind in b"LK":
        body = random.choice(_NAMES) + b"\0"
    else:
        value = random.choice((random.choice(_NAMES), random.choice(NUMBERS), b"0.5", b"nan", b"inf", b"1e300", b""))
        body = _record(random.choice(_RECORDS), value)
    header = bytearray(512)
    header[:4] = b"././"
    header[124:136] = b"%011o\0" % len(body)
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    return seal(bytes(header)), body + bytes(-len(body) % 512)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return str(size).encode() + rest


def seal(header: bytes) -> bytes:
    """Put a header's checksum right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


# -- archives --------------------------------------------------------------------------------------------------------


def change_deb(random: Random, data: bytes) -> bytes:
    """Change a part of a package whose parts are plain, or the archive around them."""
    members = []
    at = 8
    while at < len(data):
        size = int(data[at + 48 : at + 58])
        members.append((data[at : at + 16].decode().rstrip(), data[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
    kind = random.randrange(10)
    if kind == 0:
        return change_bytes(random, data)
    if kind == 1:
        random.shuffle(members)
        return ar(members if random.random() < 0.5 else members[1:])
    number = random.choice([n for n, (name, _) in enumerate(members) if name.endswith(".tar")])
    name, tar = members[number]
    if name == "control.tar" and random.random() < 0.6:
        entries = _entries(tar)
        at = next(n for n, (header, _) in enumerate(entries) if header.startswith(b"./control\0"))
        size = int(entries[at][0][124:135], 8)
        text = change_lines(random, entries[at][1][:size])
        entries[at] = _with_content(entries[at][0], text)
        tar = b"".join(header + content for header, content in entries) + bytes(1024)
    else:
        tar = change_tar(random, tar)
    members[number] = (name, tar)
    return ar(members)


def _with_content(header: bytes, content: bytes) -> tuple[bytes, bytes]:
    sized = header[:124] + b"%011o\0" % len(content) + header[136:]
    return seal(sized), content + bytes(-len(content) % 512)


def change_apk(random: Random, data: bytes) -> bytes:
    """Change the control part or the payload of a package, which then vouch for each other again."""
    control, payload = _members(data)
    if random.random() < 0.1:
        return change_bytes(random, data)
    if random.random() < 0.6:
        payload = change_tar(random, payload)
        digest = hashlib.sha256(_gzip(payload)).hexdigest().encode()
        control = _change_info(control, lambda text: re.sub(rb"datahash = .*", b"datahash = " + digest, text))
    elif random.random() < 0.7:
        control = _change_info(control, lambda text: change_lines(random, text))
    else:
        control = change_tar(random, control).removesuffix(bytes(1024))
    return _gzip(control) + _gzip(payload)


def change_index(random: Random, data: bytes) -> bytes:
    """Change the text of an `APKINDEX.tar.gz`."""
    if random.random() < 0.1:
        return change_bytes(random, data)
    tar = _members(data)[0]
    if random.random() < 0.3:
        return _gzip(change_tar(random, tar))
    return _gzip(_change_info(tar, lambda text: change_lines(random, text), name=b"APKINDEX") + bytes(1024))


def _change_info(tar: bytes, change: Callable[[bytes], bytes], name: bytes = b".PKGINFO") -> bytes:
    entries = _entries(tar)
    for at, (header, content) in enumerate(entries):
        if header.startswith(name + b"\0"):
            entries[at] = _with_content(header, change(content[: int(header[124:135], 8)]))
    return b"".join(header + content for header, content in entries)


def _members(data: bytes) -> list[bytes]:
    import zlib

    members = []
    while data:
        decoder = zlib.decompressobj(31)
        members.append(decoder.decompress(data))
        data = decoder.unused_data
    return members


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 0, mtime=0)


def change_adb(random: Random, data: bytes) -> bytes:
    """Change values of a plain container: types, numbers and offsets, which no checksum covers."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(8, len(changed) - 3) & ~3
        word = struct.unpack_from("<I", changed, at)[0]
        kinds = (0, 1, 2, 3, 8, 9, 10, 13, 14, 15)
        choices: Sequence[int] = (
            word & 0x0FFFFFFF | random.choice(kinds) << 28,
            word + random.choice((1, -1, 4, -4, 256)) & 0xFFFFFFFF,
            word & 0xF0000000 | random.randrange(len(changed)),
            random.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 28, 14 << 28 | 8)),
        )
        struct.pack_into("<I", changed, at, random.choice(choices))
    if random.random() < 0.1:
        return change_bytes(random, bytes(changed))
    return bytes(changed)


def change_script(random: Random, data: bytes) -> bytes:
    """Change a script by lines, or by the shell's own words."""
    if random.random() < 0.5:
        return change_lines(random, data)
    pieces = re.split(rb"(\s+|[;|&(){}$\"'`<>=])", data)
    for _ in range(random.choice((1, 2, 3))):
        at = random.randrange(len(pieces))
        pieces[at] = random.choice((random.choice(_SHELL), random.choice(pieces), pieces[at] * 2, b""))
    return b"".join(pieces)


_SHELL = [
    b"if ", b"; then ", b"; fi\n", b"while ", b"; do ", b"; done\n", b"for x in ", b"case x in ", b"esac", b"{ ", b"; }", b"(", b")",
    b"$(", b"`", b"$((", b"))", b"${x:-", b"}", b"<<E\n", b"\nE\n", b"'", b'"', b"\\", b"|", b"&&", b"||", b"&", b";;", b"!", b"f() {",
    b"exec ", b"eval ", b"set -- ", b"shift ", b"trap ", b". ", b"return ", b"exit ", b"unset ", b"export ", b"readonly ", b"[ ",
    b"-a", b"-o", b"break ", b"continue ", b"$@", b"$*", b"$#", b"$?", b"${#x}", b"${x%%*}", b">", b"2>&1", b"printf ", b"test ",
]  # fmt: skip
