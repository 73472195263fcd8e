"""The part of a run's state that BasicSR does not save: random generators and best metrics."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def collect(model: Any) -> dict[str, Any]:
    """Returns the state of all processes as plain data, which `torch.load(weights_only=True)` reads.

    Every process must call it.

    Args:
        model: a BasicSR model.
    """
    own = _generators()
    ranks: list[Any] = [own]
    if model.opt['dist']:
        ranks = [None] * model.opt['world_size']
        dist.all_gather_object(ranks, own)
    best = {  # metrics give NumPy numbers, which a safe `torch.load` refuses
        dataset: {metric: {**record, 'val': float(record['val'])} for metric, record in metrics.items()}
        for dataset, metrics in getattr(model, 'best_metric_results', {}).items()
    }
    return {
        'generators': ranks,
        'best_metric_results': best,
        'options': getattr(model, 'run_options', None),
        'threads': torch.get_num_threads(),
    }


def restore(model: Any, state: dict[str, Any]) -> None:
    """Restores what `collect` returned; an empty state changes nothing.

    Args:
        model: a BasicSR model.
        state: of this or another run with the same number of processes.
    """
    generators = state.get('generators', [])
    if model.opt['rank'] < len(generators):
        _set_generators(generators[model.opt['rank']])
    if state.get('best_metric_results'):
        model.best_metric_results = {
            dataset: _comparable(records, model.opt.get('val') or {}, (state.get('options') or {}).get('val'))
            for dataset, records in state['best_metric_results'].items()
        }


def _comparable(
    records: dict[str, Any], val: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Returns the best values of today's metrics; those that were not measured, or otherwise, begin anew.

    Args:
        records: {metric: best value} of a data set.
        val: the section `val`.
        before: that of the saved run; None where it is not known.
    """
    metrics = val.get('metrics')
    if not metrics:
        return records
    result = {}
    for metric, options in metrics.items():
        better = options.get('better', 'higher')
        fresh = {'better': better, 'val': float('-inf' if better == 'higher' else 'inf'), 'iter': -1}
        same = before is None or (
            (before.get('metrics') or {}).get(metric) == dict(options)
            and (before.get('pad') or 'symmetric') == (val.get('pad') or 'symmetric')
        )
        record = records.get(metric)
        result[metric] = record if same and record is not None and record['better'] == better else fresh
    return result


def _generators() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': (name, np.asarray(keys).tolist(), position, has_gauss, gauss),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_generators(state: dict[str, Any]) -> None:
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
