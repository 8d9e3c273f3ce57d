# SPDX-License-Identifier: Apache-2.0
"""`python -m copacetic` is `copa`."""

from copacetic.cli import run

run()
