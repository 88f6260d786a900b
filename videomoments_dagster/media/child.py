"""The media child process: `python -m videomoments_dagster.media.child`, started by `runner.py` only."""

from videomoments_dagster.media.native import clips, indexing, measuring, merging, sound, stills
from videomoments_dagster.processes import serve_child

if __name__ == "__main__":
    serve_child(
        {
            "probe": measuring.probe,
            "extract_audio": sound.extract_audio,
            "cut_clips": clips.cut_clips,
            "make_thumbnails": stills.make_thumbnails,
            "image_sizes": stills.image_sizes,
            "keyframe_index": indexing.keyframe_index,
            "merge": merging.merge,
        }
    )
