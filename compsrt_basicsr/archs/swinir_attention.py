"""What is special to SwinIR: window attention with quantized operands. Another backbone is another such adapter."""

from __future__ import annotations

from basicsr.archs.swinir_arch import WindowAttention
from torch import Tensor, nn

from compsrt_basicsr.quant.config import QuantConfig
from compsrt_basicsr.quant.factory import act_quantizer
from compsrt_basicsr.quant.layers import QuantLinear, QuantSplitLinear
from compsrt_basicsr.quant.transform import Transform


class QuantWindowAttention(nn.Module):
    """SwinIR's window attention with the qkv and proj linears and the operands of both products quantized.

    q (after scaling) and k are transformed along the head dimension, which q k^T contracts. In the published form
    (transform `padded`) v is transformed along the head dimension too and the attention along the keys, and each is
    transformed back before their product; in exact form both stay as they are, since a transform that the product
    does not contract would have to be undone in float.

    Parameters keep the names of BasicSR's WindowAttention.
    """

    def __init__(self, attention: WindowAttention, config: QuantConfig, name: str = '') -> None:
        super().__init__()
        tokens = attention.window_size[0] * attention.window_size[1]
        head_dim = attention.dim // attention.num_heads
        self.num_heads, self.scale, self.softmax = attention.num_heads, attention.scale, attention.softmax
        self.attn_drop, self.proj_drop = attention.attn_drop, attention.proj_drop
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.register_buffer('relative_position_index', attention.relative_position_index, persistent=False)

        self.qkv = QuantSplitLinear(attention.qkv, config, ('q', 'k', 'v'), f'{name}.qkv')
        self.proj = QuantLinear(attention.proj, config, f'{name}.proj')
        self.head_transform = Transform(config.transform, head_dim, config.seed)
        published = config.transform == 'padded'
        self.value_transform = Transform('padded' if published else 'none', head_dim)
        self.key_transform = Transform('padded' if published else 'none', tokens)
        for operand in ('q', 'k', 'v', 'attn'):
            self.add_module(f'{operand}_quantizer', act_quantizer(config, f'{name}.{operand}_quantizer'))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Window attention.

        Args:
            x: (windows * B, N, C).
            mask: (windows, N, N) of 0 and -100, or None.

        Returns:
            (windows * B, N, C).
        """
        batch, tokens, channels = x.shape
        q, k, v = (part.view(batch, tokens, self.num_heads, -1) for part in self.qkv(x))
        q = self.q_quantizer(self.head_transform(q * self.scale))
        k = self.head_transform.project(self.k_quantizer(self.head_transform(k)))
        v = self.value_transform.invert(self.v_quantizer(self.value_transform(v)))
        q, k, v = (operand.transpose(1, 2) for operand in (q, k, v))

        logits = q @ k.transpose(-2, -1) + self._position_bias(tokens)
        if mask is not None:
            windows = mask.shape[0]
            logits = logits.view(batch // windows, windows, self.num_heads, tokens, tokens) + mask[None, :, None]
            logits = logits.view(batch, self.num_heads, tokens, tokens)
        attention = self.attn_drop(self.softmax(logits))
        attention = self.attn_quantizer(self.key_transform(attention))
        if self.key_transform.matrix is not None:  # (a H) H^T v: the cheaper side carries the inverse
            v = self.key_transform.matrix.T @ v.to(attention.dtype)
        result = (attention @ v).transpose(1, 2).reshape(batch, tokens, channels)
        return self.proj_drop(self.proj(result))

    def _position_bias(self, tokens: int) -> Tensor:
        """Relative position bias, (1, heads, N, N)."""
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return bias.view(tokens, tokens, -1).permute(2, 0, 1)[None]
