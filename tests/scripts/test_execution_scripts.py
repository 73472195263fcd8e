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


def cells(line):
    return [cell.strip() for cell in line.split('|')[1:-1]]


@pytest.fixture
def timed():
    """A record of one size: the rounds of four modes, 50 thousand million multiplications, at most 200 a second."""
    seconds = {
        'fp32': [1.0, 2.0, 4.0],
        'integer': [0.5, 0.5, 0.5],
        'openvino': [0.7, 0.8, 0.6],
        'onnxruntime': [1, 1, 1],
    }
    rows = [
        {'threads': 1, 'size': 128, 'mode': mode, 'seconds': times, 'multiplications': 50e9}
        for mode, times in seconds.items()
    ]
    return {'rows': rows, 'peaks': [{'threads': 1, 'float32': 30e9, 'codes': 200e9}]}


def test_the_lead_is_over_the_best_rival_first(timed):
    *_, line = execution_tables.lead_table(timed).splitlines()
    rival, torch_ = '1.40 (1.20 to 1.60)', '4.00 (2.00 to 8.00)'
    assert cells(line) == ['1', '128×128', rival, 'openvino', torch_, '100', '50%']
    timed['rows'] = [row for row in timed['rows'] if row['mode'] in ('fp32', 'integer')]
    timed['peaks'] = []
    *_, line = execution_tables.lead_table(timed).splitlines()
    assert cells(line) == ['1', '128×128', '–', '–', torch_, '100', '–']


def test_what_the_processor_reaches_stands_above_the_lead(timed):
    sentence = execution_tables.peaks_sentence(timed['peaks'])
    assert sentence == 'GMAC/s that the processor reaches: 200 of codes and 30 of floats on 1 thread.'


def test_the_lead_in_a_sentence_is_that_of_the_slowest_and_the_fastest_case(timed):
    assert execution_tables.leads(timed, 'rivals') == '1.4 to 1.4'
    more = {'integer': [0.1, 0.2, 0.2], 'onnxruntime': [0.5, 0.5, 0.5]}
    timed['rows'] += [{'threads': 2, 'size': 64, 'mode': mode, 'seconds': times} for mode, times in more.items()]
    assert execution_tables.leads(timed, 'rivals') == '1.4 to 2.5'
    assert execution_tables.leads(timed, 'fp32') == '4.0 to 4.0'


def test_all_modes_have_their_seconds_and_multiplications(timed):
    timed['rows'].append({'threads': 1, 'size': 256, 'mode': 'fp32', 'seconds': [8.0], 'multiplications': 200e9})
    lines = [cells(line) for line in execution_tables.seconds_table(timed).splitlines()[2:]]
    assert ['1', 'fp32', '2.000 (25)', '8.000 (25)'] in lines and ['1', 'integer', '0.500 (100)', '–'] in lines


def test_parity_is_the_difference_to_fake():
    record = {'psnr': {'fake': {'a': 30.0, 'b': 32.0}, 'integer': {'a': 30.5, 'b': 32.1}}}
    *_, line = execution_tables.parity_table(record).splitlines()
    assert [cell.strip() for cell in line.split('|')[1:-1]] == ['mean', '31.00000', '+0.30000']


def test_a_missing_marker_is_an_error():
    with pytest.raises(SystemExit, match='`timing`'):
        fill('no markers', {'timing': 'table'})


@pytest.mark.integration
def test_benchmark_runs(run_command, tmp_path: Path, kernel_home: Path):
    command = ['python', ROOT / 'scripts/benchmark_execution.py', '--rounds', 2, '--sizes', 16, '--threads', 1]
    command += ['--json', 'out.json']
    result = run_command(command, tmp_path, new=False, COMPSRT_HOME=str(kernel_home))
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / 'out.json').read_text())
    names = ['fp32', 'bf16', 'fake', 'integer']
    assert {row['mode']: len(row['seconds']) for row in record['rows']} == dict.fromkeys(names, 2)
    assert record['peaks'][0]['codes'] > 0 and '--json' not in record['command']
    assert set(record['profile']) == {'fp32', 'fake', 'integer'}
    for part in ('transform', 'quantize', 'product', 'softmax', 'convolutions'):
        assert record['profile']['integer'][part] > 0


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
