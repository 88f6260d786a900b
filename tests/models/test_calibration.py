"""The clock check against servers with each published fault planted: the true times are known, so what is found is too.

The speech stub answers with the clip's words; the vision stub does watch the clip, as servers do: 32 frames of it.
"""

import base64
import io
import json
import random
import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import redis as redis_client
from numpy.typing import NDArray

from tests.models import stubs
from tests.models.stubs import ChatStub, SpeechStub, Timed
from tests.sample import RATE_HZ, TRUTH, talk
from videomoments_dagster.errors import ClockUntrusted, ModelAnswerInvalid, ModelRefused, ModelUnavailable
from videomoments_dagster.models.calibration import check, ensure_trusted
from videomoments_dagster.models.calibration_media import CalibrationClip, clock_clip, face, speech_clip
from videomoments_dagster.models.calibration_vision import check_vision
from videomoments_dagster.models.chat import ChatClient
from videomoments_dagster.models.defaults import DEFAULTS
from videomoments_dagster.models.entry import ModelEntry
from videomoments_dagster.models.registry import ModelRegistry, Verdict
from videomoments_dagster.models.retries import Retries
from videomoments_dagster.models.server import ModelServer
from videomoments_dagster.settings import Settings, get_settings

Heard = Callable[[list[Timed]], list[Timed]]
CLOSED = "http://127.0.0.1:9"
TRUSTED = Verdict("", True, "Times are right.", 0.0, 0.0, 0.1, "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def settings(home: Path) -> Settings:
    return get_settings()


@pytest.fixture
def registry(redis: "redis_client.Redis", settings: Settings) -> ModelRegistry:
    return ModelRegistry(redis, settings)


def _speech(url: str) -> ModelEntry:
    return ModelEntry.parse("ears", {"kind": "speech", "base_url": url})


def _vision(url: str, **more: Any) -> ModelEntry:
    return ModelEntry.parse("eyes", {"kind": "chat", "base_url": url, "supports_video": True, **more})


# the clips


def _samples(path: Path, start_seconds: float, end_seconds: float) -> NDArray[np.float64]:
    with wave.open(str(path)) as file:
        file.setpos(round(start_seconds * RATE_HZ))
        block = file.readframes(round((end_seconds - start_seconds) * RATE_HZ))
    return np.frombuffer(block, "<i2").astype(float)


def test_the_speech_clip_says_the_talks_sentences_where_it_claims_to(clips: Path) -> None:
    clip = speech_clip(clips)
    true = {sentence["text"]: sentence for sentence in TRUTH["sentences"]}
    assert len({said.text for said in clip.shown}) == 14
    for said in clip.shown:
        heard = _samples(clip.path, said.start_seconds, said.end_seconds)
        start = round(true[said.text]["start_time"] * RATE_HZ)
        assert np.corrcoef(heard, talk()[start : start + len(heard)])[0, 1] > 0.999


def test_between_the_seven_places_of_the_speech_clip_nobody_speaks(clips: Path) -> None:
    clip = speech_clip(clips)
    edges = [0.0, *(edge for said in clip.shown for edge in (said.start_seconds, said.end_seconds)), 815.0]
    silences = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end - start > 2]
    assert len(silences) == 8
    assert max(end - start for start, end in silences) > 150
    assert all(np.std(_samples(clip.path, start + 0.15, end - 0.15)) < 10 for start, end in silences)
    assert clip.shown[-1].start_seconds > 800
    assert _samples(clip.path, 0, clip.duration_seconds).size == 815 * RATE_HZ


def test_the_clock_clip_shows_the_clocks_when_it_claims_to_at_an_ordinary_frame_rate(clips: Path) -> None:
    clip = clock_clip(clips)
    with av.open(str(clip.path)) as file:
        assert file.streams.video[0].average_rate == 25
    changes = [(run[0][0], text) for text, run in _runs(watched(clip.path.read_bytes(), 5))]
    assert changes == [(shown.start_seconds, shown.text) for shown in clip.shown]
    assert clip.duration_seconds == 180
    assert min(shown.end_seconds - shown.start_seconds for shown in clip.shown) > 180 / 32


def test_a_clip_is_made_once_a_directory(tmp_path: Path) -> None:
    for make in (speech_clip, clock_clip):
        first = make(tmp_path)
        written = first.path.stat().st_mtime_ns
        assert make(tmp_path) == first
        assert first.path.stat().st_mtime_ns == written
    assert len(list(tmp_path.iterdir())) == 2


