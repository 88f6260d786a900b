"""Makes sample/talk.mp4, a short talk with four topics, and sample/talk.json with its true text and times.

Needs Debian's `flite` (speech) and `librsvg2-bin` (pictures); those who only use the sample need neither. The speech is
made sentence by sentence, so the times are exact by construction. Run it as `.venv/bin/python scripts/make_sample.py`.
"""

import io
import json
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from sample_slides import Scene, bread, garden, money, sky, slide

SAMPLE = Path(__file__).resolve().parent.parent / "sample"
VOICE = "rms"
SPEECH_RATE_HZ = 16_000
AUDIO_RATE_HZ = 48_000
FRAME_WIDTH, FRAME_HEIGHT = 960, 540
FRAMES_PER_SECOND = 25
FRAMES_PER_PICTURE = 2  # animation on twos: half the drawing, and nobody sees it
KEYFRAME_FRAMES = 2 * FRAMES_PER_SECOND
SENTENCE_PAUSES_SECONDS = (0.65, 0.8, 0.55, 0.9, 0.7)
TOPIC_PAUSE_SECONDS = 1.2
LEAD_SECONDS, TAIL_SECONDS = 0.6, 0.9
ROOM_TONE = 6.0  # standard deviation in 16-bit steps, about -75 dB: real rooms are never digitally silent


@dataclass(frozen=True)
class Topic:
    title: str
    caption: str
    scene: Scene
    sentences: tuple[str, ...]


TOPICS = (
    Topic(
        "Bake bread at home",
        "flour, water, salt and time",
        bread,
        (
            "The first habit is to bake bread at home.",
            "Mix the flour with warm water, and add a little salt.",
            "Let the dough rest in a warm place for two hours.",
            "Then shape the dough, and put it in a very hot oven.",
            "The bread is ready when the crust is dark brown and hard.",
            "Wait an hour before you cut the bread with a long knife.",
        ),
    ),
    Topic(
        "Watch the night sky",
        "twenty minutes in the dark",
        sky,
        (
            "The second habit is to look at the night sky.",
            "Find a dark field far from the lights of the city.",
            "After twenty minutes your eyes can see thousands of stars.",
            "The moon and the planets move slowly past the bright stars.",
            "Take a small telescope, and you will see the mountains of the moon.",
            "Write down what you saw in the sky and when you saw it.",
        ),
    ),
    Topic(
        "Grow your own tomatoes",
        "from seed to summer",
        garden,
        (
            "The third habit is to grow tomatoes in a garden.",
            "Plant your seeds in good soil at the end of winter.",
            "Move the young plants to the garden when the ground is warm.",
            "Water the plants in the morning, and keep the leaves clean.",
            "Tomatoes are heavy, so every plant needs a strong stick.",
            "By the end of the summer you can pick red tomatoes every day.",
        ),
    ),
    Topic(
        "Save a little every month",
        "small amounts, many years",
        money,
        (
            "The last habit is to save a little money every month.",
            "Open a second account at your bank, and do not touch it.",
            "On the day you are paid, send ten percent of your income to that account.",
            "Write down what you spend on rent, food and clothes.",
            "Small costs become large when you pay them every week.",
            "After ten years, the interest will earn money for you.",
        ),
    ),
)


@dataclass(frozen=True)
class Spoken:
    """A sentence of topic number `topic`, said in [start, end) seconds."""

    topic: int
    text: str
    start: float
    end: float


def say(text: str) -> np.ndarray:
    """The sentence as 16-bit samples at 16 kHz, without the silence that the synthesizer puts around it."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", VOICE, "-t", text, "-o", file.name], check=True)
        with wave.open(file.name) as spoken:
            assert spoken.getframerate() == SPEECH_RATE_HZ  # noqa: S101  # a voice of another rate needs resampling
            samples = np.frombuffer(spoken.readframes(spoken.getnframes()), "<i2")
    heard = np.flatnonzero(np.abs(samples.astype(int)) > 0.01 * np.abs(samples).max())
    return samples[heard[0] : heard[-1] + 1]


def talk() -> tuple[np.ndarray, list[Spoken]]:
    """The whole talk's samples, and when each sentence is said."""
    pieces: list[np.ndarray] = []
    spoken: list[Spoken] = []
    length = 0

    def add(samples: np.ndarray) -> None:
        nonlocal length
        pieces.append(samples)
        length += len(samples)

    def pause(seconds: float) -> None:
        add(np.zeros(round(seconds * SPEECH_RATE_HZ), "<i2"))

    pause(LEAD_SECONDS)
    for number, topic in enumerate(TOPICS):
        for place, text in enumerate(topic.sentences):
            if spoken:
                pause(SENTENCE_PAUSES_SECONDS[(len(spoken) - 1) % 5] if place else TOPIC_PAUSE_SECONDS)
            start = length / SPEECH_RATE_HZ
            add(say(text))
            spoken.append(Spoken(number, text, start, length / SPEECH_RATE_HZ))
    pause(TAIL_SECONDS)
    noise = np.random.default_rng(1).normal(0, ROOM_TONE, length)
    mixed = np.clip(np.concatenate(pieces) + noise, -32768, 32767)
    return mixed.round().astype(np.int16), spoken


