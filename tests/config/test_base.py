"""Option models: values are not converted, and every error is reported at once with its place."""

from collections import OrderedDict
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from compsrt_basicsr.config.base import Options
from compsrt_basicsr.errors import CompSRTError


class Inner(Options):
    size: int = Field(3, ge=1, le=8, description='Size.')
    names: tuple[str, ...] = ()
    kind: Literal['none', 'plain'] | None = None

    @model_validator(mode='after')
    def _no_seven(self):
        if self.size == 7:
            raise ValueError('seven is bad.')
        return self


class Outer(Options):
    inner: Inner = Inner()
    by_name: dict[str, Inner] = {}
    several: tuple[Inner, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    count: Literal['auto'] | Annotated[int, Field(ge=0)] = 'auto'
    lists: dict[str, tuple[str, ...]] = {}
    either: dict[str, str] | tuple[str, ...] | str = ''
    share: float = Field(0.0, ge=0, lt=1)
    required: str


@pytest.mark.parametrize(
    ('section', 'error'),
    [
        ({'inner': {'size': 9}}, '`run.inner.size` must be a whole number from 1 to 8, got 9.'),
        ({'inner': {'size': '3'}}, '`run.inner.size` must be a whole number from 1 to 8, got `3`.'),
        ({'inner': {'size': True}}, '`run.inner.size` must be a whole number from 1 to 8, got True.'),
        ({'inner': {'size': 7}}, '`run.inner`: seven is bad.'),
        ({'inner': {'sise': 7}}, '`run.inner.sise` is not an option. Did you mean `size`?'),
        (
            {'inner': {'kind': 'plane'}},
            '`run.inner.kind` must be one of none, plain, or ~, got `plane`. Did you mean `plain`?',
        ),
        ({'inner': 3}, '`run.inner` must be a section of options, got 3.'),
        ({'by_name': {'first': {'size': 0}}}, '`run.by_name.first.size` must be a whole number from 1 to 8, got 0.'),
        ({'by_name': {'first': {'sise': 0}}}, '`run.by_name.first.sise` is not an option. Did you mean `size`?'),
        ({'by_name': {'first': 5}}, '`run.by_name.first` must be a section of options, got 5.'),
        ({'several': [{}, {'size': 0}]}, '`run.several[1].size` must be a whole number from 1 to 8, got 0.'),
        ({'pairs': [[1, 2], [1, 'x']]}, '`run.pairs[1][1]` must be a whole number, got `x`.'),
        ({'count': -1}, '`run.count` must be auto or a whole number, 0 or more, got -1.'),
        ({'lists': {'a': ['x', 1]}}, '`run.lists.a[1]` must be text, got 1.'),
        ({'either': 3}, '`run.either` must be a section of options or a list of texts or text, got 3.'),
        ({'share': 1}, '`run.share` must be a number from 0 to below 1, got 1.'),
        ({'share': float('nan')}, '`run.share` must be a number from 0 to below 1, got nan.'),
    ],
)
def test_each_error_has_its_place(section, error):
    assert Outer.errors_of({'required': '', **section}, 'run') == [error]


def test_all_errors_are_reported_together():
    errors = Outer.errors_of({'share': 2, 'inner': {'size': 0}, 'by_name': {'x': {'size': 0}}, 'shere': 0})
    assert [error.split('`')[1] for error in errors] == ['inner.size', 'by_name.x.size', 'share', 'required', 'shere']
    with pytest.raises(CompSRTError) as caught:
        Outer.from_opt({'share': 2})
    assert '`share`' in str(caught.value) and '`required`' in str(caught.value)


@pytest.mark.parametrize('junk', [3, 'text', [1], True])
def test_a_section_must_be_a_mapping(junk):
    assert len(Outer.errors_of(junk, 'run')) == 1
    with pytest.raises(CompSRTError):
        Outer.from_opt(junk)


def test_yaml_lists_and_ordered_mappings_are_read():
    options = Outer.from_opt(
        {'required': 'x', 'by_name': OrderedDict(a=OrderedDict(names=['b'])), 'pairs': [[1, 2]], 'lists': {'c': ['d']}}
    )
    assert options.by_name['a'].names == ('b',)
    assert options.pairs == ((1, 2),) and options.lists == {'c': ('d',)}
    assert Outer.from_opt(options) is options
    assert Inner.from_opt(None) == Inner()


def test_a_replaced_value_is_validated_and_the_original_stays():
    inner = Inner()
    assert inner.replace(size=4).size == 4 and inner.size == 3
    with pytest.raises(CompSRTError, match='`size`'):
        inner.replace(size=0)
    with pytest.raises(ValidationError):
        inner.size = 4
