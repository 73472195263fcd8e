"""Python interface of the C++ kernels: layers that compute on integer codes, called on torch tensors."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from compsrt_basicsr.integer.arithmetic import FoldedProduct, is_exact
from compsrt_basicsr.kernels.loaded import at, in_threads, kernels, passed
from compsrt_basicsr.quant.functional.affine import quantize, vector_grid

Grid = tuple[float, float, int]  # s, Z, 2^b - 1
Side = tuple[float, float, int, bool]  # the grid, and whether each vector of the operand has its own, see `Quantizer`


@lru_cache(maxsize=256)
def kernel_is_right(k: int, n: int) -> bool:
    """Self-test: compares the kernels' integer product with exact arithmetic at this size and warns if it is wrong."""
    library = kernels()
    if library is None:
        return False
    return passed(is_exact(partial(product, library), k, n), f'Integer product ({k} by {n})')


def product(library: ctypes.CDLL, a: Tensor, w: Tensor) -> Tensor:
    """Multiplies codes (M, K), 0 to 255, by (N, K) int8; returns (M, N) int32."""
    codes, weights = a.to(torch.uint8).contiguous(), w.contiguous()
    out = torch.empty(len(a), len(w), dtype=torch.int32)
    library.cs_product(at(codes), at(weights), len(a), len(w), a.shape[1], at(out))
    return out


def tokens_are_right(k: int, n: int) -> bool:
    """Self-test: like `kernel_is_right`, and compares a layer with equalized inputs and grids of tokens with torch."""
    return kernel_is_right(k, n) and _tokens_are_right(k, n)


@lru_cache(maxsize=256)
def _tokens_are_right(k: int, n: int) -> bool:
    with torch.inference_mode(False), torch.no_grad(), torch.device('cpu'):
        right = _tokens_agree(k, n)
    return passed(right, f'Grids of tokens ({k} by {n})')


def _tokens_agree(k: int, n: int) -> bool:
    generator = torch.Generator().manual_seed(k * 10_007 + n)
    x, shift, stretch = (torch.randn(shape, generator=generator) for shape in ((9, k), (k,), (k,)))
    x[0], stretch = 3 * shift, stretch.abs() + 0.5
    weight = torch.randint(-128, 128, (n, k), generator=generator).to(torch.int8)
    layer = FoldedProduct(weight, *(torch.randn(n, generator=generator) for _ in range(4)))
    result = CppLinear(kernels(), None, [layer], [(0.06, 0.05, 15, True)], (shift, stretch))(x)[0]  # type: ignore[arg-type]
    given = (x - shift) / stretch
    scale, zero = vector_grid(torch.tensor(0.06), torch.tensor(0.05), given, -1)
    expected = layer.apply(quantize(given, scale, zero, 16), scale, zero)
    return bool((result - expected).abs().max() <= 1e-5 * expected.abs().max())


class CppHandle:
    """A layer on the C++ side, which is freed together with this object."""

    def __init__(self, library: ctypes.CDLL, kind: str, *arguments: Any) -> None:
        self.cdll = library
        self.pointer = getattr(library, f'cs_{kind}_new')(*arguments)
        weakref.finalize(self, getattr(library, f'cs_{kind}_free'), self.pointer)


class CppLinear(CppHandle):
    """One or more linear layers of the same size that share input and transform.

    Args:
        library: the kernels.
        transform: T, (K, K), or None for the identity.
        products: the folded weight of each part, with codes (N, K).
        sides: the activation grid of each part.
        equalization: what is subtracted from the K inputs, and what they are divided by, before T; None: nothing.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        transform: Tensor | None,
        products: Sequence[FoldedProduct],
        sides: Sequence[Side],
        equalization: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.n, self.k = products[0].codes.shape
        self.parts = len(products)
        codes = torch.cat([p.codes for p in products])
        terms = [torch.stack([p.a, p.b, p.c, torch.zeros_like(p.a) if p.bias is None else p.bias]) for p in products]
        tables, table = torch.stack(terms, 1), torch.tensor(sides, dtype=torch.float32)
        matrix = _optional_float(transform)
        channels = None if equalization is None else _float(torch.stack(equalization))
        given = (at(channels), at(matrix), at(codes), at(tables), at(table))
        super().__init__(library, 'linear', self.k, self.n, self.parts, *given)

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (..., K) float32 to (parts, ..., N)."""
        x = _contiguous(x, (self.k,))
        rows = x.numel() // self.k
        out = torch.empty(self.parts, *x.shape[:-1], self.n)
        in_threads(lambda i, j: self.cdll.cs_linear_run(self.pointer, at(x), at(out), rows, i, j), rows, 64)
        return out

    def on_images(self, x: Tensor) -> Tensor:
        """Maps the channels of images, (B, K, H, W) float32, to (B, parts * N, H, W) in the memory format of x."""
        if x.ndim != 4 or x.shape[1] != self.k or x.dtype != torch.float32:
            raise RuntimeError(
                f'The input has shape {tuple(x.shape)} ({x.dtype}), expected (B, {self.k}, H, W) float32.'
            )
        if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            return self(x.permute(0, 2, 3, 1)).movedim(0, -2).flatten(-2).permute(0, 3, 1, 2)
        x = x.contiguous()
        out = torch.empty(len(x), self.parts * self.n, *x.shape[2:])
        pixels = x.shape[2] * x.shape[3]
        run = self.cdll.cs_linear_run_planes
        in_threads(lambda i, j: run(self.pointer, at(x), at(out), pixels, i, j), len(x) * pixels, 64)
        return out


