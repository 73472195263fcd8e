"""What a method fills in, what a file keeps, and unknown methods."""

import copy
from pathlib import Path

import pytest
import yaml
from compsrt_runs import TINY
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import tiny_quantized

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.methods.expand import expand_run, overridden
from compsrt_basicsr.config.methods.method import complete
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.record import decode_record

ROOT = Path(__file__).resolve().parents[3]


def run_options(method, **sections):
    return {'method': method, 'network_g': {'type': 'CompSRTSwinIR', **TINY, 'quant': {}}, 'train': {}, **sections}


def test_a_method_gives_what_is_left_out_and_a_file_wins():
    config = QuantConfig.from_opt({'method': 'lsq', 'symmetric': 'weights', 'weight_bits': 3})
    assert (config.method, config.symmetric, config.weight_bits) == ('lsq', 'weights', 3)
    assert (config.transform, config.learn_bounds, config.step_gradient) == ('none', False, 'lsq')


def test_without_a_method_nothing_changes():
    assert QuantConfig.from_opt({}) == QuantConfig() and QuantConfig.from_opt({'method': None}) == QuantConfig()
    opt = run_options(None)
    expand_run(opt)
    assert opt == run_options(None)


@pytest.mark.parametrize(('name', 'near'), [('lqs', 'lsq'), ('2d-quant', '2dquant'), ('comsrt', 'compsrt')])
def test_an_unknown_method_names_the_nearest(name, near):
    with pytest.raises(CompSRTError, match=rf'`method` must be one of minmax, .*, got `{name}`.*`{near}`'):
        QuantConfig.from_opt({'method': name})
    opt = run_options(name)
    expand_run(opt)  # left to the check, which reports all errors at once
    assert [near in error for error in find_errors(opt, True) if error.startswith('`method`')] == [True]


def test_the_method_of_a_run_may_stand_in_quant_as_before():
    opt, old = run_options('lsq'), run_options(None)
    old['network_g']['quant']['method'] = 'lsq'
    for options in (opt, old):
        expand_run(options)
    assert opt == {**old, 'method': 'lsq'}
    assert QuantConfig.from_opt(opt['network_g']['quant']) == QuantConfig.from_opt({'method': 'lsq'})


@pytest.mark.parametrize('value', [3, True, ['lsq'], {'name': 'lsq'}])
def test_a_method_is_a_text(value):
    with pytest.raises(CompSRTError, match='`method` must be'):
        QuantConfig.from_opt({'method': value})


@pytest.mark.parametrize(
    'opt', [{}, {'network_g': None}, {'network_g': {'quant': 'lsq'}}, {'method': 'lsq', 'network_g': {'quant': 3}}]
)
def test_broken_options_are_left_to_the_check(opt):
    before = copy.deepcopy(opt)
    expand_run(opt)
    assert opt == before


def test_sections_are_completed_unless_they_are_of_another_type():
    opt = run_options(
        'compsrt',
        train={
            'optim_g': {'lr': 1e-3},
            'pixel_opt': {'type': 'MSELoss'},
            'feature_opt': None,
            'scheduler': {'type': 'MultiStepLR', 'milestones': [5]},
        },
    )
    expand_run(opt)
    train = opt['train']
    assert train['optim_g'] == {**METHODS['compsrt'].train['optim_g'], 'lr': 1e-3}
    assert train['pixel_opt'] == {'type': 'MSELoss'} and train['feature_opt'] is None
    assert train['scheduler'] == {'type': 'MultiStepLR', 'milestones': [5]}
    assert opt['calibration'] == METHODS['compsrt'].calibration


@pytest.mark.parametrize('total', [1, 300, 5e3])
def test_a_cosine_ends_with_the_training(total):
    opt = run_options('2dquant', train={'total_iter': total})
    expand_run(opt)
    assert opt['train']['scheduler']['periods'] == [total]


def test_the_rate_of_weights_is_for_files_that_train_them():
    preset = METHODS['compsrt'].train
    assert preset['weight_lr'] > preset['unquantized_lr'] > 0
    for trainable in ('quantizers', 'none', 'all'):
        opt = run_options('compsrt', train={'trainable': trainable})
        expand_run(opt)
        expected = preset if trainable == 'all' else {}
        assert all(opt['train'].get(rate) == expected.get(rate) for rate in ('weight_lr', 'unquantized_lr'))
    opt = run_options('compsrt', train={'trainable': 'quantizers', 'weight_lr': 1e-3})
    expand_run(opt)
    assert opt['train']['weight_lr'] == 1e-3  # what is written stays, to be refused


