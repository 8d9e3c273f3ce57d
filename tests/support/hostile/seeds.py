# SPDX-License-Identifier: Apache-2.0
"""What each parser takes without a word, how that is made wrong, and how much of the wrong ones may still be right."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from copacetic.pipeline.plan.document import write_plans
from copacetic.report import HEAD, SCANNERS
from copacetic.updates import (
    FindingStatus,
    MatchedFinding,
    PlannedUpdate,
    ScriptClass,
    ScriptVerdict,
    Skipped,
    SkipReason,
)
from support.apk import adbs
from support.apk.apks import Apk, Item, member
from support.deb.chisel import control_status, manifest_rows, stripped_status
from support.deb.debs import Deb, Member, directory, file, hardlink, symlink, tar
from support.hostile import mutations
from support.hostile.mutations import Mutate
from support.hostile.parsers import DPKG, INSTALLED, STATUS
from support.hostile.rpmmd import RPM_DATA, change_xml
from support.rpm.rpmbuilds import Build, a_file, a_folder, a_link
from support.value.replacing import replace
from support.value.reports import SAMPLES
from support.value.values import candidate, finding, installed, key, plan

MD5 = "0123456789abcdef" * 2
SHA256 = "0123456789abcdef" * 4


@dataclass(frozen=True, slots=True)
class Seed:
    """Where a fuzzer begins."""

    data: tuple[bytes, ...]
    mutate: Mutate
    floor: float
    """The share of the mutated inputs that have to be accepted: with less, only the first check would be tried."""


def _lines(floor: float, *texts: str) -> Seed:
    return Seed(tuple(text.encode() for text in texts), mutations.change_lines, floor)


_STATUS = (
    STATUS.decode()
    + """Depends: libfoo1 (>= 1.0) | bar:any, baz [amd64] <!nocheck>
Provides: virtual (= 1)
Source: foo-src (1.0)
Description: short
 long
 .
 more

Package: libfoo1
Status: hold ok installed
Architecture: amd64
Multi-Arch: same
Version: 1:1.0~rc1-1+b1
Breaks: foo (<< 0.5)
"""
)
_PACKAGES = f"""Package: foo
Source: foo-src (2.0)
Version: 2.0-1
Architecture: amd64
Installed-Size: 100
Depends: libfoo1 (>= 1.0), libc6
Provides: virtual (= 2.0), other
Filename: pool/main/f/foo/foo_2.0-1_amd64.deb
Size: 1234
MD5sum: {MD5}
SHA256: {SHA256}
Description: short

Package: libfoo1
Version: 1:1.0-1
Architecture: all
Filename: pool/main/f/foo/libfoo1_1.0-1_all.deb
Size: 99
SHA256: {SHA256}
"""
_RELEASE = f"""Origin: Debian
Label: Debian
Suite: stable
Codename: bookworm
Date: Wed, 31 Dec 2025 08:00:00 UTC
Valid-Until: Wed, 07 Jan 2026 08:00:00 +0000
Acquire-By-Hash: yes
NotAutomatic: no
Architectures: all amd64
Components: main contrib
SHA256:
 {SHA256} 1234 main/binary-amd64/Packages.xz
 {SHA256}   99 main/binary-all/Packages
