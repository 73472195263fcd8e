"""`nn.MultiheadAttention` as linears and products that can be quantized."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PARTS = ('q', 'k', 'v')


class PlainAttention(nn.Module):
    """Computes what an `nn.MultiheadAttention` computes, by three linears, two products and a linear.

    Weight files of `nn.MultiheadAttention` load.

    Args:
        attention: what it replaces, one that `can_be_plain`.
    """

    in_proj_bias = None  # PyTorch's transformer layers ask for both, and then leave their shortcut to the original
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first, self.dropout = attention.num_heads, attention.batch_first, attention.dropout
        size, has_bias = attention.embed_dim, attention.in_proj_bias is not None
        weight = attention.in_proj_weight
        for index, part in enumerate(_PARTS):
            linear = nn.Linear(size, size, has_bias, weight.device, weight.dtype)
            linear.weight = nn.Parameter(weight.detach().chunk(3)[index].clone())
            if has_bias:
                linear.bias = nn.Parameter(attention.in_proj_bias.detach().chunk(3)[index].clone())
            setattr(self, part, linear)
        self.out_proj = nn.Linear(size, size, attention.out_proj.bias is not None, weight.device, weight.dtype)
        self.out_proj.weight, self.out_proj.bias = attention.out_proj.weight, attention.out_proj.bias
        self.register_load_state_dict_pre_hook(_split)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Maps (L, B, C), (S, B, C), (S, B, C), or with `batch_first` (B, L, C) and so on, to the shape of the query.

        Returns:
            The result, and with `need_weights` the weights: (B, L, S), or (B, heads, L, S) if they are not averaged.
        """
        swaps = query.ndim == 3 and not self.batch_first
        tensors = [x.unsqueeze(0) if x.ndim == 2 else x.transpose(0, 1) if swaps else x for x in (query, key, value)]
        q, k, v = (
            self.get_submodule(part)(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, x in zip(_PARTS, tensors)
        )
        logits = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
        if attn_mask is not None:
            added = _added(attn_mask, logits)
            logits = logits + (added.unflatten(0, (-1, self.heads)) if added.ndim == 3 else added)
        if key_padding_mask is not None:
            logits = logits + _added(key_padding_mask, logits).reshape(-1, 1, 1, logits.shape[-1])
        weights = logits.softmax(-1)
        result = F.dropout(weights, self.dropout, self.training) @ v
        result = self.out_proj(result.transpose(1, 2).flatten(-2))
        result = result.squeeze(0) if query.ndim == 2 else result.transpose(0, 1) if swaps else result
        if not need_weights:
            return result, None
        weights = weights.mean(1) if average_attn_weights else weights
        return result, weights.squeeze(0) if query.ndim == 2 else weights


def can_be_plain(module: nn.Module) -> bool:
    """Returns whether a module is an `nn.MultiheadAttention` whose inputs have one width and get nothing appended."""
    return (
        type(module) is nn.MultiheadAttention
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _added(mask: Tensor, logits: Tensor) -> Tensor:
    """Returns a mask as numbers that are added to the logits: True becomes minus infinity."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=logits.dtype).masked_fill(mask, -torch.inf)


def _split(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Splits the fused weights and biases of a file of `nn.MultiheadAttention`."""
    for name in ('weight', 'bias'):
        if isinstance(fused := state.pop(f'{prefix}in_proj_{name}', None), Tensor):
            state.update({f'{prefix}{part}.{name}': x for part, x in zip(_PARTS, fused.chunk(3))})
