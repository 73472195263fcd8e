"""Numbers with their nouns."""

import pytest

from compsrt_basicsr.utils.text import counted


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ((0, 'image'), '0 images'),
        ((1, 'image'), '1 image'),
        ((1234, 'image'), '1,234 images'),
        ((1, 'entry', 'entries'), '1 entry'),
        ((2, 'entry', 'entries'), '2 entries'),
    ],
)
def test_singular_and_plural(arguments, text):
    assert counted(*arguments) == text
