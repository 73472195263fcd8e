"""From a weight file or a name to a network, without an option file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR
from torch import Tensor, nn

from compsrt_basicsr.archs.checkpoint import check_fit, without_recomputable_buffers
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.swinir_shapes import is_swinir, swinir_arguments
from compsrt_basicsr.quant.config import QuantConfig
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.zoo.weights import read_weights, resolve

QUANTIZED, FULL_PRECISION = 'quantized', 'full precision'
_RECORD = 'quant_record.json'
_TOLD = ('embed_dim', 'depths', 'num_heads', 'window_size', 'mlp_ratio', 'upsampler', 'resi_connection', 'base')


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to enlarge pictures.

    Attributes:
        network: in eval mode: (B, channels, H, W) in [0, 1] to (B, channels, H scale, W scale).
        scale: upscaling factor.
        multiple: H and W must be multiples of it: the attention window, or 1.
        channels: of a picture.
        kind: 'quantized' or 'full precision'.
        architecture: registered name.
        arguments: what the architecture was built with, less the quantization.
        quant: options of the quantization; None in full precision.
        name: where it was loaded from.
    """

    network: nn.Module
    scale: int
    multiple: int
    channels: int
    kind: str
    architecture: str
    arguments: Mapping[str, Any]
    quant: Mapping[str, Any] | None
    name: str

    @property
    def zoo_kind(self) -> str:
        """What a zoo calls a model of this kind."""
        return 'teacher' if self.quant is None else 'quantized'

    @property
    def summary(self) -> str:
        """Architecture and arguments in a line."""
        told = ', '.join(f'{key} {_plain(value)}' for key, value in self.arguments.items() if key in _TOLD)
        return f'{self.architecture}: {told}' if told else self.architecture

    @property
    def details(self) -> dict[str, str]:
        """Rows of a model card."""
        rows = {'parameters': f'{sum(p.numel() for p in self.network.parameters()):,}'}
        if self.quant is not None:
            own = asdict(QuantConfig())
            other = {k: v for k, v in self.quant.items() if own.get(k, v) != (tuple(v) if isinstance(v, list) else v)}
            rows['code range'] = self.quant['code_range']
            rows['quantization'] = (
                ', '.join(f'{key}: {_plain(value)}' for key, value in other.items()) or 'the defaults'
            )
        return rows


def _plain(value: Any) -> str:
    return ', '.join(f'{k}: {_plain(v)}' for k, v in value.items()) if isinstance(value, Mapping) else str(value)


def load_network(model: str | Path, device: torch.device | str = 'cpu') -> LoadedModel:
    """Loads a network from a checkpoint of ours, a full-precision SwinIR of any size, or a `zoo://` name.

    An averaged network (`params_ema`) is preferred to the one last trained.

    Args:
        model: the file or name.
        device: where the network is to run.

    Raises:
        CompSRTError: the file is missing, damaged, of another origin, or not calibrated.
    """
    file = resolve(model)
    state = read_weights(file, 'params_ema')
    try:
        network, architecture, arguments, quant = _build(state)
    except CompSRTError as error:
        raise CompSRTError(f'`{model}` cannot be loaded: {error}') from error
    return describe(network.to(device).eval(), architecture, arguments, quant, str(model))


def describe(
    network: nn.Module, architecture: str, arguments: Mapping[str, Any], quant: Mapping[str, Any] | None, name: str
) -> LoadedModel:
    """Finds out scale and channels of a network by running it once on a small picture.

    Raises:
        CompSRTError: a quantizer is not calibrated.
    """
    waiting = [key for key, quantizer in quantizers(network).items() if not quantizer.is_calibrated]
    if waiting:
        raise CompSRTError(f'`{name}` is not calibrated ({waiting[0]} and {len(waiting) - 1} more): train it first.')
    inner = arguments.get('base', arguments)
    multiple = inner.get('window_size', 1)
    channels = inner.get('in_chans', inner.get('num_in_ch', 3))
    side = 2 * multiple if multiple > 1 else 8
    device = next(network.parameters()).device
    with torch.no_grad():
        output = network(torch.zeros(1, channels, side, side, device=device))
    kind = FULL_PRECISION if quant is None else QUANTIZED
    return LoadedModel(
        network, output.shape[-1] // side, multiple, channels, kind, architecture, arguments, quant, name
    )


def _build(state: Mapping[str, Tensor]) -> tuple[nn.Module, str, Mapping[str, Any], Mapping[str, Any] | None]:
    if _RECORD in state:
        record = decode_record(state[_RECORD])
        options = {'type': record['arch'], **record['args'], 'quant': record['quant']}
        network = build_network(options)
        _load(network, state)
        return network, record['arch'], record['args'], record['quant']
    if any(key.endswith('.lower_bound') for key in state):
        raise CompSRTError(
            "it is a checkpoint of CompSRT's authors or of 2DQuant, which tells too little of its network; load it "
            'with an option file in `code_range: paper`.'
        )
    if not is_swinir(state):
        raise CompSRTError(f'it is no SwinIR and no checkpoint of this package; it begins with `{next(iter(state))}`.')
    arguments = swinir_arguments(state)
    try:
        network = SwinIR(**arguments, drop_path_rate=0.0)
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        raise CompSRTError(f'BasicSR has no such SwinIR ({error or "its upsampler knows other scales"}).') from error
    _load(network, state)
    return network, 'SwinIR', arguments, None


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads all but the recomputable buffers, strictly."""
    kept = without_recomputable_buffers(state)
    own = network.state_dict()
    check_fit({**{key: own[key] for key in own if key not in without_recomputable_buffers(own)}, **kept}, network)
    try:
        network.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise CompSRTError(str(error).splitlines()[-1].strip()) from error