def test_calibration_alone_has_no_iterations():
    opt = run_options('minmax', train={'total_iter': 300})
    expand_run(opt)
    assert opt['train']['total_iter'] == 0
    opt = run_options(None, train={'total_iter': 300, 'trainable': 'none'})
    expand_run(opt)
    assert opt['train'] == {'total_iter': 0, 'trainable': 'none'}
    opt = run_options('minmax', train={'total_iter': 300, 'trainable': 'quantizers'})
    expand_run(opt)
    assert (opt['train']['total_iter'], opt['train']['scheduler']['periods']) == (300, [300])


@pytest.mark.parametrize('name', METHODS)
def test_every_preset_is_valid_and_expanding_twice_is_expanding_once(name):
    method = METHODS[name]
    assert method.name == name and QuantConfig.from_opt({'method': name}).method == name
    CalibrationConfig.from_opt(method.calibration)
    opt = run_options(name)
    expand_run(opt)
    assert [error for error in find_errors(opt, True) if error.startswith(('`train.', '`network_g', '`calib'))] == []
    once = copy.deepcopy(opt)
    expand_run(opt)
    assert opt == once


def test_presets_are_not_changed_through_a_run():
    before = copy.deepcopy(METHODS)
    opt = run_options('compsrt_paper')
    expand_run(opt)
    opt['train']['optim_g']['betas'][0] = 9
    opt['train']['scheduler']['milestones'].append(1)
    assert before == METHODS


def test_what_a_file_changes_is_listed():
    opt = run_options('lsq', train={'optim_g': {'lr': 0.5}, 'total_iter': 300}, calibration={'method': 'minmax'})
    opt['network_g']['quant']['transform'] = 'auto'
    expected = {
        'quant.transform auto instead of none',
        'calibration.method minmax instead of lsq',
        'train.optim_g.lr 0.5 instead of 0.03',
        'train.total_iter 300 instead of 4000',
    }
    assert set(overridden(opt)) == expected
    expand_run(opt)
    assert set(overridden(opt)) == expected
    assert overridden(run_options('lsq')) == overridden(run_options(None)) == []


VALUES = st.none() | st.booleans() | st.integers(0, 3)
SECTIONS = st.dictionaries(st.sampled_from('abc'), VALUES | st.dictionaries(st.sampled_from('de'), VALUES), max_size=3)


@given(SECTIONS, SECTIONS)
def test_what_is_written_stays_and_what_is_not_is_the_presets(written, preset):
    result = complete(written, preset)
    assert result.keys() == {*written, *preset}
    for key, value in result.items():
        if isinstance(written.get(key), dict) and isinstance(preset.get(key), dict):
            assert value == {**preset[key], **written[key]}
        else:
            assert value == (written[key] if key in written else preset[key])


@pytest.mark.parametrize(('name', 'folder'), [('compsrt', '.'), ('compsrt_paper', 'paper')])
def test_the_shipped_option_files_are_the_presets(name, folder):
    """What `options/` writes out is what the method gives to a file that writes nothing."""
    opt = yaml.safe_load((ROOT / 'options' / folder / 'compsrt_x2_w4a4.yml').read_text(encoding='utf-8'))
    alone = run_options(name)
    expand_run(alone)
    named = QuantConfig.from_opt({**alone['network_g']['quant'], 'weight_bits': 4, 'act_bits': 4})
    assert QuantConfig.from_opt(opt['network_g']['quant']).replace(method=name) == named
    assert CalibrationConfig.from_opt(opt['calibration']) == CalibrationConfig.from_opt(alone['calibration'])
    assert opt['train'] == alone['train']


def test_a_record_keeps_its_options_whatever_the_preset_becomes(monkeypatch):
    """A file made with a method is rebuilt from what was stored, by a version that knows the method or does not."""
    network = tiny_quantized({'method': 'lsq', 'weight_bits': 3})
    record = decode_record(network.quant_record.json)
    assert (record['quant']['method'], record['quant']['symmetric']) == ('lsq', 'both')
    monkeypatch.setitem(METHODS['lsq'].quant, 'granularity', 'channel')
    del record['quant']['granularity']  # as a version before that option would have left it
    again = rebuild(record, Stored(1000, 10**6, 10**6))
    assert (again.quant_config.granularity, again.quant_config.symmetric) == ('tensor', 'both')
    record['quant']['method'] = 'of a later version'
    assert rebuild(record, Stored(1000, 10**6, 10**6)).quant_config.method == 'of a later version'


def test_a_method_and_its_options_written_out_load_each_others_checkpoints():
    named = tiny_quantized({'method': '2dquant'})
    written = tiny_quantized({'transform': 'none', 'learn_scale_offset': False, 'learn_zero_offset': False})
    written.load_state_dict(named.state_dict())
    with pytest.raises(CompSRTError, match="transform 'none' in the checkpoint, 'blocks' in the options"):
        tiny_quantized({'method': 'compsrt'}).load_state_dict(named.state_dict())
