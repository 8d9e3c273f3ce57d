# SPDX-License-Identifier: Apache-2.0
"""
BuildKit: graphs solved by a daemon, over any byte stream. `solver.BuildkitSolver` is the way in.

From below: HTTP/2 (`http2`), gRPC (`grpc`) with messages from a table (`schema`), the session in which the builder asks
us for files, images and logins (`session`), one job (`build`, `gateway`). `detect` and `probe` find builders and look
at them. A builder's answers are as hostile as the image that it runs.

How a daemon is reached is `connect`'s. What a graph is for, nobody here knows.
"""
