"""parse_options: BasicSR's flags and result, for our runs strict."""

import sys

import pytest
import torch
from basicsr import test as basicsr_test
from basicsr import train as basicsr_train
from basicsr.data import build_dataset

from compsrt_basicsr.basicsr_compat import parse_options as options
from compsrt_basicsr.basicsr_compat.parse_options import parse_options
from compsrt_basicsr.config.is_compsrt_run import is_ours
from compsrt_basicsr.errors import CompSRTError


@pytest.fixture
def parse(tmp_path, monkeypatch, stock_options, write_options):
    """Parses the stock options after `change(options)` with further flags."""

    def parse(*flags, change=lambda opt: None, is_train=True):
        change(stock_options)
        path = write_options(tmp_path / 'run.yml', stock_options)
        monkeypatch.setattr(sys, 'argv', ['prog', '-opt', str(path), *flags])
        return parse_options(str(tmp_path / 'root'), is_train)[0]

    return parse


def test_it_is_installed_where_basicsr_looks():
    assert basicsr_train.parse_options.__wrapped__ is parse_options  # the wrapper locks the name
    assert basicsr_test.parse_options.__wrapped__ is parse_options


def test_result_is_that_of_basicsr(tmp_path, monkeypatch, stock_options, write_options):
    from basicsr.utils import options as host

    stock_options['val']['suffix'] = None  # else it is filled in, since BasicSR's test needs it
    path = write_options(tmp_path / 'run.yml', stock_options)
    flags = ['--auto_resume', '--force_yml', 'train:total_iter=9', 'network_g:embed_dim=16']
    monkeypatch.setattr(sys, 'argv', ['prog', '-opt', str(path), *flags])
    for is_train in (True, False):
        assert parse_options(str(tmp_path), is_train)[0] == host.parse_options(str(tmp_path), is_train)[0]


@pytest.mark.parametrize('flag', ['--local_rank=1', '--local-rank=1'])
def test_both_spellings_of_local_rank(parse, flag):
    assert parse(flag)['dist'] is False


def test_debug_shortens_the_run(parse):
    opt = parse('--debug')
    assert opt['name'] == 'debug_tiny'
    assert (opt['val']['val_freq'], opt['logger']['save_checkpoint_freq']) == (8, 8)


def test_debug_without_a_validation(parse):
    assert parse('--debug', change=lambda opt: opt.update(val=None))['val'] is None


def test_forced_twice_holds_both(parse):
    opt = parse('--force_yml', 'train:total_iter=9', '--force_yml', 'manual_seed=11')
    assert (opt['train']['total_iter'], opt['manual_seed']) == (9, 11)


def test_forced_seed_is_the_seed_in_use(parse):
    parse('--force_yml', 'manual_seed=11')
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1))


def test_missing_gpus_are_told(parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(CompSRTError, match='`num_gpu` is 2 but PyTorch finds no CUDA'):
        parse(change=lambda opt: opt.update(num_gpu=2))


def test_missing_opt_flag_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['prog'])
    with pytest.raises(SystemExit) as caught:
        parse_options('.')
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ('opt', 'expected'),
    [
        ({'model_type': 'CompSRTModel'}, True),
        ({'model_type': 'CompSRTPretrainModel', 'network_g': {'type': 'SwinIR'}}, True),
        ({'model_type': 'SRModel', 'network_g': {'type': 'CompSRTSwinIR'}}, True),
        ({'model_type': 'SRModel', 'network_t': {'type': 'compsrt_x'}}, True),
        ({'model_type': 'SwinIRModel', 'network_g': {'type': 'SwinIR'}}, False),
        ({'network_g': None}, False),
    ],
)
def test_which_runs_are_ours(opt, expected):
    assert is_ours(opt) is expected


def test_only_our_runs_are_checked_strictly(parse, monkeypatch):
    assert parse(change=lambda opt: opt.update(unknown=1))['unknown'] == 1
    monkeypatch.setattr(options, 'is_ours', lambda opt: True)
    with pytest.raises(CompSRTError, match=r'`unknown` is not an option'):
        parse()


def test_ours_are_refused_before_a_folder_is_made(parse, monkeypatch, tmp_path):
    monkeypatch.setattr(options, 'is_ours', lambda opt: True)

    def change(opt):
        opt['train']['trainable'] = 'weights'
        opt['val'].update(pad='mirror', levels='none')

    with pytest.raises(CompSRTError) as caught:
        parse(change=change)
    assert all(f'`{place}`' in str(caught.value) for place in ('train.trainable', 'val.pad', 'val.count_codes'))
    assert not (tmp_path / 'root').exists()


def test_old_names_are_read_from_file_and_command_line(parse, caplog):
    def change(opt):
        opt.update(model_type='CompSRTModel', network_t=dict(opt['network_g']))
        opt['path']['pretrain_network_t'] = 'zoo://swinir_light_x2'
        opt['network_g'].update(type='CompSRTSwinIR', embed_dim=12, quant={'bounds': False, 'method': '2dquant'})
        opt['train'] = {'total_iter': 4}
        opt['val']['levels'] = 'skip'

    flags = ('--force_yml', 'network_g:quant:scale_offset=true', 'network_g:quant:method=lsq', 'val:levels=all')
    opt = parse(*flags, change=change)
    assert opt['network_g']['quant'] == {'learn_bounds': False, 'learn_scale_offset': True, 'method': 'lsq'}
    assert (opt['method'], opt['val']['count_codes'], opt['calibration']) == ('lsq', 'all', {'method': 'lsq'})
    renamed, idle = caplog.messages  # a training counts no codes for its validation
    assert '`network_g.quant.learn_bounds`' in renamed and '`val.count_codes`' in idle


def test_a_test_builds_its_network_with_the_method(parse):
    def change(opt):
        opt.update(model_type='CompSRTModel', method='lsq', datasets={'test_1': opt['datasets']['val']})
        opt['network_g'].update(type='CompSRTSwinIR', embed_dim=12)
        del opt['train'], opt['logger']

    assert parse(change=change, is_train=False)['network_g']['quant'] == {'method': 'lsq'}


def test_our_runs_have_a_fixed_seed_and_complete_val(parse, monkeypatch):
    monkeypatch.setattr(options, 'is_ours', lambda opt: True)

    def change(opt):
        del opt['manual_seed'], opt['val']['save_img']

    opt = parse(change=change)
    assert opt['manual_seed'] == options.DEFAULT_SEED
    assert opt['val']['save_img'] is False and opt['val']['suffix'] is None


def test_basicsr_gets_folders_without_a_slash(parse):
    """It looks for `.lmdb` at their end."""

    def change(opt):
        for dataset in opt['datasets'].values():
            dataset.update(dataroot_gt=dataset['dataroot_gt'] + '/', dataroot_lq=dataset['dataroot_lq'] + '/')

    for dataset in parse(change=change)['datasets'].values():
        assert len(build_dataset(dataset)) > 0


def test_an_option_without_a_value_is_not_given(parse, monkeypatch):
    """BasicSR reads these with `get(key, default)`: None would crash it or, for `strict_load_g`, load anything."""
    monkeypatch.setattr(options, 'is_ours', lambda opt: True)

    def change(opt):
        opt['train'].update(ema_decay=None, warmup_iter=None)
        opt['path']['strict_load_g'] = None
        opt['datasets']['train']['dataset_enlarge_ratio'] = None

    opt = parse(change=change)
    assert not {'ema_decay', 'warmup_iter'} & set(opt['train'])
    assert 'strict_load_g' not in opt['path'] and 'dataset_enlarge_ratio' not in opt['datasets']['train']
