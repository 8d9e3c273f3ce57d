# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: copa and a peer side by side, as ratios. Never part of the tests."""
