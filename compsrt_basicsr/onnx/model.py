"""What a model says about itself, and whether it is standard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import nn

from compsrt_basicsr.archs.rebuild import Geometry
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.version import __version__

INPUT, OUTPUT = 'input', 'output'
_TEXT = (
    'Super-resolution x{scale}. {input}: (batch, {channels}, height, width) float32 in [0, 1], any height and width, '
    'channels are RGB. {output}: (batch, {channels}, {scale} height, {scale} width), which may slightly exceed [0, 1]. '
    'The graph mirror-pads the input to whole attention windows and crops the result.'
)


def describe(model: ModelProto, shape: Geometry, record: Mapping[str, Any]) -> None:
    """Writes into a traced model who made it, for what, and the record of its network."""
    model.producer_name, model.producer_version = 'compsrt_basicsr', __version__
    model.doc_string = _TEXT.format(scale=shape.scale, channels=shape.channels, input=INPUT, output=OUTPUT)
    onnx.helper.set_model_props(model, {'scale': str(shape.scale), 'record': json.dumps(record, sort_keys=True)})


def check_standard(model: ModelProto) -> None:
    """Checks that a model is valid and uses standard operators only.

    Raises:
        CompSRTError: if it is not valid or uses other operators.
    """
    strange = {node.op_type for node in model.graph.node if node.domain} | {f.name for f in model.functions}
    strange |= {opset.domain for opset in model.opset_import if opset.domain}
    if strange:
        raise CompSRTError(
            f'The ONNX model uses non-standard operators ({", ".join(sorted(strange))}): please report this.'
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise CompSRTError(f'The ONNX model is not valid ({reason}): use a tested version of onnx.') from error


@torch.no_grad()
def round_rest_(network: nn.Module) -> None:
    """Rounds the parameters that are not quantized to float16 values, in place, which halves their size in the model.

    Raises:
        CompSRTError: if a parameter is too large for float16.
    """
    kept = {id(p) for m in network.modules() if isinstance(m, Quantizer) for p in m.parameters()}
    kept |= {id(layer.weight) for layer in quantized_layers(network).values()}
    for name, parameter in network.named_parameters():
        if id(parameter) not in kept:
            rounded = parameter.half().float()
            if not torch.isfinite(rounded).all():
                raise CompSRTError(f'`{name}` is too large for float16: export without --half.')
            parameter.copy_(rounded)
