"""The one partitions definition: a video is a dynamic partition. Clips and moments are rows, never partitions."""

import dagster as dg

videos = dg.DynamicPartitionsDefinition(name="videos")
