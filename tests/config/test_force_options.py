"""--force_yml: values by kind, sections that must exist, and no code run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.config.force_options import apply_forced, parse_value
from compsrt_basicsr.errors import CompSRTError


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('~', None),
        ('None', None),
        ('true', True),
        ('False', False),
        ('12', 12),
        ('-1', -1),
        ('-0.5', -0.5),
        ('1e-4', 1e-4),
        ('!!float1e-4', 1e-4),
        ('2.', 2.0),
        ('.5', 0.5),
        ('[1e-4, 2, a, none]', [1e-4, 2, 'a', None]),
        ('{a: 1e3}', {'a': 1000.0}),
        ('"1e-4"', '1e-4'),
        ('yes', 'yes'),
        ('2024-01-01', '2024-01-01'),
        ('12:30', '12:30'),
        ('', ''),
        ('a=b', 'a=b'),
        ('__import__("os")', '__import__("os")'),
    ],
)
def test_values_by_kind(text, value):
    result = parse_value(text)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize('key', ['train:trainable', 'network_g:quant:transform', 'a:symmetric', 'a:step_gradient'])
def test_none_is_a_word_where_it_is_a_choice(key):
    *sections, last = key.split(':')
    opt = section = {}
    for name in sections:
        section = section.setdefault(name, {})
    apply_forced(opt, [f'{key}=none'])
    assert section == {last: 'none'}
    apply_forced(opt, [f'{key}=~'])
    assert section == {last: None}
    assert parse_value(f'{{{last}: none, other: none}}') == {last: 'none', 'other': None}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives(value):
    """Whatever Python prints for a float is read as that float."""
    assert parse_value(repr(value)) == value


def test_old_names_are_read():
    opt = {'network_g': {'quant': {'learn_bounds': True}}, 'val': {}}
    apply_forced(opt, ['network_g:quant:bounds=false', 'network_g:quant:method=lsq', 'val:levels=all'])
    assert opt == {'network_g': {'quant': {'learn_bounds': False}}, 'method': 'lsq', 'val': {'count_codes': 'all'}}


def test_names_stay_text():
    opt = {'name': 'a', 'val': {'suffix': None}}
    apply_forced(opt, ['name=2024', 'val:suffix=1e3'])
    assert opt == {'name': '2024', 'val': {'suffix': '1e3'}}


def test_value_may_hold_equals_and_leaves_may_be_new():
    opt = {'train': {'optim_g': {}}}
    apply_forced(opt, ['train:optim_g:lr=1e-4', 'train:note=a=b'])
    assert opt == {'train': {'optim_g': {'lr': 1e-4}, 'note': 'a=b'}}


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('train:optim:lr=1', 'no section `optim` in train. Did you mean `optim_g`'),
        ('trian:x=1', 'Did you mean `train`'),
        ('scale:x=1', '`scale` is a value'),
        ('train:x', 'takes entries such as'),
        ('train::x=1', 'takes entries such as'),
        ('train:x=[1', 'not valid YAML'),
        ('train:x=!!floatx', 'no number'),
    ],
)
def test_errors_are_reported(entry, message):
    with pytest.raises(CompSRTError, match=message):
        apply_forced({'train': {'optim_g': {}}, 'scale': 2}, [entry])
