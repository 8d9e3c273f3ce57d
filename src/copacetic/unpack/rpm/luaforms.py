# SPDX-License-Identifier: Apache-2.0
"""The forms of rpm's Lua that are known, and what they are in the shell: tables, no code."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BLOCKS", "CALLS", "IGNORED", "MOUNTED", "STAT_TESTS", "UNKNOWN_LUA"]

UNKNOWN_LUA = "copa-unknown-lua"
STAT_TESTS: Mapping[str, str] = {
    "access": "[ -e {0} ]",
    "utime": "[ -e {0} ]",
    "stat": "{{ [ -e {0} ] || [ -L {0} ]; }}",
    "readlink": "[ -L {0} ]",
    "link": "[ -L {0} ]",
    "directory": "{{ [ -d {0} ] && [ ! -L {0} ]; }}",
    "regular": "{{ [ -f {0} ] && [ ! -L {0} ]; }}",
}
"""Functions that tell something of a path, and types of files. Zero is true in Lua."""
CALLS: Mapping[str, str] = {
    "os.remove": "if [ -d {0} ] && [ ! -L {0} ]; then rmdir {0} || :; else rm -f {0}; fi",
    "os.rename": "if [ -e {0} ] || [ -L {0} ]; then mv -f {0} {1}; fi",
    "posix.chmod": "chmod {1} {0} || :",
    "posix.mkdir": "if [ ! -e {0} ] && [ ! -L {0} ]; then mkdir {0} || :; fi",
    "posix.rmdir": "rmdir {0} || :",
    "posix.symlink": "if [ ! -e {1} ] && [ ! -L {1} ]; then ln -s {0} {1} || :; fi",
    "posix.unlink": "rm -f {0}",
}
"""
Functions that change files. What is there already makes them fail, and nobody asks.
"""
MOUNTED = frozenset(("/proc", "/sys"))
"""Whatever is mounted there while a container runs hides the image's own directories, whatever mode they have."""
IGNORED: Mapping[str, str] = {"print": ":", "io.write": ":", "io.stdout:write": ":", "error": "exit 1"}
"""They say something, and one ends the script; what they are in the shell."""
BLOCKS: tuple[tuple[tuple[str, ...], int, str, str], ...] = (
    # bash, of EL7 to EL9, Fedora and Amazon Linux: it is one of the shells.
    (
        ("nl", "="),
        81,
        "0583db5e973be67e67270b5383eff345511f7ae35266b44b986fa3faa74e25cc",
        "copa-append-lines /etc/shells /bin/sh /bin/bash",
    ),
    # glibc: what is left of other platforms' libraries.
    (
        ("install_libs", "="),
        258,
        "b00b4e58d340b7c4287c8ccc035a63ac8a22f7a0089573cce93f851e046633ac",
        (
            "copa-remove-libraries @lib@/i686 @lib@/i686/nosegneg @lib@/power6 @lib@/power7 @lib@/power8 @lib@/power9 "
            "@lib@/glibc-hwcaps/*"
        ),
    ),
    (
        ("local", "have_include"),
        117,
        "3ec2c3ef00b6377578f65a1409f0bc2386e9d1683ad6fca03fe645ef714b1190",
        f"copa-has-line /etc/ld.so.conf 'include ld.so.conf.d/*.conf' || {UNKNOWN_LUA}",
    ),
    # The same of SUSE's.
    (
        ("libraries", "="),
        93,
        "8529c3cac085c3c28e0b693dd778b61bff059dbd0272879a32c6232490a3d286",
        f"[ ! -e /lib64/tls ] || {UNKNOWN_LUA}",
    ),
)
"""
Parts that are known as a whole: how they begin, how many tokens they have, a digest of them, in which lib64 is lib,
and what they are in the shell, with @lib@ for where they look for libraries.
"""
