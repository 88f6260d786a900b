"""Prompts and generation configurations: stored once each, shared by all videos, found by their hash."""

import hashlib
import json
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import GenerationConfig, Prompt


def prompt(session: Session, system_prompt: str, user_prompt: str) -> Prompt:
    """The row of these two texts, made when there is none. Processes that race for it get the same one."""
    digest = _digest([system_prompt, user_prompt])
    session.execute(
        insert(Prompt)
        .values(system_prompt=system_prompt, user_prompt=user_prompt, prompt_hash=digest)
        .on_conflict_do_nothing(index_elements=[Prompt.prompt_hash])
    )
    return session.scalars(select(Prompt).where(Prompt.prompt_hash == digest)).one()


def generation_config(
    session: Session,
    *,
    prompt_id: int,
    transcript_id: int | None,
    model: str,
    operation_type: str,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_moment_length: float | None = None,
    max_moment_length: float | None = None,
    min_moments: int | None = None,
    max_moments: int | None = None,
) -> GenerationConfig:
    """The row of these parameters, made when there is none; its `transcript_id` becomes this one (None: stays).

    Lengths are seconds; `operation_type` is generation, refinement or scoring. The row is locked until the
    transaction ends, so call it after the model has answered.
    """
    parameters: dict[str, Any] = {
        "prompt_id": prompt_id,
        "model": model,
        "operation_type": operation_type,
        "temperature": _float(temperature),
        "top_p": _float(top_p),
        "top_k": top_k,
        "min_moment_length": _float(min_moment_length),
        "max_moment_length": _float(max_moment_length),
        "min_moments": min_moments,
        "max_moments": max_moments,
    }
    statement = insert(GenerationConfig).values(
        **parameters, transcript_id=transcript_id, config_hash=_digest(parameters)
    )
    statement = statement.on_conflict_do_update(
        index_elements=[GenerationConfig.config_hash],
        set_={"transcript_id": func.coalesce(statement.excluded.transcript_id, GenerationConfig.transcript_id)},
    )
    return session.scalars(statement.returning(GenerationConfig), execution_options={"populate_existing": True}).one()


def _digest(value: object) -> str:
    """SHA-256 of JSON: where one text ends and the next begins is part of it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _float(value: float | None) -> float | None:
    """15 and 15.0 are the same parameter, and differ in JSON."""
    return None if value is None else float(value)
