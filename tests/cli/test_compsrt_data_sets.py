"""The commands `compsrt data get` and `compsrt data check`."""

from __future__ import annotations

import shutil

import data_sets
import pytest
import web_server
import yaml
from click.testing import CliRunner

from compsrt_basicsr.cli.compsrt import main

FILES = data_sets.archives()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('COMPSRT_OFFLINE', raising=False)
    with web_server.running_server() as running:
        running.files.update(FILES)
        (tmp_path / 'own.yml').write_text(data_sets.catalog_text(running.url(), FILES))
        monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'own.yml'))
        yield running


def run(*arguments):
    return CliRunner().invoke(main, ['data', *map(str, arguments)])


def options(text):
    """The blocks of option lines, in their order."""
    return [yaml.safe_load('dataroot_gt' + block.split('\n\n')[0]) for block in text.split('dataroot_gt')[1:]]


def test_get_and_check(server, tmp_path):
    result = run('get', 'five', 'Big', '--scale', 2, '--scale', 4)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith('Terms of Five: for tests (https://example.org/terms)\nTerms of Big: for tests')
    assert 'Five: downloading bench.tar.gz (of unknown size)\n' in result.stdout
    assert 'Five: complete.\nBig: complete.\n' in result.stdout
    expected = [
        ('datasets/Five/x2/Five_HR.lmdb', 'datasets/Five/x2/Five_LRx2.lmdb'),
        ('datasets/Five/x4/Five_HR.lmdb', 'datasets/Five/x4/Five_LRx4.lmdb'),
        ('datasets/Big/Big_HR_sub.lmdb', 'datasets/Big/Big_LRx2_sub.lmdb'),
        ('datasets/Big/Big_HR_sub.lmdb', 'datasets/Big/Big_LRx4_sub.lmdb'),
    ]
    shown = [(block['dataroot_gt'], block['dataroot_lq']) for block in options(result.stdout)]
    assert shown == expected

    result = run('check', 'Five', 'Big', '--scale', 4, '--scale', 2, '--deep')
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith('Five: complete for x2, x4\nBig: complete for x2, x4\n')
    assert [(block['dataroot_gt'], block['dataroot_lq']) for block in options(result.stdout)] == expected


def test_check_tells_what_is_missing_or_corrupt(server, tmp_path):
    assert run('check').stdout.startswith('datasets holds none of the data sets DIV2K, ')
    assert run('check').exit_code == 0
    result = run('check', 'Five', '-o', 'else where')
    assert result.exit_code == 1
    assert result.stdout == (
        "Five: MISSING for x2, x3, x4; give `compsrt data get Five -o 'else where' --scale 2 --scale 3 --scale 4`\n"
    )
    assert run('get', 'Five', '--scale', 2).exit_code == 0
    shutil.rmtree('datasets/Five/HR')
    result = run('check')
    assert (result.exit_code, result.stdout.split('\n')[0]) == (
        0,
        'Five: complete for x2; the images themselves are not kept',
    )
    (tmp_path / 'datasets/Five/x2/Five_HR.lmdb/meta_info.txt').unlink()
    for names in ([], ['Five']):
        result = run('check', *names, '--scale', 2)
        assert result.exit_code == 1
        assert 'Five: CORRUPT for x2, The LMDB `datasets/Five/x2/Five_HR.lmdb` has no meta_info.txt' in result.stdout


def test_flags_reach_the_work(server, tmp_path):
    result = run('get', 'Five', '--skip-lmdb', '--remove-archives', '-o', 'out')
    assert result.stdout.endswith('Five: the images are in out/Five/HR.\n')
    assert not (tmp_path / 'home/archives/bench.tar.gz').exists()
    assert run('check', '-o', 'out').stdout == 'Five: the images are there\n'
    refused = run('get', 'Secret')
    assert (refused.exit_code, refused.stderr[:24]) == (1, 'Error: Secret has terms ')
    assert run('get', 'Secret', '--accept-terms', '--scale', 2).exit_code == 0
    assert run('get', 'Five', '--from', 'out/Five/HR', '--scale', 2).exit_code == 0
    (tmp_path / 'datasets/Five/x2/Five_LRx2.lmdb/meta_info.txt').unlink()
    assert '--force' in run('get', 'Five', '--scale', 2).stderr
    assert run('get', 'Five', '--scale', 2, '--force').exit_code == 0
    (tmp_path / 'datasets/Five/x2/Five.partial.json').write_text('{')
    assert '--restart' in run('get', 'Five', '--scale', 2, '--force').stderr
    assert run('get', 'Five', '--scale', 2, '--force', '--restart').exit_code == 0


def test_the_list_and_the_dry_run_ask_no_network(server, tmp_path):
    listed = run('get').stdout
    assert listed.splitlines()[0].split() == ['name', 'role', 'images', 'title', 'download']
    assert 'DF2K ' in listed and 'Asked ' in listed
    result = run('get', 'Both', 'Asked', '--dry-run')
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ['Both', 'download', '20', 'kB', str(tmp_path / 'home/archives/more.tar')] in rows
    assert ['Both', 'lmdb', '174', 'kB', 'datasets/Both'] in rows
    assert 'are free where datasets is.\nAsked has no address' in result.stdout
    assert server.requests == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ['own.yml']


def test_unknown_names(server):
    for command in ('get', 'check'):
        result = run(command, 'fife')
        assert result.exit_code == 1
        assert 'Did you mean `Five`?' in result.stderr
