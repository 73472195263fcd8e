"""What a method fills in, what a file keeps, and what is said of names that are none."""

import copy
from pathlib import Path

import pytest
import yaml
from compsrt_runs import TINY
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import tiny_quantized

from compsrt_basicsr.archs.rebuild import rebuild
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.host.option_check import find_faults
from compsrt_basicsr.methods.expand import expand_run, overridden
from compsrt_basicsr.methods.method import complete
from compsrt_basicsr.methods.presets import METHODS
from compsrt_basicsr.quant.config import CalibrationConfig, QuantConfig
from compsrt_basicsr.quant.record import decode_record

ROOT = Path(__file__).resolve().parents[2]


def run_options(method, **sections):
    network = {'type': 'CompSRTSwinIR', **TINY, 'quant': {'method': method}}
    return {'network_g': network, 'train': {}, **sections}


def test_a_method_gives_what_is_left_out_and_a_file_wins():
    config = QuantConfig.from_opt({'method': 'lsq', 'symmetric': 'weights', 'weight_bits': 3})
    assert CalibrationConfig.from_opt(opt['calibration']) == CalibrationConfig.from_opt(alone['calibration'])
    assert opt['train'] == alone['train']


def test_a_record_keeps_its_options_whatever_the_preset_becomes(monkeypatch):
    """A file made with a method is rebuilt from what was stored, by name or without."""
    network = tiny_quantized({'method': 'lsq', 'weight_bits': 3})
    record = decode_record(network.quant_record.json)
    assert (record['quant']['method'], record['quant']['symmetric']) == ('lsq', 'both')
    monkeypatch.setitem(METHODS['lsq'].quant, 'granularity', 'channel')
    del record['quant']['granularity']  # as a version before that option would have left it
    again = rebuild(record, 10**6)
    assert (again.quant_config.granularity, again.quant_config.symmetric) == ('tensor', 'both')
    record['quant']['method'] = 'of a later version'
    assert rebuild(record, 10**6).quant_config.method == 'of a later version'


def test_a_method_and_its_options_written_out_load_each_others_checkpoints():
    named = tiny_quantized({'method': '2dquant'})
    written = tiny_quantized({'transform': 'none', 'scale_offset': False, 'zero_offset': False})
    written.load_state_dict(named.state_dict())
    with pytest.raises(CompSRTError, match="transform 'none' in the checkpoint, 'auto' in the options"):
        tiny_quantized({'method': 'compsrt'}).load_state_dict(named.state_dict())
