# SPDX-License-Identifier: Apache-2.0
"""The gate: the layer, read back as a stranger would, against what plan and packages say. The same for every way."""
