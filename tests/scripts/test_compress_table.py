"""Test sets that a record has are not measured again."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / 'scripts'))

import compress_table


def test_each_set_is_measured_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compress_table, 'psnr_of', lambda model, folder: {'a': 30.0, 'b': 31.0})
    monkeypatch.setattr(compress_table, 'load_network', lambda file: None)
    found = {'Set14': {'a': 1.0}}
    assert not compress_table.add_set(found, tmp_path / 'Set14', tmp_path, 'x')
    assert compress_table.add_set(found, tmp_path / 'Set5', tmp_path, 'x')
    assert not compress_table.add_set(found, tmp_path / 'Set5', tmp_path, 'x')
    assert found == {'Set14': {'a': 1.0}, 'Set5': {'a': 30.0, 'b': 31.0}}
    assert '30.500' in capsys.readouterr().out
