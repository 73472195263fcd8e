"""The formats of checkpoints: how each is recognised by its keys, and how its network is built.

A new format is a `Format` in `FORMATS`; the first one that recognises a state dict builds the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import BuildLimit, Stored
from compsrt_basicsr.archs.foreign_states import bits_of, has_offsets, is_foreign
from compsrt_basicsr.archs.mambairv2_light_arch import PUBLISHED_PLACEMENT, MambaIRv2Light
from compsrt_basicsr.archs.rebuild import check_run, rebuild
from compsrt_basicsr.archs.spandrel_arch import is_spandrel, load_spandrel
from compsrt_basicsr.archs.state_dicts import (
    check_fit,
    forget_recomputable_buffers,
    load_state,
    recomputable_buffers,
    without_recomputable_buffers,
)
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.mambairv2_shapes import is_mambairv2_light, mambairv2_light_arguments
from compsrt_basicsr.checkpoints.swinir_shapes import is_swinir, swinir_arguments
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.merging import merge_corrections_
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.utils.weight_names import origin_of

State = Mapping[str, Tensor]
_RECORD = 'quant_record.json'


class Built(NamedTuple):
    """A network with its weights, and the record (`arch`, `args`, `quant`) that builds it again."""

    network: nn.Module
    record: dict[str, Any]


@dataclass(frozen=True)
class Format:
    """One format of checkpoints.

    Attributes:
        name: whose format it is.
        recognises: whether a state dict is of this format; looks at its keys only.
        build: builds the network; raises CompSRTError if the weights are incomplete or do not fit.
    """

    name: str
    recognises: Callable[[State], bool]
    build: Callable[[State], Built]


def build_network(state: Mapping[str, Any]) -> Built:
    """Builds the network of a state dict of any known format.

    Args:
        state: from `read_weights`; DataParallel's prefix `module.` may stand before the names.

    Raises:
        CompSRTError: if no format recognises the state dict, or its weights are incomplete or do not fit.
    """
    tensors = {key.removeprefix('module.'): value for key, value in state.items() if isinstance(value, Tensor)}
    for known in FORMATS:
        if known.recognises(tensors):
            return known.build(tensors)
    raise CompSRTError(
        f'These weights are of no known format ({", ".join(known.name for known in FORMATS)}). {origin_of(tensors)} '
        'Give other networks by an option file, to `basicsr test`.'
    )


def _ours(state: State) -> Built:
    record = decode_record(state[_RECORD])
    network = rebuild(record, Stored.of(state))
    _load(network, state)
    if missing := [name for name, quantizer in quantizers(network).items() if not quantizer.is_calibrated]:
        raise CompSRTError(
            f'Not calibrated: {counted(len(missing), "quantizer")}, the first is `{missing[0]}`: '
            'use a checkpoint that was saved after calibration.'
        )
    merge_corrections_(network)
    record = decode_record(network.get_buffer(_RECORD))
    check_run(network, record)
    return Built(network, record)


def _foreign(state: State) -> Built:
    """Builds a network of CompSRT's authors, whose quantizers have `alpha`, or of 2DQuant, whose have none."""
    quant: dict[str, Any] = {'code_range': 'paper', 'transform': 'padded' if has_offsets(state) else 'none'}
    quant |= bits_of(state)
    if is_swinir(state):
        record = {'arch': 'CompSRTSwinIR', 'args': swinir_arguments(state), 'quant': quant}
    else:
        base = {'type': 'MambaIRv2Light', **mambairv2_light_arguments(state)}
        record = {'arch': 'CompSRTNet', 'args': {'base': base}, 'quant': {**quant, **PUBLISHED_PLACEMENT}}
    network = rebuild(record, Stored.of(state))
    load_state(network, state)
    return Built(network, record)


def _full_precision(state: State) -> Built:
    arguments = swinir_arguments(state)
    network = SwinIR(**arguments)
    forget_recomputable_buffers(network)
    _load(network, state)
    return Built(network, {'arch': 'SwinIR', 'args': arguments, 'quant': None})


def _mambairv2_light(state: State) -> Built:
    arguments = mambairv2_light_arguments(state)
    with BuildLimit(Stored.of(state)):
        network = MambaIRv2Light(**arguments)
    _load(network, state)
    return Built(network, {'arch': 'MambaIRv2Light', 'args': arguments, 'quant': None})


def _spandrel(state: State) -> Built:
    network = load_spandrel(state)
    arguments = {'arch': network.arch, 'args': network.arguments}
    return Built(network, {'arch': 'spandrel', 'args': arguments, 'quant': None})


def _load(network: nn.Module, state: State) -> None:
    kept = {**recomputable_buffers(network), **without_recomputable_buffers(state)}
    check_fit(kept, network)
    network.load_state_dict(kept)


def _is_foreign(state: State) -> bool:
    """Returns whether a state dict has the keys of the authors' code or of 2DQuant."""
    return is_foreign(state) and (is_swinir(state) or is_mambairv2_light(state))


FORMATS = (
    Format('a quantized checkpoint of this package', lambda state: _RECORD in state, _ours),
    Format("one of CompSRT's authors", lambda state: _is_foreign(state) and has_offsets(state), _foreign),
    Format('one of 2DQuant', _is_foreign, _foreign),
    Format('a SwinIR in full precision', is_swinir, _full_precision),
    Format('a MambaIRv2-light', is_mambairv2_light, _mambairv2_light),
    Format('any network that spandrel loads', is_spandrel, _spandrel),
)
