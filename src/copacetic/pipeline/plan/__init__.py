# SPDX-License-Identifier: Apache-2.0
"""From findings, an inventory and repositories to a plan: what changes, why and how. Nothing is changed here."""