# recognizers


def _right(words: list[Timed]) -> list[Timed]:
    return words


def _moved(to: Callable[[float], float]) -> Heard:
    return lambda words: [(text, to(start), to(end)) for text, start, end in words]


def _jittered(words: list[Timed]) -> list[Timed]:
    chance = random.Random(3)
    return [(text, start + chance.gauss(0, 0.1), end + chance.gauss(0, 0.1)) for text, start, end in words]


def _misheard(words: list[Timed]) -> list[Timed]:
    chance = random.Random(4)
    wrong = ("whether", "dell", "ice", "them", "sore", "planned")
    return [(chance.choice(wrong) if chance.random() < 0.25 else text, start, end) for text, start, end in words]


def _hallucinating(words: list[Timed]) -> list[Timed]:
    """Whisper's habit: thanks in every silence, for as long as it lasts."""
    ends = [0.0, *(end for _, _, end in words)]
    starts = [*(start for _, start, _ in words), 815.0]
    thanks = [
        (text, at + place, at + place + 0.4)
        for end, start in zip(ends, starts, strict=True)
        if start - end > 10
        for at in np.arange(end + 3, start - 5, 10.0)
        for place, text in enumerate(("Thank", "you", "for", "watching"))
    ]
    return sorted([*words, *thanks], key=lambda word: word[1])


def _first_words(count: int) -> Heard:
    return lambda words: words[:count]


def _jump(words: list[Timed]) -> list[Timed]:
    return [(text, start - 1.5 * (start > 600), end - 1.5 * (end > 600)) for text, start, end in words]


HEARING: dict[str, tuple[Heard, bool, str, float | None, float | None]] = {
    # name: what the server does, then of the verdict: trusted, reason, offset (s), drift (s an hour)
    # where the times lie on a line at all
    "no fault": (_right, True, "Times are right; 14 of 14 sentences heard.", 0, 0),
    "drift of 2.36 s an hour": (_moved(lambda t: t * (1 + 2.36 / 3600)), False, "drift by +2.36 s an hour", 0, 2.36),
    "drift backwards": (_moved(lambda t: t * (1 - 2.36 / 3600)), False, "drift by -2.36 s an hour", 0, -2.36),
    "scaled by 1.02": (_moved(lambda t: t * 1.02), False, "scaled by 1.02", 0, 72),
    "scaled by 0.5": (_moved(lambda t: t * 0.5), False, "scaled by 0.5", 0, -1800),
    "windows of 5 minutes": (_moved(lambda t: t % 300), False, "windows of 5:00", None, None),
    "windows of 10 minutes": (
        _moved(lambda t: t % 600),
        False,
        "start again at 0 before 10:20: they are relative to windows of 10:00",
        None,
        None,
    ),
    "windows of 30 s": (_moved(lambda t: t % 30), False, "windows of 0:30", None, None),
    "0.8 s late": (_moved(lambda t: t + 0.8), False, "0.80 s late", 0.8, 0),
    "4 s early": (_moved(lambda t: t - 4), False, "4.00 s early", -4, 0),
    "a chunk of 1.5 s lost": (_jump, False, "jump by -1.5 s before 10:20", None, None),
    "jitter of 0.1 s": (_jittered, True, "Times are right", 0, 0),
    "a quarter misheard": (_misheard, True, "Times are right", 0, 0),
    "thanks in the silences": (_hallucinating, True, "296 words were heard where nobody speaks", 0, 0),
    "deaf": (_first_words(0), False, "Heard too little; 0 of 14 sentences heard.", None, None),
    "deaf from 7 minutes on": (_first_words(62), False, "none of those at 7:00, 10:20, 12:30, 13:20", None, None),
}


def spoken(clip: CalibrationClip) -> list[Timed]:
    """Every word of the clip, of even length within its sentence."""
    words: list[Timed] = []
    for said in clip.shown:
        texts = said.text.split()
        length = (said.end_seconds - said.start_seconds) / len(texts)
        words += [
            (text, said.start_seconds + place * length, said.start_seconds + (place + 1) * length)
            for place, text in enumerate(texts)
        ]
    return words


