"""Any network of ours from its file alone, without an option file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.archs.swinir_arch import SwinIR
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.archs.rebuild import geometry, rebuild
from compsrt_basicsr.archs.state_dicts import check_fit, forget_recomputable_buffers, without_recomputable_buffers
from compsrt_basicsr.checkpoints.swinir_shapes import is_swinir, swinir_arguments
from compsrt_basicsr.checkpoints.weights import read_weights, resolve
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.container import is_packed
from compsrt_basicsr.packing.contents import restore
from compsrt_basicsr.packing.packed import read_packed
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record

QUANTIZED, FULL_PRECISION = 'quantized', 'full precision'


@dataclass(frozen=True)
class LoadedModel:
    """A network ready for pictures (B, C, H, W) in [0, 1].

    Attributes:
        network: in eval mode, without gradients, on its device.
        scale: output over input side.
        multiple: height and width of the input must be multiples of it (the window size).
        channels: C.
        kind: 'quantized' or 'full precision'.
        source: the path or name that was loaded.
        record: `arch`, `args` and `quant`, which build the network again; `quant` is None in full precision.
    """

    network: nn.Module
    scale: int
    multiple: int
    channels: int
    kind: str
    source: str
    record: dict[str, Any]


def load_network(model: str | os.PathLike[str], device: str | torch.device = 'cpu') -> LoadedModel:
    """Loads a network; architecture and quantization come from the file.

    It takes packed files and quantized checkpoints of ours, full-precision SwinIR checkpoints, and quantized ones of
    CompSRT's authors and of 2DQuant; of weights and averaged weights (`params_ema`) the averaged ones.

    Args:
        model: a `.pth` or `.safetensors` file, or a `zoo://` name.
        device: where to put the network.

    Raises:
        CompSRTError: the file is missing, damaged or foreign, or the device cannot be used.
    """
    source = os.fspath(model)
    try:
        network, record = _read(source)
    except CompSRTError as error:
        raise CompSRTError(str(error) if source in str(error) else f'`{source}`: {error}') from error
    shape = geometry(record)
    kind = QUANTIZED if record['quant'] else FULL_PRECISION
    network = _to_device(network.eval().requires_grad_(False), device)
    return LoadedModel(network, shape.scale, shape.multiple, shape.channels, kind, source, record)


def _read(source: str) -> tuple[nn.Module, dict[str, Any]]:
    file = resolve(source)
    if is_packed(file):
        packed = read_packed(file)
        return restore(packed.contents), packed.contents.record
    return _from_state(read_weights(source, 'params_ema'))


def _from_state(state: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    state = {key.removeprefix('module.'): value for key, value in state.items() if isinstance(value, Tensor)}
    if 'quant_record.json' in state:
        return _ours(state)
    if is_swinir(state):
        foreign = any(key.endswith('.lower_bound') for key in state)
        return _foreign(state) if foreign else _full_precision(state)
    raise CompSRTError(
        'These weights are neither a quantized checkpoint of this package nor a SwinIR: '
        'give other networks by an option file, to `basicsr test`.'
    )


def _ours(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    record = decode_record(state['quant_record.json'])
    network = rebuild(record, sum(value.numel() for value in state.values()))
    state = without_recomputable_buffers(state)
    check_fit(state, network)
    network.load_state_dict(state)
    if missing := [name for name, quantizer in quantizers(network).items() if not quantizer.is_calibrated]:
        raise CompSRTError(
            f'{len(missing)} quantizers are not calibrated, the first is `{missing[0]}`: '
            'use a checkpoint that was saved after calibration.'
        )
    return network, record


def _full_precision(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    arguments = swinir_arguments(state)
    network = SwinIR(**arguments)
    forget_recomputable_buffers(network)
    state = without_recomputable_buffers(state)
    check_fit(state, network)
    network.load_state_dict(state)
    return network, {'arch': 'SwinIR', 'args': arguments, 'quant': None}


def _foreign(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    """Checkpoints of CompSRT's authors, whose quantizers have `alpha`, and of 2DQuant, whose have not."""
    arguments = swinir_arguments(state)
    kinds = {'weight_bits': '.weight_quantizer.n_bit', 'act_bits': '.act_quantizer.n_bit'}
    bits = {name: next((v for k, v in state.items() if k.endswith(end)), None) for name, end in kinds.items()}
    if any(value is None for value in bits.values()):
        raise CompSRTError('The quantizers of these weights have no bit width (`n_bit`): the checkpoint is incomplete.')
    transform = 'padded' if any(key.endswith('.alpha') for key in state) else 'none'
    quant = {'code_range': 'paper', 'transform': transform, **{k: round(float(v)) for k, v in bits.items()}}
    network = CompSRTSwinIR(**arguments, quant=quant)
    network.load_state_dict(state)
    return network, {'arch': 'CompSRTSwinIR', 'args': arguments, 'quant': quant}


def _to_device(network: nn.Module, device: str | torch.device) -> nn.Module:
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise CompSRTError(
            f'The device `{device}` cannot be used ({reason}): choose another, such as `cpu`.'
        ) from error
