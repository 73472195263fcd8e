"""docs/onnx.md: the script runs, the command prints what is shown, and options and figures are current."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT, smooth_pictures
from PIL import Image

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.cli.export import export
from compsrt_basicsr.inference.upscale import upscale
from compsrt_basicsr.onnx.generic import engine_model

PAGE = (ROOT / 'docs/onnx.md').read_text(encoding='utf-8')
RECORD = json.loads((ROOT / 'docs/results/onnx.json').read_text())


def test_every_option_is_documented():
    documented = {word for row in re.findall(r'^\| (`-.*?) \|', PAGE, re.M) for word in re.findall(r'`(-[-\w]+)', row)}
    assert documented == {
        name for p in export.params if p.param_type_name == 'option' and not p.hidden for name in p.opts
    }


def test_table_equals_the_record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    from measure_onnx import table

    assert re.search(r'<!-- onnx -->\n\n(.*?)\n\n<!-- end of onnx -->', PAGE, re.S)[1] == table(RECORD)


def test_engine_table_equals_the_record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    from benchmark_engines import table

    record = json.loads((ROOT / 'docs/results/engines.json').read_text())
    assert re.search(r'<!-- engines -->\n\n(.*?)\n\n<!-- end of engines -->', PAGE, re.S)[1] == table(record)


def test_the_script_upscales_like_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_network('zoo://swinir_light_x2_house')
    (tmp_path / 'house.onnx').write_bytes(engine_model(loaded).model.SerializeToString())
    image = smooth_pictures()[0][:21, :30]
    Image.fromarray(image).save('photo.png')
    exec(compile(re.search(r'^```python\n(.*?)^```$', PAGE, re.M | re.S)[1], 'docs/onnx.md', 'exec'), {})
    enlarged = np.asarray(Image.open('enlarged.png')).astype(int)
    assert enlarged.shape == (42, 60, 3)
    assert np.abs(enlarged - upscale(loaded, image)).max() <= 1  # values halfway between two levels


@pytest.mark.integration
def test_output_is_as_shown(tmp_path, run_command):
    """Except for decibels and grey levels, which depend on the last bits of float32."""
    command, shown = re.search(r'```console\n\$ compsrt (.*?)\n(.*?)```', PAGE, re.S).groups()
    result = run_command(['python', '-m', 'compsrt_basicsr.cli.compsrt', *shlex.split(command)], tmp_path)
    assert result.returncode == 0, result.stderr
    figures = re.compile(r' +(\d+\.\d|equal) +\d\.\d{4}$', re.M)
    assert len(figures.findall(shown)) == 7
    assert figures.sub(' #', result.stdout) == figures.sub(' #', shown)


@pytest.mark.integration
def test_the_measurement_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    import measure_onnx

    (tmp_path / 'HR').mkdir()
    (tmp_path / 'train').mkdir()
    Image.fromarray(smooth_pictures()[0]).save(tmp_path / 'HR/a.png')
    Image.fromarray(np.tile(smooth_pictures()[1], (2, 3, 1))).save(tmp_path / 'train/b.png')
    monkeypatch.setattr(measure_onnx, 'BITS', (2,))
    arguments = ['--benchmark', tmp_path, '--train', tmp_path / 'train', '--json', tmp_path / 'out.json']
    monkeypatch.setattr('sys.argv', ['measure_onnx.py', *map(str, arguments)])
    measure_onnx.main()
    record = json.loads((tmp_path / 'out.json').read_text())
    assert list(record['networks']) == ['full precision', '2 bits, calibrated']
    assert record['networks']['2 bits, calibrated']['opset'] == 25
    assert set(record['networks']['full precision']['pictures']) == {'a.png'}
    assert measure_onnx.table(record) in capsys.readouterr().out
