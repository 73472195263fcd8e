"""Measure packed files of SwinIR-light x4: write docs/results/size.json and the table in docs/packing.md.

    python scripts/size_table.py

Nothing is downloaded: it has the packaged weights, the recipe `compsrt`, and is calibrated on photographs of
scikit-image. `load_seconds` is the processor time on one core from the file to a network that can run, the best of
five.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from markers import fill
from skimage import data
from tabulate import tabulate

import compsrt_basicsr
from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT, CompSRTSwinIR
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.packing.codecs import CODECS
from compsrt_basicsr.packing.packed import load_packed, save_packed
from compsrt_basicsr.packing.size import WEIGHTS, Account, measure_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

DOCS = Path(__file__).resolve().parents[1] / 'docs'
TEACHER = 'zoo://swinir_light_x4_house'
PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket')
SIDE, LOADS = 48, 5
OFFICIAL_BYTES = 17_225_941  # 002_lightweightSR_DIV2K_s64w8_SwinIR-S_x4.pth, SwinIR release v0.0
HEADERS = ('bits', 'pruned', 'codec', 'file, bytes', 'MB', 'bits a weight', 'by the paper', 'of the official file')


def images() -> torch.Tensor:
    """Returns the centre of each photograph, (4, 3, 48, 48) in [0, 1]."""
    patches = []
    for name in PHOTOGRAPHS:
        photo = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1).float() / 255
        top, left = ((size - SIDE) // 2 for size in photo.shape[1:])
        patches.append(photo[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(patches)


def network(bits: int, pruned: float) -> torch.nn.Module:
    """Returns SwinIR-light x4, calibrated."""
    method = METHODS['compsrt']
    quant = {**method.quant, 'weight_bits': bits, 'act_bits': bits, 'prune_ratio': pruned}
    built = CompSRTSwinIR(**{**SWINIR_LIGHT, 'upscale': 4}, quant=quant)
    built.load_state_dict(read_state(TEACHER))
    calibrate(built, images(), CalibrationConfig.from_opt(method.calibration), progress=False)
    return built.eval().requires_grad_(False)


def measure(built: torch.nn.Module, codec: str, folder: Path) -> tuple[Account, float]:
    """Packs a network; returns the account of the file, and the processor time that loading takes."""
    path = folder / f'{codec}.safetensors'
    save_packed(built, path, codec)
    seconds = []
    for _ in range(LOADS):
        start = time.process_time()
        load_packed(path)
        seconds.append(time.process_time() - start)
    return measure_packed(path), min(seconds)


def rows() -> list[dict[str, Any]]:
    """Measures one row for each width, pruned share and codec."""
    found = []
    for bits in (4, 3, 2):
        for share in (0.0, 0.4):
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
    """Renders the rows as Markdown."""
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
    record = {
        'command': 'python scripts/size_table.py',
        'protocol': {
            'network': 'SwinIR-light x4, method compsrt, rest in fp16',
            'weights': TEACHER,
            'calibration': f'centres of {", ".join(PHOTOGRAPHS)} of scikit-image, {SIDE}x{SIDE}, no distillation',
        },
        'official_bytes': OFFICIAL_BYTES,
        'torch': torch.__version__,
        'processor': platform.processor() or platform.machine(),
        'version': compsrt_basicsr.__version__,
        'rows': rows(),
    }
    write_text(DOCS / 'results' / 'size.json', json_text(record, indent=2))
    page = DOCS / 'packing.md'
    write_text(page, fill(page.read_text(encoding='utf-8'), {'size table': table(record)}))


if __name__ == '__main__':
    main()
