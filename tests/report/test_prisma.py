# SPDX-License-Identifier: Apache-2.0
"""What is odd in Prisma's results."""

from __future__ import annotations

from typing import Any

from support.value.reports import load, rows


def test_a_prisma_s_list_of_packages_tells_what_is_a_library() -> None:
    def list_it(document: Any) -> None:
        document["results"][0]["packages"].append({"type": "python", "name": "pycrypto", "version": "2.6.1"})
        document["results"][0]["vulnerabilities"][1]["status"] = "fixed in 2.24-12, 2.27-1"

    assert rows(load("prisma.json", list_it)) == (
        "CVE-2013-7459 pycrypto 2.6.1 > - (critical, pypi)",
        "CVE-2018-6485 glibc 2.24-11+deb9u4 > 2.24-12 2.27-1 (high, deb source)",
    )
