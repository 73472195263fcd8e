"""What the published bound search sees of a tensor (the authors' code of CompSRT, arXiv 2601.21069).

That code pads every dimension with zeros to a power of two before a transform. Its search then sees transformed
activations cropped to the width they had before, and transformed weights with the rows of zeros. Both change the
bounds, so paper range with the padded transform repeats them. The quantizer itself works on all coefficients and on no
others.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def first_coefficients(x: Tensor, count: int, axis: int) -> Tensor:
    """Returns the first `count` coefficients along the transformed axis: of 64, those 60 that the input had."""
    return x.narrow(axis, 0, count)


def with_zero_rows(weight: Tensor) -> Tensor:
    """Appends rows of zeros to a weight (O, ...), up to the next power of two."""
    rows = weight.flatten(1)
    return F.pad(rows, (0, 0, 0, (1 << (len(rows) - 1).bit_length()) - len(rows)))
