"""The reader of YAML: plain data within limits, and one sentence for everything else."""

import time

import pytest

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils import yaml_reader
from compsrt_basicsr.utils.yaml_reader import parse_yaml


def read(text):
    return parse_yaml(text, 'The file')


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('name: 2026-02-30', {'name': '2026-02-30'}),
        ('date: 2026-02-28', {'date': '2026-02-28'}),
        ('a: 2001-12-14t21:59:43.10-05:00', {'a': '2001-12-14t21:59:43.10-05:00'}),
        ('a: =', {'a': '='}),
        ('a: 1e-4', {'a': 1e-4}),
        ('a: "1e-4"', {'a': '1e-4'}),
        ('type: 1e4', {'type': '1e4'}),
        ('a: 0x10', {'a': 16}),
        ('a: .inf', {'a': float('inf')}),
        ('a: ~\nb: yes\nc: !!int "3"\nd: !!str 3', {'a': None, 'b': True, 'c': 3, 'd': '3'}),
        ('a: &x {b: 1}\nc: {<<: *x, d: 2}', {'a': {'b': 1}, 'c': {'b': 1, 'd': 2}}),
        ('', None),
        ('[1, a]', [1, 'a']),
    ],
)
def test_plain_values(text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ('text', 'culprit'),
    [
        ('a: 1\nb: !!int abc', r'`abc` is not a whole number \(line 2\)'),
        ('a: !!int ""', 'is not a whole number'),
        ('a: !!bool maybe', '`maybe` is not true or false'),
        ('a: !!float x', '`x` is not a number'),
        ('a: !!timestamp x', 'timestamp'),
        ('a: !!binary "a"', 'binary'),
        ('a: !!set {b, c}', 'set'),
        ('a: !!omap [b: 1]', 'omap'),
        ('a: !!seq b', 'is not a list|expected a sequence'),
        ('a: !!map [b]', 'is not a section|expected a mapping'),
        ('a: !!python/object/apply:os.getcwd []', 'no kind of value'),
        ('a: ' + '9' * 5000, 'is not a whole number'),
        ('a: 0x' + 'f' * 5000, 'too large'),
        ('a: 1e999', 'too large'),
        ('a: "\\0"', 'no text has'),
        ('a: "\\ud800"', 'no text has'),
        ('a: "\\UFFFFFFFF"', 'not valid YAML'),
        ('%YAML ' + '9' * 5000 + '.1\n---\na: 1', 'not valid YAML'),
        ('a: *b', 'undefined alias'),
        ('a: &a [*a]', 'stands inside itself'),
        ('&a {b: *a}', 'stands inside itself'),
        ('a: &a {<<: *a}', 'stands inside itself'),
        ('<<: 5', 'expected a mapping'),
        ('? [1]\n: 2', 'a key must be a plain word'),
        ('a: 1\na: 2', r'`a` occurs twice \(line 2\)'),
        ('a: 1\n---\nb: 2', 'single document'),
        ('a: \x1b[31m', 'not valid YAML'),
    ],
)
def test_faults_are_one_sentence(text, culprit):
    with pytest.raises(CompSRTError, match=culprit) as caught:
        read(text)
    assert str(caught.value).startswith('The file ') and len(str(caught.value)) < 400
    assert '\x1b' not in str(caught.value)


def nested(levels, width=10):
    """Aliases that multiply by `width` at each level."""
    lines = ['a0: &a0 [x, x]']
    lines += [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * width)}]' for i in range(1, levels)]
    return '\n'.join(lines)


@pytest.mark.parametrize(
    'text',
    [
        nested(9),
        nested(40, 2),
        'a0: &a0 {x: 1}\n' + '\n'.join(f'a{i}: &a{i} {{<<: [{", ".join([f"*a{i - 1}"] * 10)}]}}' for i in range(1, 9)),
        '\n'.join(['a0: &a0 [x]', *(f'a{i}: &a{i} [*a{i - 1}]' for i in range(1, 100))]),
        'a: ' + '[' * 50_000,
        'a: ' + '{b: ' * 20_000,
        '- ' * 20_000 + 'a',
        'a: ' + '9' * 65_537,
        'a: ' + 'x' * 100_000,
        'a: &a ' + 'x' * 60_000 + '\nb: [' + '*a, ' * 2000 + ']',
        'x' * (yaml_reader.LARGEST_TEXT + 1),
    ],
    ids=[
        'lists',
        'doubled',
        'merges',
        'long chain',
        'brackets',
        'braces',
        'dashes',
        'digits',
        'scalar',
        'texts',
        'file',
    ],
)
def test_what_is_too_large_is_refused_soon(text):
    """410 bytes of nested aliases once filled 4.7 GB."""
    start = time.process_time()
    with pytest.raises(CompSRTError, match=r'too deeply|more than'):
        read(text)
    assert time.process_time() - start < 30  # seconds; without limits some of these take hours


def test_many_values_are_refused_while_they_are_read(monkeypatch):
    monkeypatch.setattr(yaml_reader, 'MOST_VALUES', 100)
    with pytest.raises(CompSRTError, match='more than 100 values'):
        read('[' + '1, ' * 101)  # the end is never reached


def test_places_share_nothing():
    read_ = read('a: &x {b: [1]}\nc: *x')
    read_['a']['b'].append(2)
    assert read_['c'] == {'b': [1]}


def test_a_common_alias_stays_usable():
    assert read('a: &x {b: 1}\n' + '\n'.join(f'c{i}: *x' for i in range(1000)))['c999'] == {'b': 1}
