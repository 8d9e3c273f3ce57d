# SPDX-License-Identifier: Apache-2.0
"""
From proven layers to manifests, and to a destination.

Nothing comes here that isn't proven, and nothing is decided here.
"""
