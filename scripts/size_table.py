"""Measure packed files of SwinIR-light x4: docs/results/size.json, and from it the table in docs/packing.md.

    python scripts/size_table.py

Nothing is downloaded: the body has the packaged x2 weights, the x4 tail, which is not quantized, fresh ones. Strict
range, calibrated on photographs of scikit-image. Pruned rows are those of 40%. `load_seconds` is the time from the file
to a network that can run, the best of five.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import compsrt_basicsr  # isort: skip  (first: it makes BasicSR importable)
import torch
from markers import fill
from skimage import data
from tabulate import tabulate

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.quantization import CalibrationConfig, QuantConfig
from compsrt_basicsr.packing.codecs import CODECS
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.packing.size import WEIGHTS, Account, measure_size
from compsrt_basicsr.quant.calibrate import calibrate

DOCS = Path(__file__).resolve().parents[1] / 'docs'
PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket')
SIDE, LOADS, SEED = 48, 5, 0
OFFICIAL_BYTES = 17_225_941  # 002_lightweightSR_DIV2K_s64w8_SwinIR-S_x4.pth, SwinIR release v0.0
HEADERS = ('bits', 'pruned', 'codec', 'file, bytes', 'MB', 'bits a weight', 'by the paper', 'of the official file')


def pictures() -> torch.Tensor:
    """(4, 3, 48, 48) in [0, 1]: the centre of each photograph."""
    patches = []
    for name in PHOTOGRAPHS:
        photo = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1).float() / 255
        top, left = ((size - SIDE) // 2 for size in photo.shape[1:])
        patches.append(photo[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(patches)


def network(bits: int, pruned: float) -> torch.nn.Module:
    """SwinIR-light x4, calibrated."""
    torch.manual_seed(SEED)
    quant = {'weight_bits': bits, 'act_bits': bits, **({'prune_ratio': pruned} if pruned else {})}
    built = CompSRTSwinIR(**{**SWINIR_LIGHT, 'upscale': 4}, quant=quant)
    own = built.state_dict()
    body = {k: v for k, v in read_state('zoo://swinir_light_x2_house').items() if own[k].shape == v.shape}
    tail = {k: v for k, v in own.items() if k.startswith('upsample.')}
    built.load_state_dict({**body, **tail})
    calibrate(built, pictures(), CalibrationConfig(), progress=False)
    return built.eval().requires_grad_(False)


def measure(built: torch.nn.Module, codec: str, folder: Path) -> tuple[Account, float]:
    """The account of a packed file, and the seconds it takes to load."""
    path = folder / f'{codec}.safetensors'
    save_packed(built, path, codec)
    seconds = []
    for _ in range(LOADS):
        start = time.perf_counter()
        packed = load_packed(path)
        seconds.append(time.perf_counter() - start)
    return measure_size(path, packed), min(seconds)


def rows() -> list[dict[str, Any]]:
    """One row for each width, pruned share and codec."""
    shares = (0.0, 0.4) if 'prune_ratio' in {field.name for field in fields(QuantConfig)} else (0.0,)
    found = []
    for bits in (4, 3, 2):
        for share in shares:
            built = network(bits, share)
            for codec in CODECS:
                if codec == 'mask' and not share:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    account, seconds = measure(built, codec, Path(folder))
                weights = next(part for part in account.parts if part.name == WEIGHTS)
                found.append(
                    {
                        'bits': bits,
                        'pruned': share,
                        'codec': codec,
                        'bytes': account.measured,
                        'theory_bytes': account.theoretical,
                        'parts': {part.name: part.measured for part in account.parts},
                        'weight_bits': 8 * weights.measured / weights.parameters,
                        'paper_bits': account.paper_bits,
                        'load_seconds': seconds,
                    }
                )
    return found


def table(record: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        [
            row['bits'],
            f'{row["pruned"]:.0%}' if row['pruned'] else '',
            row['codec'],
            f'{row["bytes"]:,}',
            f'{row["bytes"] / 1e6:.3f}',
            f'{row["weight_bits"]:.2f}',
            f'{row["paper_bits"]:.2f}',
            f'{row["bytes"] / record["official_bytes"]:.1%}',
        ]
        for row in record['rows']
    ]
    align = ('right', 'right', 'left', *['right'] * 5)
    return tabulate(lines, HEADERS, tablefmt='github', colalign=align, disable_numparse=True)


def main() -> None:
    teacher = load_network('zoo://swinir_light_x2_house')
    record = {
        'command': 'python scripts/size_table.py',
        'protocol': {
            'network': 'SwinIR-light x4, strict range, exact transforms, rest in fp16',
            'body': teacher.source,
            'tail': f'fresh, seed {SEED}: not quantized, and as large as that of a trained network',
            'calibration': f'centres of {", ".join(PHOTOGRAPHS)} of scikit-image, {SIDE}x{SIDE}, no distillation',
        },
        'official_bytes': OFFICIAL_BYTES,
        'torch': torch.__version__,
        'processor': platform.processor() or platform.machine(),
        'version': compsrt_basicsr.__version__,
        'rows': rows(),
    }
    (DOCS / 'results' / 'size.json').write_text(json.dumps(record, indent=2) + '\n')
    page = DOCS / 'packing.md'
    page.write_text(fill(page.read_text(encoding='utf-8'), {'size table': table(record)}), encoding='utf-8')


if __name__ == '__main__':
    main()
