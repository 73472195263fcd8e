"""Orthogonal transforms as modules, and a cache for transformed weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.transform import resolve_transform, transform_matrix


class Transform(nn.Module):
    """An orthogonal transform of d coefficients, x_h = x @ T, computed in float32 even under autocast.

    Attributes:
        order: d.
        width: n, the number of transformed coefficients.
        matrix: T, (d, n), or None for the identity.
        projection: T^T T, (n, n), for padded transforms (n > d), whose product needs it:
            (x_h T^T)(w_h T^T)^T = x_h (T^T T) w_h^T. None for exact transforms, where it is the identity.

    Args:
        kind: as in `transform_matrix`.
        order: d.
        seed: seed of the kind 'random'.
    """

    matrix: Tensor | None
    projection: Tensor | None

    def __init__(self, kind: str, order: int, seed: int = 0) -> None:
        super().__init__()
        self.kind, self.order = resolve_transform(kind, order), order
        matrix = transform_matrix(self.kind, order, seed)
        self.width = matrix.shape[1]
        identity = self.kind == 'none'
        projection = matrix.T @ matrix if matrix.shape[1] > order else None
        self.register_buffer('matrix', None if identity else matrix.float(), persistent=False)
        self.register_buffer('projection', None if projection is None else projection.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms the last dimension: (..., d) to (..., n)."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return x.float() @ self.matrix

    def forward_channels(self, x: Tensor) -> Tensor:
        """Transforms the channels: (B, d, H, W) to (B, n, H, W)."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), self.matrix.T[:, :, None, None])

    def project(self, w: Tensor) -> Tensor:
        """Applies T^T T to (..., n): for one operand of a product of two padded transforms. Identity if exact."""
        return w if self.projection is None else w @ self.projection

    def invert(self, x: Tensor) -> Tensor:
        """Inverts the transform, x_h @ T^T: (..., n) to (..., d)."""
        return x if self.matrix is None else x @ self.matrix.T

    def extra_repr(self) -> str:
        return self.kind if self.matrix is None else f'{self.kind}, {tuple(self.matrix.shape)}'


class TransformedWeight:
    """Cache for the transformed weight of a layer: recomputed only if a frozen weight changes."""

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._source: list[Tensor] = []  # keeps the memory alive, so that no other weight gets the same address
        self._value: Tensor | None = None

    def get(self, weight: Tensor, transform: Transform, scale: Tensor | None = None, axis: int = 1) -> Tensor:
        """Returns the transformed weight.

        Args:
            weight: (O, d), (O, d, kh, kw), or with `axis` 0 (d, O, kh, kw).
            transform: along d.
            scale: multiplies the input channels of the weight before the transform, see `spread`; None: 1.
            axis: where d is.

        Returns:
            (O, n) or (O, n, kh, kw).
        """
        if weight.requires_grad or torch.compiler.is_compiling():
            return transformed(weight.movedim(axis, 1), transform, scale)
        sources = [weight] if scale is None else [weight, scale]
        key = tuple((source._version, source.data_ptr(), source.device, source.dtype) for source in sources)
        if key != self._key:
            with torch.inference_mode(False), torch.no_grad():
                self._key, self._source = key, [source.detach() for source in sources]
                self._value = transformed(weight.movedim(axis, 1), transform, scale)
        return self._value  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformedWeight:
        return TransformedWeight()

    def __getstate__(self) -> dict[str, Any]:
        return {'_key': None, '_source': [], '_value': None}


def transformed(weight: Tensor, transform: Transform, scale: Tensor | None = None) -> Tensor:
    """Returns a weight (O, d) or (O, d, kh, kw) transformed along d, its input channels scaled first, see `spread`."""
    if scale is not None:
        weight = weight * spread(scale, weight)
    return transform(weight) if weight.ndim == 2 else transform.forward_channels(weight)


def spread(scale: Tensor, weight: Tensor) -> Tensor:
    """Brings a scale of input channels to the shape of a weight's channels.

    Args:
        scale: (C,), C = d times the number of groups.
        weight: (O, d) or (O, d, kh, kw), with the outputs of each group one after the other.

    Returns:
        Broadcastable to the weight.
    """
    groups = len(scale) // weight.shape[1]
    rows = scale.view(groups, -1)
    if groups > 1:
        rows = rows.repeat_interleave(weight.shape[0] // groups, 0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
