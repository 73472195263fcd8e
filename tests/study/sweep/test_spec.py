"""Sweep files: what they mean, and the errors they can have."""

from pathlib import Path

import pytest
from sweep_records import IMAGES, write_sweep

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.spec import override, read_sweep
from compsrt_basicsr.utils.log import logger

GOOD = f'base: {{scale: 2}}\naxes: {{bits: {{4: {{a.b: 4}}, 2: {{a.b: 2}}}}}}\n{IMAGES}\n'


def test_defaults(tmp_path: Path):
    sweep = read_sweep(write_sweep(tmp_path, GOOD))
    options = sweep.options
    assert sweep.name == 'tiny' and options.test_sets == ('Set5',)
    assert options.axes == {'bits': {'4': {'a.b': 4}, '2': {'a.b': 2}}}
    assert (options.protocol.border, options.protocol.channel, options.protocol.padding) == ('scale', 'y', 'symmetric')
    assert (options.eval.execution, options.eval.count_codes, options.full_precision) == ('auto', 'first', False)


def test_base_can_be_an_option_file_with_changes(tmp_path: Path):
    (tmp_path / 'base.yml').write_text('scale: 2\ntrain: {total_iter: 4000, warmup_iter: -1}\n')
    text = GOOD.replace('{scale: 2}', 'base.yml') + 'set: {train.total_iter: 1e3, path.resume_state: ~}\n'
    assert read_sweep(write_sweep(tmp_path, text)).base == {
        'scale': 2,
        'train': {'total_iter': 1000, 'warmup_iter': -1},
        'path': {'resume_state': None},
    }


def test_empty_sections_have_their_defaults(tmp_path: Path):
    text = GOOD.replace('4: {a.b: 4}', '4: ~') + 'exclude: ~\nprotocol: ~\nset: ~\nslurm: ~\n'
    assert read_sweep(write_sweep(tmp_path, text)).options.axes['bits']['4'] == {}


def test_the_earlier_name_of_an_option_is_read_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    warnings: list[str] = []
    monkeypatch.setattr(logger, 'warning', warnings.append)
    sweep = read_sweep(write_sweep(tmp_path, GOOD + 'eval: {levels: all, execution: fake}\n'))
    assert (sweep.options.eval.count_codes, sweep.options.eval.execution) == ('all', 'fake')
    assert len(warnings) == 1 and 'eval.count_codes' in warnings[0]


def test_override_leaves_the_options_alone():
    options = {'a': {'b': [1]}, 'c': 1}
    changed = override(options, {'a.b': [2], 'd.e.f': 3}, 'x')
    assert changed == {'a': {'b': [2]}, 'c': 1, 'd': {'e': {'f': 3}}}
    assert options == {'a': {'b': [1]}, 'c': 1}
    with pytest.raises(CompSRTError, match=r'^x: `c` of `c.d`'):
        override(options, {'c.d': 1}, 'x')


@pytest.mark.parametrize(
    ('old', 'new', 'place', 'culprit'),
    [
        ('axes:', 'axis:', '`axis`', '`axes`?'),
        ('{bits: {4: {a.b: 4}, 2: {a.b: 2}}}', '{}', '`axes`', 'empty'),
        ('{4: {a.b: 4}, 2: {a.b: 2}}', '{}', '`axes`', '`bits`'),
        ('{4: {a.b: 4}, 2: {a.b: 2}}', '[4, 2]', '`axes`', '[4, 2]'),
        ('bits', '"b/ts"', '`axes`', 'b/ts'),
        ('2: {a.b: 2}', '"4": {a.b: 2}', '`axes`', '`bits`'),
        ('{scale: 2}', 'nowhere.yml', '`base`', 'nowhere.yml'),
        (', Set5: Set5', '', '`datasets`', 'test set'),
        ('Set5: Set5', 'Set5: 5', '`datasets`', '`Set5`'),
        ('Set5: Set5', 'Set5: []', '`datasets`', '`Set5`'),
        ('Set5: Set5', 'Set5: {gt: a.lmdb}', '`datasets`', '`Set5.lq`'),
        ('Set5: Set5', 'Set5: {gt: a.lmdb, lq: b.lmdb, lr: c}', '`datasets`', '`Set5.lr`'),
        ('', 'exclude: [{bit: 4}]\n', '`exclude`', 'Did you mean `bits`?'),
        ('', 'exclude: [{bits: 5}]\n', '`exclude`', '`5`'),
        ('', 'exclude: [{}]\n', '`exclude`', 'empty'),
        ('', 'protocol: {chanel: y}\n', '`protocol.chanel`', '`channel`?'),
        ('', 'protocol: {channel: yy}\n', '`protocol.channel`', '`yy`'),
        ('', 'protocol: {border: -1}\n', '`protocol.border`', '-1'),
        ('', 'eval: {execution: intger}\n', '`eval.execution`', '`integer`?'),
        ('', 'full_precision: maybe\n', '`full_precision`', '`maybe`'),
    ],
)
def test_errors_name_place_and_culprit(tmp_path: Path, old: str, new: str, place: str, culprit: str):
    text = GOOD.replace(old, new) if old else GOOD + new
    with pytest.raises(CompSRTError) as caught:
        read_sweep(write_sweep(tmp_path, text))
    assert place in str(caught.value) and culprit in str(caught.value)


def test_all_errors_are_reported_at_once(tmp_path: Path):
    text = GOOD.replace('{scale: 2}', 'nowhere.yml') + 'exclude: [{bit: 4}]\nprotocl: {}\neval: {execution: 5}\n'
    with pytest.raises(CompSRTError) as caught:
        read_sweep(write_sweep(tmp_path, text))
    for place in ('`base`', '`exclude`', '`protocl`', '`eval.execution`'):
        assert place in str(caught.value)


def test_earlier_names_of_options_are_read_in_base_set_and_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An axis may give the new name of an option that the base gives by its old one."""
    warnings: list[str] = []
    monkeypatch.setattr(logger, 'warning', warnings.append)
    text = (
        'base: {scale: 2, train: {float_lr: 1e-4}}\nset: {network_g.quant.bounds: false}\n'
        f'axes: {{method: {{lsq: {{network_g.quant.method: lsq, train.unquantized_lr: 1e-3}}}}}}\n{IMAGES}\n'
    )
    sweep = read_sweep(write_sweep(tmp_path, text))
    assert sweep.base == {
        'scale': 2,
        'train': {'unquantized_lr': 1e-4},
        'network_g': {'quant': {'learn_bounds': False}},
    }
    assert sweep.options.axes == {'method': {'lsq': {'method': 'lsq', 'train.unquantized_lr': 1e-3}}}
    assert all(any(f'`{name}`' in w for w in warnings) for name in ('train.float_lr', 'network_g.quant.bounds'))
