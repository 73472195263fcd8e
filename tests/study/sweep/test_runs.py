"""From axes to runs, and what names them."""

from pathlib import Path

import pytest
from conftest import ROOT
from sweep_records import AXES, sweep_of

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.read_record import is_done
from compsrt_basicsr.study.sweep.runs import Run, choose, expand
from compsrt_basicsr.study.sweep.spec import read_sweep


def test_every_combination_once(tmp_path: Path):
    runs = expand(sweep_of(tmp_path))
    assert len(runs) == 12 and len({run.name for run in runs}) == 12
    assert runs[0].label == 'range=strict bits=4 seed=1'
    last = runs[-1].options
    assert (last['manual_seed'], last['network_g']['quant']['weight_bits']) == (2, 2)
    assert last['network_g']['quant']['code_range'] == 'paper'


def test_excluded_combinations(tmp_path: Path):
    runs = expand(sweep_of(tmp_path, exclude=[{'range': 'paper', 'bits': [3, 2]}, {'seed': 2, 'range': 'strict'}]))
    assert [run.label for run in runs if 'paper' in run.label] == [f'range=paper bits=4 seed={s}' for s in (1, 2)]
    assert len(runs) == 5
    with pytest.raises(CompSRTError, match=r'`tiny` is empty: `exclude`'):
        expand(sweep_of(tmp_path, exclude=[{'seed': [1, 2]}]))


def test_changed_option_is_another_run_and_logging_is_not(tmp_path: Path):
    first = expand(sweep_of(tmp_path))[0]
    assert expand(sweep_of(tmp_path))[0].name == first.name
    assert expand(sweep_of(tmp_path, set={'logger.print_freq': 3, 'num_gpu': 0}))[0].name == first.name
    for change in ({'set': {'train.total_iter': 5}}, {'protocol': {'border': 4}}, {'eval': {'execution': 'fake'}}):
        changed = expand(sweep_of(tmp_path, **change))[0]
        assert changed.label == first.label and changed.name != first.name


def test_options_that_were_renamed_keep_the_name_of_a_run():
    """Records and folders of earlier versions are found by it."""
    quant = {'weight_bits': 4, 'act_bits': 4}
    old = {'network_g': {'quant': {**quant, 'method': 'compsrt', 'bounds': False}}, 'train': {'float_lr': 1e-4}}
    new = {
        'method': 'compsrt',
        'network_g': {'quant': {**quant, 'learn_bounds': False}},
        'train': {'unquantized_lr': 1e-4},
    }
    assert Run({}, old, {'levels': 'all'}).hash == Run({}, new, {'count_codes': 'all'}).hash
    assert Run({}, {'method': 'lsq', 'network_g': None}, {}).hash != Run({}, {'network_g': None}, {}).hash
    assert new['method'] == 'compsrt'  # left alone


@pytest.mark.parametrize('name', ['packaged', 'ablation', 'pruning', 'budget', 'transform', 'recipe'])
def test_committed_records_are_those_of_the_shipped_sweeps(name: str):
    """A copy of them in a sweep's folder is not run again, whatever options have been renamed since."""
    runs = {run.name: run for run in expand(read_sweep(ROOT / f'options/sweeps/{name}_x2.yml'))}
    files = list((ROOT / f'docs/results/{name}_sweep').glob('*.json'))
    assert files and all(is_done(file, runs[file.stem]) for file in files)


def test_one_test_of_each_teacher(tmp_path: Path):
    axes = {**AXES, 'teacher': {'a': {}, 'b': {'path.pretrain_network_t': 'other.pth'}}}
    runs = expand(sweep_of(tmp_path, axes, full_precision=True))
    teachers = [run for run in runs if not run.trains]
    assert len(runs) == 26 and len(teachers) == 2
    assert teachers[0].axes == {'method': 'full_precision', 'scale': '2'}
    assert choose(runs, ['method=full_precision']) == teachers


def test_choosing(tmp_path: Path):
    runs = expand(sweep_of(tmp_path))
    assert choose(runs, []) == runs
    assert [run.label for run in choose(runs, ['range=p*,bits=2', 'seed=1,bits=[34],range=strict'])] == [
        'range=strict bits=4 seed=1',
        'range=strict bits=3 seed=1',
        'range=paper bits=2 seed=1',
        'range=paper bits=2 seed=2',
    ]
    for pattern, culprit in (
        ('rnge=paper', 'Did you mean `range`?'),
        ('bits=5', '`--only bits=5`'),
        ('paper', '`paper`'),
    ):
        with pytest.raises(CompSRTError) as caught:
            choose(runs, [pattern])
        assert culprit in str(caught.value)


def test_scale_is_needed(tmp_path: Path):
    with pytest.raises(CompSRTError, match='`scale`'):
        expand(sweep_of(tmp_path, set={'scale': None}))
