"""The catalog of data sets: the packaged one is sound, a user's own adds to it, errors are named."""

from __future__ import annotations

import re

import pytest
import yaml

from compsrt_basicsr.data import catalog as module
from compsrt_basicsr.data.catalog import Archive, ArchiveImages, find, load_catalog, parse_catalog
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


def test_texts_and_sizes_of_a_catalog_do_no_harm():
    """They reach the terminal, and the estimate of disk space."""
    found = parse_catalog(changed(title='\x1b[2J' + 'x' * 10**4, ask='\u202e'), 'own.yml')['Own']
    assert found.title.startswith('\\x1b[2J') and len(found.title) < 5000 and found.ask == '\\u202e'
    for entry in ('about: 1' + '0' * 400, 'size: 1' + '0' * 400, 'urls: ["https://[::1"]'):
        with pytest.raises(CompSRTError, match=entry.partition(':')[0] if 'urls' not in entry else 'https://') as error:
            parse_catalog(OWN.replace('urls: [https://example.org/own.tar.gz]', entry), 'own.yml')
        assert len(str(error.value)) < 500
    with pytest.raises(CompSRTError, match='megapixels'):
        parse_catalog(changed(megapixels=1e300), 'own.yml')


def test_the_packaged_catalog(monkeypatch):
    monkeypatch.delenv('COMPSRT_CATALOG', raising=False)
    known = load_catalog()
    counts = {name: dataset.count for name, dataset in known.items()}
    assert counts.items() >= {'DIV2K': 800, 'DF2K': 3450, 'Set5': 5, 'Set14': 14, 'B100': 100, 'Urban100': 100}.items()
    assert known['Manga109'].consent and known['Manga109'].addressless
    for dataset in known.values():
        assert dataset.licence and dataset.terms.startswith('http') and dataset.citation
        assert dataset.ask or not dataset.addressless, dataset.name
        for archive in dataset.archives:
            assert archive.source, f'{archive.name} does not say where its address and checksum come from'
            assert not archive.urls or archive.bytes


def test_the_options_find_what_the_catalog_names():
    """The names of the data sets are those of the LMDBs that the option files read."""
    text = (module._PACKAGED.parents[2] / 'options/test_compsrt_x2_w4a4.yml').read_text()
    used = set(re.findall(r'datasets/(\w+)/x2/\1_HR\.lmdb', text))
    assert used == {'Set5', 'Set14', 'B100', 'Urban100', 'Manga109'} <= load_catalog().keys()


def test_df2k_is_both():
    known = load_catalog()
    both = known['DF2K']
    assert both.images == known['DIV2K'].images + known['Flickr2K'].images
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


def test_members_are_matched_from_the_end():
    archive = Archive(name='a.zip')
    images = ArchiveImages(archive=archive, members='HR/*.png', count=1)
    assert images.wants('x/HR/1.png') and images.wants('HR/1.png')
    assert not any(images.wants(name) for name in ('LR/1.png', 'HR/x/1.png', 'HR/1.txt', 'HR/._1.png'))
    assert ArchiveImages(archive=archive, count=1).wants('any/where/1.JPG')


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('[', 'not valid YAML'),
        ('format: 2', 'no catalog of format 1'),
        ('3', 'no catalog of format 1'),
        ('format: 1\ndataset: {}', r'`dataset` is not an option. Did you mean `datasets`\?'),
        ('format: 1\ndatasets: [1]', '`datasets` must be'),
        ('format: 1\narchives: {a.rar: {}}', r'`archives\.a\.rar.*ends in \.zip'),
        ('format: 1\narchives: {../a.zip: {}}', 'the name of an archive'),
        ('format: 1\narchives: {a.zip: {url: 1}}', r'`archives\.a\.zip\.url` .*Did you mean `urls`\?'),
        ('format: 1\narchives: {a.zip: {urls: x}}', r'`archives\.a\.zip\.urls` must be'),
        ('format: 1\narchives: {a.zip: {md5: x}}', r'`archives\.a\.zip\.md5`: .*32'),
        ('format: 1\narchives: {a.zip: {sha256: x}}', r'`archives\.a\.zip`: .*sha256.*64'),
        ('format: 1\narchives: {a.zip: {about: -1}}', r'`archives\.a\.zip\.about` must be .* from 0 to .*, got -1'),
        ('format: 1\narchives: {a.zip: {urls: ["ftp://x/a"]}}', r'`archives\.a\.zip`: .*(no|not an) https'),
        ('format: 1\narchives: {a.zip: 1}', r'`archives\.a\.zip` must be'),
        (changed(role='test'), r'`datasets\.Own\.role` must be one of train, benchmark|train or benchmark'),
        (changed(title=None), r'`datasets\.Own\.title` is missing'),
        (changed(pictures=[]), r'`datasets\.Own\.pictures`'),
        (changed(pictures=None), r'`datasets\.Own\.pictures` is missing'),
        (changed(pictures=[{'archive': 'own.tar'}]), r'`own.tar`. Did you mean `own.tar.gz`\?'),
        (changed(pictures=[{'archive': 'own.tar.gz', 'count': 0}]), r'`datasets\.Own\.pictures.*count` must be'),
        (changed(pictures=[{'archive': 'own.tar.gz', 'members': '', 'count': 1}]), r'pictures.*members` must be'),
        (changed(pictures=[{'archive': 3, 'count': 1}]), r'pictures.*archive` must be'),
        (changed(megapixels=0), r'`datasets\.Own\.megapixels` must be a number above 0'),
        (changed(consent=1), r'`datasets\.Own\.consent` must be true or false'),
        (changed(crop=-1), r'`datasets\.Own\.crop` must be .* 0 or more'),
        (changed(crop=48, step=0), r'`datasets\.Own`: `step`'),
        (changed(licens='x'), r'`datasets\.Own\.licens` is not an option. Did you mean `licence`\?'),
        (changed(of=['Own']), r'`datasets\.Own` needs either `pictures` or `of`'),
        (changed(pictures=None, of=['Nope']), r'`datasets\.Own\.of`: `Nope` is no data set above it'),
        (OWN.replace('Own:', 'a/b:'), 'the name of a data set'),
    ],
)
def test_errors_are_named(text, sentence):
    with pytest.raises(CompSRTError, match=f'`own.yml`.*{sentence}'):
        parse_catalog(text, 'own.yml')


def test_all_errors_of_a_file_are_reported():
    content = yaml.safe_load(changed(crop=-1, role='test'))
    content['archives']['bad.zip'] = {'about': -1}
    with pytest.raises(CompSRTError) as caught:
        parse_catalog(yaml.safe_dump(content), 'own.yml')
    for place in ('archives.bad.zip.about', 'datasets.Own.crop', 'datasets.Own.role'):
        assert f'`{place}`' in str(caught.value)


def test_the_example_of_the_documentation():
    page = (module._PACKAGED.parents[2] / 'docs/data.md').read_text(encoding='utf-8')
    (text,) = re.findall(r'^```yaml\n(.*?)^```$', page, re.M | re.S)
    (dataset,) = parse_catalog(text, 'docs/data.md').values()
    assert (dataset.name, dataset.count, dataset.archives[0].size) == ('Texture', 40, 123456789)
