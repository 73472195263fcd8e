"""The scripts about integer execution: the page equals its records, and the benchmarks run."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))

import execution_tables  # noqa: E402
from markers import fill  # noqa: E402


def test_committed_page_equals_its_records():
    page = (ROOT / 'docs/integer.md').read_text(encoding='utf-8')
    assert fill(page, execution_tables.tables(ROOT / 'docs/results')) == page


def test_speed_is_the_median_of_the_rounds_against_fp32():
    record = {'seconds': {'128': {'fp32': [1.0, 2.0, 4.0], 'fake': [2.0, 2.0, 2.0]}}}
    line = execution_tables.timing_table(record).splitlines()[3]
    assert [cell.strip() for cell in line.split('|')[1:-1]] == ['128×128', 'fake', '2.000', '1.00', '0.50 to 2.00']


def test_parity_is_the_difference_to_fake():
    record = {'psnr': {'fake': {'a': 30.0, 'b': 32.0}, 'integer': {'a': 30.5, 'b': 32.1}}}
    *_, line = execution_tables.parity_table(record).splitlines()
    assert [cell.strip() for cell in line.split('|')[1:-1]] == ['mean', '31.00000', '+0.30000']


def test_a_missing_marker_is_an_error():
    with pytest.raises(SystemExit, match='`timing`'):
        fill('no markers', {'timing': 'table'})


@pytest.mark.integration
def test_benchmark_runs(run_command, tmp_path: Path, kernel_home: Path):
    command = ['python', ROOT / 'scripts/benchmark_execution.py', '--rounds', 2, '--sizes', 16, '--json', 'out.json']
    result = run_command(command, tmp_path, new=False, COMPSRT_HOME=str(kernel_home))
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / 'out.json').read_text())
    names = ['fp32', 'bf16 autocast', 'fake', 'integer, torch', 'integer, kernels']
    assert {name: len(times) for name, times in record['seconds']['16'].items()} == dict.fromkeys(names, 2)
    assert set(record['profile']) == {'fp32', 'fake', 'integer, kernels'}
    for part in ('transform', 'quantize', 'product', 'softmax', 'convolutions'):
        assert record['profile']['integer, kernels'][part] > 0


@pytest.mark.integration
def test_parity_runs(run_command, tmp_path: Path, kernel_home: Path):
    import cv2

    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        image = torch.randint(0, 256, (128, 130, 3), generator=generator, dtype=torch.uint8)
        cv2.imwrite(str(tmp_path / f'{number}.png'), cv2.GaussianBlur(image.numpy(), (0, 0), 3))
    command = ['python', ROOT / 'scripts/compare_execution.py', tmp_path, tmp_path, '--json', 'out.json']
    result = run_command(command, tmp_path, new=False, COMPSRT_HOME=str(kernel_home))
    assert result.returncode == 0, result.stderr
    psnr = json.loads((tmp_path / 'out.json').read_text())['psnr']
    assert list(psnr) == ['fake', 'integer', 'other convolution']
    for image, value in psnr['fake'].items():
        assert psnr['integer'][image] == pytest.approx(value, abs=0.1)  # dB, for moved codes
