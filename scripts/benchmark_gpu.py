"""Time and memory of SwinIR-light x2 on a GPU: torch, torch.compile, fake quantization, products of int8 codes.

    python scripts/benchmark_gpu.py

Takes about five minutes. Writes docs/results/gpu.json and prints a table; `python scripts/execution_tables.py` writes
it into docs/integer.md. All variants alternate; one that fails, as torch.compile without Triton, is left out, and the
record says why. `int8` multiplies the codes of linear layers by torch's product of bytes on tensor cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from execution_tables import gpu_table
from torch import Tensor, nn

from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.compression.quality import psnr
from compsrt_basicsr.inference.timing import alternate_calls, wait_for
from compsrt_basicsr.integer import arithmetic
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.study.bench.modes import BF16, FAKE, FP32, INTEGER, own_mode
from compsrt_basicsr.study.bench.timing import multiplications_per_pixel
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.version import __version__

ROOT = Path(__file__).resolve().parents[1]
MODEL = 'swinir_light_x2_house_w4a4_p40'
INT8 = 'int8'
COMPILED = {f'{mode}, compiled': mode for mode in (FP32, BF16, FAKE)}
VARIANTS = (FP32, BF16, FAKE, INTEGER, INT8, *COMPILED)
_MULTIPLE, _FEWEST = 8, 17  # what torch's product of bytes asks of K and N, and of rows, on a GPU

Network = Callable[[Tensor], Tensor]


def why_not() -> str | None:
    """Returns why nothing can be measured here, None on a machine with a GPU."""
    if torch.cuda.is_available():
        return None
    try:
        found = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True).stdout.strip()
    except OSError:
        found = ''
    if found:
        return f'torch {torch.__version__} cannot use the GPU that is here: install a torch for its driver.'
    return 'There is no GPU here: run this script on a machine with one.'


def bytes_product(a: Tensor, w: Tensor) -> Tensor:
    """Computes the exact product of codes of linear layers by torch's product of bytes; others as before.

    Args:
        a: (..., K), integer-valued floats 0 to 255.
        w: (N, K) int8; other operands are multiplied as floats.

    Returns:
        (..., N) float32.
    """
    if w.ndim != 2 or w.dtype != torch.int8:
        return _float_product(a, w)
    (n, k), rows = w.shape, a.shape[:-1].numel()
    signed = (a.reshape(rows, k) - 128).to(torch.int8)
    signed = F.pad(signed, (0, -k % _MULTIPLE, 0, max(_FEWEST - rows, 0)))
    padded = F.pad(w, (0, -k % _MULTIPLE, 0, -n % _MULTIPLE))
    product = torch._int_mm(signed, padded.T)[:rows, :n] + 128 * w.sum(1, dtype=torch.int32)
    return product.float().view(*a.shape[:-1], n)


_float_product = arithmetic.integer_product


def with_bytes(network: nn.Module) -> Network:
    """Returns a network on integer codes whose products are those of bytes."""

    def run(x: Tensor) -> Tensor:
        with mock.patch.object(arithmetic, 'integer_product', bytes_product):
            result: Tensor = network(x)
        return result

    return run


def variant(model: LoadedNetwork, name: str, device: str) -> Network:
    """Returns a network that computes a model in one of `VARIANTS`."""
    mode = COMPILED.get(name, INTEGER if name == INT8 else name)
    network = own_mode(model, mode).to(device).eval()
    if name in COMPILED:
        compiled: Network = torch.compile(network, dynamic=False)
        return compiled
    return with_bytes(network) if name == INT8 else network


def measure(
    model: LoadedNetwork, device: str, sizes: list[int], rounds: int, names: tuple[str, ...] = VARIANTS
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Times all variants alternately.

    Returns:
        A row for each size and variant: the seconds of each round, the bytes of one pass at its peak, and the PSNR to
        fake quantization of those that compute the same; and why variants are left out.
    """
    per_pixel, failed, rows = multiplications_per_pixel(model), {}, []
    for size in sizes:
        torch.compiler.reset()
        image = torch.rand(1, model.channels, size, size, device=device)
        networks, results, memory = {}, {}, {}
        for name in names:
            try:
                networks[name] = variant(model, name, device)
                networks[name](image)  # compiles and prepares
                results[name], memory[name] = _one_pass(networks[name], image)
            except Exception as error:  # of any kind: compilers have their own
                networks.pop(name, None)
                failed[f'{name}, {size}x{size}'] = str(error).strip().splitlines()[0][:200] or type(error).__name__
        calls = {name: partial(_timed, network, image) for name, network in networks.items()}
        for name, seconds in alternate_calls(calls, rounds).items():
            row = {'size': size, 'variant': name, 'seconds': [round(s, 6) for s in seconds], 'memory': memory[name]}
            same = FAKE in results and name in (INTEGER, INT8, f'{FAKE}, compiled')
            near = psnr(results[name], results[FAKE]) if same else None
            rows.append({**row, 'psnr': near, 'multiplications': round(per_pixel * size * size)})
    return rows, failed


def _timed(network: Network, image: Tensor) -> None:
    wait_for(image.device)
    network(image)
    wait_for(image.device)


def _one_pass(network: Network, image: Tensor) -> tuple[Any, int | None]:
    """Returns the image of a pass in [0, 1] and, on a GPU, the bytes that it needs at its peak."""
    if image.device.type != 'cuda':
        return network(image).float().clamp(0, 1).cpu().numpy(), None
    before = torch.cuda.memory_allocated(image.device)
    torch.cuda.reset_peak_memory_stats(image.device)
    result = network(image)
    wait_for(image.device)
    peak = torch.cuda.max_memory_allocated(image.device) - before
    return result.float().clamp(0, 1).cpu().numpy(), peak


def main() -> None:
    """Measures, or says why not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default=MODEL, help='a quantized network')
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 512], help='LR sides in pixels')
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('-o', '--out', type=Path, default=ROOT / 'docs/results/gpu.json')
    args = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    with torch.no_grad():
        rows, failed = measure(load_network(args.model), 'cuda', args.sizes, args.rounds)
    words = [word for place, word in enumerate(sys.argv) if place and not {word, sys.argv[place - 1]} & {'-o', '--out'}]
    record = {
        'command': ' '.join(['python scripts/benchmark_gpu.py', *words]),
        'model': args.model,
        **hardware(),
        'version': __version__,
        'failed': failed,
        'rows': rows,
    }
    write_text(args.out, json_text(record, indent=2))
    print(gpu_table(record))


if __name__ == '__main__':
    main()
