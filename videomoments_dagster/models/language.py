"""A chat model as finder, refiner and scorer: asks, and leaves all deciding to the pure functions of `moments/`.

The model chooses among numbered sentences and candidates; nothing it says can be a time, a file or a URL.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from videomoments_dagster.errors import ModelAnswerInvalid, ModelError
from videomoments_dagster.models.chat import ChatClient, Media
from videomoments_dagster.models.clip_media import ClipTooLarge, media_of
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.explanations import beginning
from videomoments_dagster.models.protocols import AnswerMemory, ClipSource, Found, Refined, Sampling, Scored
from videomoments_dagster.models.server import RequestRefused
from videomoments_dagster.moments import choice, generation, judging, prompts
from videomoments_dagster.moments.candidates import end_candidates, start_candidates
from videomoments_dagster.moments.exchange import Exchange
from videomoments_dagster.moments.moment import FindOptions, FoundMoment, Prompt, Refinement, Score, Span
from videomoments_dagster.moments.transcript import Transcript
from videomoments_dagster.processes import Progress

_TRIES = 2  # an answer that makes no sense is asked for once more
_REFUSED_FOR_ITS_CONTENT = {400, 413, 422}  # this clip, this question; another may be taken
_SECOND_TEMPERATURE = 0.3  # at 0 the same nonsense would come again


def _kept(span: Span, error: ModelError) -> Refined:
    return Refined(Refinement(span.start_ms, span.end_ms, False, f"Kept: {error.message}"), failure=error)


class LanguageModel:
    """Implements MomentFinder, MomentRefiner and MomentScorer. Every method raises ModelError.

    `times_trusted`: the clock check passed, so that times which the model gives by itself may move a boundary.
    `memory`: answered questions are not asked again; without it every question is.
    """

    refinement_prompt = choice.REFINEMENT_PROMPT
    scoring_prompt = judging.SCORING_PROMPT

    def __init__(
        self,
        entry: ModelEntry,
        chat: ChatClient,
        sampling: Sampling,
        *,
        times_trusted: bool,
        memory: AnswerMemory | None = None,
    ) -> None:
        self.key, self.watches_video = entry.key, entry.supports_video
        self.times_trusted = times_trusted
        self.sampling = Sampling(
            temperature=entry.temperature if sampling.temperature is None else sampling.temperature,
            top_p=sampling.top_p or entry.top_p,
            top_k=sampling.top_k or entry.top_k,
            max_tokens=min(sampling.max_tokens or entry.max_tokens, entry.context_tokens // 2),
        )
        self._entry, self._chat, self._memory = entry, chat, memory

    @property
    def budget(self) -> dict[str, int]:
        """What windows are made by: tokens of context and of an answer."""
        return {
            "context_tokens": self._entry.context_tokens,
            "max_tokens": self.sampling.max_tokens or self._entry.max_tokens,
        }

    def generation_prompt(self, options: FindOptions) -> Prompt:
        return prompts.generation_prompt(options)

    def find(self, transcript: Transcript, options: FindOptions, *, on_progress: Progress | None = None) -> Found:
        """Asks about each window of the transcript. Raises ModelAnswerInvalid when one has no usable answer."""
        plan = generation.plan(transcript, options, **self.budget)
        exchanges = []
        for done, window in enumerate(plan.windows):
            about, question = f"window {done + 1} of {len(plan.windows)}", plan.question(window)
            exchanges.append(self._ask(about, plan.prompt.system, question, prompts.ANSWER_SCHEMA, generation.usable))
            if on_progress:
                on_progress((done + 1) / len(plan.windows))
        answers = [exchange.answer for exchange in exchanges]
        return Found(generation.derive(transcript, options, plan, answers), tuple(exchanges), self.budget)

    def refine(
        self,
        moment: FoundMoment,
        clip: Span,
        transcript: Transcript,
        silences: Sequence[Span],
        options: FindOptions,
        *,
        about: str = "",
        shown: ClipSource | None = None,
    ) -> Refined:
        span = Span(moment.start_ms, moment.end_ms)
        starts = start_candidates(span.start_ms, clip, transcript, silences)
        ends = end_candidates(span.end_ms, clip, transcript, silences)
        if not starts or not ends:
            return Refined(
                Refinement(span.start_ms, span.end_ms, False, "No gap between words is near its boundaries.")
            )
        question = choice.question(moment, clip, starts, ends)
        system = choice.REFINEMENT_PROMPT.system
        try:
            exchange = self._ask(
                about,
                system,
                question,
                choice.CHOICE_SCHEMA,
                choice.usable,
                lambda: media_of(shown, self._entry, [c.at_ms for c in (*starts, *ends)]) if shown else (),
            )
        except (ModelAnswerInvalid, ClipTooLarge) as error:
            return _kept(span, error)
        except RequestRefused as error:
            if error.answer_status not in _REFUSED_FOR_ITS_CONTENT:
                raise
            return _kept(span, error)
        chosen = choice.choose(
            exchange.answer, span, clip, transcript, silences, options, times_trusted=self.times_trusted
        )
        return Refined(chosen, exchange)

    def score(self, moments: Sequence[FoundMoment], transcript: Transcript) -> Scored:
        exchanges: list[Exchange] = []
        asked: list[tuple[int, ...]] = []
        found: dict[int, Score] = {}
        budget = self.budget["context_tokens"] - self.budget["max_tokens"]
        for batch in judging.questions(moments, transcript, budget):
            about = f"moments {batch.numbers[0]} to {batch.numbers[-1]}"
            system, schema = judging.SCORING_PROMPT.system, judging.SCORES_SCHEMA
            usable = partial(judging.usable, numbers=batch.numbers)
            exchange = self._ask(about, system, batch.question, schema, usable)
            exchanges.append(exchange)
            asked.append(tuple(batch.numbers))
            found |= judging.scores(exchange.answer, batch.numbers)
        scores = tuple(found.get(number) for number in range(1, len(moments) + 1))
        return Scored(scores, tuple(exchanges), tuple(asked))

    def _ask(
        self,
        about: str,
        system: str,
        question: str,
        schema: Mapping[str, Any],
        is_usable: Callable[[str], bool],
        media: Callable[[], Sequence[Media]] = tuple,
    ) -> Exchange:
        digest = self._digest(about, system, question)
        if self._memory and (kept := self._memory.recall(digest)):
            return Exchange.from_json(kept)
        prompt_tokens = completion_tokens = 0
        watched = media()
        seconds, counted = 0.0, False
        sampling, answer = self.sampling, ""
        for attempt in range(_TRIES):
            if attempt and not sampling.temperature:
                sampling = replace(sampling, temperature=_SECOND_TEMPERATURE)
            said = self._chat.complete(system, question, media=watched, schema=dict(schema), sampling=sampling)
            seconds += said.seconds
            counted = counted or said.prompt_tokens is not None
            prompt_tokens += said.prompt_tokens or 0
            completion_tokens += said.completion_tokens or 0
            answer = said.text
            if is_usable(answer):
                tokens = (prompt_tokens, completion_tokens) if counted else (None, None)
                exchange = Exchange(about, question, answer, *tokens, seconds=round(seconds, 3))
                if self._memory:
                    self._memory.keep(digest, exchange.to_json())
                return exchange
        said = beginning(answer)
        raise ModelAnswerInvalid(f"{self.key} answers {_TRIES} times what can't be used ({about}): {said!r}.")

    def _digest(self, about: str, system: str, question: str) -> str:
        """What is asked of which model. A clip's signed URL is another each time; its span is in the question."""
        asked = [self._entry.fingerprint, asdict(self.sampling), about, system, question]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
