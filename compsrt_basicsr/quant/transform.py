"""Orthogonal transforms as modules, and the cache of transformed weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compsrt_basicsr.quant.functional.transform import resolve_transform, transform_matrix


class Transform(nn.Module):
    """An orthogonal transform of d coefficients, x_h = x @ T, in float32 even under autocast.

    Attributes:
        width: n, the number of transformed coefficients.
        matrix: T, (d, n), or None for the identity.
        projection: T^T T, (n, n), for a transform with n > d, whose product needs it:
            (x_h T^T)(w_h T^T)^T = x_h (T^T T) w_h^T; None for exact transforms, where it is the identity.
    """

    def __init__(self, kind: str, order: int, seed: int = 0) -> None:
        super().__init__()
        self.kind = resolve_transform(kind, order)
        matrix = transform_matrix(self.kind, order, seed)
        self.width = matrix.shape[1]
        identity = self.kind == 'none'
        projection = matrix.T @ matrix if matrix.shape[1] > order else None
        self.register_buffer('matrix', None if identity else matrix.float(), persistent=False)
        self.register_buffer('projection', None if projection is None else projection.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., n)."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return x.float() @ self.matrix

    def forward_channels(self, x: Tensor) -> Tensor:
        """(B, d, H, W) to (B, n, H, W), along the channels."""
        if self.matrix is None:
            return x
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), self.matrix.T[:, :, None, None])

    def project(self, w: Tensor) -> Tensor:
        """(..., n) to (..., n): one operand of a product of two padded transforms; the identity for exact ones."""
        return w if self.projection is None else w @ self.projection

    def invert(self, x: Tensor) -> Tensor:
        """(..., n) to (..., d): x_h @ T^T."""
        return x if self.matrix is None else x @ self.matrix.T

    def extra_repr(self) -> str:
        return self.kind if self.matrix is None else f'{self.kind}, {tuple(self.matrix.shape)}'


class TransformedWeight:
    """The transformed weight of a layer, computed once while the weight stays as it is and is frozen."""

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._source: Tensor | None = None  # keeps the memory, so that no other weight can get the same address
        self._value: Tensor | None = None

    def get(self, weight: Tensor, transform: Transform) -> Tensor:
        """T-domain weight of `weight`: (O, d) to (O, n), or (O, d, kh, kw) to (O, n, kh, kw)."""
        if weight.requires_grad or torch.compiler.is_compiling():
            return self._compute(weight, transform)
        key = (weight._version, weight.data_ptr(), weight.device, weight.dtype)
        if key != self._key:
            with torch.inference_mode(False), torch.no_grad():
                self._key, self._source, self._value = key, weight.detach(), self._compute(weight, transform)
        return self._value  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict) -> TransformedWeight:
        return TransformedWeight()

    def __getstate__(self) -> dict:
        return {'_key': None, '_source': None, '_value': None}

    @staticmethod
    def _compute(weight: Tensor, transform: Transform) -> Tensor:
        return transform(weight) if weight.ndim == 2 else transform.forward_channels(weight)
