"""Executors for SwinIR on integer codes: the attention, and a whole Swin block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention, row_sums
from compsrt_basicsr.basicsr_compat.swinir import Mlp, SwinTransformerBlock
from compsrt_basicsr.integer import convolution as _convolutions  # noqa: F401  (registers itself)
from compsrt_basicsr.integer.arithmetic import integer_product
from compsrt_basicsr.integer.cpp_kernels import CppAttention, CppBlock, kernel_is_right
from compsrt_basicsr.integer.execution import (
    Executor,
    act_grid,
    cpp_linear,
    executes,
    integer_linear,
    kernels_fit,
    linear_size,
    on_cpu,
)
from compsrt_basicsr.kernels.loaded import kernels
from compsrt_basicsr.quant.functional.affine import quantize
from compsrt_basicsr.quant.layers import QuantLinear
from compsrt_basicsr.quant.quantizer import Quantizer


def cpp_attention(attention: QuantWindowAttention) -> CppAttention:
    """Builds an attention in the C++ kernels. Call only after `kernel_is_right`."""
    library = kernels()
    assert library is not None
    operands = (attention.q_quantizer, attention.k_quantizer, attention.v_quantizer, attention.attn_quantizer)
    tokens = attention.relative_position_index.shape[0]
    return CppAttention(
        library,
        cpp_linear(attention.qkv),
        cpp_linear(attention.proj),
        attention.scale,
        attention.head_transform.matrix,
        attention.position_bias(tokens)[0],
        [act_grid(operand) for operand in operands],
        attention.deferred,
    )


def _kernels_fit(attention: QuantWindowAttention) -> bool:
    tokens = attention.relative_position_index.shape[0]
    dim = linear_size(attention.qkv)[1] // attention.num_heads
    products = kernel_is_right(dim, tokens) and kernel_is_right(tokens, dim)
    return on_cpu(attention) and products and kernels_fit(attention.qkv) and kernels_fit(attention.proj)


@executes(QuantWindowAttention)
class AttentionExecutor(Executor):
    """Runs the linear layers and both products of window attention on codes."""

    takes_vectors = True  # of the linear layers: the operands of the products have one grid each

    @classmethod
    def how(cls, module: Any) -> str:
        return 'kernel' if _kernels_fit(module) else 'torch'

    def prepare(self) -> Callable[..., Tensor]:
        how = self.how(self.module)
        return cpp_attention(self.module) if how == 'kernel' else TorchAttention(self.module)

    def run(self, prepared: Callable[..., Tensor], x: Tensor, mask: Tensor | None = None) -> Tensor:
        return prepared(x, mask)


class TorchAttention:
    """Window attention on codes in torch: exact and portable, but not fast."""

    def __init__(self, attention: QuantWindowAttention) -> None:
        self.attention = attention
        self.qkv, self.proj = integer_linear(attention.qkv, 'torch'), integer_linear(attention.proj, 'torch')

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Computes `QuantWindowAttention.forward`."""
        a = self.attention
        batch, tokens, channels = x.shape
        q, k, v = (part.view(batch, tokens, a.num_heads, -1).transpose(1, 2) for part in self.qkv(x))
        q, k = a.head_transform(q * a.scale), a.head_transform(k)
        logits = _product(_codes(q, a.q_quantizer), _codes(k, a.k_quantizer)) + a.position_bias(tokens)
        if mask is not None:
            windows = mask.shape[0]
            logits = logits.view(batch // windows, windows, a.num_heads, tokens, tokens) + mask[None, :, None]
            logits = logits.view(batch, a.num_heads, tokens, tokens)
        weights = _codes(a.softmax(logits), a.attn_quantizer)
        result = _product(weights, _codes(v.transpose(-2, -1), a.v_quantizer))
        if a.deferred:
            result = result / row_sums(weights.codes, weights.scale, weights.zero)
        return self.proj(result.transpose(1, 2).reshape(batch, tokens, channels))[0]


class _Operand(NamedTuple):
    """The codes of an activation and their grid."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    levels: int


def _codes(x: Tensor, quantizer: Quantizer) -> _Operand:
    scale, zero = quantizer.grid()
    return _Operand(quantize(x, scale, zero, quantizer.levels), scale, zero, quantizer.levels)


def _product(left: _Operand, right: _Operand) -> Tensor:
    """Computes left right^T for the values of two operands (..., M, K) and (..., N, K), on their codes."""
    x, scale_x, zero_x, _ = left
    y, scale_y, zero_y, levels = right
    middle = levels // 2
    y = y - middle
    zero_y = zero_y + scale_y * middle
    rows = scale_x * zero_y * x.sum(-1, keepdim=True)
    columns = zero_x * scale_y * y.sum(-1)[..., None, :] + x.shape[-1] * zero_x * zero_y
    return integer_product(x, y) * (scale_x * scale_y) + (rows + columns)


@executes(SwinTransformerBlock)
class BlockExecutor(Executor):
    """Runs a whole Swin block window by window, so that intermediate results stay in the processor's cache.

    If the kernels cannot run the block (on a GPU, or if a side is not a multiple of the window), its layers run on
    codes one by one.
    """

    delegates = True
    takes_vectors = True

    @classmethod
    def obstacle(cls, module: Any) -> str | None:
        mlp = module.mlp
        plain = type(mlp) is Mlp and type(mlp.act) is nn.GELU and mlp.act.approximate == 'none'
        quantized = isinstance(module.attn, QuantWindowAttention) and all(
            type(layer) is QuantLinear for layer in (mlp.fc1, mlp.fc2)
        )
        normed = all(type(n) is nn.LayerNorm and n.bias is not None for n in (module.norm1, module.norm2))
        if not (plain and quantized and normed):
            return 'the block is only partly quantized'
        if obstacle := super().obstacle(module):
            return obstacle
        fit = _kernels_fit(module.attn) and kernels_fit(mlp.fc1) and kernels_fit(mlp.fc2)
        return None if fit and on_cpu(module) else 'no kernels'

    @classmethod
    def how(cls, module: Any) -> str:
        return 'kernel'

    def prepare(self) -> CppBlock | None:
        block, library = self.module, kernels()
        if library is None or not on_cpu(block):
            return None
        norms = [(norm.weight, norm.bias, norm.eps) for norm in (block.norm1, block.norm2)]
        fc1, fc2 = cpp_linear(block.mlp.fc1), cpp_linear(block.mlp.fc2)
        return CppBlock(library, cpp_attention(block.attn), fc1, fc2, norms, block.window_size, block.shift_size)

    def run(self, prepared: CppBlock | None, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        height, width = (int(side) for side in x_size)
        if prepared is None or height % prepared.window or width % prepared.window:
            return type(self.module).forward(self.module, x, x_size)
        return prepared(x, height, width)
