"""How a picture must be turned to stand upright: read from the display matrix, done by a filter graph."""

import struct
from dataclasses import dataclass
from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

_NO_TIME = Fraction(1, 1000)  # times are not the turner's business; the graph wants a time base all the same


@dataclass(frozen=True)
class Orientation:
    """Transpose first when `transposed`, then mirror. `degrees` as ffprobe writes it (-90: turn clockwise)."""

    degrees: int = 0
    transposed: bool = False
    hflip: bool = False
    vflip: bool = False

    @property
    def upright(self) -> bool:
        return not (self.transposed or self.hflip or self.vflip)

    @property
    def filters(self) -> list[tuple[str, str]]:
        """The filters that make the picture upright, as name and arguments."""
        chosen = [("transpose", "dir=cclock_flip")] if self.transposed else []
        if self.hflip:
            chosen.append(("hflip", ""))
        if self.vflip:
            chosen.append(("vflip", ""))
        return chosen


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation a frame carries. Angles that are not right angles count as upright.

    The matrix maps (x, y) to (a x + c y, b x + d y), as in ISO/IEC 14496-12 section 6.2.2, nine 32-bit numbers.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    a, b, _, c, d = (_sign(n) for n in struct.unpack("=9i", bytes(data))[:5])
    degrees = round(frame.rotation)
    if abs(a) == abs(d) == 1 and b == c == 0:
        return Orientation(degrees, False, a < 0, d < 0)
    if abs(b) == abs(c) == 1 and a == d == 0:
        return Orientation(degrees, True, c < 0, b < 0)
    return Orientation()


class Turner:
    """Applies one orientation to many frames of the same size and format."""

    def __init__(self, frame: VideoFrame, orientation: Orientation) -> None:
        self._graph = Graph()
        last = self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_NO_TIME)
        for name, arguments in orientation.filters:
            node = self._graph.add(name, arguments)
            last.link_to(node)
            last = node
        last.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        frame.pts, frame.time_base = None, _NO_TIME
        self._graph.push(frame)
        turned = self._graph.pull()
        assert isinstance(turned, VideoFrame)  # noqa: S101  # a graph of video filters
        return turned


def _sign(number: int) -> int:
    return (number > 0) - (number < 0) if abs(number) > 1 << 12 else 0
