"""Profiles of a forward pass: seconds by kind of layer."""

from __future__ import annotations

import copy
import ctypes
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.swinir_attention import QuantWindowAttention, SoftmaxNumerator
from compsrt_basicsr.basicsr_compat.swinir import SwinTransformerBlock, WindowAttention
from compsrt_basicsr.kernels import build, loaded
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import Quantizer
from compsrt_basicsr.quant.transform import Transform

# A module counts as the first kind that it matches, with its time minus that of the modules inside it.
KINDS = {
    'transform': Transform,
    'quantize': Quantizer,
    'convolutions': nn.Conv2d,
    'product': (nn.Linear, QuantizedLayer),
    'attention products, bias, mask': (WindowAttention, QuantWindowAttention),
    'softmax': (nn.Softmax, SoftmaxNumerator),
    'GELU': nn.GELU,
    'LayerNorm': nn.LayerNorm,
    'windows, shortcuts': SwinTransformerBlock,
}
OTHER = 'other'
# The kinds in the kernels, in the order of the clocks in kernels/sources/profile.h.
KERNEL_PARTS = ('transform', 'quantize', 'product', 'softmax', 'GELU', 'LayerNorm')


@torch.no_grad()
def profile_layers(network: nn.Module, image: Tensor) -> dict[str, float]:
    """Returns the seconds of one pass by kind of layer, in full precision or with fake quantization, longest first.

    Args:
        network: network in eval mode, on the device of the image.
        image: (1, C, H, W).
    """
    network(image)
    seconds: Counter[str] = Counter()
    running: list[list[Any]] = []  # [kind, start, seconds of inner modules] of each running module

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        _wait(image)
        running.append([_kind(module), time.perf_counter(), 0.0])

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        _wait(image)
        kind, start, inside = running.pop()
        total = time.perf_counter() - start
        seconds[kind] += total - inside
        if running:
            running[-1][2] += total

    hooks = [h for m in network.modules() for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return _sorted(seconds)


@torch.no_grad()
def profile_kernels(network: nn.Module, image: Tensor) -> dict[str, float]:
    """Returns the seconds of one pass on integer codes by kind, longest first, from kernels compiled with clocks.

    Args:
        network: network on integer codes with all of its blocks in the kernels, on one thread.
        image: (1, C, H, W) on the CPU.
    """
    clocked = _kernels_with_clocks()
    with loaded.other_build(clocked):
        network = copy.deepcopy(network)  # is prepared anew
        network(image)
        clocks = (ctypes.c_double * (len(KERNEL_PARTS) + 1))()  # the last is what they take themselves
        clocked.cs_profile(clocks)  # reads and resets the clocks
        spent: Counter[str] = Counter()
        for kind, of in (('blocks', SwinTransformerBlock), ('convolutions', nn.Conv2d)):
            for module in network.modules():
                if isinstance(module, of):
                    _clock(module, kind, spent)
        start = time.perf_counter()
        network(image)
        total = time.perf_counter() - start
        clocked.cs_profile(clocks)
    seconds: dict[str, float] = dict(zip(KERNEL_PARTS, clocks))
    seconds['windows, shortcuts'] = spent['blocks'] - sum(clocks)
    seconds['convolutions'] = spent['convolutions']
    seconds[OTHER] = total - spent.total()
    return _sorted(seconds)


def runs_in_kernels(network: nn.Module) -> bool:
    """Returns whether the kernels compute every Swin block of a network on integer codes."""
    blocks = [module for module in network.modules() if isinstance(module, SwinTransformerBlock)]
    executors = [block.__dict__.get('forward') for block in blocks]
    return bool(blocks) and all(e is not None and e.how(block) == 'kernel' for e, block in zip(executors, blocks))


def _kernels_with_clocks() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'profile.so'
        flags = tuple((*tuning, '-DCOMPSRT_PROFILE') for tuning in build.TUNING)
        build.compile_kernels(str(build.find_compiler()), file, flags)
        return ctypes.CDLL(str(file))


def _kind(module: nn.Module) -> str:
    return next((kind for kind, types in KINDS.items() if isinstance(module, types)), OTHER)


def _clock(module: nn.Module, kind: str, spent: Counter[str]) -> None:
    module.register_forward_pre_hook(lambda *_: spent.subtract({kind: time.perf_counter()}))
    module.register_forward_hook(lambda *_: spent.update({kind: time.perf_counter()}))


def _wait(image: Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)


def _sorted(seconds: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))
