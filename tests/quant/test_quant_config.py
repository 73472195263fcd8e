"""Configurations: defaults are valid, every fault is one sentence that names the option."""

import pytest

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.config import CalibrationConfig, QuantConfig


def test_nothing_given_is_valid():
    assert QuantConfig.from_opt(None) == QuantConfig.from_opt({}) == QuantConfig()
    assert CalibrationConfig.from_opt(None) == CalibrationConfig()


def test_options_arrive():
    config = QuantConfig.from_opt({'weight_bits': 2, 'include': ['a*'], 'exclude': 'b*', 'convs': True})
    assert (config.weight_bits, config.include, config.exclude, config.convs) == (2, ('a*',), ('b*',), True)
    assert QuantConfig.from_opt(config) is config


def test_frozen():
    with pytest.raises(AttributeError):
        QuantConfig().weight_bits = 3


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'weight_bit': 4}, r'`weight_bit` is not an option of `quant`\. Did you mean `weight_bits`\?'),
        ({'zzz': 1}, r'`zzz` is not an option of `quant`\. Known options: weight_bits'),
        ({'weight_bits': 9}, '`weight_bits` must be a whole number from 2 to 8, got 9'),
        ({'weight_bits': 1}, 'from 2 to 8, got 1'),
        ({'act_bits': True}, '`act_bits` must be a whole number from 2 to 8, got True'),
        ({'act_bits': 4.0}, 'got 4.0'),
        ({'act_bits': '4'}, "got '4'"),
        ({'act_bits': None}, 'got None'),
        ({'seed': -1}, '`seed` must be'),
        (
            {'code_range': 'strikt'},
            r"`code_range` must be one of strict, paper, got 'strikt'\. Did you mean `strict`\?",
        ),
        ({'transform': 'hadamart'}, 'Did you mean `hadamard`'),
        ({'granularity': 'row'}, '`granularity` must be one of tensor, channel'),
        ({'convs': 1}, '`convs` must be true or false, got 1'),
        ({'head_tail': 'yes'}, '`head_tail` must be true or false'),
        ({'include': 3}, '`include` must be a name pattern or a list of them, got 3'),
        ({'exclude': ['a', 3]}, '`exclude` must be'),
        ([4, 4], '`quant` must be a mapping of options'),
    ],
)
def test_faults_of_quant(option, text):
    with pytest.raises(CompSRTError, match=text):
        QuantConfig.from_opt(option)


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'num_patch': 4}, r'`num_patch` is not an option of `calibration`\. Did you mean `num_patches`\?'),
        ({'method': 'min-max'}, 'Did you mean `minmax`'),
        ({'search': 'three'}, '`search` must be one of'),
        ({'candidates': 0}, '`candidates` must be a whole number'),
        ({'num_patches': False}, '`num_patches` must be a whole number'),
        ({'patch_size': 4}, '`patch_size` must be a whole number from 8'),
        ({'file': 3}, '`file` must be a path, got 3'),
        ('dobi', '`calibration` must be a mapping of options'),
    ],
)
def test_faults_of_calibration(option, text):
    with pytest.raises(CompSRTError, match=text):
        CalibrationConfig.from_opt(option)


@pytest.mark.parametrize('options', [{'code_range': 'paper'}, {'transform': 'padded'}])
def test_integer_execution_needs_exact_codes(options):
    with pytest.raises(CompSRTError, match=r'`execution: integer` needs `code_range: strict` and an exact transform'):
        QuantConfig(execution='integer', **options)
    assert QuantConfig(execution='integer').execution == 'integer'
