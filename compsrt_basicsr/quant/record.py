"""The record of a network's architecture and quantization inside its state dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.renames import renamed_record
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.untrusted_json import parse_json


class QuantRecord(nn.Module):
    """Writes architecture and quantization into checkpoints and refuses to load those of another quantization.

    Without it, parameters for another bit width or transform would load silently and give a broken image.

    Args:
        config: the quantization of the network.
        arch: registered name of the architecture.
        arguments: its arguments; must be JSON-serializable.
    """

    json: torch.Tensor

    def __init__(self, config: QuantConfig, arch: str, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        quant = config.model_dump()  # the order of `layers` counts
        parts = {'arch': arch, 'args': dict(sorted(arguments.items())), 'quant': dict(sorted(quant.items()))}
        text = json.dumps(parts, default=list)
        self.register_buffer('json', torch.tensor(list(text.encode()), dtype=torch.uint8))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Compares the stored record with this network's.

        Raises:
            CompSRTError: if the quantizations differ or the stored record is damaged.
        """
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
            raise CompSRTError(
                f'The checkpoint has another quantization: {"; ".join(differences)}. Change `quant` to match.'
            )


def _comparable(quant: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that define the meaning of a checkpoint; options that it lacks get their defaults."""
    known = json.loads(QuantConfig().model_dump_json())
    compared = {key: value for key, value in {**known, **quant}.items() if key not in QuantConfig.RUNTIME}
    return {**compared, 'layers': {name: _given(options) for name, options in compared['layers'].items()}}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those options of a layer that are compared; a version leaves out what it does not know."""
    return {key: value for key, value in options.items() if value is not None and key not in QuantConfig.RUNTIME}


def decode_record(record: torch.Tensor) -> dict[str, Any]:
    """Decodes a stored record to a dictionary with `arch`, `args` and `quant`, whose options have today's names.

    Args:
        record: (N,) uint8, JSON text in UTF-8.

    Raises:
        CompSRTError: if the record is damaged.
    """
    try:
        decoded = parse_json(bytes(record.tolist()))
        if not isinstance(decoded, dict):
            raise TypeError('it is not a dictionary')
    except (ValueError, RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            f"The checkpoint's quantization record is not readable ({error}): copy or download the file again."
        ) from error
    return renamed_record(decoded)