class CppAttention(CppHandle):
    """Window attention: qkv, both products on codes, proj.

    Args:
        library: the kernels.
        qkv: linear layer with the three parts q, k, v.
        proj: the output projection.
        scale: factor of q before its quantizer.
        transform: transform of q and k along the head dimension, (d, d), or None for the identity.
        bias: relative position bias, (heads, N, N).
        grids: the grids of q, k, v and the attention.
        deferred: whether the numerator of the softmax is quantized and the division follows the product with v.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        qkv: CppLinear,
        proj: CppLinear,
        scale: float,
        transform: Tensor | None,
        bias: Tensor,
        grids: Sequence[Grid],
        deferred: bool,
    ) -> None:
        self.qkv, self.proj = qkv, proj  # kept alive: the C++ side points to them
        heads, self.tokens, _ = bias.shape
        matrix, bias, table = _optional_float(transform), _float(bias), torch.tensor(grids, dtype=torch.float32)
        super().__init__(
            library,
            'attention',
            qkv.pointer,
            proj.pointer,
            heads,
            self.tokens,
            scale,
            at(matrix),
            at(bias),
            at(table),
            deferred,
        )

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Maps (B * windows, N, C) float32 to the same shape.

        Args:
            x: the tokens of all windows.
            mask: (windows, N, N) of 0 and -100, or None.
        """
        x, mask = _contiguous(x, (self.tokens, self.qkv.k)), _optional_float(mask)
        if mask is not None and (mask.shape[1:] != (self.tokens, self.tokens) or len(x) % len(mask)):
            raise RuntimeError(f'The mask of shape {tuple(mask.shape)} does not fit windows {tuple(x.shape)}.')
        out = torch.empty_like(x)
        run = self.cdll.cs_attention_run
        count = 0 if mask is None else len(mask)
        in_threads(lambda i, j: run(self.pointer, at(x), at(out), at(mask), count, i, j), len(x), 8)
        return out


class CppBlock(CppHandle):
    """A whole Swin block: both norms, attention, MLP, both shortcuts.

    Args:
        library: the kernels.
        attention: the attention.
        fc1, fc2: the MLP, with GELU in between.
        norms: weight, bias and epsilon of both LayerNorms.
        window: side of the windows in tokens.
        shift: cyclic shift in tokens.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        attention: CppAttention,
        fc1: CppLinear,
        fc2: CppLinear,
        norms: Sequence[tuple[Tensor, Tensor, float]],
        window: int,
        shift: int,
    ) -> None:
        self.parts, self.window = (attention, fc1, fc2), window
        tables = [torch.cat([_float(weight), _float(bias)]) for weight, bias, _ in norms]
        epsilons = [epsilon for *_, epsilon in norms]
        pointers = [part.pointer for part in self.parts]
        super().__init__(library, 'block', *pointers, *map(at, tables), *epsilons, window, shift)

    def __call__(self, x: Tensor, height: int, width: int) -> Tensor:
        """Maps (B, height * width, C) float32 to the same shape; height and width are multiples of the window."""
        x = _contiguous(x, (height * width, self.parts[1].k))
        out = torch.empty_like(x)
        windows = len(x) * (height // self.window) * (width // self.window)
        run = self.cdll.cs_block_run
        in_threads(lambda i, j: run(self.pointer, at(x), at(out), height, width, i, j), windows, 8)
        return out


def _contiguous(x: Tensor, ending: tuple[int, ...]) -> Tensor:
    """Makes x contiguous after checking its dtype and last dimensions, which the kernels do not check."""
    if x.shape[-len(ending) :] != ending or x.dtype != torch.float32:
        raise RuntimeError(
            f'The input has shape {tuple(x.shape)} ({x.dtype}), expected (..., {", ".join(map(str, ending))}) float32.'
        )
    return x.contiguous()


def _float(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _optional_float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _float(tensor)
