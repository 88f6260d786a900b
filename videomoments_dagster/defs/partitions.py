"""The one partitions definition: a video is a dynamic partition. Clips and moments are rows, never partitions."""

import dagster as dg

VIDEOS = "videos"
videos = dg.DynamicPartitionsDefinition(name=VIDEOS)
