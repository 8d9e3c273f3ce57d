# SPDX-License-Identifier: Apache-2.0
"""Headers, packages, databases and roots of rpm, and the real rpm as the judge."""
