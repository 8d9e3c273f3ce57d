# SPDX-License-Identifier: Apache-2.0
"""What is odd in SARIF."""

from __future__ import annotations

from typing import Any

import pytest

from copacetic.errors import UnsupportedReportError
from support.value.reports import load, rows


def test_sarif_of_somebody_unknown_is_refused_with_those_that_are_known() -> None:
    def rename(document: Any) -> None:
        document["runs"][0]["tool"]["driver"]["name"] = "CodeQL"

    with pytest.raises(UnsupportedReportError, match="is SARIF of 'codeql'; supported: that of docker scout, grype"):
        load("sarif-trivy.json", rename)


def test_snyk_s_advice_in_sarif_is_a_fix() -> None:
    def advise(document: Any) -> None:
        help_ = document["runs"][0]["tool"]["driver"]["rules"][0]["help"]
        help_["markdown"] = "## Remediation\nUpgrade `Debian:12` `apt` to version 2.6.1-1 or higher.\n"

    assert rows(load("sarif-snyk.json", advise))[0] == "CVE-2011-3374 libapt-pkg6.0 2.6.1 > 2.6.1-1 (low, deb)"
