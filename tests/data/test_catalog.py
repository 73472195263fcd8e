"""The catalog of data sets: the packaged one is sound, a user's own adds to it, faults are named."""

from __future__ import annotations

import re

import pytest
import yaml

from compsrt_basicsr.data import catalog as module
from compsrt_basicsr.data.catalog import Archive, Part, find, load_catalog, parse_catalog
from compsrt_basicsr.errors import CompSRTError

OWN = """
format: 1
archives:
  own.tar.gz: {urls: [https://example.org/own.tar.gz]}
datasets:
  Own:
    title: mine
    role: train
    licence: mine
    terms: https://example.org
    pictures: [{archive: own.tar.gz, members: HR/*, count: 3}]
    megapixels: 4
"""


def changed(**changes):
    """The catalog above with values of its data set replaced; None removes one."""
    content = yaml.safe_load(OWN)
    entry = content['datasets']['Own']
    for key, value in changes.items():
        entry[key] = value
        if value is None:
            del entry[key]
    return yaml.safe_dump(content)


def test_the_packaged_catalog(monkeypatch):
    monkeypatch.delenv('COMPSRT_CATALOG', raising=False)
    known = load_catalog()
    counts = {name: dataset.count for name, dataset in known.items()}
    assert counts.items() >= {'DIV2K': 800, 'DF2K': 3450, 'Set5': 5, 'Set14': 14, 'B100': 100, 'Urban100': 100}.items()
    assert known['Manga109'].consent and known['Manga109'].addressless
    for dataset in known.values():
        assert dataset.licence and dataset.terms.startswith('http') and dataset.citation
        assert dataset.ask or not dataset.addressless, dataset.name
        for part in dataset.parts:
            assert part.archive.source, f'{part.archive.name} does not say where its address and checksum come from'
            assert not part.archive.urls or part.archive.bytes


def test_the_options_find_what_the_catalog_names():
    """The names of the data sets are those of the LMDBs that the option files read."""
    text = (module._PACKAGED.parents[2] / 'options/test_compsrt_x2_w4a4.yml').read_text()
    used = set(re.findall(r'datasets/(\w+)/x2/\1_HR\.lmdb', text))
    assert used == {'Set5', 'Set14', 'B100', 'Urban100', 'Manga109'} <= load_catalog().keys()


def test_df2k_is_both():
    known = load_catalog()
    both = known['DF2K']
    assert both.parts == known['DIV2K'].parts + known['Flickr2K'].parts
    assert both.megapixels == known['DIV2K'].megapixels + known['Flickr2K'].megapixels
    assert known['Flickr2K'].terms in both.terms and 'Flickr2K: none published' in both.licence


def test_names_are_found_whatever_the_case():
    known = load_catalog()
    assert [dataset.name for dataset in find(['set5', 'DF2k', 'SET5'], known)] == ['Set5', 'DF2K']
    with pytest.raises(CompSRTError, match=r'no data set `urban10`.*Did you mean `Urban100`\?'):
        find(['urban10'], known)
    with pytest.raises(CompSRTError, match='no data set `zzz`: known are DIV2K'):
        find(['zzz'], known)


def test_a_catalog_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / 'own.yml').write_text(OWN.replace('Own:', 'Set5:'))
    monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'own.yml'))
    known = load_catalog()
    assert known['Set5'].title == 'mine' and 'Set14' in known
    monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'none.yml'))
    with pytest.raises(CompSRTError, match=r'COMPSRT_CATALOG names `.*none\.yml`, which cannot be read'):
        load_catalog()


def test_what_a_part_wants():
    part = Part(Archive('a.zip'), 'HR/*.png', 1)
    assert part.wants('x/HR/1.png') and part.wants('HR/1.png')
    assert not any(part.wants(name) for name in ('LR/1.png', 'HR/x/1.png', 'HR/1.txt', 'HR/._1.png'))
    assert Part(Archive('a.zip'), '*', 1).wants('any/where/1.JPG')


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('[', 'not valid YAML'),
        ('format: 2', 'no catalog of format 1'),
        ('3', 'no catalog of format 1'),
        ('format: 1\ndataset: {}', r'unknown key `dataset`. Did you mean `datasets`\?'),
        ('format: 1\ndatasets: [1]', '`datasets` must be a mapping'),
        ('format: 1\narchives: {a.rar: {}}', r'ends in \.zip'),
        ('format: 1\narchives: {../a.zip: {}}', 'An archive is named by'),
        ('format: 1\narchives: {a.zip: {url: 1}}', r'unknown key `url`. Did you mean `urls`\?'),
        ('format: 1\narchives: {a.zip: {urls: x}}', '`urls` of the archive `a.zip` must be a list'),
        ('format: 1\narchives: {a.zip: {md5: x}}', '`md5` of `a.zip` must be 32'),
        ('format: 1\narchives: {a.zip: {about: -1}}', '`about` of `a.zip`'),
        ('format: 1\narchives: {a.zip: {urls: ["ftp://x/a"]}}', 'archive `a.zip`: .*not an https'),
        ('format: 1\narchives: {a.zip: 1}', 'archive `a.zip` must be a mapping'),
        (changed(role='test'), '`role` of `Own` must be train or benchmark'),
        (changed(title=None), 'The data set `Own` lacks `title`'),
        (changed(licence=None), 'The data set `Own` lacks `licence`'),
        (changed(pictures=[]), '`pictures` of `Own` must list'),
        (changed(pictures=[{'archive': 'own.tar'}]), r'`own.tar`, which `archives` lacks. Did you mean `own.tar.gz`\?'),
        (changed(pictures=[{'archive': 'own.tar.gz', 'count': 0}]), '`Own`: `count` must be a number'),
        (changed(pictures=[{'archive': 'own.tar.gz', 'members': ''}]), '`members` must be a pattern'),
        (changed(megapixels=0), '`megapixels` of `Own` must be positive'),
        (changed(consent=1), '`consent` of `Own` must be true or false'),
        (changed(crop=-1), '`crop` of `Own`'),
        (changed(colour=1), 'The data set `Own` has the unknown key `colour`'),
        (changed(of=['Own']), 'has either `pictures` or `of`'),
        (changed(pictures=None, of=['Nope']), 'made of `Nope`, which is not above it'),
        (OWN.replace('Own:', 'a/b:'), 'named by letters, digits'),
    ],
)
def test_faults_are_named(text, sentence):
    with pytest.raises(CompSRTError, match=f'`own.yml`.*{sentence}'):
        parse_catalog(text, 'own.yml')


def test_the_example_of_the_documentation():
    page = (module._PACKAGED.parents[2] / 'docs/data.md').read_text(encoding='utf-8')
    (text,) = re.findall(r'^```yaml\n(.*?)^```$', page, re.M | re.S)
    (dataset,) = parse_catalog(text, 'docs/data.md').values()
    assert (dataset.name, dataset.count, dataset.parts[0].archive.size) == ('Texture', 40, 123456789)
