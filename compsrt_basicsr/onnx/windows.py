"""SwinIR's attention windows for any image size: indices and masks are computed in the graph.

One Gather of the tokens does the shift and the partition into windows, another one reverses them. The masks equal those
of BasicSR's SwinIR at every size. At sizes other than img_size, BasicSR also masks blocks without a shift (SwinIR issue
153); that mask is all 0 and is omitted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from compsrt_basicsr.onnx.graph import Graph

_MASKED = -100.0


def mirrored(graph: Graph, x: str, axis: int, multiple: int) -> str:
    """Mirror-pads one side of (B, C, H, W) to a multiple, like quant/functional/padding.py in symmetric mode.

    Args:
        graph: the graph.
        x: name of the image.
        axis: 2 or 3.
        multiple: window size in pixels.
    """
    length = side(graph, x, axis)
    step = graph.ints(multiple)
    windows = graph.op('Div', graph.op('Add', length, graph.ints(multiple - 1)), step)
    period = graph.op('Mul', length, graph.ints(2))
    position = graph.op('Mod', _arange(graph, graph.op('Mul', windows, step)), period)
    back = graph.op('Sub', graph.op('Sub', period, graph.ints(1)), position)
    return graph.op('Gather', x, graph.op('Min', position, back), axis=axis)


def side(graph: Graph, x: str, axis: int) -> str:
    """Returns one dimension of a tensor as a vector with one element."""
    return graph.op('Shape', x, start=axis, end=axis + 1)


@dataclass(frozen=True)
class Windows:
    """The windows of an image whose sides are multiples of the window side.

    Attributes:
        graph: the graph.
        height, width: names of vectors with one element.
        channels: C.
        window: side of the windows in tokens.
        shift: cyclic shift in tokens.
    """

    graph: Graph
    height: str
    width: str
    channels: int
    window: int
    shift: int

    def partition(self, tokens: str) -> str:
        """Partitions (B, H W, C) into (B, windows, N, C)."""
        g = self.graph
        shifted = g.op('Gather', tokens, self._order(), axis=1)
        return g.op('Reshape', shifted, g.ints(0, -1, self.window**2, self.channels))

    def merge(self, windows: str) -> str:
        """Merges (B, windows, N, C) to (B, H W, C)."""
        g, order = self.graph, self._order()
        numbers = _arange(g, side(g, order, 0))
        back = g.op('ScatterElements', order, order, numbers)  # the inverse permutation
        return g.op('Gather', g.op('Reshape', windows, g.ints(0, -1, self.channels)), back, axis=1)

    def mask(self) -> str | None:
        """Returns the mask (windows, 1, N, N): -100 between tokens that only the shift made neighbours, else 0.

        None without a shift.
        """
        if self.shift == 0:
            return None
        g, tokens = self.graph, self.window**2
        regions = self._grid(g.op('Mul', self._region(self.height), g.ints(3)), self._region(self.width))
        one, other = (g.op('Reshape', regions, g.ints(-1, 1, *pair)) for pair in ((tokens, 1), (1, tokens)))
        return g.op('Where', g.op('Equal', one, other), g.const(0.0), g.const(_MASKED))

    def _order(self) -> str:
        """Returns the indices (H W,) of the tokens in window order."""
        g, shift = self.graph, self.graph.ints(self.shift)
        rows = g.op('Mod', g.op('Add', _arange(g, self.height), shift), self.height)
        columns = g.op('Mod', g.op('Add', _arange(g, self.width), shift), self.width)
        return g.op('Reshape', self._grid(g.op('Mul', rows, self.width), columns), g.ints(-1))

    def _region(self, length: str) -> str:
        """Labels the positions of a side: 0 before the last window, 1 in it before the shift, 2 after the shift."""
        g = self.graph
        parts = []
        for margin in (self.window, self.shift):
            beyond = g.op('GreaterOrEqual', _arange(g, length), g.op('Sub', length, g.ints(margin)))
            parts.append(g.op('Cast', beyond, to=TensorProto.INT64))
        return g.op('Add', *parts)

    def _grid(self, rows: str, columns: str) -> str:
        """Adds a number per row and one per column, arranged by window: (H', W', window, window)."""
        g = self.graph
        down = g.op('Reshape', rows, g.ints(-1, 1, self.window, 1))
        return g.op('Add', down, g.op('Reshape', columns, g.ints(1, -1, 1, self.window)))


def _arange(graph: Graph, length: str) -> str:
    first = graph.ints(0)
    return graph.op('Range', *(graph.op('Squeeze', value, first) for value in (first, length, graph.ints(1))))
