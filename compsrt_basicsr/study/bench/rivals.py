"""What others run instead: full precision compiled by torch or in an engine, or int8 of OpenVINO and NNCF."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.compression.images import calibration_patches, choose_images
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.utils import packages
from compsrt_basicsr.utils.signal_stack import signal_stack_kept

COMPILED, ONNX, OPENVINO, OPENVINO_BF16, OPENVINO_INT8 = (
    'torch.compile',
    'onnxruntime',
    'openvino',
    'openvino-bf16',
    'openvino-int8',
)
RIVALS = (COMPILED, ONNX, OPENVINO, OPENVINO_BF16, OPENVINO_INT8)
_PACKAGES = {
    ONNX: packages.ONNX_RUNTIME,
    OPENVINO: packages.OPENVINO,
    OPENVINO_BF16: packages.OPENVINO,
    OPENVINO_INT8: (*packages.OPENVINO, 'nncf', 'skimage'),
}
_BF16 = {'avx512_bf16', 'amx_bf16'}  # elsewhere OpenVINO computes in float32 and says nothing
_PATCHES, _SIDE = 16, 64  # of calibration: LR patches, and their side in pixels, at least


class Engine(nn.Module):
    """A model of an engine as a network of torch, on the CPU."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session

    def forward(self, x: Tensor) -> Tensor:
        from compsrt_basicsr.onnx.model import INPUT

        return torch.from_numpy(self.session.run(None, {INPUT: x.numpy()})[0])


def rivals_of(model: LoadedNetwork) -> tuple[str, ...]:
    """Returns the rivals that this machine can run a model in."""
    if getattr(model.network, 'onnx_obstacle', None):
        return (COMPILED,)
    return tuple(name for name in RIVALS if name != OPENVINO_BF16 or _BF16 & set(hardware()['instructions']))


def check_packages(names: Sequence[str]) -> None:
    """Checks that what the rivals need is installed.

    Raises:
        CompSRTError: if a package is missing.
    """
    for name in names:
        packages.require(name, _PACKAGES.get(name, ()), 'bench')


def rival(model: LoadedNetwork, name: str, folder: Path) -> nn.Module:
    """Returns a rival, with as many threads as torch has now.

    Args:
        model: the network in full precision, on the CPU.
        name: one of `RIVALS`.
        folder: keeps the files of engines, which are made once.

    Raises:
        CompSRTError: if the network cannot be exported.
    """
    if name == COMPILED:
        return Compiled(model.network)
    from compsrt_basicsr.onnx.engines import ONNXRuntimeSession
    from compsrt_basicsr.onnx.generic import export_generic
    from compsrt_basicsr.onnx.openvino import OpenVINOSession

    def made(file: str, make: Callable[[Path], object]) -> Path:
        if not (folder / file).exists():
            make(folder / file)
        return folder / file

    if name == ONNX:
        return Engine(ONNXRuntimeSession(made('model.onnx', lambda file: export_generic(model, file, 'onnx'))))
    plain = made('model.xml', lambda file: export_generic(model, file, 'openvino'))
    if name == OPENVINO_INT8:
        return Engine(OpenVINOSession(made('int8.xml', lambda file: _quantize(model, plain, file))))
    return Engine(OpenVINOSession(plain, precision='bf16' if name == OPENVINO_BF16 else 'f32'))


class Compiled(nn.Module):
    """A network compiled by torch, at its first image of each size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = torch.compile(network)

    def forward(self, x: Tensor) -> Tensor:
        from torch._dynamo.exc import TorchDynamoException

        try:
            result: Tensor = self.network(x)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0].rstrip('.')
            raise CompSRTError(f'torch.compile cannot compile this network ({reason[:200]}).') from error
        return result


def _quantize(model: LoadedNetwork, plain: Path, file: Path) -> None:
    """Quantizes an OpenVINO model to int8 by NNCF, as its guide for trained networks says, on the built-in images."""
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    side = -(-_SIDE // model.multiple) * model.multiple
    patches = calibration_patches(choose_images(None, model.scale), _PATCHES, side, model.channels)
    has_attention = any(isinstance(module, nn.LayerNorm) for module in model.network.modules())
    with signal_stack_kept():
        quantized = nncf.quantize(
            openvino.Core().read_model(plain),
            nncf.Dataset([patch[None].numpy() for patch in patches]),
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
        )
    openvino.save_model(quantized, file, compress_to_fp16=False)
