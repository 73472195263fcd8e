"""JSON for every reader."""

import json

from compsrt_basicsr.utils.plain_json import json_text


def test_numbers_that_are_not_finite_become_null():
    value = {'a': [1.5, float('nan'), (float('inf'), -float('inf'))], 'b': {'c': 2, 'd': True, 'e': None, 'f': '–'}}
    expected = {'a': [1.5, None, [None, None]], 'b': {'c': 2, 'd': True, 'e': None, 'f': '–'}}
    for indent in (None, 2):
        assert json.loads(json_text(value, indent), parse_constant=lambda name: name) == expected
    assert json_text(1.0) == '1.0\n'
