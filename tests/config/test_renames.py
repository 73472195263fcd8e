"""Renamed options: old names are read everywhere, with one warning in option files and silently in records."""

import copy
import logging

import pytest
from tiny_networks import tiny_quantized

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.losses import FeatureDistillationLoss
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.renames import RENAMED, current_path, rename_run, renamed, with_old_names
from compsrt_basicsr.config.training import TrainOptions
from compsrt_basicsr.config.validation import ValidationOptions
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.record import decode_record

MODELS = {'quant': QuantConfig, 'train': TrainOptions, 'val': ValidationOptions}
OLD = {
    'network_g': {'type': 'CompSRTSwinIR', 'quant': {'bounds': False, 'seed': 3, 'weight_bits': 2, 'method': 'lsq'}},
    'train': {'float_lr': 1e-4, 'total_iter': 3},
    'val': {'levels': 'all'},
    'calibration': {'seed': 5, 'method': 'dobi'},
}
NEW = {
    'network_g': {'type': 'CompSRTSwinIR', 'quant': {'learn_bounds': False, 'transform_seed': 3, 'weight_bits': 2}},
    'train': {'unquantized_lr': 1e-4, 'total_iter': 3},
    'val': {'count_codes': 'all'},
    'calibration': {'seed': 5, 'method': 'dobi'},
    'method': 'lsq',
}


@pytest.mark.parametrize('kind', RENAMED)
def test_new_names_are_options_and_old_names_are_not(kind):
    fields = set(MODELS[kind].model_fields)
    assert set(RENAMED[kind].values()) <= fields and not set(RENAMED[kind]) & fields


def test_a_run_is_renamed_with_one_warning(caplog):
    opt = copy.deepcopy(OLD)
    with caplog.at_level(logging.WARNING):
        rename_run(opt, warn=True)
    assert opt == NEW
    (warning,) = caplog.messages
    assert all(
        f'`{name}`' in warning for name in ('train.float_lr', 'train.unquantized_lr', 'val.count_codes', 'method')
    )
    caplog.clear()
    rename_run(opt, warn=True)
    assert opt == NEW and not caplog.messages


def test_checksums_may_use_the_old_names():
    assert with_old_names(NEW) == OLD == with_old_names(with_old_names(NEW))
    assert NEW['method'] == 'lsq'


@pytest.mark.parametrize(
    ('section', 'both', 'places'),
    [
        ('train', {'float_lr': 1, 'unquantized_lr': 1}, ('train.float_lr', 'unquantized_lr')),
        ('val', {'levels': 'all', 'count_codes': 'all'}, ('val.levels', 'count_codes')),
        ('network_g', {'quant': {'seed': 0, 'transform_seed': 0}}, ('network_g.quant.seed', 'transform_seed')),
        ('network_g', {'quant': {'method': 'dobi'}}, ('network_g.quant.method',)),
    ],
)
def test_old_and_new_name_together_are_an_error(section, both, places):
    with pytest.raises(CompSRTError) as caught:
        rename_run({**copy.deepcopy(NEW), section: both})
    assert all(f'`{place}`' in str(caught.value) for place in places)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('network_g.quant.bounds', 'network_g.quant.learn_bounds'),
        ('network_t.quant.convs', 'network_t.quant.quantize_convs'),
        ('network_g.quant.method', 'method'),
        ('train.float_lr', 'train.unquantized_lr'),
        ('val.levels', 'val.count_codes'),
        ('calibration.seed', 'calibration.seed'),
        ('train.optim_g.lr', 'train.optim_g.lr'),
        ('scale', 'scale'),
        ('network_g.convs', 'network_g.convs'),
    ],
)
def test_paths(old, new):
    assert current_path(old) == new == current_path(new)


def test_other_sections_keep_their_names():
    loss = {'type': 'FeatureDistillationLoss', 'loss_weight': 1.0}
    opt = {'train': {'feature_opt': loss}, 'seed': 1, 'val': 3, 'network_g': None}
    rename_run(opt)
    assert opt == {'train': {'feature_opt': loss}, 'seed': 1, 'val': 3, 'network_g': None}
    assert FeatureDistillationLoss.errors_of(loss) == []


def test_records_of_old_names_are_read_silently(caplog):
    network = tiny_quantized({'learn_zero_offset': False, 'quantize_convs': True})
    record = decode_record(network.quant_record.json)
    new_names = {new: old for old, new in RENAMED['quant'].items()}
    record['quant'] = {new_names.get(name, name): value for name, value in record['quant'].items()}
    assert not set(RENAMED['quant'].values()) & set(record['quant'])
    again = rebuild(record, Stored(1000, 10**6, 10**6))
    assert again.quant_config == network.quant_config == QuantConfig.from_record(record['quant'])
    assert not caplog.messages


def test_a_checkpoint_of_old_names_loads_and_another_quantization_is_refused(old_names):
    state = old_names(tiny_quantized({'learn_bounds': False}))
    tiny_quantized({'learn_bounds': False}).load_state_dict(state)
    with pytest.raises(CompSRTError, match='learn_bounds False in the checkpoint, True in the options'):
        tiny_quantized().load_state_dict(state)


@pytest.fixture
def old_names():
    """Returns the state dict of a network as a version before the renaming wrote it."""
    import json

    import torch

    def state(network):
        found = network.state_dict()
        record = json.loads(bytes(found['quant_record.json'].tolist()))
        old = {new: old for old, new in RENAMED['quant'].items()}
        record['quant'] = {old.get(name, name): value for name, value in record['quant'].items()}
        found['quant_record.json'] = torch.tensor(list(json.dumps(record, sort_keys=True).encode()), dtype=torch.uint8)
        return found

    return state


def test_packed_files_of_old_names_are_read():
    """The packaged networks were packed before the renaming."""
    loaded = load_network('zoo://swinir_light_x2_house_w2a2')
    assert not set(RENAMED['quant']) & set(loaded.record['quant'])
    assert QuantConfig.from_record(loaded.record['quant']) == loaded.network.quant_config


def test_renaming_keeps_order_and_values():
    assert list(renamed({'b': 1, 'bounds': 2, 'a': 3}, 'quant').items()) == [('b', 1), ('learn_bounds', 2), ('a', 3)]
