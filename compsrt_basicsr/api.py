"""The functions of the public API. `compsrt_basicsr` exports them; import them from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_net_arch import quantize_network_
from compsrt_basicsr.archs.compsrt_swinir_arch import quantize_swinir_
from compsrt_basicsr.archs.spandrel_arch import SpandrelNetwork
from compsrt_basicsr.basicsr_compat.swinir import SwinIR
from compsrt_basicsr.checkpoints.load import QUANTIZED, LoadedNetwork, load_network
from compsrt_basicsr.checkpoints.swinir_shapes import swinir_arguments
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.methods.presets import get_method
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.arrays import check_batch, checked_array, to_uint8
from compsrt_basicsr.inference.batch import lost_sentence, make_plan, run_plan
from compsrt_basicsr.inference.execution import choose_execution
from compsrt_basicsr.inference.image_io import FORMATS, ImageFile, format_error, read_image_file, write_image_file
from compsrt_basicsr.inference.patches import Patches
from compsrt_basicsr.inference.tiling import TILE
from compsrt_basicsr.inference.upscale import UpscaleSettings
from compsrt_basicsr.inference.upscale import upscale as upscale_array
from compsrt_basicsr.packing.packed import save_packed as save_module
from compsrt_basicsr.quant.calibrate import calibrate as calibrate_module
from compsrt_basicsr.quant.convert import quantize_ as quantize_module_
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.merging import merge_corrections_
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.utils.log import logger

__all__ = ['LoadedNetwork', 'calibrate', 'compress', 'load_network', 'quantize_', 'save_packed', 'upscale']

FilePath: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = NDArray[Any]
Network: TypeAlias = nn.Module | LoadedNetwork

PATCH_SIZE = 64  # pixels; the side of the patches that SwinIR's authors trained on
_FORMATS = {kind.extension: key for key, kind in FORMATS.items()} | {'.jpeg': 'jpeg', '.tiff': 'tiff'}


def compress(
    network: LoadedNetwork,
    images: FilePath | Array | Tensor | Sequence[FilePath | Array],
    *,
    calibration: CalibrationConfig | None = None,
    progress: bool = False,
    **options: Any,
) -> LoadedNetwork:
    """Quantizes a copy of a network and calibrates it on images. The network itself stays as it is.

    Calibration takes about a minute on one core and may be all that you need; `basicsr train` distils the network
    further.

    Args:
        network: a full-precision network from `load_network`.
        images: what the network will see, low-resolution images: see `calibrate`.
        calibration: how to search the bounds of the quantizers; None: as the method does, or the defaults.
        progress: whether to show a progress bar on terminals.
        **options: options of `QuantConfig`, such as `weight_bits=4, act_bits=4`; `method='lsq'`, or another name that
            `compsrt methods` lists, sets those that are left out.

    Returns:
        The quantized network.

    Raises:
        CompSRTError: if an option is wrong, the network is quantized already, or an image cannot be used.

    Examples:
        >>> import compsrt_basicsr as compsrt
        >>> import torch
        >>> teacher = compsrt.load_network('swinir_light_x2_house')
        >>> student = compsrt.compress(teacher, torch.rand(2, 3, 16, 16), weight_bits=4, act_bits=4)
        >>> student.kind
        'quantized'
    """
    config = QuantConfig.from_opt(options)
    if calibration is None and config.method is not None:
        calibration = CalibrationConfig.from_opt(get_method(config.method).calibration)
    student = replace(network, network=deepcopy(network.network))
    quantize_(student, config)
    calibrate(student, images, calibration, progress=progress)
    merge_corrections_(student.network)  # nothing trains them here
    student.record = decode_record(student.network.get_buffer('quant_record.json'))
    return student


def quantize_(network: Network, config: QuantConfig | None = None) -> list[str]:
    """Quantizes the layers of a network in place. Calibrate it before you use it.

    Linears are replaced, convolutions too if the configuration says so, and in a SwinIR the attention with the operands
    of its products; those of other attention with `quantize_products`. Parameters keep their names and values.

    Args:
        network: any module, or a network from `load_network`.
        config: what to quantize and how; None: the defaults, 4 bits.

    Returns:
        The dotted names of the quantized layers.

    Raises:
        CompSRTError: if the network is quantized already, or has no layer to quantize.

    Examples:
        >>> from torch import nn
        >>> from compsrt_basicsr import QuantConfig, quantize_
        >>> network = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        >>> quantize_(network, QuantConfig(weight_bits=2, act_bits=2))  # the first and the last layer stay
        ['2']
    """
    module, config = _module(network), config or QuantConfig()
    if hasattr(module, 'quant_record'):
        raise CompSRTError('The network is quantized already: give the full-precision network.')
    if isinstance(module, SwinIR):
        arguments = {**swinir_arguments(module.state_dict()), 'img_range': module.img_range}
        quantize_swinir_(module, config, arguments)
        names = list(quantized_layers(module))
    elif (base := _base(network)) is not None:
        quantize_network_(module, config, base)
        names = list(quantized_layers(module))
    else:
        names = quantize_module_(module, config)
    module.to(next(module.parameters()).device)
    if isinstance(network, LoadedNetwork):
        module.eval().requires_grad_(False)
        network.kind, network.record = QUANTIZED, decode_record(module.state_dict()['quant_record.json'])
    return names


def calibrate(
    network: Network,
    images: FilePath | Array | Tensor | Sequence[FilePath | Array],
    config: CalibrationConfig | None = None,
    *,
    progress: bool = False,
) -> None:
    """Sets the bounds of all quantizers, in place, from one forward pass over images.

    Of images, `config.num_patches` patches of `config.patch_size` pixels (64 by default) are drawn, the same for the
    same seed. Give low-resolution images: the quantizers see what the network sees.

    Args:
        network: a quantized network.
        images: a folder, a BasicSR LMDB or an image file; an array (H, W) or (H, W, C), uint8, uint16 or float in
            [0, 1], grey or RGB; a list of files and arrays; or a tensor (B, C, H, W) in [0, 1], which is used as it is.
        config: how to search; None: the defaults.
        progress: whether to show a progress bar on terminals.

    Raises:
        CompSRTError: if the network is not quantized, or an image cannot be used.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from compsrt_basicsr import CalibrationConfig, QuantConfig, calibrate, quantize_
        >>> network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
        >>> quantize_(network, QuantConfig(quantize_convs=True))
        ['1']
        >>> calibrate(network, torch.rand(4, 3, 32, 32), CalibrationConfig(method='minmax'))
    """
    module, config = _module(network), config or CalibrationConfig()
    channels, multiple = (network.channels, network.multiple) if isinstance(network, LoadedNetwork) else (3, 1)
    if isinstance(images, Tensor):
        batch = images
        if isinstance(network, LoadedNetwork):
            check_batch(images, channels, multiple)
    else:
        side = config.patch_size or -(-PATCH_SIZE // multiple) * multiple
        batch = torch.cat(list(Patches(_sources(images), config.num_patches, side, channels, config.seed)))
    calibrate_module(module, batch.to(next(module.parameters()).device), config, progress)


@overload
def upscale(
    network: LoadedNetwork, image: Tensor, *, tile: int = ..., dtype: str = ..., execution: str = ...
) -> Tensor: ...


@overload
def upscale(
    network: LoadedNetwork, image: FilePath | Array, *, tile: int = ..., dtype: str = ..., execution: str = ...
) -> Array: ...


@overload
def upscale(
    network: LoadedNetwork,
    image: FilePath | Array,
    output: FilePath,
    *,
    tile: int = ...,
    dtype: str = ...,
    execution: str = ...,
) -> list[Path]: ...


def upscale(
    network: LoadedNetwork,
    image: FilePath | Array | Tensor,
    output: FilePath | None = None,
    *,
    tile: int = TILE,
    dtype: str = 'float32',
    execution: str = 'auto',
) -> Tensor | Array | list[Path]:
    """Upscales an image, or all images of a folder, by the scale of a network.

    Large images go through the network in tiles without visible seams. Alpha channels are upscaled by bicubic
    interpolation. Existing results are replaced.

    Args:
        network: a network from `load_network` or `compress`.
        image: an image file or a folder of them; an array (H, W) or (H, W, C), uint8, uint16 or float in [0, 1], with 1
            to 4 channels (grey, grey and alpha, RGB, RGB and alpha; no alpha in floats); or a float tensor
            (B, C, H, W) in [0, 1] with the channels of the network.
        output: image file to write, such as `out.png`, or folder; a folder of images needs a folder.
        tile: largest side in pixels that the network sees at once, 256 by default; 0: the whole image.
        dtype: 'float32', 'bf16', or 'fp16' on a GPU: the type in which matrix products are computed.
        execution: 'fake', 'integer', or 'auto' for integer codes where that is faster; the network keeps the choice.

    Returns:
        With `output` the list of files written. Else the result in the form of `image`: an array (H * scale, W * scale,
            C) of the same type, or a tensor (B, C, H * scale, W * scale) in [0, 1].

    Raises:
        CompSRTError: if an image cannot be read, upscaled or written; of a folder, all others are upscaled before.

    Examples:
        >>> import numpy as np
        >>> import compsrt_basicsr as compsrt
        >>> network = compsrt.load_network('swinir_light_x2_house')
        >>> compsrt.upscale(network, np.zeros((20, 30, 3), np.uint8)).shape
        (40, 60, 3)
    """
    if not isinstance(network, LoadedNetwork):
        raise CompSRTError(f'`network` must come from `load_network` or `compress`, got a {type(network).__name__}.')
    settings = UpscaleSettings(tile=tile, dtype=dtype)
    choose_execution(network, execution)
    if isinstance(image, Tensor):
        if output is not None:
            raise CompSRTError('A tensor has no file format: give an array or a file where `output` is given.')
        return _upscale_batch(network, image, settings)
    if isinstance(image, np.ndarray):
        result = upscale_array(network, checked_array(image), settings)
        if output is None:
            return result.reshape(*result.shape[: image.ndim])
        values = result if result.dtype.kind == 'u' else to_uint8(result)
        return [_write(Path(output), ImageFile(values, _format(Path(output))))]
    path = Path(image)
    if output is None:
        if path.is_dir():
            raise CompSRTError(f'`{path}` is a folder: give `output`, a folder for the results.')
        return upscale_array(network, read_image_file(path).values, settings)
    return _upscale_files(network, path, Path(output), settings)


def save_packed(network: Network, path: FilePath, *, codec: str = 'rans', rest: str = 'fp16') -> Path:
    """Packs a quantized network into one small file without pickle, which `load_network` reads.

    The file holds the codes of the weights, bit for bit, with architecture and quantization. It is read back and
    compared before it replaces a file of that name.

    Args:
        network: a network that `compress` quantized, or `quantize_` and `calibrate`.
        path: the file, such as `mine.safetensors`.
        codec: 'rans' for the smallest files, 'plain' for b bits a code, or 'mask' for pruned networks.
        rest: 'fp16' or 'fp32', for all that is not quantized.

    Returns:
        The file.

    Raises:
        CompSRTError: if the network is not quantized and calibrated, its architecture is unknown, or the file cannot be
            written.

    Examples:
        >>> import compsrt_basicsr as compsrt
        >>> network = compsrt.load_network('swinir_light_x2_house_w4a4_p40')
        >>> file = compsrt.save_packed(network, 'mine.safetensors')
        >>> compsrt.load_network(file).kind
        'quantized'
    """
    module = _module(network)
    if quantizers(module) and not hasattr(module, 'quant_record'):
        raise CompSRTError(
            f'The file could not name the architecture of this {type(module).__name__}: pack a SwinIR, or load it '
            'with `load_network`, or build it as `CompSRTNet` from its name and arguments.'
        )
    save_module(module, path, codec, rest)
    return Path(path)


def _module(network: Network) -> nn.Module:
    if isinstance(network, LoadedNetwork):
        return network.network
    if isinstance(network, nn.Module):
        return network
    raise CompSRTError(f'`network` must be a module or come from `load_network`, got a {type(network).__name__}.')


def _base(network: Network) -> dict[str, Any] | None:
    """Returns the name and the arguments that build a network again, None where they are not known."""
    if isinstance(network, LoadedNetwork):
        return {'type': network.record['arch'], **network.record['args']}
    if isinstance(network, SpandrelNetwork):
        return {'type': 'spandrel', 'arch': network.arch, 'args': network.arguments}
    return None


def _sources(images: FilePath | Array | Sequence[FilePath | Array]) -> Path | list[Path | Array]:
    """Returns images as `Patches` takes them."""
    if isinstance(images, (str, os.PathLike)):
        return Path(images)
    listed = [images] if isinstance(images, np.ndarray) else list(images)
    return [to_uint8(checked_array(image)) if isinstance(image, np.ndarray) else Path(image) for image in listed]


def _upscale_batch(network: LoadedNetwork, batch: Tensor, settings: UpscaleSettings) -> Tensor:
    check_batch(batch, network.channels)
    results = []
    for image in batch:
        array = checked_array(image.permute(1, 2, 0).float().cpu().numpy())
        results.append(torch.from_numpy(upscale_array(network, array, settings)).permute(2, 0, 1))
    return torch.stack(results).to(batch)


def _upscale_files(network: LoadedNetwork, path: Path, output: Path, settings: UpscaleSettings) -> list[Path]:
    if not path.is_dir() and output.suffix.lower() in _FORMATS:
        image = read_image_file(path)
        values = upscale_array(network, image.values, settings)
        return [_write(output, replace(image, values=values, format=_format(output)))]
    failures: list[str] = []
    plan = make_plan([path], output)
    written = run_plan(plan, network, settings, force=True, report=failures.append, warn=logger.warning)
    if failures:
        raise CompSRTError(' '.join(failures))
    return written


def _format(file: Path) -> str:
    key = _FORMATS.get(file.suffix.lower())
    if key is None:
        raise CompSRTError(f'`{file}` must end in one of {", ".join(_FORMATS)}: give an image file.')
    return key


def _write(file: Path, image: ImageFile) -> Path:
    reason = format_error(image, image.format, *image.values.shape[:2])
    if reason:
        raise CompSRTError(f'`{file}` cannot be written: the result {reason.partition(":")[0]}; give a `.png` file.')
    try:
        lost = write_image_file(file, image, replace=True)
    except OSError as error:
        raise CompSRTError(f'`{file}` cannot be written ({error.strerror or error}): check the folder.') from error
    for what in lost:
        logger.warning(lost_sentence(file, what))
    return file
