# SPDX-License-Identifier: Apache-2.0
"""What is odd in JFrog Xray's scans."""

from __future__ import annotations

from typing import Any

import pytest

from support.value.reports import load, only


@pytest.mark.parametrize(
    ("component", "row"),
    [
        ("deb://debian:bookworm:libx11:2:1.8.4-2", "libx11 2:1.8.4-2"),
        ("deb://debian:openssl:1.1.1n-0+deb10u3", "openssl 1.1.1n-0+deb10u3"),
        ("alpine://3.18:libcrypto3:3.1.1-r1", "libcrypto3 3.1.1-r1"),
        ("alpine://openssl:1.1.1k-r0", "openssl 1.1.1k-r0"),
        ("rpm://el8:openssl:1:1.1.1k-4.el8", "openssl 1:1.1.1k-4.el8"),
        ("rpm://openssl:1.1.1k-4.el8", "openssl 1.1.1k-4.el8"),
        ("npm://@angular/core:12.0.0", "@angular/core 12.0.0"),
    ],
)
def test_xray_s_components_are_taken_apart(component: str, row: str) -> None:
    def rename(document: Any) -> None:
        document["rows"][0]["vulnerable_component"] = component

    (finding,) = only(load("xray-export.json", rename)).findings

    assert f"{finding.package} {finding.installed_version}" == row
