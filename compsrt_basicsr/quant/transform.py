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
        self._source: Tensor | None = None  # keeps the memory alive, so that no other weight gets the same address
        self._value: Tensor | None = None

    def get(self, weight: Tensor, transform: Transform, axis: int = 1) -> Tensor:
        """Returns the transformed weight.

        Args:
            weight: (O, d), (O, d, kh, kw), or with `axis` 0 (d, O, kh, kw).
            transform: along d.
            axis: where d is.

        Returns:
            (O, n) or (O, n, kh, kw).
        """
        if weight.requires_grad or torch.compiler.is_compiling():
            return self._compute(weight.movedim(axis, 1), transform)
        key = (weight._version, weight.data_ptr(), weight.device, weight.dtype)
        if key != self._key:
            with torch.inference_mode(False), torch.no_grad():
                self._key, self._source, self._value = (
                    key,
                    weight.detach(),
                    self._compute(weight.movedim(axis, 1), transform),
                )
        return self._value  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformedWeight:
        return TransformedWeight()

    def __getstate__(self) -> dict[str, None]:
        return {'_key': None, '_source': None, '_value': None}

    @staticmethod
    def _compute(weight: Tensor, transform: Transform) -> Tensor:
        return transform(weight) if weight.ndim == 2 else transform.forward_channels(weight)
