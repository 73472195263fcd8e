"""Grid files: what they mean, and a sentence for each thing that can be wrong with them."""

from pathlib import Path

import pytest
from sweep_records import PICTURES, write_grid

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.spec import override, read_grid

GOOD = f'base: {{scale: 2}}\naxes: {{bits: {{4: {{a.b: 4}}, 2: {{a.b: 2}}}}}}\n{PICTURES}\n'


def test_defaults(tmp_path: Path):
    grid = read_grid(write_grid(tmp_path, GOOD))
    assert grid.name == 'tiny' and grid.test_sets == ('Set5',)
    assert grid.axes == {'bits': {'4': {'a.b': 4}, '2': {'a.b': 2}}}
    assert (grid.border, grid.channel, grid.padding) == ('scale', 'y', 'symmetric')
    assert (grid.execution, grid.levels, grid.full_precision) == ('auto', 'first', False)


def test_base_can_be_an_option_file_with_changes(tmp_path: Path):
    (tmp_path / 'base.yml').write_text('scale: 2\ntrain: {total_iter: 4000, warmup_iter: -1}\n')
    text = GOOD.replace('{scale: 2}', 'base.yml') + 'set: {train.total_iter: 1e3, path.resume_state: ~}\n'
    assert read_grid(write_grid(tmp_path, text)).base == {
        'scale': 2,
        'train': {'total_iter': 1000, 'warmup_iter': -1},
        'path': {'resume_state': None},
    }


def test_override_leaves_the_options_alone():
    options = {'a': {'b': [1]}, 'c': 1}
    changed = override(options, {'a.b': [2], 'd.e.f': 3}, 'x')
    assert changed == {'a': {'b': [2]}, 'c': 1, 'd': {'e': {'f': 3}}}
    assert options == {'a': {'b': [1]}, 'c': 1}
    with pytest.raises(CompSRTError, match=r'^x: `c` of `c.d` is a value, not a section\.$'):
        override(options, {'c.d': 1}, 'x')


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (('axes:', 'axis:'), '`axis` is not an option of the grid. Did you mean `axes`?'),
        (('{bits: {4: {a.b: 4}, 2: {a.b: 2}}}', '{}'), '`axes` is missing or empty'),
        (('{4: {a.b: 4}, 2: {a.b: 2}}', '{}'), '`axes.bits` has no values: the grid is empty'),
        (('{4: {a.b: 4}, 2: {a.b: 2}}', '[4, 2]'), '`axes.bits` must map each value to the options it sets'),
        (('bits', '"b/ts"'), "a name is made of letters, digits and `_.+-`, got 'b/ts'"),
        (('2: {a.b: 2}', '"4": {a.b: 2}'), '`axes.bits` names a value twice'),
        (('{scale: 2}', 'nowhere.yml'), 'nowhere.yml` does not exist; the path starts at the folder of the grid file'),
        ((', Set5: Set5', ''), '`datasets` names no test set'),
        (('', 'exclude: [{bit: 4}]\n'), '`bit` is no axis of this grid. Did you mean `bits`? Axes: bits.'),
        (('', 'exclude: [{bits: 5}]\n'), '`5` is no value of the axis `bits`. Values: 4, 2.'),
        (('', 'exclude: [{}]\n'), '`exclude` has an empty entry'),
        (('', 'protocol: {chanel: y}\n'), '`chanel` is not an option of `protocol`. Did you mean `channel`?'),
        (('', 'protocol: {channel: yy}\n'), "`protocol.channel` must be one of y, rgb, got 'yy'"),
        (('', 'protocol: {border: -1}\n'), '`protocol.border` must be `scale` or a whole number'),
        (('', 'eval: {execution: intger}\n'), 'Did you mean `integer`?'),
        (('', 'full_precision: maybe\n'), '`full_precision` must be true or false'),
    ],
)
def test_faults(tmp_path: Path, change, sentence):
    old, new = change
    text = GOOD.replace(old, new) if old else GOOD + new
    with pytest.raises(CompSRTError) as caught:
        read_grid(write_grid(tmp_path, text))
    assert sentence in str(caught.value)
