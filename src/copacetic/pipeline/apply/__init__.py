# SPDX-License-Identifier: Apache-2.0
"""From a plan to one layer: unpacked, run by a package manager, or left to a builder. Nothing is proven here."""
