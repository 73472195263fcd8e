"""From axes to runs."""

from pathlib import Path

import pytest
from sweep_records import AXES, grid_of

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.runs import choose, expand


def test_every_combination_once(tmp_path: Path):
    runs = expand(grid_of(tmp_path))
    assert len(runs) == 12 and len({run.name for run in runs}) == 12
    assert runs[0].label == 'range=strict bits=4 seed=1'
    last = runs[-1].options
    assert (last['manual_seed'], last['network_g']['quant']['weight_bits']) == (2, 2)
    assert last['network_g']['quant']['code_range'] == 'paper'


def test_excluded_combinations(tmp_path: Path):
    runs = expand(grid_of(tmp_path, exclude=[{'range': 'paper', 'bits': [3, 2]}, {'seed': 2, 'range': 'strict'}]))
    assert [run.label for run in runs if 'paper' in run.label] == [f'range=paper bits=4 seed={s}' for s in (1, 2)]
    assert len(runs) == 5
    with pytest.raises(CompSRTError, match=r'^The grid `tiny` is empty: `exclude` leaves no run\.$'):
        expand(grid_of(tmp_path, exclude=[{'seed': [1, 2]}]))


def test_changed_option_is_another_run_and_logging_is_not(tmp_path: Path):
    first = expand(grid_of(tmp_path))[0]
    assert expand(grid_of(tmp_path))[0].name == first.name
    assert expand(grid_of(tmp_path, set={'logger.print_freq': 3, 'num_gpu': 0}))[0].name == first.name
    for change in ({'set': {'train.total_iter': 5}}, {'protocol': {'border': 4}}, {'eval': {'execution': 'fake'}}):
        changed = expand(grid_of(tmp_path, **change))[0]
        assert changed.label == first.label and changed.name != first.name


def test_one_test_of_each_teacher(tmp_path: Path):
    axes = {**AXES, 'teacher': {'a': {}, 'b': {'path.pretrain_network_t': 'other.pth'}}}
    runs = expand(grid_of(tmp_path, axes, full_precision=True))
    teachers = [run for run in runs if not run.trains]
    assert len(runs) == 26 and len(teachers) == 2
    assert teachers[0].axes == {'method': 'full_precision', 'scale': '2'}


def test_choosing(tmp_path: Path):
    grid = grid_of(tmp_path)
    runs = expand(grid)
    assert choose(runs, [], grid) == runs
    assert [run.label for run in choose(runs, ['range=p*,bits=2', 'seed=1,bits=[34],range=strict'], grid)] == [
        'range=strict bits=4 seed=1',
        'range=strict bits=3 seed=1',
        'range=paper bits=2 seed=1',
        'range=paper bits=2 seed=2',
    ]
    for pattern, sentence in (
        ('rnge=paper', '`rnge` is no axis of this grid. Did you mean `range`?'),
        ('bits=5', '`--only bits=5` matches no run; --dry-run lists them.'),
        ('paper', '`--only` takes AXIS=PATTERN, several of them with commas, got `paper`.'),
    ):
        with pytest.raises(CompSRTError) as caught:
            choose(runs, [pattern], grid)
        assert str(caught.value).startswith(sentence)


def test_scale_is_needed(tmp_path: Path):
    with pytest.raises(CompSRTError, match='`scale` must be a whole number of at least 1, got None'):
        expand(grid_of(tmp_path, set={'scale': None}))
