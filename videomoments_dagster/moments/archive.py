"""The raw answers behind an asset, kept so that its moments can be derived again without a model, and bit-equal.

Pure: bytes in, bytes out. Where they are stored is the caller's business.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from videomoments_dagster.errors import InvalidInput
from videomoments_dagster.moments.exchange import Exchange
from videomoments_dagster.moments.moment import FindOptions
from videomoments_dagster.moments.transcript import Transcript

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Archive:
    """`inputs` is what the derivation needs beside transcript and options, per asset (see moments/replay.py)."""

    asset: str
    model: str
    options: FindOptions
    transcript_digest: str
    exchanges: tuple[Exchange, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Gzip'd JSON; the same archive gives the same bytes."""
        value = {
            "version": _VERSION,
            "asset": self.asset,
            "model": self.model,
            "options": asdict(self.options),
            "transcript_digest": self.transcript_digest,
            "inputs": self.inputs,
            "exchanges": [exchange.to_json() for exchange in self.exchanges],
        }
        return gzip.compress(json.dumps(value, indent=1).encode(), mtime=0)

    @classmethod
    def decode(cls, data: bytes) -> "Archive":
        """Raises InvalidInput when these bytes are no archive of this version."""
        try:
            value = json.loads(gzip.decompress(data))
            if value["version"] != _VERSION:
                raise InvalidInput(
                    f"The stored answers have version {value['version']}, this program reads {_VERSION}."
                )
            return cls(
                asset=value["asset"],
                model=value["model"],
                options=FindOptions(**value["options"]),
                transcript_digest=value["transcript_digest"],
                exchanges=tuple(Exchange.from_json(each) for each in value["exchanges"]),
                inputs=value["inputs"],
            )
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"The stored answers can't be read: {type(error).__name__}.") from None


def with_earlier(archive: Archive, earlier: Archive) -> Archive:
    """The archive of a run about one moment alone, with what `earlier` kept of the others."""
    if earlier.transcript_digest != archive.transcript_digest:
        return archive
    renewed, inputs = set(archive.inputs["about"]), dict(archive.inputs)
    inputs["about"] = [*(each for each in earlier.inputs["about"] if each not in renewed), *inputs["about"]]
    if archive.asset == "scores":
        pairs = [
            (exchange, {number: each for number, each in numbered.items() if each not in renewed})
            for exchange, numbered in zip(earlier.exchanges, earlier.inputs["numbered"], strict=True)
        ]
        kept = [(exchange, numbered) for exchange, numbered in pairs if numbered]
        exchanges = (*(exchange for exchange, _ in kept), *archive.exchanges)
        inputs["numbered"] = [*(numbered for _, numbered in kept), *inputs["numbered"]]
    else:
        exchanges = (*(each for each in earlier.exchanges if each.about not in renewed), *archive.exchanges)
        others = [each for each in earlier.inputs["moments"] if each["identifier"] not in renewed]
        inputs["moments"] = [*others, *inputs["moments"]]
    return replace(archive, exchanges=exchanges, inputs=inputs)


def digest(transcript: Transcript) -> str:
    """SHA-256 of words, sentences and their times: whether two transcripts are the same."""
    rows = [transcript.word_rows(), transcript.segment_rows()]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
