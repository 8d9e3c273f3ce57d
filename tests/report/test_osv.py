# SPDX-License-Identifier: Apache-2.0
"""What is odd in OSV-Scanner's reports."""

from __future__ import annotations

from typing import Any

from support.value.reports import load, rows


def test_osv_s_fixes_are_those_of_the_package_s_own_release_and_of_all_its_branches() -> None:
    def fix(document: Any) -> None:
        package = document["results"][0]["packages"][0]
        name = package["package"]["name"]
        package["package"]["os_package_name"] = "libodbc2"
        package["vulnerabilities"][0]["affected"] = [
            {
                "package": {"name": name, "ecosystem": ecosystem},
                "ranges": [{"type": kind, "events": [{"introduced": "0"}, {"fixed": version}]}],
            }
            for ecosystem, kind, version in (
                ("Debian:10", "ECOSYSTEM", "2.3.11-2+deb10u1"),
                ("Debian:11", "ECOSYSTEM", "2.3.11-3+deb11u1"),
                ("Debian:10", "GIT", "0123abc"),
                ("Debian:10", "ECOSYSTEM", "2.4-1"),
            )
        ]

    row = "CVE-2024-1013 libodbc2 2.3.11-2 > 2.3.11-2+deb10u1 2.4-1 (unknown, deb)"
    assert rows(load("osv.json", fix))[0] == row
