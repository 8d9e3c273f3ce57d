# SPDX-License-Identifier: Apache-2.0
"""
Maintainer scripts, followed and never run: what every package format shares.

`shell` finds the commands that a script reaches, with answers from `surroundings` (for a whole installation) or `live`
(for the moment at which a script would run). `judge` gives each a verdict, and `effects` says what it does to the tree,
which `engine` carries out with the programs of `handlers`. `runner` does it command by command. What one family has of
its own is in `unpack`.
"""
