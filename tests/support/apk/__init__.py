# SPDX-License-Identifier: Apache-2.0
"""Packages, repositories and roots of apk, and the real apk as the judge."""
