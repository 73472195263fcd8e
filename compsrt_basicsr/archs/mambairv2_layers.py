"""The layers of MambaIRv2-light (arXiv 2411.15269): window attention, gated MLP, attentive layer, residual group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.archs.mambairv2_scan import AttentiveScan

_GATE_KERNEL = 5
_RESIDUAL_SCALE = 1e-4


@dataclass(frozen=True)
class Sizes:
    """The sizes that all layers of a network share.

    Attributes:
        dim: C of the tokens.
        hidden: channels of the MLPs and of the scan.
        window: side of the attention windows in pixels.
        states: of the scan.
        tokens, rank: number and inner rank of the prompts.
        qkv_bias: whether q, k and v have biases.
        noisy: whether tokens draw their prompts.
    """

    dim: int
    hidden: int
    window: int
    states: int
    tokens: int
    rank: int
    qkv_bias: bool
    noisy: bool


@dataclass(frozen=True)
class Pass:
    """What all layers share in one forward pass.

    Attributes:
        size: height and width in pixels.
        position_index: (n, n) of the n tokens of a window, into the tables of position biases.
        masks: (4, n, n) of 0 and -100 for shifted windows, see `basicsr_compat.window_masks`.
        kinds: (windows of the batch,) index into `masks` of each window.
        generator: of the noise.
    """

    size: tuple[int, int]
    position_index: Tensor
    masks: Tensor
    kinds: Tensor
    generator: torch.Generator | None


def relative_positions(window: int) -> Tensor:
    """Returns the index of the position bias of each pair of query and key in a window, (n, n) int64."""
    rows, columns = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    down, right = rows[:, None] - rows, columns[:, None] - columns
    return (down + window - 1) * (2 * window - 1) + right + window - 1


class WindowAttention(nn.Module):
    """Softmax attention inside windows, without the projection to q, k and v, which belongs to the layer.

    Args:
        dim: C.
        window: side of the windows in pixels.
        heads: number of heads.
    """

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, qkv: Tensor, shared: Pass, shifted: bool) -> Tensor:
        """Maps q, k and v of all windows, (windows, n, 3 C), to (windows, n, C)."""
        windows, tokens, _ = qkv.shape
        q, k, v = qkv.view(windows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table.index_select(0, shared.position_index.flatten())
        bias = bias.T.contiguous().view(-1, tokens, tokens)
        if shifted:
            bias = (bias + shared.masks[:, None]).index_select(0, shared.kinds)
        else:
            bias = bias.expand(windows, -1, -1, -1)
        x = F.scaled_dot_product_attention(q, k, v, bias)
        return self.proj(x.transpose(1, 2).flatten(2))


class SpatialGate(nn.Module):
    """A gate from the neighbourhood: LayerNorm and depthwise convolution of tokens (B, N, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, _GATE_KERNEL, padding=_GATE_KERNEL // 2, groups=dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, N, C) to the same shape."""
        image = self.norm(x).view(len(x), *size, -1).permute(0, 3, 1, 2)
        return self.conv(image).permute(0, 2, 3, 1).flatten(1, 2)


class GatedMlp(nn.Module):
    """A linear layer whose second half of channels, filtered spatially, multiplies the first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.sg = SpatialGate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, N, C) to the same shape."""
        values, gates = F.gelu(self.fc1(x)).chunk(2, -1)
        return self.fc2(values * self.sg(gates, size))


class AttentiveLayer(nn.Module):
    """Window attention, then the attentive scan, each followed by a gated MLP and with a scaled shortcut over both.

    Args:
        sizes: of the network.
        heads: of the attention.
        shift: cyclic shift of the windows in pixels.
    """

    def __init__(self, sizes: Sizes, heads: int, shift: int) -> None:
        super().__init__()
        dim, hidden = sizes.dim, sizes.hidden
        self.window, self.shift = sizes.window, shift
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))
        self.scale1 = nn.Parameter(torch.full((dim,), _RESIDUAL_SCALE))
        self.scale2 = nn.Parameter(torch.full((dim,), _RESIDUAL_SCALE))
        self.wqkv = nn.Linear(dim, 3 * dim, bias=sizes.qkv_bias)
        self.win_mhsa = WindowAttention(dim, sizes.window, heads)
        self.assm = AttentiveScan(dim, hidden, sizes.states, sizes.tokens, sizes.rank, sizes.noisy)
        self.convffn1, self.convffn2 = GatedMlp(dim, hidden), GatedMlp(dim, hidden)
        self.embeddingA = nn.Embedding(sizes.rank, sizes.states)
        nn.init.uniform_(self.embeddingA.weight, -1 / sizes.rank, 1 / sizes.rank)
        nn.init.uniform_(self.assm.embeddingB.weight, -1 / sizes.tokens, 1 / sizes.tokens)

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """Maps (B, N, C) to the same shape."""
        u = self._attend(self.wqkv(self.norm1(x)), shared) + x
        x = x * self.scale1 + self.convffn1(self.norm2(u), shared.size) + u
        v = self.assm(self.norm3(x), self.embeddingA.weight, shared.size, shared.generator) + x
        return x * self.scale2 + v + self.convffn2(self.norm4(v), shared.size)

    def _attend(self, qkv: Tensor, shared: Pass) -> Tensor:
        batch, (height, width), side = len(qkv), shared.size, self.window
        image = qkv.view(batch, height, width, -1)
        if self.shift:
            image = image.roll((-self.shift, -self.shift), (1, 2))
        grid = batch, height // side, side, width // side, side, -1
        windows = image.view(grid).transpose(2, 3).reshape(-1, side * side, image.shape[-1])
        x = self.win_mhsa(windows, shared, self.shift > 0)
        grid = batch, height // side, width // side, side, side, -1
        image = x.view(grid).transpose(2, 3).reshape(batch, height, width, -1)
        if self.shift:
            image = image.roll((self.shift, self.shift), (1, 2))
        return image.flatten(1, 2)


class Layers(nn.Module):
    """The attentive layers of a group, every second one with shifted windows."""

    def __init__(self, sizes: Sizes, depth: int, heads: int) -> None:
        super().__init__()
        shift = sizes.window // 2
        self.layers = nn.ModuleList(AttentiveLayer(sizes, heads, shift * (index % 2)) for index in range(depth))

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """Maps (B, N, C) to the same shape."""
        for layer in self.layers:
            x = layer(x, shared)
        return x


class ResidualGroup(nn.Module):
    """Attentive layers and a convolution, with a shortcut over all."""

    def __init__(self, sizes: Sizes, depth: int, heads: int) -> None:
        super().__init__()
        self.residual_group = Layers(sizes, depth, heads)
        self.conv = nn.Conv2d(sizes.dim, sizes.dim, 3, padding=1)

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """Maps (B, N, C) to the same shape."""
        image = self.residual_group(x, shared).view(len(x), *shared.size, -1).permute(0, 3, 1, 2)
        return self.conv(image).permute(0, 2, 3, 1).flatten(1, 2) + x
