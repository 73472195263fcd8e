"""The configuration of a quantized network, kept inside its state dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import nn

from compsrt_basicsr.config.quantization import QuantConfig
from compsrt_basicsr.errors import CompSRTError


class QuantRecord(nn.Module):
    """Writes architecture and quantization into checkpoints, and refuses those made with another quantization.

    Codes of another bit width or transform would load without complaint and give a broken picture.

    Args:
        config: the quantization of the network.
        arch: registered name of the architecture.
        arguments: its arguments, JSON-serialisable.
    """

    def __init__(self, config: QuantConfig, arch: str, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        text = json.dumps(
            {'arch': arch, 'args': dict(arguments), 'quant': asdict(config)}, sort_keys=True, default=list
        )
        self.register_buffer('json', torch.tensor(list(text.encode()), dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        stored = state_dict.get(f'{prefix}json')
        if stored is None:
            return  # a full-precision or foreign checkpoint
        mine, theirs = (_comparable(decode_record(record)['quant']) for record in (self.json, stored))
        differences = [
            f'{key} {theirs.get(key)!r} in the checkpoint, {mine.get(key)!r} in the options'
            for key in sorted({*mine, *theirs})
            if mine.get(key) != theirs.get(key)
        ]
        if differences:
            raise CompSRTError(f'The checkpoint was quantized otherwise: {"; ".join(differences)}. Make `quant` agree.')


def _comparable(quant: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide what a checkpoint's numbers mean; those it does not know yet have their defaults."""
    known = json.loads(json.dumps(asdict(QuantConfig())))
    runtime = {f.name for f in fields(QuantConfig) if f.metadata.get('runtime')}
    return {key: value for key, value in {**known, **quant}.items() if key not in runtime}


def decode_record(record: torch.Tensor) -> dict[str, Any]:
    """The dictionary (arch, args, quant) of a stored record.

    Raises:
        CompSRTError: the record is not readable.
    """
    try:
        decoded = json.loads(bytes(record.tolist()))
        if not isinstance(decoded, dict):
            raise TypeError('it is no dictionary')
    except (ValueError, RuntimeError, TypeError) as error:
        raise CompSRTError(f"The checkpoint's quantization record is not readable ({error}).") from error
    return decoded
