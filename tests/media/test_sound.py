"""The recognizer's input: every tone at its second of the video's clock, as long as the video; and its silences."""

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.media.make import frame_numbers, tones_in
from videomoments_dagster.errors import MediaDamaged, NoAudio
from videomoments_dagster.media.audio import AudioInfo, extract_audio
from videomoments_dagster.media.native import measuring
from videomoments_dagster.media.silences import find_silences

Drawn = Callable[..., Path]


def _read(path: Path) -> NDArray[np.floating]:
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768


def _write(path: Path, samples: NDArray[np.floating], rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "properties", "due"),
    [
        ("talk.mp4", {}, range(8)),
        ("a.ts", {"starts_at": 90_000.0}, range(8)),
        ("late.mp4", {"starts_at": 10.0}, range(8)),
        ("late-sound.mp4", {"audio_from": 2.5}, range(3, 8)),
        ("short-sound.mp4", {"audio_until": 3.0}, range(3)),
        ("surround.mkv", {"audio": "ac3", "audio_rate": 48_000, "audio_channels": "5.1", "seconds": 4.0}, range(4)),
        ("opus.mkv", {"audio": "libopus", "audio_rate": 48_000, "seconds": 4.0}, range(4)),
    ],
)
def test_every_sound_lies_where_the_picture_says(
    drawn: Drawn, tmp_path: Path, name: str, properties: dict[str, object], due: range
) -> None:
    source, target = drawn(name, **properties), tmp_path / "out" / "sound.wav"
    progress: list[float] = []
    answer = extract_audio(source, target, progress.append)
    samples = _read(target)
    info = measuring.probe(str(source))
    first_picture = frame_numbers(source)[0][0] - info["start_time_seconds"]
    heard = {second: at for at, second in tones_in(samples, 16_000)}
    assert sorted(heard) == list(due)
    for second, at in heard.items():
        assert at == pytest.approx(second + first_picture, abs=0.008)
    assert samples.size / 16_000 == pytest.approx(info["duration_seconds"], abs=0.001)
    assert answer == AudioInfo(samples.size / 16_000, target.stat().st_size, 16_000)
    assert progress == sorted(progress)
    assert [path.name for path in target.parent.iterdir()] == ["sound.wav"]


def test_a_hole_in_the_sound_becomes_silence(drawn: Drawn, tmp_path: Path) -> None:
    holey = tmp_path / "holey.mkv"
    with av.open(str(drawn())) as source, av.open(str(holey), "w") as output:
        made = {s.index: output.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            seconds = float((packet.pts or 0) * packet.time_base)
            if packet.size and not (packet.stream.type == "audio" and 2.5 < seconds < 5.5):
                packet.stream = made[packet.stream_index]
                output.mux(packet)
    extract_audio(holey, tmp_path / "sound.wav")
    heard = {second: at for at, second in tones_in(_read(tmp_path / "sound.wav"), 16_000)}
    assert heard == pytest.approx({second: second for second in (0, 1, 2, 6, 7)}, abs=0.03)


def test_a_video_without_sound_says_so_and_writes_nothing(drawn: Drawn, tmp_path: Path) -> None:
    with pytest.raises(NoAudio, match=r"silent\.mp4"):
        extract_audio(drawn("silent.mp4", audio=None), tmp_path / "out" / "sound.wav")
    assert not (tmp_path / "out").exists()


def test_a_damaged_stretch_is_silent_and_the_rest_stays_in_place(drawn: Drawn, tmp_path: Path) -> None:
    content = bytearray(drawn("a.ts", starts_at=90_000.0).read_bytes())
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 188 * 40] = bytes(188 * 40)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(content)
    extract_audio(damaged, tmp_path / "sound.wav")
    heard = tones_in(_read(tmp_path / "sound.wav"), 16_000)
    assert {0, 1, 7} <= {second for _, second in heard}
    assert all(at == pytest.approx(second, abs=0.06) for at, second in heard)


def test_silences_are_found_against_the_noise_around(tmp_path: Path) -> None:
    """Speech-like noise in a room that gets louder: the floor of the second half is above the first half's speech."""
    noise = np.random.default_rng(7).standard_normal(16_000 * 120)
    seconds = np.arange(noise.size) / 16_000
    speaks = (seconds % 10) < 8
    loudness = np.where(seconds < 60, 0.02, 0.2)
    found = find_silences(_write(tmp_path / "room.wav", noise * loudness * np.where(speaks, 1.0, 0.05)))
    assert len(found) == 12
    for number, (start, end) in enumerate(found):
        assert start == pytest.approx(number * 10_000 + 8_000, abs=20)
        assert end == pytest.approx(number * 10_000 + 10_000, abs=20)


def test_a_click_does_not_end_a_silence_and_a_short_pause_is_none(tmp_path: Path) -> None:
    samples = 0.3 * np.random.default_rng(7).standard_normal(16_000 * 6)
    samples[32_000:48_000] = 0
    samples[40_000:40_100] = 0.5  # a click inside
    samples[64_000:66_000] = 0  # 125 ms
    assert find_silences(_write(tmp_path / "a.wav", samples)) == [(2000, 3000)]
    assert (4000, 4120) in find_silences(tmp_path / "a.wav", minimum_seconds=0.1)


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.0003, True), (0.1, False)])
def test_a_recording_without_contrast_is_all_or_nothing(tmp_path: Path, level: float, silent: bool) -> None:
    samples = level * np.random.default_rng(7).standard_normal(16_000 * 5)
    assert find_silences(_write(tmp_path / "a.wav", samples)) == ([(0, 5000)] if silent else [])


@pytest.mark.parametrize("content", [b"", b"no sound", b"RIFF\x10\0\0\0WAVEfmt "])
def test_what_is_no_wav_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(MediaDamaged, match=r"a\.wav"):
        find_silences(tmp_path / "a.wav")


def test_a_wav_of_no_length_has_no_silences(tmp_path: Path) -> None:
    assert find_silences(_write(tmp_path / "a.wav", np.zeros(0))) == []
