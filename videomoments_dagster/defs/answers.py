"""Keeping what models answered: the archive as an object of the video, and the link and counts that the UI shows."""

from typing import Any

import dagster as dg

from videomoments_dagster.defs import metadata
from videomoments_dagster.defs.resources import PlatformResource
from videomoments_dagster.models.catalog import Used
from videomoments_dagster.models.protocols import Sampling
from videomoments_dagster.moments.archive import Archive, with_earlier
from videomoments_dagster.requests.config import PipelineConfig
from videomoments_dagster.storage import names


def sampling_of(wanted: PipelineConfig) -> Sampling:
    return Sampling(**wanted.sampling)  # pyright: ignore[reportArgumentType]  # the same names and types


def keep(platform: PlatformResource, video: str, archive: Archive, *, alone: bool = False) -> None:
    """Store the archive before the rows that are derived from it, so that rows never lack their answers. With `alone`
    it is about one moment, and what is kept of the others stays."""
    name, store = names.answers(video, archive.asset), platform.store
    if alone and store.stat(name):
        with platform.temp.directory("answers", video) as directory, store.local_copy(name, directory) as path:
            archive = with_earlier(archive, Archive.decode(path.read_bytes()))
    store.put_bytes(name, archive.encode(), "application/gzip")


def shown(platform: PlatformResource, video: str, archive: Archive, used: "Used[Any, Any]") -> dict[str, Any]:
    """Metadata: which model, instead of which, what it cost, and where its raw answers are."""
    asked = archive.exchanges
    values: dict[str, Any] = {"model": used.model.key}
    if used.instead_of:
        values["instead_of"] = "; ".join(used.instead_of)
    if used.clock_fault:
        values["clock"] = used.clock_fault
    if asked:
        values |= {
            "questions": len(asked),
            "prompt_tokens": sum(each.prompt_tokens or 0 for each in asked),
            "completion_tokens": sum(each.completion_tokens or 0 for each in asked),
            "model_seconds": dg.MetadataValue.float(sum(each.seconds for each in asked)),
            "raw_answers": metadata.link(platform, f"/api/videos/{video}/answers/{archive.asset}"),
        }
    return values
