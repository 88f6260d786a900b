"""From a transcript to titled, scored moments: puts boundaries, segmentation, titles and scoring together."""

from videomoments_dagster.moments import boundaries
from videomoments_dagster.moments.moment import FindOptions, FindResult, FoundMoment
from videomoments_dagster.moments.scoring import score
from videomoments_dagster.moments.segmentation import Limits, divide
from videomoments_dagster.moments.selection import count_limits, too_little_said
from videomoments_dagster.moments.sentences import usable_sentences
from videomoments_dagster.moments.titles import titles
from videomoments_dagster.moments.transcript import Transcript, in_order


def find_moments(transcript: Transcript, options: FindOptions) -> FindResult:
    """The talk divided into topics. Raises InvalidTranscript when words or sentences are out of order."""
    transcript = in_order(transcript)
    sentences = usable_sentences(transcript, options.max_length_ms)
    if said_too_little := too_little_said(sentences):
        return FindResult((), said_too_little)
    typical_ms = boundaries.typical_length_ms(sentences)
    fewest, most = count_limits(options, sum(s.end_ms - s.start_ms for s in sentences), typical_ms)
    looked_for_ms = min(max(typical_ms, options.min_length_ms), options.max_length_ms)
    limits = Limits(options.min_length_ms, options.max_length_ms, fewest, most)
    topics = divide(sentences, boundaries.evidence(sentences, looked_for_ms), looked_for_ms, limits)
    if not topics:
        lengths = f"{options.min_length_ms / 1000:g} to {options.max_length_ms / 1000:g} s"
        return FindResult((), f"No run of whole sentences is {lengths} long.")
    names = titles([[s.text for s in sentences[t.first : t.last]] for t in topics])
    found = []
    for topic, title in zip(topics, names, strict=True):
        start_ms, end_ms = sentences[topic.first].start_ms, sentences[topic.last - 1].end_ms
        scored = score(start_ms, end_ms, transcript)
        found.append(FoundMoment(start_ms, end_ms, title, scored.value, scored.reason))
    return FindResult(tuple(found))
