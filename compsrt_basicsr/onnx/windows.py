"""SwinIR's windows at any size: indices and masks, computed in the graph from the sides of the picture.

A shift and the partition into windows are one Gather of the tokens, their reverse another. The masks are those that
BasicSR's SwinIR computes at every size, its img_size included. It masks blocks without a shift too, at other sizes than
img_size (SwinIR's issue 153); all of that mask is 0, so that it is left out here.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from compsrt_basicsr.onnx.graph import Graph

_MASKED = -100.0


def mirrored(graph: Graph, x: str, axis: int, multiple: int) -> str:
    """(B, C, H, W) with one side continued by mirroring to a multiple of a number: `ops.padding.mirror_indices`.

    Args:
        graph: the graph.
        x: the picture.
        axis: 2 or 3.
        multiple: what the side must be a multiple of.
    """
    length = side(graph, x, axis)
    step = graph.ints(multiple)
    windows = graph.op('Div', graph.op('Add', length, graph.ints(multiple - 1)), step)
    period = graph.op('Mul', length, graph.ints(2))
    position = graph.op('Mod', _arange(graph, graph.op('Mul', windows, step)), period)
    back = graph.op('Sub', graph.op('Sub', period, graph.ints(1)), position)
    return graph.op('Gather', x, graph.op('Min', position, back), axis=axis)


def side(graph: Graph, x: str, axis: int) -> str:
    """One dimension of a tensor, as a vector of one integer."""
    return graph.op('Shape', x, start=axis, end=axis + 1)


@dataclass(frozen=True)
class Windows:
    """The windows of a picture whose sides are multiples of theirs.

    Attributes:
        graph: the graph.
        height, width: names of vectors of one integer.
        channels: C of a token.
        window: side of the windows, in tokens.
        shift: by how much they are shifted, in tokens.
    """

    graph: Graph
    height: str
    width: str
    channels: int
    window: int
    shift: int

    def part(self, tokens: str) -> str:
        """(B, H W, C) to (B, windows, N, C)."""
        g = self.graph
        shifted = g.op('Gather', tokens, self._places(), axis=1)
        return g.op('Reshape', shifted, g.ints(0, -1, self.window**2, self.channels))

    def merge(self, windows: str) -> str:
        """(B, windows, N, C) to (B, H W, C)."""
        g, places = self.graph, self._places()
        numbers = _arange(g, side(g, places, 0))
        back = g.op('ScatterElements', places, places, numbers)  # the inverse permutation
        return g.op('Gather', g.op('Reshape', windows, g.ints(0, -1, self.channels)), back, axis=1)

    def mask(self) -> str | None:
        """(windows, 1, N, N): -100 between tokens that a shift has made neighbours, 0 elsewhere; None without shift."""
        if self.shift == 0:
            return None
        g, tokens = self.graph, self.window**2
        regions = self._grid(g.op('Mul', self._region(self.height), g.ints(3)), self._region(self.width))
        one, other = (g.op('Reshape', regions, g.ints(-1, 1, *pair)) for pair in ((tokens, 1), (1, tokens)))
        return g.op('Where', g.op('Equal', one, other), g.const(0.0), g.const(_MASKED))

    def _places(self) -> str:
        """Which token stands at each place when the windows stand one after the other, (H W,)."""
        g, shift = self.graph, self.graph.ints(self.shift)
        rows = g.op('Mod', g.op('Add', _arange(g, self.height), shift), self.height)
        columns = g.op('Mod', g.op('Add', _arange(g, self.width), shift), self.width)
        return g.op('Reshape', self._grid(g.op('Mul', rows, self.width), columns), g.ints(-1))

    def _region(self, length: str) -> str:
        """0, 1 or 2 for each place of a side: before the last window, before the shift, behind it."""
        g = self.graph
        parts = []
        for margin in (self.window, self.shift):
            behind = g.op('GreaterOrEqual', _arange(g, length), g.op('Sub', length, g.ints(margin)))
            parts.append(g.op('Cast', behind, to=TensorProto.INT64))
        return g.op('Add', *parts)

    def _grid(self, rows: str, columns: str) -> str:
        """The sums of a number for each row and one for each column, window by window: (H', W', window, window)."""
        g = self.graph
        down = g.op('Reshape', rows, g.ints(-1, 1, self.window, 1))
        return g.op('Add', down, g.op('Reshape', columns, g.ints(1, -1, 1, self.window)))


def _arange(graph: Graph, length: str) -> str:
    first = graph.ints(0)
    return graph.op('Range', *(graph.op('Squeeze', value, first) for value in (first, length, graph.ints(1))))
