"""Schemes, and what they mean for the first and the last layer."""

from __future__ import annotations

import pytest

from compsrt_basicsr.compression.scheme import mixed_line, parse_scheme, quant_options
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError


@pytest.mark.parametrize(('text', 'bits'), [('w4a4', (4, 4)), ('W4A8', (4, 8)), ('w2a3', (2, 3))])
def test_schemes_name_bits(text: str, bits: tuple[int, int]) -> None:
    assert parse_scheme(text) == bits


@pytest.mark.parametrize(
    ('text', 'near'), [('w4a16', 'w4a'), ('w4a9', 'w4a8'), ('4a4', 'w4a4'), ('w1a4', 'w4a4'), ('int8', 'from 2 to 8')]
)
def test_other_schemes_are_refused_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(CompSRTError, match=near):
        parse_scheme(text)


def test_first_and_last_layer_have_8_bits() -> None:
    config = QuantConfig.from_opt(quant_options((4, 3), ['head', 'body.0', 'tail'], ['body.1*']))
    first, middle, last = (config.at(name) for name in ('head', 'body.0', 'tail'))
    assert (first.weight_bits, first.act_bits, first.transform, first.granularity) == (8, 8, 'none', 'channel')
    assert (first.equalize, last.equalize, config.granularity) == (False, True, 'channel')
    assert (last.weight_bits, last.act_bits, last.transform) == (8, 8, 'random')
    assert (middle.weight_bits, middle.act_bits) == (4, 3)
    assert config.exclude == ('body.1*',)


def test_what_mixed_will_do_is_said_where_it_does_something() -> None:
    assert '12.5%' in mixed_line((8, 8), ('onnx',), 0.125) and 'floating point' in mixed_line((8, 8), ('onnx',), 0.125)
    assert '8 bits' in mixed_line((4, 4), ('openvino',), 0.125)
    assert mixed_line((8, 8), (), 0.125) == mixed_line((8, 8), ('onnx',), 0) == mixed_line((4, 4), (), 0) == ''
