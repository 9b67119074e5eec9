"""The doctor's look at what embeds and where vectors go."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cli.doctor_finding import Finding, State
from integrations.embedders import minilm, static
from integrations.embedders.errors import EmbedderMissing
from integrations.llm_providers.vendors import vendor_find
from integrations.pinecone_config import PineconeConfigError, environment_parse

#: What there is without any setting.
_DEFAULT = static.MODEL


def vectors() -> Iterator[Finding]:
    """Which embedders are chosen, whether they can be used as far as settings tell, and which index there is."""
    chosen = {name: os.environ.get(name, "").strip() for name in ("ARCHON_EMBEDDER", "ARCHON_EMBEDDER_SECOND")}
    yield from _embedder("embedder", chosen["ARCHON_EMBEDDER"] or _DEFAULT)
    if chosen["ARCHON_EMBEDDER_SECOND"]:
        yield from _embedder("second embedder", chosen["ARCHON_EMBEDDER_SECOND"])
    yield from _index()


def _embedder(title: str, name: str) -> Iterator[Finding]:
    if name.lower() == "off":
        advice = f"set ARCHON_EMBEDDER, for example to {_DEFAULT}"
        yield Finding(title, State.MISSING, "off: search by meaning finds nothing", advice)
    elif name.lower() == "minilm":
        try:
            minilm.model_file()
        except EmbedderMissing as error:
            yield Finding(title, State.PROBLEM, error.message, error.next_step)
        else:
            whole = minilm.vocabulary_intact()
            detail = "minilm, on this machine" if whole else "minilm, with another vocabulary than it was made with"
            yield Finding(
                title, State.OK if whole else State.PROBLEM, detail, "" if whole else "check the checkout out anew"
            )
    elif name.lower() == static.MODEL:
        try:
            static.model_folder()
        except EmbedderMissing as error:
            yield Finding(title, State.PROBLEM, error.message, error.next_step)
        else:
            yield Finding(title, State.OK, f"{static.MODEL}, within the server")
    else:
        model = name.partition("@")[0]
        vendor = vendor_find(model.partition(":")[0])
        if vendor is None:
            yield Finding(title, State.PROBLEM, f"{model} is no embedder", "see docs/how-to/embedders.md")
        elif vendor.key_setting and not os.environ.get(vendor.key_setting):
            advice = f"set {vendor.key_setting}, or store a key (./archon keys set {vendor.name})"
            yield Finding(title, State.MISSING, f"{model}, without a key in the environment", advice)
        else:
            yield Finding(title, State.OK, model)


def _index() -> Iterator[Finding]:
    has_key = bool(os.environ.get("PINECONE_API_KEY"))
    chosen = os.environ.get("ARCHON_VECTOR_INDEX", "").strip() or ("pinecone" if has_key else "pgvector")
    if chosen != "pinecone":
        yield Finding("vector index", State.OK, chosen)
    elif not has_key:
        advice = "set PINECONE_API_KEY, or ARCHON_VECTOR_INDEX=pgvector"
        yield Finding("vector index", State.PROBLEM, "pinecone, without a key", advice)
    else:
        try:
            cloud, region = environment_parse(os.environ.get("PINECONE_ENVIRONMENT", ""))
        except PineconeConfigError as error:
            yield Finding("vector index", State.PROBLEM, str(error))
            return
        name = os.environ.get("PINECONE_INDEX_NAME") or "archon-index"
        yield Finding("vector index", State.OK, f"pinecone, index {name}; a new one is made in {cloud} {region}")
