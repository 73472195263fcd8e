"""A loaded network in the words of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.config.quant import QuantConfig

_SHOWN = ('embed_dim', 'depths', 'num_heads', 'window_size', 'mlp_ratio', 'upsampler', 'resi_connection', 'base')


def architecture_line(model: LoadedNetwork) -> str:
    """Returns the architecture and those of its arguments that say how large it is."""
    shown = ', '.join(f'{key} {_plain(value)}' for key, value in model.record['args'].items() if key in _SHOWN)
    return f'{model.record["arch"]}: {shown}' if shown else model.record['arch']


def card_rows(model: LoadedNetwork) -> dict[str, str]:
    """Returns the parameters and, for a quantized network, the options of its quantization that are not defaults."""
    rows = {'parameters': f'{sum(p.numel() for p in model.network.parameters()):,}'}
    if quant := model.record['quant']:
        usual = QuantConfig().model_dump()
        chosen = QuantConfig.from_record(quant).model_dump()
        other = {key: value for key, value in chosen.items() if usual[key] != value}
        rows['quantization'] = ', '.join(f'{key} {_plain(value)}' for key, value in other.items()) or 'the defaults'
    return rows


def _plain(value: Any) -> str:
    return ', '.join(f'{k} {_plain(v)}' for k, v in value.items()) if isinstance(value, Mapping) else str(value)
