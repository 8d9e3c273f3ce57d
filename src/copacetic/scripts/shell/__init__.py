# SPDX-License-Identifier: Apache-2.0
"""The shell language: a grammar, and an interpreter of what a script may reach."""
