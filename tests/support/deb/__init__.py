# SPDX-License-Identifier: Apache-2.0
"""Packages, repositories and roots of apt and dpkg, and the real ones as the judge."""