@pytest.mark.parametrize("fault", HEARING)
def test_a_recognizers_clock_is_judged(fault: str, clips: Path, settings: Settings) -> None:
    spoil, trusted, reason, offset_seconds, drift_seconds = HEARING[fault]
    words = spoil(spoken(speech_clip(clips)))
    with SpeechStub(lambda audio: stubs.heard(words)) as stub:
        entry = _speech(stub.url)
        found = check(entry, settings, directory=clips)
    assert stub.requests[0].size_bytes == speech_clip(clips).path.stat().st_size
    assert (found.trusted, found.fingerprint) == (trusted, entry.fingerprint), found.reason
    assert reason in found.reason
    assert 0 < found.latency_seconds < 60
    assert found.offset_seconds == pytest.approx(offset_seconds, abs=0.1)
    assert found.drift_seconds_an_hour == pytest.approx(drift_seconds, abs=0.8)


def test_a_recognizer_that_gives_only_segments_is_judged_by_their_edges(clips: Path, settings: Settings) -> None:
    clip = speech_clip(clips)
    late = [(said.text, said.start_seconds + 1, said.end_seconds + 1) for said in clip.shown]
    with SpeechStub(lambda audio: stubs.heard([], late)) as stub:
        found = check(_speech(stub.url), settings, directory=clips)
    assert (found.trusted, found.offset_seconds) == (False, pytest.approx(1, abs=0.01))


# models that watch

FACES = ("17:41", "05:18", "21:36", "09:03", "14:52", "22:27", "06:46", "19:10", "08:34", "13:59", "04:25", "16:07")


def read(frame: av.VideoFrame) -> str:
    """Which clock a picture shows: the face it is most like."""
    picture = frame.to_ndarray(format="gray")[::4, ::4].astype(int)
    return FACES[int(np.abs(_faces() - picture).mean(axis=(1, 2)).argmin())]


@cache
def _faces() -> NDArray[np.int_]:
    return np.stack([face(text)[::4, ::4].astype(int) for text in FACES])


@cache
def watched(video: bytes, every_frames: int) -> list[tuple[float, str]]:
    """What the clock shows in every so many frames of the video: (seconds, text)."""
    with av.open(io.BytesIO(video), "r") as file:
        return [(f.time, read(f)) for n, f in enumerate(file.decode(video=0)) if n % every_frames == 0]


