# SPDX-License-Identifier: Apache-2.0
"""Documents beside an image: in registries with the referrers API and without, and in layouts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from copacetic.errors import ImageError, RegistryError, UsageError
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci.archive import OciArchiveDestination
from copacetic.oci.credentials import Keychain
from copacetic.oci.descriptor import Descriptor, Digest
from copacetic.oci.dockerarchive import DockerArchiveDestination
from copacetic.oci.layout import LayoutDestination, LayoutSource
from copacetic.oci.manifest import OCI_INDEX, OCI_MANIFEST
from copacetic.oci.reference import Reference
from copacetic.oci.referrers import Document, list_referrer, make_referrer, referrers_tag
from copacetic.oci.registry import RegistryDestination
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import RegistryConfig
from copacetic.oci.registrysettings import RegistrySettings
from copacetic.oci.transports import TRANSPORTS
from support.image.images import (
    REF_NAME,
    Image,
    MemorySource,
    assert_valid_image,
    copy_image,
    encode,
    make_image,
    make_index,
    make_layer,
    skopeo,
    write_layout,
)
from support.server.faulty import Answer, FaultyServer, Seen
from support.server.registry import docker_registry
from support.server.scripted import Connect, Store, reference

IMAGE = make_image([make_layer({"etc/os-release": "ID=debian\n"})])
SUBJECT = IMAGE.descriptor
VEX = Document(
    media_type="application/vnd.in-toto+json",
    data=b'{"_type":"https://in-toto.io/Statement/v1"}',
    annotations={"in-toto.io/predicate-type": "https://openvex.dev/ns/v0.2.0"},
)
SBOM = Document(media_type="application/vnd.cyclonedx+json", data=b'{"bomFormat":"CycloneDX"}')
TAG = referrers_tag(SUBJECT.digest)
LIST = f"/v2/team/new/manifests/{TAG}"
OTHERS = {
    "mediaType": OCI_MANIFEST,
    "digest": f"sha256:{'5' * 64}",
    "size": 5,
    "artifactType": "application/vnd.other",
    "x-unknown": {"kept": True},
}


# ---- what is written


def test_a_document_is_the_only_layer_of_a_manifest_about_its_subject() -> None:
    made = make_referrer(SUBJECT, VEX)
    assert made.raw == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"artifactType":"application/vnd.in-toto+json",'
        b'"config":{"mediaType":"application/vnd.oci.empty.v1+json",'
        b'"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},'
        b'"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"%s","size":43}],'
        b'"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d},'
        b'"annotations":{"in-toto.io/predicate-type":"https://openvex.dev/ns/v0.2.0"}}'
    ) % (str(Digest.of(VEX.data)).encode(), str(SUBJECT.digest).encode(), SUBJECT.size)
    assert made.descriptor.artifact_type == VEX.media_type
    assert made.descriptor.annotations == VEX.annotations


def test_a_subject_is_named_alike_however_an_index_describes_it() -> None:
    listed = {**SUBJECT.to_json(), "platform": {"os": "linux", "architecture": "arm64"}, "annotations": {"a": "b"}}
    assert make_referrer(Descriptor.from_json(listed, ""), VEX) == make_referrer(SUBJECT, VEX)


@pytest.mark.parametrize(
    ("digest", "tag"),
    [(f"sha256:{'a' * 64}", f"sha256-{'a' * 64}"), (f"sha512:{'b' * 128}", f"sha512-{'b' * 64}")],
)
def test_the_tag_of_a_digest_fits_into_a_tag(digest: str, tag: str) -> None:
    assert referrers_tag(Digest.parse(digest)) == tag
    assert Reference.parse_tag(tag) == tag


def test_a_list_keeps_what_others_put_there() -> None:
    before = {"schemaVersion": 2, "x-list": 1, "mediaType": OCI_INDEX, "manifests": [OTHERS], "annotations": {"a": "b"}}
    referrer = make_referrer(SUBJECT, VEX).descriptor
    descriptor, listed = list_referrer(encode(before), referrer, "x")
    assert json.loads(listed) == {**before, "manifests": [OTHERS, referrer.to_json()]}
    assert (descriptor.media_type, descriptor.digest) == (OCI_INDEX, Digest.of(listed))
    assert list_referrer(listed, referrer, "x")[1] == listed


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        IMAGE.raw,
        make_index([IMAGE], kind="docker").raw,
        encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"digest": "x"}]}),
        encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [OTHERS] * 2_000}),
        encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "layers": []}),
    ],
    ids=["empty", "no object", "an image", "docker's", "broken", "too long", "ambiguous"],
)
def test_what_is_no_list_stays_as_it_is(raw: bytes) -> None:
    with pytest.raises(ImageError, match="^x is no list of referrers"):
        list_referrer(raw, make_referrer(SUBJECT, VEX).descriptor, "x")


# ---- a registry that answers as told


class Manifests:
    """Keeps manifests by digest and tag; knows what a subject is when `subjects` is true."""

    def __init__(self, server: FaultyServer, *, subjects: bool) -> None:
        self.kept: dict[str, bytes] = {}
        self.store = Store(server)
        self._server = server
        self._subjects = subjects
        server.on("PUT", "*", self.put)
        server.on("GET", "*", self.get)

    def put(self, seen: Seen) -> Answer:
        self.kept[seen.path.rpartition("/")[2]] = seen.body
        subject = json.loads(seen.body).get("subject", {}).get("digest", "") if self._subjects else ""
        return Answer(status=201, headers={"OCI-Subject": subject} if subject else {})

    def get(self, seen: Seen) -> Answer:
        found = self.kept.get(seen.path.rpartition("/")[2])
        return Answer(status=404) if found is None else Answer(body=found)

    def listed(self) -> list[str]:
        return [entry["digest"] for entry in json.loads(self.kept[TAG])["manifests"]]


def attach(server: FaultyServer, client: RegistryClient, *documents: Document) -> None:
    with RegistryDestination(reference(server, "team/new:2"), client) as destination:
        for document in documents:
            destination.attach(SUBJECT, document)


def test_a_registry_that_knows_subjects_is_told_no_list(server: FaultyServer, connect: Connect) -> None:
    manifests = Manifests(server, subjects=True)
    attach(server, connect(), VEX)
    made = make_referrer(SUBJECT, VEX)
    assert manifests.kept == {str(made.descriptor.digest): made.raw}
    assert set(manifests.store.blobs.values()) == {VEX.data, b"{}"}
    assert not any(seen.path == LIST for seen in server.requests)


def test_a_registry_that_does_not_is_told_a_list(server: FaultyServer, connect: Connect) -> None:
    manifests = Manifests(server, subjects=False)
    manifests.kept[TAG] = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [OTHERS]})
    attach(server, connect(), VEX, SBOM)
    made = [str(make_referrer(SUBJECT, document).descriptor.digest) for document in (VEX, SBOM)]
    assert manifests.listed() == [OTHERS["digest"], *made]
    (sent, *_rest) = [seen for seen in server.requests if (seen.method, seen.path) == ("PUT", LIST)]
    assert sent.headers["content-type"] == OCI_INDEX


def test_attaching_a_document_again_sends_its_manifest_only(server: FaultyServer, connect: Connect) -> None:
    manifests = Manifests(server, subjects=False)
    attach(server, connect(), VEX)
    before = dict(manifests.kept)
    server.requests.clear()
    attach(server, connect(), VEX)
    assert manifests.kept == before
    made = make_referrer(SUBJECT, VEX)
    assert [seen.path for seen in server.requests if seen.method in {"POST", "PATCH", "PUT"}] == [
        f"/v2/team/new/manifests/{made.descriptor.digest}"
    ]


def test_a_list_that_somebody_else_writes_at_the_same_time_is_written_again(
    server: FaultyServer, connect: Connect
) -> None:
    manifests = Manifests(server, subjects=False)
    theirs = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [OTHERS]})

    def overwritten(seen: Seen) -> Answer:
        manifests.kept[TAG] = theirs
        return Answer(status=201)

    server.on("PUT", LIST, overwritten, manifests.put)
    attach(server, connect(), VEX)
    assert manifests.listed() == [OTHERS["digest"], str(make_referrer(SUBJECT, VEX).descriptor.digest)]


def test_a_list_that_is_never_kept_is_an_error(server: FaultyServer, connect: Connect) -> None:
    Manifests(server, subjects=False)
    server.on("PUT", LIST, Answer(status=201))
    with pytest.raises(RegistryError, match=f"{TAG}: the list of referrers doesn't keep what is written"):
        attach(server, connect(), VEX)
    assert server.count("PUT", LIST) == 5


def test_an_image_under_the_list_s_tag_is_left_alone(server: FaultyServer, connect: Connect) -> None:
    manifests = Manifests(server, subjects=False)
    manifests.kept[TAG] = IMAGE.raw
    with pytest.raises(ImageError, match="is no list of referrers"):
        attach(server, connect(), VEX)
    assert manifests.kept[TAG] == IMAGE.raw


def test_a_registry_that_takes_no_documents_says_why(server: FaultyServer, connect: Connect) -> None:
    Manifests(server, subjects=False)
    made = make_referrer(SUBJECT, VEX)
    refusal = Answer(status=400, body=b'{"errors":[{"code":"MANIFEST_INVALID","message":"no artifacts here"}]}')
    server.on("PUT", f"/v2/team/new/manifests/{made.descriptor.digest}", refusal)
    with pytest.raises(RegistryError, match="MANIFEST_INVALID: no artifacts here"):
        attach(server, connect(), VEX)


# ---- a real registry without the referrers API


@pytest.mark.system
@pytest.mark.parametrize("base", [IMAGE, make_index([IMAGE])], ids=["image", "index"])
def test_a_real_registry_lists_and_keeps_documents(tmp_path: Path, base: Image) -> None:
    tag = referrers_tag(base.descriptor.digest)
    with docker_registry(tmp_path) as host, HttpClient(HttpSettings()) as http:
        client = RegistryClient(http, RegistryConfig(RegistrySettings()), Keychain())
        name = Reference.parse(f"{host}/team/app:1")
        copy_image(MemorySource(base), RegistryDestination(name, client))
        for documents in ((SBOM,), (VEX, SBOM), (VEX,)):
            with RegistryDestination(name, client) as destination:
                for document in documents:
                    destination.attach(base.descriptor, document)
        listed = json.loads(_raw(f"{host}/team/app:{tag}"))
        made = [make_referrer(base.descriptor, document) for document in (SBOM, VEX)]
        assert listed["manifests"] == [referrer.descriptor.to_json() for referrer in made]
        for referrer in made:
            assert _raw(f"{host}/team/app@{referrer.descriptor.digest}") == referrer.raw
        assert _raw(str(name)) == base.raw


def _raw(name: str) -> bytes:
    return skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}").encode()


# ---- layouts


def publish(path: Path, tag: str, *documents: Document, image: Image = IMAGE) -> None:
    with LayoutDestination(path, tag) as destination:
        for digest, data in image.blobs.items():
            destination.write_manifest(Descriptor(media_type="", digest=digest, size=len(data)), data)
        for document in documents:
            destination.attach(image.descriptor, document)
        destination.publish(image.descriptor, image.raw)


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((path / "index.json").read_bytes())["manifests"]
    return found


def test_a_layout_has_documents_as_entries_and_in_a_list(tmp_path: Path) -> None:
    publish(tmp_path / "l", "1", VEX, SBOM)
    made = [make_referrer(SUBJECT, document) for document in (VEX, SBOM)]
    image, *referrers, last = sorted(entries(tmp_path / "l"), key=lambda entry: TAG in str(entry.get("annotations")))
    assert image["annotations"] == {REF_NAME: "1"}
    assert referrers == [referrer.descriptor.to_json() for referrer in made]
    assert last["annotations"] == {REF_NAME: TAG}
    source = LayoutSource(tmp_path / "l", TAG)
    assert json.loads(source.root()[1])["manifests"] == referrers
    for referrer in made:
        assert source.manifest(referrer.descriptor) == referrer.raw
        for descriptor, data in referrer.blobs:
            assert source.manifest(descriptor) == data
    assert_valid_image(tmp_path / "l", "1")


def test_a_layout_gains_nothing_by_the_same_documents(tmp_path: Path) -> None:
    publish(tmp_path / "l", "1", SBOM)
    publish(tmp_path / "l", "1", VEX, SBOM, VEX)
    before = _contents(tmp_path / "l")
    publish(tmp_path / "l", "1", SBOM, VEX)
    assert _contents(tmp_path / "l") == before
    assert len(json.loads(LayoutSource(tmp_path / "l", TAG).root()[1])["manifests"]) == 2


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_of_a_document_is_seen_before_its_image(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "l", {"1": IMAGE})
    before = _contents(layout)
    with LayoutDestination(layout, "2") as destination:
        destination.attach(SUBJECT, VEX)
    assert _contents(layout) == before


def test_the_only_image_of_a_layout_is_found_beside_its_documents(tmp_path: Path) -> None:
    publish(tmp_path / "l", "", VEX, SBOM)
    assert LayoutSource(tmp_path / "l").root()[1] == IMAGE.raw
    other = make_image([make_layer({"etc/os-release": "ID=alpine\n"})])
    publish(tmp_path / "l", "", image=other)
    assert LayoutSource(tmp_path / "l").root()[1] == other.raw
    assert LayoutSource(tmp_path / "l", TAG).root()[0].media_type == OCI_INDEX


def test_a_layout_of_documents_alone_still_has_them(tmp_path: Path) -> None:
    made = make_referrer(SUBJECT, SBOM)
    document = Image(made.descriptor, made.raw, {made.descriptor.digest: made.raw})
    layout = write_layout(tmp_path / "l", {"": document})
    assert LayoutSource(layout).root()[1] == made.raw


def test_a_layout_with_a_list_that_is_none_is_left_alone(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "l", {TAG: IMAGE})
    before = _contents(layout)
    with pytest.raises(ImageError, match="is no list of referrers"):
        publish(layout, "1", VEX)
    assert _contents(layout) == before


def test_those_who_attach_to_one_layout_at_once_lose_nothing(tmp_path: Path) -> None:
    documents = [Document(media_type="application/json", data=b"%d" % n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda document: publish(tmp_path / "l", "1", document), documents))
    listed = json.loads(LayoutSource(tmp_path / "l", TAG).root()[1])["manifests"]
    assert len(listed) == len({entry["digest"] for entry in listed}) == 8


@pytest.mark.system
def test_skopeo_copies_an_image_out_of_a_layout_with_documents(tmp_path: Path) -> None:
    publish(tmp_path / "l", "1", VEX, SBOM)
    skopeo("copy", f"oci:{tmp_path}/l:1", f"oci:{tmp_path}/m:1")
    assert_valid_image(tmp_path / "m", "1")


# ---- where there is no place


@pytest.mark.parametrize("destination", [OciArchiveDestination, DockerArchiveDestination])
def test_an_archive_has_no_place_for_documents(tmp_path: Path, destination: type[Any]) -> None:
    with destination(tmp_path / "a.tar") as opened, pytest.raises(UsageError, match="no place for documents"):
        opened.attach(SUBJECT, VEX)


def test_transports_say_where_documents_have_a_place() -> None:
    assert {row.name: row.attaches for row in TRANSPORTS} == {
        "registry": True,
        "oci": True,
        "oci-archive": False,
        "docker-archive": False,
        "docker": False,
        "podman": False,
    }
