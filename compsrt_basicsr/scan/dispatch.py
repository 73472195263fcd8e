"""The selective scan in the fastest form that runs here."""

from __future__ import annotations

import torch
from torch import Tensor

from compsrt_basicsr.scan.chunked import scan_chunked
from compsrt_basicsr.scan.cpp import scan_cpp, scan_is_right
from compsrt_basicsr.scan.cuda import mamba_ssm_scan


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, bias: Tensor) -> Tensor:
    """Computes the selective scan: by mamba_ssm on a GPU, by the C++ kernel on the CPU, else in torch operations.

    It computes in float32, or float64 where `u` is, under autocast too.

    Args:
        u: (B, L, D).
        delta: (B, L, D), before bias and softplus.
        a: (D, S), at most 0.
        b: (B, L, S).
        c: (B, L, S).
        skip: (D,).
        bias: (D,), of delta.

    Returns:
        (B, L, D).
    """
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    values = [x.to(dtype) for x in (u, delta, a, b, c, skip, bias)]
    with torch.autocast(u.device.type, enabled=False):
        if dtype == torch.float32 and u.device.type == 'cpu' and scan_is_right():
            return scan_cpp(*values)
        cuda = mamba_ssm_scan() if dtype == torch.float32 and u.device.type == 'cuda' else None
        return (cuda or scan_chunked)(*values)