def watch(body: dict[str, Any], published: dict[str, Path]) -> list[tuple[float, str]]:
    """The frames that a server looks at: 32 of a video, or the stills it is sent, with the times in their captions."""
    parts = body["messages"][-1]["content"]
    for part in parts:
        if part["type"] == "video_url":
            url = part["video_url"]["url"]
            video = published[url].read_bytes() if url in published else base64.b64decode(url.partition(",")[2])
            return watched(video, 4500 // 32)
    stills = []
    for caption, still in pairwise(parts):
        if still["type"] == "image_url":
            picture = base64.b64decode(still["image_url"]["url"].partition(",")[2])
            with av.open(io.BytesIO(picture), "r") as file:
                frame = next(file.decode(video=0))
            stills.append((float(caption["text"].removesuffix(" s")), read(frame)))
    return stills


Seen = dict[str, tuple[float, float]]


def _seen(frames: Sequence[tuple[float, str]]) -> Seen:
    return {text: (times[0], times[-1]) for text, times in ((t, [at for at, _ in g]) for t, g in _runs(frames))}


def _runs(frames: Sequence[tuple[float, str]]) -> list[tuple[str, list[tuple[float, str]]]]:
    return [(text, list(run)) for text, run in groupby(frames, key=lambda frame: frame[1])]


def _by(clock: Callable[[float], float]) -> Callable[[Seen], Seen]:
    return lambda seen: {text: (clock(start), clock(end)) for text, (start, end) in seen.items()}


def _only_counted(seen: Seen) -> Seen:
    """The right order, and no idea of when: twelve equal parts."""
    return {text: (15.0 * place, 15.0 * (place + 1)) for place, text in enumerate(seen)}


def _one_misread(seen: Seen) -> Seen:
    return seen | {"14:52": (3.0, 9.0)}


def _reads_the_clocks(seen: Seen) -> Seen:
    """The clock is taken for the time in the video."""
    return {text: (at, at + 10) for text in seen for at in [60.0 * int(text[:2]) + int(text[3:])]}


WATCHING: dict[str, tuple[Callable[[Seen], Seen], bool, str]] = {
    "no fault": (lambda seen: seen, True, "Times are right; 12 of 12 clocks seen."),
    "minute 14 of three": (_by(lambda t: t * 4.75), False, "scaled by 4.8"),
    "25 frames a second taken for 24": (_by(lambda t: t * 25 / 24), False, "scaled by 1.0"),
    "2 frames a second taken for 1": (_by(lambda t: t * 2), False, "scaled by 2"),
    "5 s late": (_by(lambda t: t + 5), False, " s late"),
    "windows of a minute": (_by(lambda t: t % 60), False, "Times"),
    "only counted": (_only_counted, False, "Times"),
    "reads the clocks": (_reads_the_clocks, False, "Times"),
    "one misread": (_one_misread, True, "12 of 12 clocks seen"),
    "nearly blind": (lambda seen: dict(list(seen.items())[:3]), False, "Saw too little; 3 of 12 clocks seen."),
}


def _answer(seen: Seen) -> str:
    rows = [{"clock": text, "start_time": start, "end_time": end} for text, (start, end) in seen.items()]
    return json.dumps({"clocks": rows})


def _watcher(spoil: Callable[[Seen], Seen] = lambda seen: seen, published: dict[str, Path] | None = None) -> ChatStub:
    return ChatStub(lambda body: _answer(spoil(_seen(watch(body, published or {})))))


@pytest.mark.parametrize("fault", WATCHING)
def test_a_watchers_clock_is_judged(fault: str, clips: Path, settings: Settings) -> None:
    spoil, trusted, reason = WATCHING[fault]
    with _watcher(spoil) as stub:
        found = check(_vision(stub.url, video_transport="data"), settings, directory=clips)
    assert found.trusted == trusted, found.reason
    assert reason in found.reason


def test_stills_carry_their_times(clips: Path, settings: Settings) -> None:
    with _watcher() as stub:
        found = check(_vision(stub.url, video_transport="frames"), settings, directory=clips)
    assert found.trusted, found.reason
    assert len([p for p in stub.requests[0].body["messages"][-1]["content"] if p["type"] == "image_url"]) == 24


def test_a_model_that_takes_addresses_is_sent_one_or_the_bytes_where_nothing_can_publish(
    clips: Path, settings: Settings
) -> None:
    published: dict[str, Path] = {}

    def publish(path: Path) -> str:
        published["http://store.example.org/clock"] = path
        return "http://store.example.org/clock"

    with _watcher(published=published) as stub:
        assert check(_vision(stub.url), settings, directory=clips, publish=publish).trusted
        assert check(_vision(stub.url), settings, directory=clips).trusted
    sent = [part["video_url"]["url"] for r in stub.requests for part in r.body["messages"][-1]["content"][:1]]
    assert sent[0] == "http://store.example.org/clock"
    assert sent[1].startswith("data:video/mp4;base64,")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda answer: f"<think>Hm, 180 s?</think>I watched it.\n```json\n{answer}\n```",
        lambda answer: json.dumps(json.loads(answer)["clocks"]),
        lambda answer: answer.replace('"start_time": 0.0', '"start_time": "00:00"'),
    ],
    ids=["in prose", "a bare list", "as MM:SS"],
)
def test_a_watchers_answer_may_have_any_sensible_form(
    wrap: Callable[[str], str], clips: Path, settings: Settings
) -> None:
    with ChatStub(lambda body: wrap(_answer(_seen(watch(body, {}))))) as stub:
        found = check(_vision(stub.url, video_transport="data"), settings, directory=clips)
    assert found.reason == "Times are right; 12 of 12 clocks seen."


# models without a clock


def test_a_model_that_only_reads_is_asked_one_small_question(settings: Settings) -> None:
    with ChatStub(lambda body: '{"animals": 3}') as stub:
        found = check(ModelEntry.parse("reader", {"kind": "chat", "base_url": stub.url}), settings)
    assert (found.trusted, found.offset_seconds, found.drift_seconds_an_hour) == (True, None, None)
    assert found.latency_seconds > 0


