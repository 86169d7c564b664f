"""How a version came to be, for other people's tools: an in-toto statement with SLSA's provenance, kept beside it.

Sources: in-toto attestation framework, "Statement v1"; SLSA v1.0, "Provenance". Such a document is a few keys of JSON;
no library is needed to write it.
"""

from __future__ import annotations

from goldsmith.artifacts.record import BuildRecord, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.base.digest import JsonValue, render_canonical_json

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
PREDICATE_TYPE = "in-toto.io/predicate-type"
"""The annotation by which tools tell statements apart without reading them."""
BUILD_TYPE = "urn:goldsmith:build:v1"


def render_provenance(version: Version, record: BuildRecord) -> bytes:
    """Render how a version came to be."""
    return render_canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": version.reference, "digest": _split(version.digest)}],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": _define(record),
                "runDetails": {
                    "builder": {"id": f"urn:goldsmith:node:{record.node_kind}", "version": dict(record.tools)},
                    "metadata": {
                        "invocationId": record.build_id,
                        "startedOn": render_time(record.started),
                        "finishedOn": render_time(record.finished),
                    },
                },
            },
        }
    )


def _define(record: BuildRecord) -> JsonValue:
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"image": record.image, "variables": record.variables},
        "internalParameters": {
            "node": {"kind": record.node_kind, "version": record.node_version}, **record.extra
        },
        "resolvedDependencies": list(_list_inputs(record)),
    }  # fmt: skip


def _list_inputs(record: BuildRecord) -> list[JsonValue]:
    inputs: list[JsonValue] = [
        {"name": "base", "uri": f"urn:goldsmith:base:{record.base_name}", "digest": _split(record.base_digest)},
        {"name": "playbook", "uri": "urn:goldsmith:playbook", "digest": _split(record.playbook_digest)},
    ]
    if record.git is not None:
        changed: dict[str, JsonValue] = {"dirty": True} if record.git.dirty else {}
        commit: dict[str, JsonValue] = {"name": "definition", "uri": "git", "digest": {"gitCommit": record.git.commit}}
        inputs.append({**commit, **({"annotations": changed} if changed else {})})
    return inputs


def _split(digest: str) -> JsonValue:
    """Write a digest as in-toto does: by algorithm."""
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def attach_provenance(repository: Repository, version: Version) -> Attached:
    """Write down how a version came to be, and store it beside the version.

    :raises VersionNotFound: nobody has recorded what it was made of, or it has gone.
    """
    document = render_provenance(version, repository.read_record(version))
    annotations = {CREATED: render_time(version.created), PREDICATE_TYPE: PREDICATE}
    return repository.attach(version, MEDIA_TYPE, {MEDIA_TYPE: document}, annotations)


def find_provenance(repository: Repository, version: Version) -> bytes | None:
    """Return how a version came to be, as JSON."""
    attached = repository.list_attached(version, MEDIA_TYPE)
    return repository.store.read_blob(attached[-1].get_part(MEDIA_TYPE)) if attached else None
