"""Configurations: defaults are valid, every error names its option and the nearest known name."""

import pytest
from pydantic import ValidationError

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.pruning import PruneSchedule
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError


def test_nothing_given_is_valid():
    assert QuantConfig.from_opt(None) == QuantConfig.from_opt({}) == QuantConfig()
    assert CalibrationConfig.from_opt(None) == CalibrationConfig()


def test_options_arrive():
    config = QuantConfig.from_opt({'weight_bits': 2, 'include': ['a*'], 'exclude': 'b*', 'convs': True})
    assert (config.weight_bits, config.include, config.exclude, config.quantize_convs) == (2, ('a*',), ('b*',), True)
    assert QuantConfig.from_opt(config) is config


def test_frozen():
    with pytest.raises(ValidationError):
        QuantConfig().weight_bits = 3


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'weight_bit': 4}, r'`weight_bit` is not an option\. Did you mean `weight_bits`\?'),
        ({'zzz': 1}, '`zzz` is not an option'),
        ({'weight_bits': 9}, '`weight_bits` must be a whole number from 2 to 8, got 9'),
        ({'weight_bits': 1}, 'from 2 to 8, got 1'),
        ({'act_bits': True}, '`act_bits` must be a whole number from 2 to 8, got True'),
        ({'act_bits': 4.0}, 'got 4.0'),
        ({'act_bits': '4'}, 'got `4`'),
        ({'act_bits': None}, 'got ~'),
        ({'transform_seed': -1}, '`transform_seed` must be'),
        (
            {'code_range': 'strikt'},
            r'`code_range` must be one of strict, paper, got `strikt`\. Did you mean `strict`\?',
        ),
        ({'transform': 'hadamart'}, 'Did you mean `hadamard`'),
        ({'granularity': 'row'}, '`granularity` must be one of tensor, channel'),
        ({'quantize_convs': 1}, '`quantize_convs` must be true or false, got 1'),
        ({'include': 3}, '`include` must be a name pattern or a list of name patterns, got 3'),
        ({'exclude': ['a', 3]}, r'`exclude\[1\]` must be text, got 3'),
        ({'split': {'*.qkv': ['q']}}, r'`split\.\*\.qkv`: .* different names'),
        ({'split': {'*.qkv': ['q', 'q']}}, 'different names'),
        ({'split': {'*.qkv': ['q', 'weight']}}, 'one letter, .* got `weight`'),
        ({'split': {'*.qkv': 'qkv'}}, 'must be a list'),
        ({'split': ['q', 'k']}, '`split` must be a section'),
        ({'prune_ratio': 1.0}, '`prune_ratio` must be a number from 0 to below 1, got 1.0'),
        ({'prune_ratio': -0.1}, '`prune_ratio` must be'),
        ({'prune_ratio': '0.4'}, '`prune_ratio` must be .* got `0.4`'),
        ({'prune_ratio': True}, '`prune_ratio` must be'),
        ({'prune_ratio': float('nan')}, '`prune_ratio` must be'),
        ({'prune_scope': 'globl'}, r'`prune_scope` must be one of layer, global, got `globl`\. Did you mean `global`'),
        ({'prune_pattern': 'chanel'}, r'`prune_pattern`: .* got `chanel`\. Did you mean `channel`'),
        ({'prune_pattern': '4:4'}, '`prune_pattern`: .* 1 <= N < M'),
        ({'prune_pattern': '0:4'}, '`prune_pattern`: .* 1 <= N < M'),
        ({'prune_pattern': 124}, '`prune_pattern` must be .* N:M in quotes.* got 124'),
        ({'prune_pattern': '2:4', 'prune_ratio': 0.4}, '2:4 prunes 0.5 of the weights, `prune_ratio` says 0.4'),
        ({'prune_pattern': '2:4', 'prune_scope': 'global'}, '2:4 has no `prune_scope: global`'),
        ({'symmetric': 'both', 'code_range': 'paper'}, '`symmetric: both` needs `code_range: strict`'),
        ({'softmax': 'deferred', 'transform': 'padded'}, '`softmax: deferred` .* `attention_transform: false`'),
        ([4, 4], 'a section of options, got'),
    ],
)
def test_errors_of_quant(option, text):
    with pytest.raises(CompSRTError, match=text):
        QuantConfig.from_opt(option)


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'num_patch': 4}, r'`num_patch` is not an option\. Did you mean `num_patches`\?'),
        ({'method': 'min-max'}, 'Did you mean `minmax`'),
        ({'search': 'three'}, '`search` must be one of'),
        ({'percentile': 50}, '`percentile` must be a number above 50 to 100, got 50'),
        ({'candidates': 0}, '`candidates` must be a whole number'),
        ({'num_patches': False}, '`num_patches` must be a whole number'),
        ({'patch_size': 4}, '`patch_size` must be a whole number from 8'),
        ({'file': 3}, '`file` must be text, or ~, got 3'),
        ('dobi', 'a section of options, got `dobi`'),
    ],
)
def test_errors_of_calibration(option, text):
    with pytest.raises(CompSRTError, match=text):
        CalibrationConfig.from_opt(option)


@pytest.mark.parametrize(
    ('option', 'text'),
    [
        ({'begn': 1}, r'`begn` is not an option\. Did you mean `begin`'),
        ({'begin': -1}, '`begin` must be a whole number from 0 to .*, got -1'),
        ({'frequency': 0}, '`frequency` must be a whole number from 1 to .*, got 0'),
        ({'end': 2.5}, '`end` must be'),
        ({'begin': 9, 'end': 9}, '`begin` 9 must come before `end` 9'),
        (3, 'a section of options, got 3'),
    ],
)
def test_errors_of_the_prune_schedule(option, text):
    with pytest.raises(CompSRTError, match=text):
        PruneSchedule.from_opt(option)


def test_all_errors_of_a_section_are_reported_together():
    with pytest.raises(CompSRTError, match=r'`weight_bits`.*`softmax`.*`x`'):
        QuantConfig.from_opt({'x': 1, 'softmax': 'late', 'weight_bits': 9})
    with pytest.raises(CompSRTError, match=r'`symmetric: both`.*`softmax: deferred`'):
        QuantConfig(symmetric='both', code_range='paper', softmax='deferred', transform='padded')


def test_n_of_m_implies_its_ratio():
    assert QuantConfig(prune_pattern='2:4').prune_ratio == 0.5 == QuantConfig(prune_pattern='1:2').prune_ratio
    config = QuantConfig(prune_pattern='1:3', prune_ratio=0.6666667)
    assert (config.n_of_m, config.prune_ratio) == ((1, 3), 1 - 1 / 3)
    assert QuantConfig(prune_ratio=0).prunes is False


def test_schedule_says_when():
    schedule = PruneSchedule(begin=2, end=9, frequency=3)
    assert [t for t in range(15) if schedule.due(t)] == [2, 5, 8, 9]
    assert schedule.ratio(0.4, 9) == 0.4


@pytest.mark.parametrize('options', [{'code_range': 'paper'}, {'transform': 'padded'}])
def test_integer_execution_needs_exact_codes(options):
    with pytest.raises(CompSRTError, match=r'`execution: integer` needs `code_range: strict` and an exact transform'):
        QuantConfig(execution='integer', **options)
    grids = {'act_granularity': 'token', 'equalize': True}
    assert QuantConfig(execution='integer', **grids).execution == 'integer'
