"""Any network from its file alone, without an option file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compsrt_basicsr.archs.rebuild import geometry
from compsrt_basicsr.checkpoints.find import find_file, full_name
from compsrt_basicsr.checkpoints.formats import Built, build_network
from compsrt_basicsr.checkpoints.read import read_weights
from compsrt_basicsr.errors import CompSRTError, first_line
from compsrt_basicsr.packing.container import is_packed
from compsrt_basicsr.packing.contents import restore
from compsrt_basicsr.packing.packed import read_packed
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

QUANTIZED, FULL_PRECISION = 'quantized', 'full precision'


@dataclass
class LoadedNetwork:
    """A network ready for images (B, C, H, W) in [0, 1].

    Attributes:
        network: in eval mode, without gradients, on its device.
        scale: output over input side.
        multiple: height and width of the input must be multiples of it (the window size).
        channels: C.
        kind: 'quantized' or 'full precision'.
        source: the path, or `zoo://NAME`, that was loaded.
        record: `arch`, `args` and `quant`, which build the network again; `quant` is None in full precision.
    """

    network: nn.Module
    scale: int
    multiple: int
    channels: int
    kind: str
    source: str
    record: dict[str, Any]


def load_network(model: str | os.PathLike[str], device: str | torch.device | None = None) -> LoadedNetwork:
    """Loads a network; architecture and quantization come from the file.

    It takes packed files, quantized checkpoints of this package, of CompSRT's authors (SwinIR and MambaIRv2-light) and
    of 2DQuant, and networks in full precision: SwinIR, MambaIRv2-light, and what spandrel loads. If a checkpoint has
    averaged weights (`params_ema`), those are loaded.

    Args:
        model: a `.pth` or `.safetensors` file, a name of the zoo, or `zoo://NAME`.
        device: where to put the network; None: the CPU.

    Raises:
        CompSRTError: if the file is missing, damaged or of no known format, or the device cannot be used.

    Examples:
        >>> import compsrt_basicsr as compsrt
        >>> network = compsrt.load_network('swinir_light_x2_house')
        >>> network.scale, network.kind
        (2, 'full precision')
    """
    source = full_name(model)
    try:
        network, record = _build(source)
    except CompSRTError as error:
        raise CompSRTError(str(error) if source in str(error) else f'`{source}`: {error}') from error
    shape = geometry(record, network)
    kind = QUANTIZED if record['quant'] else FULL_PRECISION
    network = _to_device(network.eval().requires_grad_(False), device or 'cpu')
    return LoadedNetwork(network, shape.scale, shape.multiple, shape.channels, kind, source, record)


def _build(source: str) -> Built:
    file = find_file(source)
    if is_packed(file):
        contents = read_packed(file)
        return Built(restore(contents), contents.record)
    return build_network(read_weights(file, 'params_ema'))


def _to_device(network: nn.Module, device: str | torch.device) -> nn.Module:
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(
            f'The device `{device}` cannot be used ({first_line(error)}): choose another, such as `cpu`.'
        ) from error
