"""Files that others wrote: whatever stands at any place of them ends in a sentence, never in a traceback."""

import copy
import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.force_options import apply_forced
from compsrt_basicsr.config.is_compsrt_run import is_ours
from compsrt_basicsr.config.methods.expand import expand_run
from compsrt_basicsr.config.option_file import read_option_file
from compsrt_basicsr.config.renames import rename_run
from compsrt_basicsr.data.catalog import parse_catalog
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.index import parse_index
from compsrt_basicsr.study.sweep.runs import expand
from compsrt_basicsr.study.sweep.spec import read_sweep

JUNK = [
    '5', '~', '2026-02-30', '"\\u001b[31m"', '!!bool maybe', '0x' + 'f' * 400, '{1: {b: [1]}}', '.nan', '{type: [1]}',
]  # fmt: skip
PLACE = 'PLACE'


def _options(text, folder):
    (folder / 'o.yml').write_text(text)
    opt = read_option_file(str(folder / 'o.yml'))[0]
    is_ours(opt)
    rename_run(opt)
    expand_run(opt)
    assert all(isinstance(error, str) for error in find_errors(opt, True))


def _sweep(text, folder):
    (folder / 's.yml').write_text(text)
    expand(read_sweep(folder / 's.yml'))


def _first(section, count):
    return dict(list(section.items())[:count])


def _index():
    content = yaml.safe_load((ROOT / 'compsrt_basicsr/hub/index.yml').read_text())
    return {**content, 'models': content['models'][:1]}


def _catalog():
    content = yaml.safe_load((ROOT / 'compsrt_basicsr/data/catalog.yml').read_text())
    return {**content, 'archives': _first(content['archives'], 2), 'datasets': _first(content['datasets'], 2)}


FILES = {
    'index': (_index, lambda text, folder: parse_index(text, 'x')),
    'catalog': (_catalog, lambda text, folder: parse_catalog(text, 'x')),
    'options': (lambda: yaml.safe_load((ROOT / 'options/compsrt_x2_w4a4_p40.yml').read_text()), _options),
    'sweep': (lambda: yaml.safe_load((ROOT / 'options/sweeps/packaged_x2.yml').read_text()), _sweep),
}


def places(node, path=()):
    """The paths of a document to all its values, of a list to the first."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def with_mark(document, path):
    """The text of a document in which PLACE stands at a place."""
    result = section = copy.deepcopy(document)
    for key in path[:-1]:
        section = section[key]
    if not path:
        return PLACE
    section[path[-1]] = PLACE
    return yaml.safe_dump(result, sort_keys=False)


def is_sentence(error):
    text = str(error)
    return len(text) < 4000 and not any(ord(letter) < 32 and letter != '\n' for letter in text)


@pytest.mark.parametrize('junk', JUNK, ids=[junk[:12] for junk in JUNK])
@pytest.mark.parametrize('kind', FILES)
def test_junk_at_any_place_of_a_file(kind, junk, tmp_path):
    document, read = FILES[kind][0](), FILES[kind][1]
    refused = 0
    for path in places(document):
        try:
            read(with_mark(document, path).replace(PLACE, junk), tmp_path)
        except CompSRTError as error:
            refused += 1
            assert is_sentence(error), error
    assert refused or kind in ('options', 'sweep')


@pytest.mark.parametrize(
    'junk', ['{type: [1]}', '[~, {~: ~}]', '[', '[&a [*a]]', '{a: !!int x}', '-' + '1' * 5000, '1e' + '9' * 400]
)
def test_junk_on_the_command_line(junk):
    document = yaml.safe_load((ROOT / 'options/compsrt_x2_w4a4_p40.yml').read_text())
    for path in places(document):
        if path and all(isinstance(key, str) for key in path):
            opt = copy.deepcopy(document)
            try:
                apply_forced(opt, [f'{":".join(path)}={junk}'])
                rename_run(opt)
                expand_run(opt)
            except CompSRTError as error:
                assert is_sentence(error), error
            assert all(isinstance(error, str) for error in find_errors(opt, True))


def test_aliases_that_multiply_in_an_index():
    """410 bytes: `kind` stands for 10^10 texts, which the message of a wrong kind once wrote out."""
    lines = ['x: &a0 [x, x]'] + [f'x{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, 10)]
    text = 'format: 1\n' + '\n'.join(lines) + '\nmodels: [{name: x, kind: *a9}]'
    with pytest.raises(CompSRTError, match='aliases written out'):
        parse_index(text, 'x')


def test_a_date_can_be_a_name(tmp_path):
    (tmp_path / 'o.yml').write_text('name: 2026-02-30\nscale: 2\n')
    assert read_option_file(os.fspath(Path(tmp_path, 'o.yml')))[0] == {'name': '2026-02-30', 'scale': 2}
