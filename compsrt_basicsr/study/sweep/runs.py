"""The runs of a sweep: every combination of its axes, each with its options and a name that changes with them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from compsrt_basicsr.config.methods.expand import expand_network, expand_run
from compsrt_basicsr.config.renames import rename_run, with_old_names
from compsrt_basicsr.config.sweep import TRAIN, LmdbOptions, errors_of_values
from compsrt_basicsr.errors import CompSRTError, shown
from compsrt_basicsr.study.sweep.spec import Sweep, override

FULL_PRECISION = 'full_precision'

# A run's hash is computed from the names of the first records, so that a renamed option makes no new run.
_FIRST_SETTINGS = {'count_codes': 'levels'}


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        axes: value by axis.
        options: options of the training, without those of data paths and machine; the test of a teacher has
            `network_t`, `scale` and `path` alone.
        settings: what else the result depends on: data sets, protocol, and how the run is tested.
        trains: False for the test of a teacher.
    """

    axes: Mapping[str, str]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    trains: bool = True

    @property
    def hash(self) -> str:
        """SHA-256 of all that was asked for. A run with another hash is another run."""
        settings = {_FIRST_SETTINGS.get(key, key): value for key, value in self.settings.items()}
        asked = {'options': with_old_names(self.options), 'settings': settings, 'trains': self.trains}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """Such as 'method=minmax bits=4 seed=3407'."""
        return ' '.join(f'{axis}={value}' for axis, value in self.axes.items())

    @property
    def name(self) -> str:
        """Name of the run's files, such as 'method-minmax_bits-4_seed-3407_9da65f06'."""
        return '_'.join([*(f'{axis}-{value}' for axis, value in self.axes.items()), self.hash[:8]])

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.options['scale']

    @property
    def border(self) -> int:
        """Pixels cropped before PSNR and SSIM are measured."""
        border = self.settings['border']
        return self.scale if border == 'scale' else border


def expand(sweep: Sweep) -> list[Run]:
    """Returns all runs of a sweep in the order of its axes, and the tests of teachers at the end.

    Raises:
        CompSRTError: if nothing is left to run, or a combination has no scale.
    """
    runs = [run for run in _combinations(sweep) if not _is_excluded(run.axes, sweep)]
    if not runs:
        raise CompSRTError(f'The sweep `{sweep.name}` is empty: `exclude` leaves no run.')
    return runs + (_teachers(runs) if sweep.options.full_precision else [])


def choose(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """Returns the runs that match any pattern such as `method=lsq*,bits=4`; all of them without patterns.

    Raises:
        CompSRTError: if a pattern names no axis of the runs, or matches none of them.
    """
    axes: dict[str, dict[str, Any]] = {axis: {} for run in runs for axis in run.axes}
    if not patterns:
        return list(runs)
    chosen: set[str] = set()
    for pattern in patterns:
        wanted = dict(_condition(part, pattern, axes) for part in pattern.split(','))
        found = [run for run in runs if all(fnmatchcase(run.axes.get(axis, ''), glob) for axis, glob in wanted.items())]
        if not found:
            raise CompSRTError(f'`--only {pattern}` matches no run; --dry-run lists them.')
        chosen |= {run.name for run in found}
    return [run for run in runs if run.name in chosen]


def _condition(part: str, pattern: str, axes: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    axis, equals, glob = part.strip().partition('=')
    if not equals:
        raise CompSRTError(f'`--only` takes AXIS=PATTERN, several of them with commas, got `{pattern}`.')
    if errors := errors_of_values(axes, axis):
        raise CompSRTError(errors[0])
    return axis, glob


def _combinations(sweep: Sweep) -> Iterator[Run]:
    file = sweep.options
    datasets = {n: v.model_dump() if isinstance(v, LmdbOptions) else v for n, v in file.datasets.items()}
    settings = {'datasets': datasets, **file.protocol.model_dump(), **file.eval.model_dump()}
    for values in product(*file.axes.values()):
        axes = dict(zip(file.axes, values))
        options: Mapping[str, Any] = sweep.base
        for axis, value in axes.items():
            options = override(options, file.axes[axis][value], f'`axes.{axis}.{value}`')
        options = _completed(options)
        scale = options.get('scale')
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise CompSRTError(f'`scale` must be a whole number of at least 1, got {shown(scale)}: give it in `base`.')
        yield Run(axes, _without_machine(options, TRAIN in file.datasets), settings)


def _completed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options with those of their method filled in, so that a method that changes makes new runs."""
    completed: dict[str, Any] = copy.deepcopy(dict(options))
    rename_run(completed)
    expand_run(completed)
    expand_network(completed)
    return completed


def _without_machine(options: Mapping[str, Any], has_training_set: bool) -> dict[str, Any]:
    """Returns the options that the result depends on: no names, logging, validation on the way, or paths of data."""
    kept = {k: v for k, v in options.items() if k not in ('name', 'val', 'logger', 'num_gpu')}
    train = dict((options.get('datasets') or {}).get(TRAIN) or {})
    if has_training_set:
        train = {k: v for k, v in train.items() if k not in ('name', 'dataroot_gt', 'dataroot_lq', 'io_backend')}
    kept['datasets'] = {TRAIN: {'type': 'PairedImageDataset', **train}}
    return kept


def _is_excluded(axes: Mapping[str, str], sweep: Sweep) -> bool:
    return any(all(axes[axis] in values for axis, values in entry.items()) for entry in sweep.options.exclude)


def _teachers(runs: Sequence[Run]) -> list[Run]:
    """Returns a test of each teacher that the runs learn from."""
    found: dict[str, Run] = {}
    for run in runs:
        path = run.options.get('path') or {}
        kept = {k: v for k, v in path.items() if k in ('pretrain_network_t', 'param_key_t')}
        options = {'scale': run.scale, 'network_t': run.options.get('network_t'), 'path': kept}
        test = Run({'method': FULL_PRECISION, 'scale': str(run.scale)}, options, run.settings, trains=False)
        found.setdefault(test.hash, test)
    return list(found.values())
