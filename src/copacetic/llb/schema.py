# SPDX-License-Identifier: Apache-2.0
"""
The messages of a graph: the part of BuildKit's `pb` package (solver/pb/ops.proto) that copacetic writes and reads.

Loading it loads protobuf, so it is loaded where a graph is marshalled.
"""

from __future__ import annotations

from functools import cache

from copacetic.protoschema import Messages, Schema

__all__ = ["PB", "pb"]

PB = Schema(
    "pb",
    """\
Op: inputs=1 *Input, op.exec=2 ExecOp, op.source=3 SourceOp, op.file=4 FileOp, op.merge=6 MergeOp, op.diff=7 DiffOp,
    platform=10 Platform, constraints=11 WorkerConstraints
Platform: architecture=1 string, os=2 string, variant=3 string, os_version=4 string, os_features=5 *string
Input: digest=1 string, index=2 int64
ExecOp: meta=1 Meta, mounts=2 *Mount, network=3 int32
Meta: args=1 *string, env=2 *string, cwd=3 string, user=4 string, proxy_env=5 ProxyEnv, hostname=7 string,
    remove_mount_stubs_recursive=11 bool, valid_exit_codes=12 *int32
ProxyEnv: http_proxy=1 string, https_proxy=2 string, no_proxy=4 string
Mount: input=1 int64, selector=2 string, dest=3 string, output=4 int64, readonly=5 bool, mount_type=6 int32,
    tmpfs=19 TmpfsOpt, secret=21 SecretOpt
TmpfsOpt: size=1 int64
SecretOpt: id=1 string, mode=4 uint32, optional=5 bool
SourceOp: identifier=1 string, attrs=2 map string string
FileOp: actions=2 *FileAction
FileAction: input=1 int64, secondary_input=2 int64, output=3 int64, action.copy=4 FileActionCopy,
    action.mkfile=5 FileActionMkFile, action.mkdir=6 FileActionMkDir
FileActionCopy: src=1 string, dest=2 string, mode=4 int32, dir_copy_contents=6 bool, create_dest_path=8 bool,
    timestamp=11 int64
FileActionMkFile: path=1 string, mode=2 int32, data=3 bytes, owner=4 ChownOpt
FileActionMkDir: path=1 string, mode=2 int32, make_parents=3 bool, owner=4 ChownOpt
ChownOpt: user=1 UserOpt, group=2 UserOpt
UserOpt: user.by_id=2 uint32
MergeOp: inputs=1 *MergeInput
MergeInput: input=1 int64
DiffOp: lower=1 DiffInput, upper=2 DiffInput
DiffInput: input=1 int64
WorkerConstraints:
OpMetadata: description=2 map string string, caps=5 map string bool
Definition: def=1 *bytes, metadata=2 map string OpMetadata
""",
)


@cache
def pb() -> Messages:
    """Return the message classes."""
    return PB.load()
