# SPDX-License-Identifier: Apache-2.0
"""Maintainer scripts, read and never run: a grammar, and an interpreter of what a script may reach."""
