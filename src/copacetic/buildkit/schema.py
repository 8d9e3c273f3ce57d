# SPDX-License-Identifier: Apache-2.0
"""
The messages of BuildKit's services: what copacetic sends and reads of them, and the methods' paths.

From api/services/control, api/types, frontend/gateway/pb, session/*, util/apicaps of moby/buildkit, fsutil's and
containerd's content service. Text of a builder is `bytes`: it may hold anything.
"""

from __future__ import annotations

from functools import cache

from copacetic.llb.schema import PB
from copacetic.protoschema import Messages, Schema

__all__ = ["control", "gateway", "session"]

_TYPES = Schema(
    "types",
    """\
WorkerRecord: labels=2 map string bytes, platforms=3 *pb.Platform, version=5 BuildkitVersion
BuildkitVersion: version=2 bytes
Timestamp: seconds=1 int64
Any: type_url=1 string, value=2 bytes
Status: code=1 int32, message=2 bytes, details=3 *Any
ApiCap: id=1 bytes, enabled=2 bool, disabled_reason=4 bytes, disabled_message=5 bytes
Stat: path=1 bytes, mode=2 uint32, uid=3 uint32, gid=4 uint32, size=5 int64, mtime=6 int64, linkname=7 bytes,
    devmajor=8 int64, devminor=9 int64, xattrs=10 map string bytes
""",
    imports=[PB],
)

_CONTROL = Schema(
    "control",
    """\
InfoResponse: version=1 types.BuildkitVersion
ListWorkersResponse: record=1 *types.WorkerRecord
SolveRequest: ref=1 string, definition=2 pb.Definition, exporter_deprecated=3 string,
    exporter_attrs_deprecated=4 map string string, session=5 string, frontend=6 string, cache=8 CacheOptions,
    internal=11 bool, exporters=13 *Exporter
CacheOptions:
Exporter: type=1 string, attrs=2 map string string
SolveResponse: exporter_response=1 map string bytes
StatusRequest: ref=1 string
StatusResponse: vertexes=1 *Vertex, logs=3 *VertexLog
Vertex: digest=1 bytes, name=3 bytes, cached=4 bool, started=5 types.Timestamp,
    completed=6 types.Timestamp, error=7 bytes
VertexLog: vertex=1 bytes, msg=4 bytes
BytesMessage: data=1 bytes
""",
    imports=[PB, _TYPES],
)

_GATEWAY = Schema(
    "gateway",
    """\
PingRequest:
PongResponse: llb_caps=2 *types.ApiCap
SolveRequest: definition=1 pb.Definition, frontend=2 string, allow_result_return=5 bool, allow_result_array_ref=6 bool,
    evaluate=14 bool
SolveResponse: ref=1 string, result=3 Result
Result: result.ref=3 Ref
Ref: id=1 string
ReturnRequest: result=1 Result, error=2 types.Status
ReadFileRequest: ref=1 string, path=2 bytes, range=3 FileRange
FileRange: offset=1 int64, length=2 int64
ReadFileResponse: data=1 bytes
ReadDirRequest: ref=1 string, path=2 bytes
ReadDirResponse: entries=1 *types.Stat
""",
    imports=[PB, _TYPES],
)

_SESSION = Schema(
    "session",
    """\
HealthCheckResponse: status=1 int32
CredentialsRequest: host=1 string
CredentialsResponse: username=1 string, secret=2 string
GetSecretRequest: id=1 string
GetSecretResponse: data=1 bytes
BytesMessage: data=1 bytes
Packet: type=1 int32, stat=2 types.Stat, id=3 uint32, data=4 bytes
ContentInfo: digest=1 string, size=2 int64
ContentInfoRequest: digest=1 string
ContentInfoResponse: info=1 ContentInfo
ReadContentRequest: digest=1 string, offset=2 int64, size=3 int64
ReadContentResponse: offset=1 int64, data=2 bytes
""",
    imports=[PB, _TYPES],
)


@cache
def types() -> Messages:
    """Return what several services share."""
    return _TYPES.load()


@cache
def control() -> Messages:
    """Return the messages of `moby.buildkit.v1.Control`."""
    return _CONTROL.load()


@cache
def gateway() -> Messages:
    """Return the messages of `moby.buildkit.v1.frontend.LLBBridge`."""
    return _GATEWAY.load()


@cache
def session() -> Messages:
    """Return the messages of the services that the client serves."""
    return _SESSION.load()
