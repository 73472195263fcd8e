"""Making the JSON record of a run that has just been tested."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compsrt_basicsr.checkpoints.find import find_file
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.sweep import TRAIN
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.quant.record import decode_record
from compsrt_basicsr.study.bench.hardware import hardware
from compsrt_basicsr.study.sweep.data import LmdbPair
from compsrt_basicsr.study.sweep.option_files import TESTED, WEIGHTS
from compsrt_basicsr.study.sweep.read_record import SCHEMA
from compsrt_basicsr.study.sweep.runs import Run
from compsrt_basicsr.version import __version__


def make_record(
    run: Run, sweep: str, folder: Path, data: LmdbPair | None, tests: Mapping[str, LmdbPair]
) -> dict[str, Any]:
    """Returns what is known of a run after its test.

    Args:
        run: the run.
        sweep: name of the sweep.
        folder: working folder of the run, with `results/test` and, after a training, the weights.
        data: the training set, if the sweep has one.
        tests: the test sets.
    """
    results = folder / 'results' / TESTED
    means = json.loads((results / 'metrics.json').read_text(encoding='utf-8'))
    details = json.loads((results / 'test_details.json').read_text(encoding='utf-8'))
    iterations = int((run.options.get('train') or {}).get('total_iter', 0)) if run.trains else 0
    trained = f'last of {iterations} iterations' if iterations else 'calibrated, not trained'
    return {
        'schema': SCHEMA,
        'name': run.name,
        'hash': run.hash,
        'sweep': sweep,
        'axes': dict(run.axes),
        'options': dict(run.options),
        'settings': dict(run.settings),
        'quant': _quantization(folder / WEIGHTS) if run.trains else None,
        'seed': run.options.get('manual_seed'),
        'protocol': _protocol(run, data, tests, iterations),
        'checkpoint': trained if run.trains else 'the teacher',
        'results': {name: _results(_last(means[name]), details[name]) for name in tests},
        'hardware': hardware(),
        'version': __version__,
        'commit': commit(),
    }


def commit() -> str | None:
    """Returns the commit that runs, with '+' if files were changed since; None outside a checkout."""
    here = Path(__file__).parents[2]  # the package
    try:
        head, changes = (
            subprocess.run(['git', *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (['rev-parse', 'HEAD'], ['status', '--porcelain', '--untracked-files=no', '--', '.'])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ('+' if changes else '')


def _protocol(run: Run, data: LmdbPair | None, tests: Mapping[str, LmdbPair], iterations: int) -> dict[str, Any]:
    """Returns what two runs must have in common to be compared."""
    train = (run.options.get('datasets') or {}).get(TRAIN) or {}
    teacher = (run.options.get('path') or {}).get('pretrain_network_t')
    return {
        'scale': run.scale,
        'border': run.border,
        'channel': run.settings['channel'],
        'padding': run.settings['padding'],
        'iterations': iterations,
        'batch': train.get('batch_size_per_gpu'),
        'lr_patch': train['gt_size'] // run.scale if train.get('gt_size') else None,
        'teacher': teacher,
        'teacher_sha256': _teacher_sha256(teacher),
        'train': data.fingerprint() if data else train.get('dataroot_gt'),
        'tests': {name: pair.fingerprint() for name, pair in tests.items()},
    }


def _teacher_sha256(teacher: str | None) -> str | None:
    if teacher is None:
        return None
    return sha256_of(find_file(teacher))


def _quantization(weights: Path) -> dict[str, Any] | None:
    """Returns the quantization of a checkpoint, with every default filled in."""
    record = read_state(weights).get('quant_record.json')
    return None if record is None else decode_record(record)['quant']


def _results(means: Mapping[str, float], details: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the means of a data set, the number of quantizers whose codes were counted, and the single images."""
    counted = {'quantizers': len(details['levels'])} if details['levels'] else {}
    return {**means, **counted, 'images': details['images']}


def _last(runs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return dict(list(runs.values())[-1])
