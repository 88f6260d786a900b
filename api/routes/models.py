"""Administration of the model registry: the entries that running workers use from their next stage on."""

from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter

from api import routing
from api.problems import described
from api.schemas.models import (
    BrokenModel,
    Model,
    ModelCheck,
    ModelList,
    clock_verdict,
    defaults,
    model,
)
from api.services import Here, Services
from videomoments_dagster.models.entry import KEY_PATTERN, ModelSettings
from videomoments_dagster.models.registry import ModelRegistry
from videomoments_dagster.storage.factory import publish

router = routing.router(prefix="/api/admin/models", tags=["Administration"])
ModelKey = Annotated[
    str, PathParameter(description="The model's key", pattern=f"^{KEY_PATTERN}$", examples=["qwen3_vl_fp8"])
]


@router.get("", summary="List models", responses=described())
def list_models(here: Here) -> ModelList:
    """Every entry with all its settings, and those whose stored form was broken by hand."""
    registry = _registry(here)
    used = defaults(registry)
    return ModelList.model_construct(
        items=[model(registry, entry, used) for entry in registry.entries()],
        broken=[BrokenModel(key=key, fault=fault) for key, fault in registry.faults().items()],
    )


@router.get("/{key}", summary="Show a model", responses=described(404))
def get_model(key: ModelKey, here: Here) -> Model:
    """Its settings as they are used: what it leaves open about SSH comes from the platform's."""
    registry = _registry(here)
    return model(registry, registry.get(key), defaults(registry))


@router.put("/{key}", summary="Set a model", responses=described())
def set_model(key: ModelKey, here: Here, body: ModelSettings) -> Model:
    """Makes the entry, or makes it anew: what the body leaves out goes back to its default. Builtin models have no
    settings."""
    registry = _registry(here)
    entry = registry.change(key, body.model_dump(exclude_unset=True), others="reset")
    return model(registry, entry, defaults(registry))


@router.delete("/{key}", summary="Forget a model", status_code=204, responses=described(404))
def delete_model(key: ModelKey, here: Here) -> None:
    """One that the platform knows by itself goes back to its defaults."""
    _registry(here).remove(key)


@router.post("/{key}/check", summary="Check a model", responses=described(404, 502))
def check_model(key: ModelKey, here: Here) -> ModelCheck:
    """Opens its tunnel and asks it about a clip with known times; answers latency, offset and drift, or the error as a
    problem. The verdict is kept: a model whose times are wrong is not used for boundaries. Takes seconds."""
    from videomoments_dagster.models.calibration import check  # with what makes clips: only who asks for it pays

    registry = _registry(here)
    entry = registry.get(key)

    def published(path: Path) -> str:
        return publish(here.store, path)

    verdict = check(entry, here.settings, publish=published)
    registry.record_verdict(key, verdict)
    return ModelCheck(key=key, verdict=clock_verdict(verdict))


def _registry(here: Services) -> ModelRegistry:
    return ModelRegistry(here.redis, here.settings)
