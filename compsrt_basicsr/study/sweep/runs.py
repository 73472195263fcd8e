"""The runs of a grid: every combination of its axes, each with its options and a name that changes with them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from compsrt_basicsr.config.methods.expand import expand_quant, expand_run
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.spec import TRAIN, Grid, check_value, override

FULL_PRECISION = 'full_precision'


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        axes: its place in the grid, value by axis.
        options: of BasicSR's training, data sets and machine left out; a test of a teacher has `network_t` alone.
        settings: data, protocol and how it is tested: what else its result depends on.
        trains: False for the test of a teacher.
    """

    axes: Mapping[str, str]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    trains: bool = True

    @property
    def hash(self) -> str:
        """SHA-256 of all that was asked for; another hash is another run."""
        asked = {'options': self.options, 'settings': self.settings, 'trains': self.trains}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """'method=minmax bits=4 seed=3407'."""
        return ' '.join(f'{axis}={value}' for axis, value in self.axes.items())

    @property
    def name(self) -> str:
        """Name of its files."""
        return '_'.join([*(f'{axis}-{value}' for axis, value in self.axes.items()), self.hash[:8]])

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.options['scale']

    @property
    def border(self) -> int:
        """Pixels cropped before measuring."""
        border = self.settings['border']
        return self.scale if border == 'scale' else border


def expand(grid: Grid) -> list[Run]:
    """All runs of a grid in the order of its axes, the tests of teachers last.

    Raises:
        CompSRTError: nothing is left to run, or a combination gives no scale.
    """
    runs = [run for run in _combinations(grid) if not _excluded(run.axes, grid)]
    if not runs:
        raise CompSRTError(f'The grid `{grid.name}` is empty: `exclude` leaves no run.')
    if grid.full_precision:
        runs += _teachers(runs)
    return runs


def choose(runs: Sequence[Run], patterns: Sequence[str], grid: Grid) -> list[Run]:
    """The runs that match any pattern such as `method=lsq*,bits=4`; all without patterns.

    Raises:
        CompSRTError: a pattern names no axis of the grid, or matches no run.
    """
    if not patterns:
        return list(runs)
    chosen = []
    for pattern in patterns:
        wanted = dict(_condition(part, pattern, grid) for part in pattern.split(','))
        found = [run for run in runs if all(fnmatchcase(run.axes.get(axis, ''), glob) for axis, glob in wanted.items())]
        if not found:
            raise CompSRTError(f'`--only {pattern}` matches no run; --dry-run lists them.')
        chosen += found
    return [run for run in runs if run in chosen]


def _condition(part: str, pattern: str, grid: Grid) -> tuple[str, str]:
    axis, equals, glob = part.strip().partition('=')
    if not equals:
        raise CompSRTError(f'`--only` takes AXIS=PATTERN, several of them with commas, got `{pattern}`.')
    check_value(axis, None, grid.axes)
    return axis, glob


def _combinations(grid: Grid) -> Iterator[Run]:
    settings = {
        'datasets': dict(grid.datasets),
        'border': grid.border,
        'channel': grid.channel,
        'padding': grid.padding,
        'execution': grid.execution,
        'levels': grid.levels,
    }
    for values in product(*grid.axes.values()):
        axes = dict(zip(grid.axes, values))
        options: Mapping[str, Any] = grid.base
        for axis, value in axes.items():
            options = override(options, grid.axes[axis][value], f'`axes.{axis}.{value}`')
        options = _completed(options)
        scale = options.get('scale')
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise CompSRTError(f'`scale` must be a whole number of at least 1, got {scale!r}: give it in `base`.')
        yield Run(axes, _without_machine(options, TRAIN in grid.datasets), settings)


def _completed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of their method filled in, so that a changed method is a new run."""
    options = copy.deepcopy(dict(options))
    network = options.get('network_g')
    if isinstance(network, dict) and isinstance(network.get('quant'), Mapping):
        network['quant'] = expand_quant(network['quant'])
    expand_run(options)
    return options


def _without_machine(options: Mapping[str, Any], own_data: bool) -> dict[str, Any]:
    """Options that the result depends on: no names, no logging, no validation on the way, no paths of the data."""
    kept = {k: v for k, v in options.items() if k not in ('name', 'val', 'logger', 'num_gpu')}
    train = dict((options.get('datasets') or {}).get(TRAIN) or {})
    if own_data:
        train = {k: v for k, v in train.items() if k not in ('name', 'dataroot_gt', 'dataroot_lq', 'io_backend')}
    kept['datasets'] = {TRAIN: {'type': 'PairedImageDataset', **train}}
    return kept


def _excluded(axes: Mapping[str, str], grid: Grid) -> bool:
    return any(all(axes[axis] in values for axis, values in entry.items()) for entry in grid.exclude)


def _teachers(runs: Sequence[Run]) -> list[Run]:
    """A test of each teacher that the runs learn from; of the axes only those that change it count."""
    found: dict[str, Run] = {}
    for run in runs:
        path = run.options.get('path') or {}
        kept = {k: v for k, v in path.items() if k in ('pretrain_network_t', 'param_key_t')}
        options = {'scale': run.scale, 'network_t': run.options.get('network_t'), 'path': kept}
        test = Run({'method': FULL_PRECISION, 'scale': str(run.scale)}, options, run.settings, trains=False)
        found.setdefault(test.hash, test)
    return list(found.values())
