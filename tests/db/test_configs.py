"""Prompts and configurations are stored once each, whoever asks, and however many at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import GenerationConfig, Prompt
from db.queries import configs
from db.session import Database
from tests import factories as make

PARAMETERS: dict[str, Any] = {
    "model": "m",
    "operation_type": "generation",
    "temperature": 0.2,
    "top_p": 0.9,
    "top_k": 40,
    "min_moment_length": 15.0,
    "max_moment_length": 600.0,
    "min_moments": 3,
    "max_moments": 9,
}


def test_the_same_prompt_is_the_same_row(session: Session) -> None:
    first = configs.prompt(session, "Find.", "Here: {text}")
    assert configs.prompt(session, "Find.", "Here: {text}").id == first.id
    assert (first.system_prompt, first.user_prompt) == ("Find.", "Here: {text}")
    assert len(first.prompt_hash) == 64


def test_where_one_text_ends_is_part_of_the_hash(session: Session) -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ('a","b', "c"), ("a", 'b","c'), ("c", "ab")]
    assert len({configs.prompt(session, *pair).id for pair in pairs}) == len(pairs)


def test_the_same_parameters_are_the_same_row(session: Session) -> None:
    prompt_id = make.prompt(session).id
    first = configs.generation_config(session, prompt_id=prompt_id, transcript_id=None, **PARAMETERS)
    whole = {**PARAMETERS, "min_moment_length": 15}  # an integer is the same length
    assert configs.generation_config(session, prompt_id=prompt_id, transcript_id=None, **whole).id == first.id
    assert {name: getattr(first, name) for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_makes_a_row_of_its_own(session: Session, name: str) -> None:
    prompt_id = make.prompt(session).id
    first = configs.generation_config(session, prompt_id=prompt_id, transcript_id=None, **PARAMETERS)
    other = {**PARAMETERS, name: PARAMETERS[name] + ("x" if isinstance(PARAMETERS[name], str) else 1)}
    assert configs.generation_config(session, prompt_id=prompt_id, transcript_id=None, **other).id != first.id


def test_another_prompt_makes_another_configuration(session: Session) -> None:
    ids = {
        configs.generation_config(session, prompt_id=make.prompt(session).id, transcript_id=None, **PARAMETERS).id
        for _ in range(2)
    }
    assert len(ids) == 2


def test_a_configuration_names_the_transcript_it_was_last_used_on(session: Session) -> None:
    prompt_id = make.prompt(session).id
    transcripts = [make.transcript(session, make.video(session)).id for _ in range(2)]
    for transcript_id in transcripts:
        config = configs.generation_config(session, prompt_id=prompt_id, transcript_id=transcript_id, **PARAMETERS)
        assert config.transcript_id == transcript_id
    config = configs.generation_config(session, prompt_id=prompt_id, transcript_id=None, **PARAMETERS)
    assert config.transcript_id == transcripts[-1]


def test_connections_that_race_get_the_same_rows(database: Database) -> None:
    """Each begins its transaction before any of them inserts."""
    together = Barrier(4)

    def make_both(_: int) -> tuple[int, int]:
        with database.session() as session:
            session.scalar(select(func.now()))
            together.wait()
            prompt = configs.prompt(session, "system", "user")
            config = configs.generation_config(session, prompt_id=prompt.id, transcript_id=None, **PARAMETERS)
            return prompt.id, config.id

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(make_both, range(4)))
    assert len(made) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Prompt)) == 1
        assert session.scalar(select(func.count()).select_from(GenerationConfig)) == 1
