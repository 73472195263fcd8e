"""Adapter for SwinIR: window attention with quantized operands. Other backbones need a similar adapter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compsrt_basicsr.basicsr_compat.swinir import WindowAttention
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.factory import act_quantizer
from compsrt_basicsr.quant.functional.fused_attention import (
    LEAST_ROW_SUM,
    OPERANDS,
    Attention,
    attention_weights,
    fused_attention,
    serves_attention,
)
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.quantizer import Arrival, Quantizer, grids_of, is_hooked, unseen
from compsrt_basicsr.quant.transform import Transform

_ENOUGH = 2**21  # numerators for a search, which counts a sample of them


class SoftmaxNumerator(nn.Module):
    """Computes exp(logit - largest logit of the row), in [0, 1], for logits (..., N)."""

    def forward(self, logits: Tensor) -> Tensor:
        """Maps (..., N) to (..., N)."""
        return torch.exp(logits - logits.detach().amax(-1, keepdim=True))


def row_sums(values: Tensor, scale: Tensor | float = 1.0, zero: Tensor | float = 0.0) -> Tensor:
    """Computes the divisor of deferred softmax: the sum of s x + Z over the rows of x (..., N), min. LEAST_ROW_SUM."""
    return (scale * values.sum(-1, keepdim=True) + zero * values.shape[-1]).clamp_min(LEAST_ROW_SUM)


def _few_images(x: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """Returns the windows (windows * B, N, C) of as many images as a search of numerators needs: each row has a 1."""
    windows = 1 if mask is None else len(mask)
    step = len(x) // windows * (windows * heads * x.shape[1] ** 2) // _ENOUGH
    return x.unflatten(0, (-1, windows))[:: max(step, 1)].flatten(0, 1)


class QuantWindowAttention(nn.Module):
    """SwinIR's window attention with quantized qkv and proj layers and quantized operands of both products.

    q (after scaling) and k are transformed along the head dimension, which q k^T contracts. The published form
    (transform `padded`) also transforms v along the head dimension and the attention along the keys, and inverts both
    before their product. The exact form leaves both untransformed, because a transform that the product does not
    contract must be undone in float. Without `attention_transform`, no operand is transformed.

    The attention output is sum_j e_j v_j / sum_j e_j with e_j = exp(logit_j - largest logit). `softmax: deferred`
    quantizes e, which lies in [0, 1] in every row, and divides by the sum of the quantized e after the product, so the
    weights of a row still sum to 1. `softmax: normalized`, as published, quantizes e_j / sum e; all rows share one grid
    although their largest values differ by up to a factor of N. Both compute products of two b-bit tensors.

    The parameters keep the names of BasicSR's WindowAttention.

    Args:
        attention: the attention to replace; its parameters are taken over.
        config: the quantization of the network.
        name: dotted name of the attention, for messages.
    """

    q_quantizer: Quantizer  # these four are `nn.Identity` with `operands: weights`
    k_quantizer: Quantizer
    v_quantizer: Quantizer
    attn_quantizer: Quantizer
    relative_position_bias_table: Tensor
    relative_position_index: Tensor

    def __init__(self, attention: WindowAttention, config: QuantConfig, name: str = '') -> None:
        super().__init__()
        tokens = attention.window_size[0] * attention.window_size[1]
        head_dim = attention.dim // attention.num_heads
        self.num_heads, self.scale, self.deferred = attention.num_heads, attention.scale, config.softmax == 'deferred'
        self.softmax = SoftmaxNumerator() if self.deferred else attention.softmax
        self.attn_drop, self.proj_drop = attention.attn_drop, attention.proj_drop
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.register_buffer('relative_position_index', attention.relative_position_index, persistent=False)

        self.qkv = QuantSplitLinear(attention.qkv, config, ('q', 'k', 'v'), f'{name}.qkv')
        self.proj = QuantLinear(attention.proj, config, f'{name}.proj')
        kind = config.transform if config.attention_transform else 'none'
        self.head_transform = Transform(kind, head_dim, config.transform_seed)
        published = kind == 'padded'
        self.value_transform = Transform('padded' if published else 'none', head_dim)
        self.key_transform = Transform('padded' if published else 'none', tokens)
        head, value, key = self.head_transform, self.value_transform, self.key_transform
        for operand, transform in (('q', head), ('k', head), ('v', value), ('attn', key)):
            self.add_module(f'{operand}_quantizer', act_quantizer(config, f'{name}.{operand}_quantizer', transform))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes window attention.

        Args:
            x: (windows * B, N, C).
            mask: (windows, N, N) of 0 and -100, or None.

        Returns:
            (windows * B, N, C).
        """
        batch, tokens, channels = x.shape
        parts = self.qkv(x)
        if self._fuses(parts[0]):
            return self.proj_drop(self.proj(self._in_kernel(parts, mask)))
        q, k, v = (part.view(batch, tokens, self.num_heads, -1) for part in parts)
        q = self.q_quantizer(self.head_transform(q * self.scale))
        k = self.head_transform.project(self.k_quantizer(self.head_transform(k)))
        v = self.value_transform.invert(self.v_quantizer(self.value_transform(v)))
        q, k, v = (operand.transpose(1, 2) for operand in (q, k, v))

        logits = q @ k.transpose(-2, -1) + self.position_bias(tokens)
        if mask is not None:
            windows = mask.shape[0]
            logits = logits.view(batch // windows, windows, self.num_heads, tokens, tokens) + mask[None, :, None]
            logits = logits.view(batch, self.num_heads, tokens, tokens)
        attention = self.attn_drop(self.softmax(logits))
        attention = self.attn_quantizer(self.key_transform(attention))
        if self.key_transform.matrix is not None:  # (a H) H^T v: the inverse is cheaper on the side of v
            v = self.key_transform.matrix.T @ v.to(attention.dtype)
        result = attention @ v
        if self.deferred:
            result = result / row_sums(attention)
        return self.proj_drop(self.proj(result.transpose(1, 2).reshape(batch, tokens, channels)))

    def _fuses(self, q: Tensor) -> bool:
        """Returns whether the kernel computes both products: nothing drops, looks at or transforms their results."""
        operands, inside = self._operands(), (self.softmax, self.attn_drop)
        drops = self.attn_drop.training and self.attn_drop.p > 0
        hooked = any(map(is_hooked, inside))
        transforms = self.head_transform.projection, self.value_transform.matrix, self.key_transform.matrix
        return (
            all(isinstance(operand, Quantizer) for operand in operands)
            and (all(operand.is_plain for operand in operands) or self._only_observes())
            and not (drops or hooked)
            and all(transform is None for transform in transforms)
            and serves_attention(q, self.num_heads)
        )

    def _only_observes(self) -> bool:
        watched = all(operand.observer is not None and not is_hooked(operand) for operand in self._operands())
        return watched and not torch.is_grad_enabled()

    def _operands(self) -> tuple[Quantizer, ...]:
        return self.q_quantizer, self.k_quantizer, self.v_quantizer, self.attn_quantizer

    def _in_kernel(self, parts: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """Computes both products from q, k and v, (windows * B, N, C) each; returns that shape."""
        q, k, v = parts
        batch, tokens, _ = q.shape
        scale = self.scale
        if self.head_transform.matrix is not None:
            heads = batch, tokens, self.num_heads, -1
            q, k = (self.head_transform(x.view(heads)).view(v.shape) for x in (q * scale, k))
            scale = 1.0
        attention = Attention(self.num_heads, scale, self.attn_quantizer.levels, self.deferred)
        bias = self.position_bias(tokens)[0]
        if self.attn_quantizer.observer is not None:
            grids = self._shown(q, k, v, bias, mask, attention)
        else:
            grids = grids_of(self._operands(), (*[v.numel()] * 3, batch * self.num_heads * tokens**2))
        return fused_attention(q, k, v, bias, mask, grids, attention)

    def _shown(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, attention: Attention
    ) -> Tensor:
        """Shows each operand to the observer of its quantizer; returns the grids of those to be quantized, or s = 0."""
        grids = torch.zeros(OPERANDS, 2)
        if self.attn_quantizer.observer is unseen:
            return grids
        heads = *q.shape[:2], attention.heads, -1

        def show(index: int, x: Tensor) -> None:
            quantizer = self._operands()[index]
            if quantizer.shows(x):
                grids[index] = torch.stack(quantizer.grid())

        for index, x in enumerate((q * attention.scale, k, v)):
            show(index, x.view(heads))
        if self.deferred and isinstance(self.attn_quantizer.observer, Arrival):
            q, k = (_few_images(x, mask, attention.heads) for x in (q, k))
        show(OPERANDS - 1, attention_weights(q, k, bias, mask, grids, attention))
        return grids

    def position_bias(self, tokens: int) -> Tensor:
        """Returns the relative position bias, (1, heads, N, N)."""
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return bias.view(tokens, tokens, -1).permute(2, 0, 1)[None]
