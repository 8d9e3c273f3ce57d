# SPDX-License-Identifier: Apache-2.0
"""Packages, repositories and sets of rpm, and the real programs as judges."""
