"""Time of SwinIR-light x2 by way of computing, side by side in one run: fp32, bf16 autocast, fake, integer.

    python scripts/benchmark_execution.py [--rounds 7] [--json docs/results/execution.json]

One picture of each size, whole network, one thread unless told otherwise. The variants take turns, so that a machine
whose speed drifts slows all; the ratio is the median over the rounds. `--compile` adds torch.compile's C++ backend for
fp32 and fake, which takes minutes to compile. The profile says where the time goes: operators for full precision, and
for integer execution the parts of the kernels, which are compiled once more with clocks in them.
`python scripts/execution_tables.py` puts the record into docs/integer.md.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import platform
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import compsrt_basicsr  # isort: skip  (first: it makes BasicSR importable)
import torch
from basicsr.archs.swinir_arch import SwinIR, SwinTransformerBlock
from execution_tables import timing_table
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.quant import kernel_build, native
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.config import CalibrationConfig
from compsrt_basicsr.quant.execution import set_execution_
from compsrt_basicsr.zoo.weights import read_weights

PARTS = ('transform', 'quantize', 'product and rescale', 'softmax', 'GELU', 'LayerNorm')  # of kernels/profile.h
OPERATORS = {
    'matrix products': r'mm$|linear$|matmul$',
    'convolutions': r'conv',
    'softmax': r'softmax',
    'GELU': r'gelu',
    'LayerNorm': r'layer_norm',
    'copies': r'copy_|clone|contiguous|roll|cat$|index',
}
Network = Callable[[Tensor], Tensor]


def full_precision() -> nn.Module:
    """The house teacher."""
    network = SwinIR(**SWINIR_LIGHT, upscale=2, drop_path_rate=0.0)
    network.load_state_dict(read_weights('zoo://swinir_light_x2_house'), strict=False)
    return network.eval().requires_grad_(False)


def quantized(bits: int = 4) -> nn.Module:
    """The house teacher quantized and calibrated on noise: time does not depend on the bounds."""
    network = CompSRTSwinIR(**SWINIR_LIGHT, quant={'weight_bits': bits, 'act_bits': bits})
    network.load_state_dict(read_weights('zoo://swinir_light_x2_house'))
    calibrate(network, torch.rand(1, 3, 64, 64), CalibrationConfig(candidates=20), progress=False)
    return network.eval().requires_grad_(False)


def forget_kernels() -> None:
    """The next executor asks for the kernels anew."""
    for cached in (kernel_build.library, native.kernels, native.kernel_is_right):
        cached.cache_clear()


def integer(network: nn.Module, kernels: bool) -> nn.Module:
    """A copy on integer codes, prepared: in the kernels or in torch."""
    network = copy.deepcopy(network)
    with mock.patch.dict(os.environ, {kernel_build.SWITCH: str(int(kernels))}):
        forget_kernels()
        report = set_execution_(network, 'integer')
        network(torch.rand(1, 3, 16, 16))
    forget_kernels()
    if kernels and set(report.layers.values()) != {'kernel'}:
        raise SystemExit(f'The kernels are not used: {report}.')
    return network


def autocast(network: nn.Module) -> Network:
    """A network under bfloat16 autocast."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return network(x)

    return run


def variants(with_compiled: bool) -> dict[str, Network]:
    """Everything that is timed, by name, the reference first."""
    full, fake = full_precision(), quantized()
    found: dict[str, Network] = {'fp32': full, 'bf16 autocast': autocast(full), 'fake': fake}
    if with_compiled:
        found['fp32, compiled'], found['fake, compiled'] = (torch.compile(copy.deepcopy(n)) for n in (full, fake))
    found['integer, torch'], found['integer, kernels'] = integer(fake, False), integer(fake, True)
    return found


def time_all(networks: dict[str, Network], size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each network on one picture, one entry a round, after a warm-up."""
    picture = torch.rand(1, 3, size, size)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(picture)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def profile_operators(network: nn.Module, picture: Tensor) -> dict[str, float]:
    """Seconds by kind of operator, of torch's own profiler."""
    network(picture)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        network(picture)
    seconds: Counter[str] = Counter()
    for event in profiler.key_averages():
        kind = next((kind for kind, pattern in OPERATORS.items() if re.search(pattern, event.key)), 'other')
        seconds[kind] += event.self_cpu_time_total / 1e6
    return dict(seconds.most_common())


def profile_kernels(network: nn.Module, picture: Tensor) -> dict[str, float]:
    """Seconds by part of the kernels, of the convolutions, and of the rest."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'profile.so'
        flags = tuple((*tuning, '-DCOMPSRT_PROFILE') for tuning in kernel_build.TUNING)
        kernel_build.compile_kernels(str(kernel_build.find_compiler()), file, flags)
        library = ctypes.CDLL(str(file))
    with mock.patch.object(kernel_build, 'library', lambda: library):
        native.kernels.cache_clear()
        network = copy.deepcopy(network)
        network(picture)
    clocks = (ctypes.c_double * len(PARTS))()
    library.cs_profile(clocks)
    spent: Counter[str] = Counter()
    for kind, of in (('blocks', SwinTransformerBlock), ('convolutions', nn.Conv2d)):
        for module in network.modules():
            if isinstance(module, of):
                _clock(module, kind, spent)
    start = time.perf_counter()
    network(picture)
    total = time.perf_counter() - start
    library.cs_profile(clocks)
    native.kernels.cache_clear()
    seconds = dict(zip(PARTS, clocks))
    seconds['windows, shortcuts, calls'] = spent['blocks'] - sum(clocks)
    seconds['convolutions'] = spent['convolutions']
    seconds['other'] = total - spent.total()
    return seconds


def _clock(module: nn.Module, kind: str, spent: Counter[str]) -> None:
    module.register_forward_pre_hook(lambda *_: spent.subtract({kind: time.perf_counter()}))
    module.register_forward_hook(lambda *_: spent.update({kind: time.perf_counter()}))


def hardware() -> dict[str, Any]:
    """What the figures depend on."""
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        text = ''
    model = re.search(r'^model name\s*: (.*)$', text, re.M)
    flags = re.search(r'^flags\s*: (.*)$', text, re.M)
    wanted = ('avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16')
    return {
        'processor': model[1] if model else platform.processor() or platform.machine(),
        'instructions': [flag for flag in wanted if flags and flag in flags[1].split()],
        'torch': torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256], help='LR sides in pixels')
    parser.add_argument('--compile', action='store_true', help='time torch.compile too')
    parser.add_argument('--json', type=Path, help='write the figures there')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        networks = variants(args.compile)
        seconds = {str(size): time_all(networks, size, args.rounds) for size in args.sizes}
        picture = torch.rand(1, 3, args.sizes[0], args.sizes[0])
        profile = {
            'fp32': profile_operators(networks['fp32'], picture),
            'integer, kernels': profile_kernels(networks['integer, kernels'], picture),
        }
    record = {
        'command': f'python scripts/benchmark_execution.py --rounds {args.rounds}',
        'threads': args.threads,
        'load': [round(value, 1) for value in os.getloadavg()],
        **hardware(),
        'version': compsrt_basicsr.__version__,
        'seconds': seconds,
        'profile': profile,
    }
    print(timing_table(record))
    print(json.dumps(profile, indent=2))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.json.with_suffix('.tmp')
        temporary.write_text(json.dumps(record, indent=2) + '\n')
        os.replace(temporary, args.json)


if __name__ == '__main__':
    main()
