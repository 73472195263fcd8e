"""Sweep files, and records as `compsrt sweep` writes them, without the runs."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from compsrt_runs import distillation_options
from conftest import LmdbPair

from compsrt_basicsr.study.sweep.spec import Sweep, read_sweep

SETS = {'Set5': 5, 'Set14': 14}
IMAGES = 'datasets: {train: train, Set5: Set5}'


def write_sweep(folder: Path, text: str) -> Path:
    """Writes a sweep file."""
    file = folder / 'tiny.yml'
    file.write_text(text)
    return file


def sweep_text(base: Mapping[str, Any], axes: Mapping[str, Any], **sections: Any) -> str:
    """Returns the text of a sweep file."""
    data = {'train': 'train', 'Set5': 'Set5'}
    content = {'base': dict(base), 'axes': dict(axes), 'datasets': data, **sections}
    return yaml.safe_dump(copy.deepcopy(content), sort_keys=False)


AXES = {
    'range': {'strict': {}, 'paper': {'network_g.quant.code_range': 'paper'}},
    'bits': {bits: {'network_g.quant.weight_bits': bits} for bits in (4, 3, 2)},
    'seed': {seed: {'manual_seed': seed} for seed in (1, 2)},
}


def sweep_of(folder: Path, axes: Mapping[str, Any] = AXES, **sections: Any) -> Sweep:
    """Returns a sweep over the tiny network, whose teacher is `teacher.pth` in the folder."""
    base = distillation_options(LmdbPair(folder, folder), folder / 'teacher.pth')
    return read_sweep(write_sweep(folder, sweep_text(base, axes, **sections)))


def record(
    method: str, bits: int, seed: int, psnr: float, *, sets: Mapping[str, int] = SETS, axes: Any = (), **changes: Any
) -> dict[str, Any]:
    """Returns a record whose images lie around a PSNR.

    Args:
        changes: of the protocol, but `quant`, `levels_max`, `levels_over` and `iterations`, which have their places.
    """
    placed = {'method': method, 'bits': str(bits), 'seed': str(seed), **dict(axes)}
    digest = hashlib.sha256(json.dumps([placed, sorted(changes.items(), key=str)]).encode()).hexdigest()
    results = {}
    for name, count in sets.items():
        images = {
            f'{name}_{i}': {'psnr': psnr + i + 0.01 * ((i + seed) % 3), 'ssim': 0.9 + psnr / 1000 + 0.001 * i}
            for i in range(count)
        }
        means = {metric: sum(image[metric] for image in images.values()) / count for metric in ('psnr', 'ssim')}
        levels = {'levels_max': changes.get('levels_max', 2**bits), 'levels_over': changes.get('levels_over', 0)}
        results[name] = {**means, **(levels if bits < 32 else {}), 'images': images}
    quant = {'weight_bits': bits, 'act_bits': bits, 'prune_ratio': 0.0, 'code_range': 'strict'}
    protocol = {
        'scale': 2,
        'border': 2,
        'channel': 'y',
        'padding': 'symmetric',
        'iterations': 300 if bits < 32 else 0,
        'batch': 4,
        'lr_patch': 32,
        'teacher': 'zoo://swinir_light_x2_house',
        'teacher_sha256': 'a' * 64,
        'train': {'pictures': 9, 'sha256': 'b' * 64},
        'tests': {name: {'pictures': count, 'sha256': name} for name, count in sets.items()},
    }
    protocol |= {key: value for key, value in changes.items() if key in protocol}
    return {
        'schema': 1,
        'name': '_'.join(f'{k}-{v}' for k, v in placed.items()) + '_' + digest[:8],
        'hash': digest,
        'sweep': 'tiny',
        'axes': placed,
        'options': {},
        'settings': {},
        'quant': {**quant, **changes.get('quant', {})} if bits < 32 else None,
        'seed': seed,
        'protocol': protocol,
        'execution': 'integer',
        'checkpoint': 'last of 300 iterations',
        'results': results,
        'seconds': {'train': 10.0, 'test': 5.0},
        'threads': 1,
        'hardware': {'processor': 'P', 'instructions': [], 'gpu': None, 'torch': '2.6', 'load': 1.0},
        'version': '0.1.0',
        'commit': 'c' * 40,
    }


def teacher(psnr: float = 38.0, **changes: Any) -> dict[str, Any]:
    """Returns the record of a full-precision test."""
    made = record('full_precision', 32, 0, psnr, **changes)
    del made['axes']['bits'], made['axes']['seed']
    return made


def write_records(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Writes records to a sweep's folder."""
    (folder / 'runs').mkdir(parents=True, exist_ok=True)
    for one in records:
        (folder / 'runs' / f'{one["name"]}.json').write_text(json.dumps(one))
    return folder
