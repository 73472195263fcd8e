"""Other people's networks: whatever the library spandrel loads, as an architecture of BasicSR's registry."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import BuildLimit, Stored, check_names
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY
from compsrt_basicsr.errors import CompSRTError, first_line, shown, suggestion
from compsrt_basicsr.quant.functional.padding import pad_to_multiple
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_PURPOSES = ('SR', 'Restoration')  # from image to image of any size
_OTHER_PURPOSES = {'FaceSR': 'faces', 'Inpainting': 'parts of an image that a mask marks'}
_PREFIX = 'model.'
_NOT_PLAIN = object()
_MAX_SCALE = 16
_LOAD_FACTOR = 4  # of the sum of what a network may compute while it is built: GRL makes the masks of its img_size
_LONGEST_INDEX = 4  # digits of the number of a layer
_SIDE, _FARTHER = 32, 48  # pixels
_SINGLE = ('DRUNet', 'DnCNN', 'IPT', 'SeemoRe')  # they, or the way in which spandrel calls them, take one image
_RANDOM = ('AuraSR',)  # they add noise of their own


class SpandrelNetwork(nn.Module):
    """A network of spandrel, called as its descriptor says: images of any size in, one image out.

    The weights of the network have the prefix `model.`; weight files of its authors load without it.

    Attributes:
        model: the network.
        arch: spandrel's name of its architecture.
        arguments: those of its constructor, as plain data; they build it again.
        scale: output over input side.
        channels: of the input.
        multiple: height and width of the input must be multiples of it; other sizes are padded here.
        minimum: smallest side of the input in pixels, a multiple of `multiple`; smaller ones are padded here.

    Args:
        descriptor: `spandrel.ImageModelDescriptor`.
        model: the network; None: that of the descriptor.
    """

    def __init__(self, descriptor: Any, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model or descriptor.model
        self.arch = str(descriptor.architecture.id)
        self.arguments = _plain_arguments(cast(Mapping[str, Any], self.model.hyperparameters))
        self.scale, self.channels = int(descriptor.scale), int(descriptor.input_channels)
        requirements = descriptor.size_requirements
        self.multiple = requirements.multiple_of
        self.minimum = requirements.minimum + -requirements.minimum % self.multiple
        self._square, self._call = requirements.square, descriptor._call_fn
        self.register_load_state_dict_pre_hook(_add_prefix)

    @property
    def sides(self) -> tuple[int, int]:
        """Sides of two square images that the network pads differently, if to multiples of 64 pixels or less."""
        first = max(_SIDE, self.minimum)
        first += -first % self.multiple
        return first, first + _FARTHER + -_FARTHER % self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) in [0, 1] to (B, C', H scale, W scale)."""
        height, width = x.shape[-2:]
        longest = max(height, width) if self._square else 0
        least = max(self.minimum, longest + -longest % self.multiple)
        padded = pad_to_multiple(x, self.multiple, 'reflect', least)
        images = padded.split(1 if self.arch in _SINGLE else len(x))
        with torch.random.fork_rng(enabled=self.arch in _RANDOM and not self.training):
            if self.arch in _RANDOM and not self.training:
                torch.manual_seed(0)
            result = torch.cat([self._call(self.model, image.clone()) for image in images])  # some work in place
        return result[..., : height * self.scale, : width * self.scale]


