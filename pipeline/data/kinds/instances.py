"""Instance maps: one channel of object ids of any depth (8, 16 or 32 bits), each kept as it is."""

from __future__ import annotations

from pipeline.data.kinds.labels import Labels


class Instances(Labels):
    name = "instances"


KIND = Instances()
