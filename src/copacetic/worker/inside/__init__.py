# SPDX-License-Identifier: Apache-2.0
"""
What runs in the worker's helper process: the standard library, and little else.

It is started once, as `python -IS`, enters its namespaces, and then forks a process for every job: unpacking a layer,
running a program, reading or packing what came out. Image files are touched here and nowhere else.
"""