def with_prefix(state: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Returns weights under the names of a `SpandrelNetwork` at `prefix`; those of its authors lack `model.`."""
    own = [key for key in state if key.startswith(prefix)]
    if any(key.startswith(prefix + _PREFIX) for key in own):
        return dict(state)
    renamed = {key: prefix + _PREFIX + key.removeprefix(prefix) for key in own}
    return {renamed.get(key, key): value for key, value in state.items()}


def _add_prefix(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    named = with_prefix(state, prefix)
    state.clear()
    state.update(named)


@ARCH_REGISTRY.register()
def spandrel(
    checkpoint: str | None = None, arch: str | None = None, args: Mapping[str, Any] | None = None
) -> SpandrelNetwork:
    """Builds a network of the library spandrel: from a weight file, or from the name of its architecture.

    Args:
        checkpoint: weight file; architecture, arguments and weights come from it.
        arch: spandrel's name of an architecture, such as 'DCTLSA'; with `args`, for fresh weights.
        args: arguments of its constructor.

    Raises:
        CompSRTError: if spandrel cannot load the file, does not know the architecture, or its arguments do not fit.
    """
    if (checkpoint is None) == (arch is None):
        raise CompSRTError('`type: spandrel` needs either `checkpoint`, a weight file, or `arch` with `args`.')
    if checkpoint is not None:
        return load_spandrel(_read(Path(checkpoint)))
    return build_spandrel(str(arch), args or {})


def load_spandrel(state: Mapping[str, Tensor]) -> SpandrelNetwork:
    """Recognises the architecture of a state dict and builds its network with these weights.

    Raises:
        CompSRTError: if no architecture has these names and shapes, or it is no network from image to image.
    """
    import spandrel as library

    registry = _registry()
    state = _plain_tensors(library.canonicalize_state_dict(dict(state)))
    try:
        with BuildLimit(Stored.of(state), _LOAD_FACTOR):
            descriptor = registry.load(state)
            check_names(descriptor.model)
    except CompSRTError:
        raise
    except library.UnsupportedModelError:
        raise CompSRTError(
            'No architecture that spandrel knows has these weights: it may be a classifier, a diffusion model, the '
            'state of an optimizer, or newer than the installed spandrel.'
        ) from None
    except Exception as error:  # of any kind: the file is as good as random
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'These weights do not fit their architecture ({first_line(error)}).') from error
    return _checked(descriptor)


def _plain_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Checks that weights are real numbers, each stored, under names whose numbers are those of layers.

    Raises:
        CompSRTError: if they are not: networks are built from their names and shapes.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.is_complex():
            raise CompSRTError(f'The weight {shown(name)} is no tensor of real numbers: the file is damaged.')
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CompSRTError(f'The weight {shown(name)} has more numbers than are stored: the file is damaged.')
        if any(part.isdecimal() and len(part) > _LONGEST_INDEX for part in name.split('.')):
            raise CompSRTError(f'The weight {shown(name)} has a number that no layer has: the file is damaged.')
    return dict(state)


def build_spandrel(arch: str, args: Mapping[str, Any]) -> SpandrelNetwork:
    """Builds a network with fresh weights from spandrel's name of its architecture and its arguments.

    Raises:
        CompSRTError: if the architecture is unknown, or the arguments do not fit.
    """
    support = _registry().get(arch)
    if support is None:
        known = [str(entry.architecture.id) for entry in _registry().architectures()]
        raise CompSRTError(
            f'spandrel has no architecture `{arch}`; some need the package spandrel_extra_arches.'
            f'{suggestion(arch, known)}'
        )
    last: Exception | None = None
    for network_class in _network_classes(type(support.architecture).__module__):
        try:
            network = network_class(**args)
            check_names(network)
            descriptor = support.architecture.load(network.state_dict())
        except CompSRTError:
            raise
        except Exception as error:  # of any kind: the arguments are as good as random, or those of another class
            if is_out_of_memory(error):
                raise
            last = last or error
            continue
        return _checked(descriptor, network)
    reason = f' ({first_line(last)})' if last else ''
    raise CompSRTError(f'The arguments do not fit the architecture {arch} of spandrel{reason}.')


def is_spandrel(state: Mapping[str, Tensor]) -> bool:
    """Returns whether spandrel knows an architecture with the names of a state dict."""
    import spandrel as library

    try:
        state = library.canonicalize_state_dict(dict(state))
        return any(entry.detect(state) for entry in _registry().architectures('detection'))
    except Exception:  # the detectors index what they take for granted
        return False


@lru_cache(maxsize=1)
def _registry() -> Any:
    """Returns spandrel's registry, with the architectures of spandrel_extra_arches where that is installed."""
    import spandrel as library

    with suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch, about what the package uses
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    return library.MAIN_REGISTRY


def _network_classes(package: str) -> list[type[nn.Module]]:
    """Lists the classes below a package of spandrel that store their arguments, as its top networks do."""
    for module in pkgutil.walk_packages(sys.modules[package].__path__, f'{package}.'):
        importlib.import_module(module.name)
    classes = [
        value
        for name, module in list(sys.modules.items())
        if name.startswith(f'{package}.')
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, nn.Module) and hasattr(value, 'hyperparameters')
    ]
    return list(dict.fromkeys(classes))


def _plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what JSON can hold of arguments; classes and functions among them are defaults of the constructor."""
    plain = {name: _plain(value) for name, value in arguments.items()}
    return {name: value for name, value in plain.items() if value is not _NOT_PLAIN}


def _plain(value: Any) -> Any:
    if isinstance(value, (Tensor, np.generic)) and value.ndim == 0:
        return value.item()
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return _NOT_PLAIN if _NOT_PLAIN in parts else parts
    if isinstance(value, Mapping):
        return _plain_arguments(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else _NOT_PLAIN


def _checked(descriptor: Any, model: nn.Module | None = None) -> SpandrelNetwork:
    name, inputs, outputs = descriptor.architecture.name, descriptor.input_channels, descriptor.output_channels
    if descriptor.purpose not in _PURPOSES or inputs != outputs:
        other = _OTHER_PURPOSES.get(descriptor.purpose, f'colours: {inputs} channels become {outputs}')
        raise CompSRTError(
            f'{name} is a network for {other}; needed is one from any image to its larger or cleaner copy.'
        )
    if not 1 <= descriptor.scale <= _MAX_SCALE:
        raise CompSRTError(f'{name} has the scale {descriptor.scale}: it must be 1 to {_MAX_SCALE}.')
    return SpandrelNetwork(descriptor, model)


def _read(checkpoint: Path) -> Mapping[str, Any]:
    """Reads the weights of a `.pth` or `.safetensors` file.

    Raises:
        CompSRTError: if it is missing or damaged.
    """
    from compsrt_basicsr.utils.torch_io import read_checkpoint

    if checkpoint.suffix != '.safetensors' or not checkpoint.is_file():
        return _weights(read_checkpoint(checkpoint))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(checkpoint)
    except SafetensorError as error:
        raise CompSRTError(f'The weights `{checkpoint}` are truncated or are not a safetensors file.') from error
    return {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}


def _weights(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the entry of a checkpoint that holds the weights."""
    for key in ('params_ema', 'params', 'state_dict'):
        if isinstance(loaded.get(key), Mapping):
            return loaded[key]
    return loaded
