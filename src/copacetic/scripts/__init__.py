# SPDX-License-Identifier: Apache-2.0
"""Maintainer scripts, judged and never run: what every package format shares."""
