"""Moments from a chat model: the questions to put to it, and what follows from its answers. The model is not here.

`plan` and `derive` give the same for the same input always, so stored answers can be derived from again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from videomoments_dagster.errors import InvalidConfig, ModelAnswerInvalid
from videomoments_dagster.moments import answers as answered
from videomoments_dagster.moments import boundaries, merging, prompts
from videomoments_dagster.moments.answers import Claim
from videomoments_dagster.moments.moment import FindOptions, FindResult, FoundMoment, Prompt
from videomoments_dagster.moments.scoring import score
from videomoments_dagster.moments.selection import count_limits, too_little_said
from videomoments_dagster.moments.sentences import usable_sentences
from videomoments_dagster.moments.titles import titles
from videomoments_dagster.moments.transcript import Sentence, Transcript, in_order
from videomoments_dagster.moments.windows import Window, estimate_tokens, fitted, split

_LONGEST_SENTENCE_MS = 60_000  # longer ones come from recognizers without punctuation, and hide where subjects change
_LEAST_ROOM_TOKENS = 256
_TEMPLATE_TOKENS = 100  # what servers put around system and user
_SENTENCES_A_WINDOW = 4  # at least, whatever their length, so that windows can overlap


@dataclass(frozen=True, slots=True)
class Plan:
    """One question for each window. `prompt` is without the transcript: the same for every video."""

    sentences: tuple[Sentence, ...]
    windows: tuple[Window, ...]
    prompt: Prompt
    longest_line_tokens: int

    def question(self, window: Window) -> str:
        """The user's part of the prompt, with the sentences of `window` under their numbers, from 1 for the talk."""
        return prompts.with_transcript(
            self.prompt,
            (_line(k, self.sentences[k], self.longest_line_tokens) for k in range(window.first, window.last)),
        )


def plan(transcript: Transcript, options: FindOptions, *, context_tokens: int, max_tokens: int) -> Plan:
    """What to ask a model of `context_tokens`, of which its answer may take `max_tokens`. No windows: nothing to ask.

    Raises InvalidTranscript when it is out of order, InvalidConfig when the context leaves no room for it.
    """
    prompt = prompts.generation_prompt(options)
    around = estimate_tokens(prompt.system) + estimate_tokens(prompts.with_transcript(prompt, ())) + _TEMPLATE_TOKENS
    room_tokens = context_tokens - max_tokens - around
    if room_tokens < _LEAST_ROOM_TOKENS:
        raise InvalidConfig(
            f"A context of {context_tokens} tokens leaves no room for a transcript: the prompt takes about {around}, "
            f"the answer may take {max_tokens}.",
            hint="Raise context_tokens or lower max_tokens of the model, or shorten the focus.",
        )
    transcript = in_order(transcript)
    sentences = usable_sentences(transcript, min(options.max_length_ms, _LONGEST_SENTENCE_MS))
    line_tokens = room_tokens // _SENTENCES_A_WINDOW
    tokens = [estimate_tokens(_line(k, s, line_tokens)) + 1 for k, s in enumerate(sentences)]
    windows = () if too_little_said(sentences) else split(sentences, tokens, room_tokens, options.max_length_ms)
    return Plan(tuple(sentences), windows, prompt, line_tokens)


def usable(answer: str) -> bool:
    """Whether `derive` can use the answer; when it can't, that window is worth asking about again."""
    try:
        answered.items_of(answer)
    except ModelAnswerInvalid:
        return False
    return True


def derive(transcript: Transcript, options: FindOptions, plan: Plan, answers: Sequence[str]) -> FindResult:
    """The moments that follow from one answer for each window of `plan`, in their order.

    None is invented: fewer than asked for stay fewer, and `notes` of the result say what was left out and why. Raises
    ModelAnswerInvalid naming the window whose answer says nothing about moments.
    """
    if said_too_little := too_little_said(plan.sentences):
        return FindResult((), said_too_little)
    transcript = in_order(transcript)
    at = merging.edges(plan.sentences, transcript.words)
    shown: list[tuple[Window, tuple[Claim, ...]]] = []
    left_out: Counter[str] = Counter()
    for number, (window, answer) in enumerate(zip(plan.windows, answers, strict=True), 1):
        try:
            said = answered.claims_of(answer, window, plan.sentences)
        except ModelAnswerInvalid as error:
            where = f"Window {number} of {len(plan.windows)} (sentences {window.first + 1} to {window.last})"
            raise ModelAnswerInvalid(f"{where}: {error.message}") from None
        shown.append((window, said.claims))
        left_out += said.left_out
    merged = merging.merge(shown, len(plan.sentences), at, options)
    left_out += merged.left_out
    speech_ms = sum(s.end_ms - s.start_ms for s in plan.sentences)
    _, most = count_limits(options, speech_ms, boundaries.typical_length_ms(plan.sentences))
    chosen = merging.best(merged.claims, most)
    moments = _moments(chosen, plan.sentences, at, transcript)
    notes = _notes(left_out, merged, len(moments), most, options)
    if moments:
        return FindResult(moments, notes=notes)
    return FindResult((), "No moment that the model named can be used." if left_out else "The model found none.", notes)


def _line(position: int, sentence: Sentence, most_tokens: int) -> str:
    line = prompts.sentence_line(position + 1, sentence.end_ms - sentence.start_ms, sentence.text)
    return fitted(line, most_tokens)


def _moments(
    chosen: Sequence[Claim], sentences: Sequence[Sentence], at: merging.Edges, transcript: Transcript
) -> tuple[FoundMoment, ...]:
    titled = all(claim.title for claim in chosen)
    own_titles = (
        [""] * len(chosen) if titled else titles([[s.text for s in sentences[c.first : c.last]] for c in chosen])
    )
    moments: list[FoundMoment] = []
    for claim, own_title in zip(chosen, own_titles, strict=True):
        start_ms, end_ms = at.starts_ms[claim.first], at.ends_ms[claim.last - 1]
        value, reason = claim.score, claim.reason or "The model gave no reason."
        if value is None:
            measured = score(start_ms, end_ms, transcript)
            value, reason = measured.value, claim.reason or measured.reason
        moments.append(FoundMoment(start_ms, end_ms, claim.title or own_title, value, reason))
    return tuple(moments)


def _notes(
    left_out: Counter[str], merged: merging.Merged, found: int, most: int, options: FindOptions
) -> tuple[str, ...]:
    """What people should know about how the answers became moments."""
    notes = [f"{n} left out: {cause}." for cause, n in sorted(left_out.items())]
    if len(merged.claims) > most:
        notes.append(f"{len(merged.claims) - most} left out: {most} moments is the most for this talk.")
    if merged.trimmed:
        notes.append(f"{merged.trimmed} trimmed at a sentence to the length allowed or to make room for a better one.")
    if merged.extended:
        notes.append(f"{merged.extended} extended by whole sentences to the least length.")
    if options.min_moments and found < options.min_moments:
        notes.append(f"{found} instead of the {options.min_moments} asked for: none is invented.")
    return tuple(notes)