def pictures(spoken: list[Spoken], duration: float) -> Iterator[np.ndarray]:
    """RGB pictures, FRAMES_PER_PICTURE frames each. A slide changes in the middle of the pause between topics."""
    starts = [next(s.start for s in spoken if s.topic == number) for number in range(len(TOPICS))]
    changes = [0.0, *(start - TOPIC_PAUSE_SECONDS / 2 for start in starts[1:]), duration]

    def draw(frame: int) -> np.ndarray:
        time = frame / FRAMES_PER_SECOND
        number = max(n for n in range(len(TOPICS)) if changes[n] <= time)
        topic, since = TOPICS[number], time - changes[number]
        part = since / (changes[number + 1] - changes[number])
        drawing = slide(number + 1, topic.title, topic.caption, topic.scene, part, since, time / duration)
        size = ["--width", str(FRAME_WIDTH), "--height", str(FRAME_HEIGHT)]
        drawn = subprocess.run(["rsvg-convert", *size], input=drawing.encode(), capture_output=True, check=True)
        with av.open(io.BytesIO(drawn.stdout), "r", format="png_pipe") as image:
            return next(image.decode(video=0)).to_ndarray(format="rgb24")

    frames = range(0, round(duration * FRAMES_PER_SECOND), FRAMES_PER_PICTURE)
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(frames), 50):  # in batches: map would draw far ahead of the encoder
            yield from pool.map(draw, frames[first : first + 50])


def encode(path: Path, samples: np.ndarray, spoken: list[Spoken]) -> None:
    duration = len(samples) / SPEECH_RATE_HZ
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as output:
        video = output.add_stream("libx264", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = FRAME_WIDTH, FRAME_HEIGHT, "yuv420p"
        video.options = {"crf": "28", "preset": "slow", "tune": "animation", "threads": "1"}
        video.gop_size = KEYFRAME_FRAMES
        audio = output.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono", options={"flags": "+bitexact"})
        audio.bit_rate = 56_000

        # one second of sound after each second of pictures, so that a player finds them side by side
        second = SPEECH_RATE_HZ
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=AUDIO_RATE_HZ)
        frame_number = 0
        for picture in pictures(spoken, duration):
            for _ in range(FRAMES_PER_PICTURE):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = frame_number
                output.mux(video.encode(frame))
                frame_number += 1
                if frame_number % FRAMES_PER_SECOND == 0:
                    at = (frame_number // FRAMES_PER_SECOND - 1) * second
                    mux_sound(output, audio, resampler, samples[at : at + second], at)
        at = frame_number // FRAMES_PER_SECOND * second
        if at < len(samples):
            mux_sound(output, audio, resampler, samples[at:], at)
        for late in resampler.resample(None):
            output.mux(audio.encode(late))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))


def mux_sound(
    output: OutputContainer,
    stream: av.AudioStream,
    resampler: av.AudioResampler,
    samples: np.ndarray,
    at: int,
) -> None:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate, frame.pts = SPEECH_RATE_HZ, at
    for ready in resampler.resample(frame):
        output.mux(stream.encode(ready))


def truth(spoken: list[Spoken], duration: float) -> dict[str, object]:
    text = " ".join(s.text for s in spoken)
    return {
        "title": "Four small habits",
        "how": f"Text and pictures by scripts/make_sample.py; speech by flite, voice {VOICE}; times by construction.",
        "duration_seconds": round(duration, 3),
        "text": text,
        "words": [word.strip(".,").lower() for word in text.split()],
        "topics": [
            {
                "title": topic.title,
                "start_time": round(min(s.start for s in spoken if s.topic == number), 3),
                "end_time": round(max(s.end for s in spoken if s.topic == number), 3),
                "text": " ".join(topic.sentences),
            }
            for number, topic in enumerate(TOPICS)
        ],
        "sentences": [
            {"text": s.text, "start_time": round(s.start, 3), "end_time": round(s.end, 3), "topic": s.topic}
            for s in spoken
        ],
    }


def main() -> None:
    SAMPLE.mkdir(exist_ok=True)
    samples, spoken = talk()
    duration = len(samples) / SPEECH_RATE_HZ
    (SAMPLE / "talk.json").write_text(json.dumps(truth(spoken, duration), indent=1) + "\n")
    encode(SAMPLE / "talk.mp4", samples, spoken)
    print(f"{duration:.1f} s, {(SAMPLE / 'talk.mp4').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
