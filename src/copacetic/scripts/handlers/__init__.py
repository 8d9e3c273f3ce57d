# SPDX-License-Identifier: Apache-2.0
"""State that is derived from files whatever the package format, done without running anything."""
