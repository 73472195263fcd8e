"""Schemes such as `w4a4`: what they mean for any network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import escape
from itertools import product
from typing import Any

from compsrt_basicsr.config.quant import MAX_BITS, MIN_BITS
from compsrt_basicsr.errors import CompSRTError, shown, suggestion

_BITS = range(MIN_BITS, MAX_BITS + 1)
RAISED_BITS = 8  # of the first and the last layer, and of those that `--mixed` raises
_ENGINE_BITS = 7  # of weights in files for engines: with 8, processors without VNNI overflow (docs/onnx.md)
CALIBRATION = {'method': 'dobi', 'reconstruct': True}  # the section `calibration`, without the patches
PATCHES, PATCH = 8, 64  # number of LR patches of the calibration, and their side in pixels


def parse_scheme(text: str) -> tuple[int, int]:
    """Returns the bits of weights and of activations that a scheme such as `w4a8` names.

    Raises:
        CompSRTError: if it is no such scheme.
    """
    match = re.fullmatch(r'w(\d)a(\d)', text.lower())
    if match is not None and all(int(bits) in _BITS for bits in match.groups()):
        return int(match[1]), int(match[2])
    known = [f'w{weights}a{acts}' for weights, acts in product(reversed(_BITS), reversed(_BITS))]
    raise CompSRTError(
        f'There is no scheme {shown(text)}: give the bits of weights and activations, each from {MIN_BITS} to '
        f'{MAX_BITS}, such as `w4a4`.{suggestion(text.lower(), known)}'
    )


def quant_options(
    bits: tuple[int, int],
    layers: Sequence[str],
    keep: Sequence[str] = (),
    engines: Sequence[str] = (),
    integer: bool = False,
    raised: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the section `quant` of a scheme.

    The first and the last layer have 8 bits and a grid for each output channel. The input of the first one stays as it
    is: 8-bit pixels lie on a grid of 256 levels, which a transform would leave. All others have what lost least on
    DCTLSA x2: equalized channels, a random rotation, a grid for each output channel, and one for each token. Where
    kernels compute whole blocks, Hadamard matrices take the place of the rotation, and weights have one grid, as in
    the method `compsrt`.

    Args:
        bits: of weights and activations.
        layers: dotted names of the layers in the order in which they run.
        keep: name patterns of what stays in full precision.
        engines: 'onnx', 'openvino': those that get a file; with 8 bits they compute in them, if the grids allow it.
        integer: whether the network has integer kernels for whole blocks.
        raised: name patterns of other layers with 8 bits, or, where engines compute in 8 bits, in full precision.
    """
    weight_bits, end_bits = bits[0], RAISED_BITS
    computed = computes_in_engines(bits, engines)
    if computed:
        grids, weight_bits, end_bits = _for_engines(engines), _ENGINE_BITS, _ENGINE_BITS
    else:
        grids = {'equalize': True, 'act_granularity': 'token'}
        grids |= {'transform': 'blocks'} if integer else {'transform': 'random', 'granularity': 'channel'}
    more = {'weight_bits': end_bits, 'act_bits': RAISED_BITS}
    ends: dict[str, Any] = {**more, 'granularity': 'channel'}
    first = {**ends, 'transform': 'none', 'equalize': False, 'act_granularity': 'tensor'}
    single = {escape(layers[0]): first, escape(layers[-1]): ends} if layers else {}
    return {
        **grids,
        'weight_bits': weight_bits,
        'act_bits': bits[1],
        'quantize_convs': True,
        'quantize_products': True,
        'quantize_head_tail': True,
        'fold_norms': True,
        'attention_transform': False,
        'softmax': 'deferred',
        'layers': {**single, **{pattern: more for pattern in raised if not computed and pattern not in single}},
        'exclude': [*keep, *(raised if computed else ())],
    }


def mixed_line(bits: tuple[int, int], engines: Sequence[str], share: float) -> str:
    """Returns what `--mixed` will do to layers that only a calibration can choose; '' if it does nothing."""
    if not share:
        return ''
    if computes_in_engines(bits, engines):
        return (
            f'Up to {share:.1%} of the multiplications will stay in floating point, in the layers that cost most, '
            'which a calibration finds; `--mixed 0` spares none.'
        )
    if bits == (RAISED_BITS, RAISED_BITS):
        return ''
    return f'8 bits go to up to {share:.1%} of the multiplications, where measurement finds that they help.'


def computes_in_engines(bits: tuple[int, int], engines: Sequence[str]) -> bool:
    """Returns whether engines are to compute in the bits of a scheme."""
    return bool(engines) and bits == (RAISED_BITS, RAISED_BITS)


def _for_engines(engines: Sequence[str]) -> dict[str, Any]:
    """Returns the options of layers that inference engines compute in 8 bits."""
    grids = {'transform': 'none', 'zero_point': 'integer', 'symmetric': 'weights', 'granularity': 'channel'}
    return {**grids, 'quantize_outputs': 'onnx' in engines}