"""
_ROW = """C:Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=
P:foo
V:1.2.3_rc1-r0
A:x86_64
S:1234
I:4096
T:a package
U:https://e.example
L:MIT
o:foo
m:Nobody <nobody@example.com>
t:1700000000
c:0123456789abcdef
k:10
D:so:libc.musl-x86_64.so.1 bar>=1.0 !baz x~=1
p:so:libfoo.so.1=1.2 cmd:foo=1.2.3-r0
i:foo bar=1
"""
_FILES = """F:usr
F:usr/bin
M:0:0:755
R:foo
a:0:0:755
Z:Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=
R:bar
"""
_SCRIPT = r"""#!/bin/sh
set -e
. /usr/share/debconf/confmodule
run() { local x="$1"; shift; "$x" "$@" || return 1; }
case "$1" in
  configure|abort-*)
    if [ -n "$2" ] && dpkg --compare-versions "$2" lt-nl 1:2.0~; then
      rm -f /etc/foo.${2%%-*} "$DPKG_ROOT/x" || true
    fi
    for file in /etc/foo/*.conf; do
      [ -e "$file" ] || continue
      sed -i -e 's/a/b/' "$file" >/dev/null 2>&1
    done
    cat <<EOF | tee /x
$(date) `id -u` $((1 + 2)) ${x:-y}
EOF
    ;;
  *) echo "called with '$1'" >&2; exit 1 ;;
esac
while read -r a b; do run adduser --system "$a"; done < /etc/list
exit 0
"""


def _json(floor: float, *documents: object) -> Seed:
    texts = (document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents)
    return Seed(tuple(texts), mutations.change_json, floor)


def _plan() -> bytes:
    found = finding("foo", "2.0-1")
    verdict = ScriptVerdict(package=key("foo:amd64"), script="postinst", verdict=ScriptClass.HARMLESS, reason="x")
    first = PlannedUpdate(
        installed=installed("foo", "1.0-1"), candidate=candidate("foo", "2.0-1"), findings=(found,), scripts=(verdict,)
    )
    second = PlannedUpdate(installed=None, candidate=candidate("bar", "1:3~rc1-1"), required_by=("foo",))
    matched = (MatchedFinding(finding=found, status=FindingStatus.FIXABLE, packages=(key("foo:amd64"),)),)
    held = Skipped(package=installed("x", "1"), reason=SkipReason.HELD, detail="held", findings=())
    return write_plans([replace(plan(first, second, matched=matched, skipped=(held,)), image_notes=("a note",))])


def _documents() -> list[object]:
    descriptor = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{SHA256}", "size": 10}
    layer = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "annotations": {"a": "b"}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": descriptor}
    image = {**descriptor, "mediaType": manifest["mediaType"], "platform": {"os": "linux", "architecture": "arm"}}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [image]}
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{SHA256}"]}
    history = [{"created_by": "x", "created": "2020-01-01T00:00:00Z"}]
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]}, "rootfs": rootfs, "history": history}
    return [{**manifest, "layers": [layer], "annotations": {"a": "b"}}, index, config]


def _report() -> object:
    row = {
        "VulnerabilityID": "CVE-2026-0001", "PkgName": "foo", "InstalledVersion": "1.0-1", "FixedVersion": "2.0-1, 3",
        "Severity": "HIGH", "PkgIdentifier": {"PURL": "pkg:deb/debian/foo@1.0-1?arch=amd64"},
    }  # fmt: skip
    result = {"Target": "x", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [row, row]}
    metadata = {
        "OS": {"Family": "debian", "Name": "12"},
        "ImageID": f"sha256:{SHA256}",
        "RepoDigests": [f"a@sha256:{SHA256}"],
    }
    return {"SchemaVersion": 2, "ArtifactName": "x", "Metadata": metadata, "Results": [result]}


_FILES_OF_DEB: Mapping[str, Member] = {
    "usr/bin/foo": file("x", 0o755), "usr/lib/l": symlink("foo"), "usr/bin/bar": hardlink("./usr/bin/foo"), "etc": directory(),
}  # fmt: skip
_SLICES = [(Deb(files=_FILES_OF_DEB), tuple(_FILES_OF_DEB))]
_RPM = Build(
    "foo", compressor="identity", scripts={"postin": "true\n"},
    files=[a_folder("/opt"), a_file("/opt/a", "x", inode=5), a_file("/opt/b", "x", inode=5), a_link("/opt/c", "a")],
)  # fmt: skip
_LUA = """\
-- a comment
path = "/opt"
st = posix.stat(path)
if st and st.type == "link" then os.remove(path) elseif not posix.access("/x", "x") then posix.mkdir(path.."/y") end
for i, name in ipairs({"passwd", "group"}) do
  os.remove("/etc/"..name..".rpmnew")
end
function run(p, ...) local pid = posix.fork() if pid == 0 then posix.exec(p, ...) elseif pid > 0 then posix.wait(pid) end end
if tonumber(arg[2]) >= 2 then run("/sbin/ldconfig", "-X") end
return 0
"""
_APK = Apk(
    name="foo", files={"usr/bin/foo": file("x", 0o755), "usr/lib/l": symlink("foo")}, scripts={"post-install": "#!/bin/sh\n"},
    depends=("bar>=1", "!baz"), provides=("cmd:foo=1",), triggers=("/usr/*",), install_if=("foo", "bar"), replaces=("x",),
)  # fmt: skip


def _tar() -> bytes:
    members = [*Deb(files=_FILES_OF_DEB).data_members(), ("./etc/.wh.x", file("")), ("./usr/.wh..wh..opq", file(""))]
    return tar([*members, ("./dev/null", Member(type=tarfile.CHRTYPE, device=(1, 3)))])


def _index() -> bytes:
    items: list[Item] = [
        ("DESCRIPTION", file("v3.19.1"), {}),
        ("APKINDEX", file(f"{_ROW}\n{_ROW.replace('P:foo', 'P:a')}\n"), {}),
    ]
    return member(items, last=True)


_SEEDS: Mapping[str, Callable[[], Seed]] = {
    "status": lambda: _lines(0.3, _STATUS),
    "status of others": lambda: _lines(0.3, stripped_status([Deb()]), control_status([Deb()])),
    "manifest.wall": lambda: _lines(0.1, "".join(f"{json.dumps(row)}\n" for row in manifest_rows(_SLICES))),
    "status.d": lambda: _lines(0.3, _STATUS),
    "dpkg arch": lambda: _lines(0.3, "amd64\ni386\n"),
    "dpkg diversions": lambda: _lines(0.1, "/usr/bin/a\n/usr/bin/a.distrib\ndash\n/b\n/c\n:\n"),
    "dpkg statoverride": lambda: _lines(0.1, "root root 4755 /usr/bin/x\n#0 #7 0755 /y\n"),
    "dpkg triggers/File": lambda: _lines(0.3, "/usr/lib libc-bin/noawait\n/x foo:amd64\n"),
    "dpkg list": lambda: _lines(0.3, "/.\n/usr\n/usr/bin\n/usr/bin/foo\n"),
    "dpkg md5sums": lambda: _lines(0.3, f"{MD5}  usr/bin/foo\n{MD5}  usr/foo\n"),
    "dpkg triggers": lambda: _lines(0.3, "activate-noawait ldconfig\ninterest /usr/lib\n"),
    "dpkg.cfg": lambda: _lines(0.3, "# x\npath-exclude=/usr/share/doc/*\npath-include /x[a-z]?\nno-debsig\n"),
    "installed": lambda: _lines(0.1, f"{_ROW}{_FILES}\n{_ROW.replace('P:foo', 'P:bar')}r:x\nq:1\n\n", INSTALLED.decode()),
    "apk world": lambda: _lines(0.2, "foo bar>=1\n!baz\nx@edge y=1-r0@tag\n"),
    "apk arch": lambda: _lines(0.1, "x86_64\n"),
    "apk triggers": lambda: _lines(0.3, "Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM= /usr/lib /x/*\n"),
    "scripts.tar": lambda: Seed((_scripts(),), mutations.change_tar, 0.2),
    "os-release": lambda: _lines(0.3, 'PRETTY_NAME="Debian 12"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'),
    "sources.list": lambda: _lines(
        0.1, "deb [arch=amd64,i386 signed-by=/a/b.gpg] http://u:p@h/debian bookworm main contrib\n# x\ndeb-src http://a b c\n"
    ),
    "debian.sources": lambda: _lines(
        0.1,
        "# x\nTypes: deb deb-src\nURIs: http://a/b https://c/$(ARCH)\nSuites: x y\nComponents: main\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xx\n\nTypes: deb\nURIs: http://d\nSuites: ./\nEnabled: no\n",
    ),
    "apk repositories": lambda: _lines(
        0.1, "set v=v3.19\nhttps://e.example/alpine/${v}/main\n@edge http://e/edge/main\nv3 http://e main community\nndx http://e/a.adb\n"
    ),
    "Release": lambda: _lines(0.2, _RELEASE),
    "preferences": lambda: _lines(
        0.1,
        "Package: *\nPin: release a=stable, n=bookworm\nPin-Priority: 900\n\nPackage: foo /^lib/ src:x:any\nPin: version 1.*\n"
        "Pin-Priority: -1\n\nExplanation: x\nPackage: bar\nPin: origin \"e.example\"\nPin-Priority: 1001\n",
        'APT::Default-Release "stable";\n',
    ),
    "Packages": lambda: _lines(0.1, _PACKAGES),
    "APKINDEX": lambda: Seed((_index(),), mutations.change_index, 0.1),
    "Packages.adb": lambda: Seed((adbs.index([_APK, replace(_APK, name="bar")]),), mutations.change_adb, 0.1),
    "deb": lambda: Seed((Deb(name="foo", files=_FILES_OF_DEB, compression="none").to_bytes(),), mutations.change_deb, 0.1),
    "apk": lambda: Seed((_APK.to_bytes(),), mutations.change_apk, 0.1),
    "apk v3": lambda: Seed((adbs.package(_APK),), mutations.change_adb, 0.1),
    "rpm package": lambda: Seed((_RPM.to_bytes(),), mutations.change_bytes, 0.02),
    "rpm lua": lambda: Seed((_LUA.encode(),), mutations.change_script, 0.3),
    "layer": lambda: Seed((_tar(),), mutations.change_tar, 0.1),
    "plan": lambda: _json(0.05, _plan()),
    "report": lambda: _json(0.2, _report(), [_report_result()]),
    "manifest": lambda: _json(0.1, *_documents()),
    "reference": lambda: _lines(
        0.2, f"registry.example:5000/a/b_c:tag@sha256:{SHA256}", "docker.io/library/x", "[::1]:5000/a", "linux/arm/v7",
        "http://u:p@h:80/p?q#f", 'Bearer realm="https://x/y",service="a",scope="b:c:d", Basic realm=x',
    ),
    "relations": lambda: _lines(0.2, "a (>= 1) | b:any [amd64 !i386] <!x>, c (= 2~) , d\n ,e (<< 1:2-3)"),
    "shell": lambda: Seed((_SCRIPT.encode(),), mutations.change_script, 0.1),
}  # fmt: skip


def _samples(report_format: str) -> Seed:
    """The samples that a format takes for its own."""
    scanner = import_module(SCANNERS[report_format])
    data = [path.read_bytes() for path in sorted(SAMPLES.iterdir())]
    return _json(0.1, *(one for one in data if scanner.accepts(one[:HEAD], "report.json")))


def _report_result() -> object:
    document = _report()
    assert isinstance(document, dict)
    return document["Results"][0]


def _scripts() -> bytes:
    import gzip

    items: list[Item] = [
        (f"foo-1-r0.Q1qvSVyZFyaTbPPZTBcdNRBpwTFyM=.{name}", file("#!/bin/sh\n"), {})
        for name in ("post-install", "trigger")
    ]
    return gzip.decompress(member(items, last=True))


def _rpmmd(name: str) -> Seed:
    change = {"openpgp": mutations.change_bytes}.get(name, change_xml if b"</" in RPM_DATA[name][-1] else None)
    return Seed(RPM_DATA[name], change or mutations.change_lines, 0.05)


@cache
def seed_of(name: str) -> Seed:
    if name in RPM_DATA:
        return _rpmmd(name)
    return _SEEDS[name]() if name in _SEEDS else _samples(name.removesuffix(" report"))


assert set(_SEEDS) >= set(DPKG)
