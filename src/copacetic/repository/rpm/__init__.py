# SPDX-License-Identifier: Apache-2.0
"""Repositories of rpm packages (rpm-md), and what `dnf upgrade` would make of them."""
