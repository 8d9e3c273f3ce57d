# SPDX-License-Identifier: Apache-2.0
"""
From findings, an inventory and repositories to a plan: what changes, why and how. Nothing is changed here.

Scripts are judged behind `Ways.judge`; how a plan is applied is chosen here, and done elsewhere.
"""