@pytest.mark.parametrize("answer", ['{"animals": 5}', "Three of them.", "[]"])
def test_a_model_that_answers_nonsense_is_no_verdict_but_an_error(answer: str, settings: Settings) -> None:
    with ChatStub(lambda body: f"{answer} /a?key=canary") as stub, pytest.raises(ModelAnswerInvalid) as error:
        check(ModelEntry.parse("reader", {"kind": "chat", "base_url": stub.url}), settings)
    assert error.value.message == f"reader can't count three animals in JSON: {f'{answer} /a?***'!r}."


# before the first use


def _wrong(entry: ModelEntry) -> Verdict:
    return Verdict(entry.fingerprint, False, "Times are 0.80 s late.", 0.8, 0.0, 1.0, "2026-01-01T00:00:00+00:00")


def _never() -> Verdict:
    raise AssertionError("checked all the same")


def test_a_model_is_checked_before_its_first_use_and_then_no_more(
    registry: ModelRegistry, settings: Settings, clips: Path
) -> None:
    words = spoken(speech_clip(clips))
    with SpeechStub(lambda audio: stubs.heard(words)) as stub:
        entry = _speech(stub.url)
        assert ensure_trusted(registry, entry, settings, lambda: check(entry, settings, directory=clips), pytest.fail)
        assert ensure_trusted(registry, entry, settings, _never, pytest.fail)
    recorded = registry.verdict(entry)
    assert recorded and recorded.trusted


def test_a_wrong_clock_is_refused_until_it_is_checked_again(registry: ModelRegistry, settings: Settings) -> None:
    entry = _speech(CLOSED)
    for run_check in (lambda: _wrong(entry), _never):
        with pytest.raises(ClockUntrusted, match=r"ears.*0\.80 s late") as refused:
            ensure_trusted(registry, entry, settings, run_check, pytest.fail)
        assert "models check" in refused.value.hint
    registry.record_verdict(entry.key, replace(TRUSTED, fingerprint=entry.fingerprint))
    assert ensure_trusted(registry, entry, settings, _never, pytest.fail)


def test_a_verdict_holds_for_the_server_it_was_made_for(registry: ModelRegistry, settings: Settings) -> None:
    old, new = _speech(CLOSED), _speech("http://127.0.0.1:10")
    registry.record_verdict(old.key, _wrong(old))
    fresh = replace(TRUSTED, fingerprint=new.fingerprint)
    assert ensure_trusted(registry, new, settings, lambda: fresh, pytest.fail)


def test_with_warn_a_wrong_clock_is_told_and_with_off_nobody_asks(registry: ModelRegistry, settings: Settings) -> None:
    entry, told = _speech(CLOSED), []
    warning = settings.model_copy(update={"clock_check": "warn"})
    assert not ensure_trusted(registry, entry, warning, lambda: _wrong(entry), told.append)
    assert len(told) == 1 and "0.80 s late" in told[0]
    off = settings.model_copy(update={"clock_check": "off"})
    assert ensure_trusted(registry, entry, off, _never, pytest.fail)


@pytest.mark.parametrize(
    "entry",
    [
        DEFAULTS["builtin_speech"],
        DEFAULTS["builtin_moments"],
        ModelEntry.parse("reader", {"kind": "chat", "base_url": CLOSED}),
    ],
    ids=lambda entry: entry.key,
)
def test_models_that_have_no_clock_or_ours_are_never_checked(
    entry: ModelEntry, registry: ModelRegistry, settings: Settings
) -> None:
    assert ensure_trusted(registry, entry, settings, _never, pytest.fail)


def test_a_check_that_cannot_be_carried_out_records_nothing(
    registry: ModelRegistry, settings: Settings, clips: Path
) -> None:
    down = _vision(CLOSED)
    chat = ChatClient(down, ModelServer(down, settings, retries=Retries(attempts=1)))
    with pytest.raises(ModelUnavailable):
        ensure_trusted(registry, down, settings, lambda: check_vision(down, chat, clips), pytest.fail)
    with ChatStub(lambda body: "I see clip.mp4?X-Goog-Signature=canary here.") as stub:
        entry = _vision(stub.url)
        stub.script(stubs.refuses(403, "no"))
        for expected, said in ((ModelRefused, "no"), (ModelAnswerInvalid, r"'I see clip\.mp4\?\*\*\* here\.'")):
            with pytest.raises(expected, match=said):
                ensure_trusted(registry, entry, settings, lambda: check(entry, settings, directory=clips), pytest.fail)
    assert registry.verdict(down) is None
    assert registry.verdict(entry) is None
