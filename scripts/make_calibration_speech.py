"""Makes models/calibration_speech.flac and .json: passages of the bundled talk for the clock check of speech models.

Run it after scripts/make_sample.py made another talk: `.venv/bin/python -m scripts.make_calibration_speech`.
"""

import json

import av
import numpy as np

from tests.sample import RATE_HZ, TRUTH, talk
from videomoments_dagster.models.calibration_media import SPEECH, SPEECH_TEXT

PASSAGES = ((1, 2), (4, 5), (7, 8), (9, 10), (13, 14), (16, 17), (19, 20))
"""Neighbours in the talk, so that the pause between them is the true one. No two of the sentences begin alike."""
MARGIN_SECONDS = 0.1
STEP = 32  # of 16-bit samples: what is below is noise, and would be most of the file


def main() -> None:
    pieces, passages, done_samples = [], [], 0
    for numbers in PASSAGES:
        sentences = [TRUTH["sentences"][number] for number in numbers]
        first = round((sentences[0]["start_time"] - MARGIN_SECONDS) * RATE_HZ)
        last = round((sentences[-1]["end_time"] + MARGIN_SECONDS) * RATE_HZ)
        piece = talk()[first:last]
        pieces.append((piece.astype(int) + STEP // 2) // STEP * STEP)
        passages.append(
            {
                "first_sample": done_samples,
                "samples": len(piece),
                "sentences": [
                    {
                        "text": sentence["text"],
                        "start_time": round(sentence["start_time"] - first / RATE_HZ, 4),
                        "end_time": round(sentence["end_time"] - first / RATE_HZ, 4),
                    }
                    for sentence in sentences
                ],
            }
        )
        done_samples += len(piece)
    with av.open(str(SPEECH), "w", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("flac", rate=RATE_HZ, layout="mono", format="s16", options={"compression_level": "12"})
        samples = np.clip(np.concatenate(pieces), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        for packets in (stream.encode(frame), stream.encode(None)):
            file.mux(packets)
    how = "Speech of sample/talk.mp4 by scripts/make_calibration_speech.py; times from the start of each passage."
    SPEECH_TEXT.write_text(json.dumps({"how": how, "passages": passages}, indent=1) + "\n")
    print(f"{len(samples) / RATE_HZ:.1f} s, {SPEECH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
