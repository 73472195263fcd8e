"""The option files of a run."""

from pathlib import Path

import pytest
from compsrt_runs import make_teacher
from conftest import LmdbPair
from sweep_records import sweep_of

from compsrt_basicsr.config.check import check_options
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.data import LmdbPair as SweepPair
from compsrt_basicsr.study.sweep.option_files import check_run, execution_of, test_options, training_options
from compsrt_basicsr.study.sweep.runs import Run, expand

test_options.__test__ = False  # a function of the package, not a test


@pytest.fixture
def pair(tiny_lmdb: LmdbPair) -> SweepPair:
    return SweepPair(tiny_lmdb.hr, tiny_lmdb.lr)


def runs_of(folder: Path, **sections) -> list[Run]:
    make_teacher(folder / 'teacher.pth')
    return expand(sweep_of(folder, **sections))


def test_training(tmp_path: Path, pair: SweepPair):
    run = runs_of(tmp_path)[0]
    options = training_options(run, pair)
    check_options(options, True)
    assert list(options['datasets']) == ['train'] and options['val'] is None
    assert options['datasets']['train']['dataroot_gt'] == str(pair.gt)
    assert options['path']['pretrain_network_t'] == str(tmp_path / 'teacher.pth')


def test_test(tmp_path: Path, pair: SweepPair):
    run = runs_of(tmp_path, protocol={'border': 5, 'channel': 'rgb', 'padding': 'reflect'})[0]
    options = test_options(run, {'Set5': pair, 'Set14': pair}, 'integer')
    assert [dataset['name'] for dataset in options['datasets'].values()] == ['Set5', 'Set14']
    metric = {'type': 'calculate_ssim', 'crop_border': 5, 'test_y_channel': False}
    assert options['val']['metrics']['ssim'] == metric and options['val']['pad'] == 'reflect'
    assert options['network_g']['quant']['execution'] == 'integer'
    assert options['path']['param_key_g'] == 'params'
    averaged = runs_of(tmp_path, set={'train.ema_decay': 0.9})[0]
    assert test_options(averaged, {'Set5': pair}, 'fake')['path']['param_key_g'] == 'params_ema'


def test_border_follows_the_scale(tmp_path: Path, pair: SweepPair):
    options = test_options(runs_of(tmp_path)[0], {'Set5': pair}, 'fake')
    assert options['val']['metrics']['psnr']['crop_border'] == 2


def test_teacher_is_tested_as_it_is(tmp_path: Path, pair: SweepPair):
    run = runs_of(tmp_path, full_precision=True)[-1]
    options = test_options(run, {'Set5': pair})
    check_options(options, False)
    assert options['network_g']['type'] == 'SwinIR' and 'quant' not in options['network_g']
    assert options['path']['pretrain_network_g'] == str(tmp_path / 'teacher.pth')


def test_integer_execution_where_it_can_be(tmp_path: Path):
    strict, *_, paper = runs_of(tmp_path)
    assert [execution_of(run, has_kernels=True) for run in (strict, paper)] == ['integer', 'fake']
    assert execution_of(strict, has_kernels=False) == 'fake'
    strict, *_, paper = runs_of(tmp_path, eval={'execution': 'integer'})
    assert execution_of(strict, has_kernels=False) == 'integer'
    with pytest.raises(CompSRTError, match=r'^range=paper bits=2 seed=2: `eval.execution`'):
        execution_of(paper, has_kernels=True)


def test_a_network_without_integer_layers_is_tested_as_it_can_be(tmp_path: Path):
    """A sweep over convolutional networks must not fail at their tests, after an hour of training."""
    network = {
        'type': 'CompSRTNet',
        'base': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
        'quant': {'quantize_convs': True},
    }
    run = runs_of(tmp_path)[0]
    run.options['network_g'] = network
    assert execution_of(run, has_kernels=True) == 'fake'
    run.settings['execution'] = 'integer'
    with pytest.raises(CompSRTError, match=r'`eval.execution`: EDSR'):
        check_run(run, has_training_set=True)


def test_levels_of_all_pictures_are_counted_by_fake_quantization(tmp_path: Path):
    run = runs_of(tmp_path, eval={'count_codes': 'all'})[0]
    assert execution_of(run, has_kernels=True) == 'fake'
    run = runs_of(tmp_path, eval={'count_codes': 'all', 'execution': 'integer'})[0]
    with pytest.raises(CompSRTError, match='count_codes: all'):
        check_run(run, has_training_set=True)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'network_g.quant.wieght_bits': 4}, 'Did you mean `weight_bits`?'),
        ({'trian.total_iter': 4}, 'Did you mean `train`?'),
        ({'train.total_iter': -1}, '`train.total_iter`'),
        ({'path.pretrain_network_t': 'nowhere.pth'}, 'nowhere.pth`'),
    ],
)
def test_errors_are_found_before_anything_runs(tmp_path: Path, change, sentence):
    run = runs_of(tmp_path, set=change)[0]
    with pytest.raises(CompSRTError) as caught:
        check_run(run, has_training_set=True)
    assert sentence in str(caught.value) and 'range=strict bits=4 seed=1' in str(caught.value)
