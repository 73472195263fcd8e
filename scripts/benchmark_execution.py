"""Time of SwinIR-light x2 on integer codes, in torch, and in what others run instead, measured alternately.

    python scripts/benchmark_execution.py --rivals [--rounds 5] [--json docs/results/execution.json]

One image of each size, whole network. Each number of threads has a process of its own, pinned to as many cores, in
which memory is kept and threads wait as in the commands; all modes alternate in it. `--rivals` adds torch.compile,
ONNX Runtime and OpenVINO (fp32, bf16, int8), which `compsrt_basicsr[bench]` installs; a rival that fails is left out,
and the record says why. The profile gives the time by kind of layer. With rivals it takes about an hour.
`python scripts/execution_tables.py` writes the record into docs/integer.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsrt_basicsr.utils import before_torch
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from compsrt_basicsr.checkpoints.load import LoadedNetwork

ROOT = Path(__file__).resolve().parents[1]
MODEL = 'swinir_light_x2_house_w4a4_p40'
SIZES, THREADS = (64, 128, 256, 512), (1, 2)
PROFILED = 128  # pixels, or the smallest size


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Measures in this process, whose torch has as many threads as it has cores."""
    before_torch.prepare()
    import torch

    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.inference.timing import alternate
    from compsrt_basicsr.study.bench.modes import modes_of
    from compsrt_basicsr.study.bench.peak import code_peak, float_peak
    from compsrt_basicsr.study.bench.timing import multiplications_per_pixel

    model, threads = load_network(args.model), torch.get_num_threads()
    modes = modes_of(model, args.modes, args.rivals)
    per_pixel, failed, rows = multiplications_per_pixel(model), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            networks, failed_now = working_networks(model, modes, size, Path(folder))
            failed.update(failed_now)
            for mode, seconds in alternate(networks, model.channels, size, 'cpu', args.rounds).items():
                row = {'threads': threads, 'size': size, 'mode': mode, 'seconds': [round(s, 5) for s in seconds]}
                rows.append({**row, 'multiplications': round(per_pixel * size * size)})
                sys.stderr.write(f'{threads} threads, {size}: {mode} {min(seconds):.3f} s\n')
    peaks = {'threads': threads, 'float32': float_peak(threads), 'codes': code_peak(threads)}
    size = PROFILED if PROFILED in args.sizes else min(args.sizes)
    profile = profiles(model, size) if threads == 1 else {}
    return {'rows': rows, 'failed': failed, 'peaks': peaks, 'profile': profile}


def working_networks(
    model: LoadedNetwork, modes: tuple[str, ...], size: int, folder: Path
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Returns the networks of all modes that run, made anew for this size, and why others do not."""
    import torch

    from compsrt_basicsr.errors import CompSRTError
    from compsrt_basicsr.study.bench.modes import in_mode
    from compsrt_basicsr.study.bench.rivals import RIVALS

    torch.compiler.reset()  # else it would compile for all sizes at once
    networks, failed = {}, {}
    with torch.no_grad():
        for mode in modes:
            try:
                network = in_mode(model, mode, folder)
                network(torch.rand(1, model.channels, size, size))
                networks[mode] = network
            except CompSRTError as error:
                if mode not in RIVALS:
                    raise
                failed[mode] = str(error)
    return networks, failed


def profiles(model: LoadedNetwork, size: int) -> dict[str, dict[str, float]]:
    """Returns the seconds by kind of layer of the modes of torch and of the kernels."""
    import torch

    from compsrt_basicsr.study.bench.modes import FAKE, FP32, INTEGER, own_mode
    from compsrt_basicsr.study.bench.profile import profile_kernels, profile_layers, runs_in_kernels

    image = torch.rand(1, model.channels, size, size)
    found = {mode: profile_layers(own_mode(model, mode), image) for mode in (FP32, FAKE)}
    network = own_mode(model, INTEGER)
    if runs_in_kernels(network):
        found[INTEGER] = profile_kernels(network, image)
    return found


def in_own_process(threads: int, arguments: list[str]) -> dict[str, Any]:
    """Runs `work` pinned to as many cores as threads."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(('OMP_', 'GOMP_', 'KMP_'))}
    environment = {**clean, 'OMP_NUM_THREADS': str(threads), 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, __file__, '--work', *arguments]
    cores = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, 'sched_setaffinity') else None

    def pin() -> None:
        if cores:
            os.sched_setaffinity(0, cores)

    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=pin)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default=MODEL, help='a quantized network')
    parser.add_argument('--threads', type=int, nargs='+', default=THREADS)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES, help='LR sides in pixels')
    parser.add_argument('--rivals', action='store_true', help='measure torch.compile, ONNX Runtime and OpenVINO too')
    parser.add_argument('--modes', nargs='+', default=(), help='some of them, as `compsrt bench --mode` takes them')
    parser.add_argument('--json', type=Path, help='write the record to this file')
    parser.add_argument('--work', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json_text(work(args)).strip())
        return
    from execution_tables import timing

    from compsrt_basicsr.study.bench.hardware import hardware

    words = [word for word in sys.argv[1:] if word != '--work']
    parts = [in_own_process(threads, words) for threads in args.threads]
    shown = [word for place, word in enumerate(words) if '--json' not in (word, words[place - 1] if place else '')]
    record: dict[str, Any] = {
        'command': ' '.join(['python scripts/benchmark_execution.py', *shown]),
        'model': args.model,
        **hardware(),
        'version': __version__,
        'peaks': [part['peaks'] for part in parts],
        'failed': {mode: reason for part in parts for mode, reason in part['failed'].items()},
        'rows': [row for part in parts for row in part['rows']],
        'profile': next((part['profile'] for part in parts if part['profile']), {}),
    }
    print(timing(record))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    main()
