"""`compsrt sweep` and `compsrt report` on a tiny network: runs, failures, interrupts, a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from compsrt_runs import distillation_options, make_teacher
from conftest import ROOT, LmdbPair

from compsrt_basicsr.cli.report import report as report_command
from compsrt_basicsr.cli.sweep import sweep as sweep_command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

PATIENCE = 900  # seconds; each run starts processes that import torch, on a busy machine too
BITS = {4: {'network_g.quant.weight_bits': 4, 'network_g.quant.act_bits': 4}}
CLUSTER = {  # of one machine
    'sbatch': 'cp "$1" "$PWD/submitted.sh"; SLURM_JOB_ID=77 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 '
    'SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SUBMITIT_EXECUTOR=slurm bash "$1" > "$PWD/job.txt" 2>&1 &\n'
    'echo "Submitted batch job 77"',
    'srun': 'while [ "${1#-}" != "$1" ]; do case "$1" in *=*|--unbuffered) shift;; *) shift 2;; esac; done; "$@"',
    'sacct': 'echo "JobID|State|NodeList"; echo "77|RUNNING|here"',
}


@pytest.fixture
def write_file(tmp_path: Path, tiny_lmdb: LmdbPair, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a sweep file over the tiny images from its axes and sections. Processes find the package."""
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')

    def write(axes: dict[str, Any], **sections: Any) -> Path:
        base = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
        pair = {'gt': str(tiny_lmdb.hr), 'lq': str(tiny_lmdb.lr)}
        content = {'base': base, 'axes': axes, 'datasets': {'train': pair, 'TinyVal': pair}, **sections}
        file = tmp_path / 'tiny.yml'
        file.write_text(json.dumps(content))  # JSON is YAML, without anchors
        return file

    return write


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in (folder / 'runs').glob('*.json')]
    return {' '.join(record['axes'].values()): record for record in found}


def test_runs_failures_and_report(tmp_path: Path, write_file):
    """A failure is reported and does not stop the others; finished runs are skipped; a cut record is reported."""
    axes = {'part': {'calibrated': {'train.total_iter': 0}, 'broken': {'network_g.embed_dim': 24}}}
    out = tmp_path / 'out'
    command = [str(write_file(axes, full_precision=True)), '-o', str(out)]
    first = CliRunner().invoke(sweep_command, [*command, '--jobs', '2'])
    assert first.exit_code == 1 and 'part=broken: FAILED: ' in first.output, first.output
    (failure,) = json.loads((out / 'failed.json').read_text()).values()
    assert failure['axes'] == {'part': 'broken'} and Path(failure['log']).is_file()
    calibrated, teacher = (records(out)[name] for name in ('calibrated', 'full_precision 2'))
    assert calibrated['checkpoint'] == 'calibrated, not trained' and calibrated['protocol']['iterations'] == 0
    assert teacher['quant'] is None and teacher['results']['TinyVal']['images'].keys() == set('012345')

    again = CliRunner().invoke(sweep_command, [*command, '--only', 'part=calibrated'])
    assert again.exit_code == 0 and 'Finished already: 1 of 1 run.' in again.output, again.output

    (out / 'runs/cut.json').write_text('{"schema": 1')
    reported = CliRunner().invoke(report_command, [str(out), '--no-figures'])
    assert reported.exit_code == 1 and 'cut.json' in reported.output
    assert 'compsrt, part=calibrated' in (out / 'report/report.md').read_text()


def test_an_interrupted_run_goes_on_elsewhere(tmp_path: Path, write_file, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C leaves no process behind; a job of a cluster goes on from the last saved state."""
    file = write_file({'bits': BITS}, set={'train.total_iter': 120}, slurm={'partition': 'quick', 'time': 9})
    out = tmp_path / 'out'
    command = [sys.executable, '-m', 'compsrt_basicsr.cli.compsrt', 'sweep', str(file), '-o', str(out)]
    process = subprocess.Popen(command, cwd=tmp_path)
    wait_for(lambda: list(out.glob('work/*/experiments/run/training_states/50.state')), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert not records(out)
    wait_for(lambda: not processes_in(out), None)

    make_cluster(tmp_path / 'bin', monkeypatch)
    monkeypatch.chdir(tmp_path)
    options = ['--executor', 'slurm', '--threads', '2']
    again = CliRunner().invoke(sweep_command, [str(file), '-o', str(out), *options], catch_exceptions=False)
    assert again.exit_code == 0, again.output + (tmp_path / 'job.txt').read_text()
    for line in ('--partition=quick', '--time=9', '--cpus-per-task=2', '--job-name=compsrt'):
        assert f'#SBATCH {line}\n' in (tmp_path / 'submitted.sh').read_text()
    assert 'Resuming training from epoch: ' in next(out.glob('work/*/log.txt')).read_text()
    kept = {file.name for file in out.glob('work/*/experiments/run/models/*')}
    assert kept == {'net_g_calibrated.pth', 'net_g_latest.pth'}
    (record,) = records(out).values()
    check_record(record)


def check_record(record: dict[str, Any]) -> None:
    """A record has the values of each image, and the largest number of codes, but no counts of single quantizers."""
    values = record['results']['TinyVal']
    assert record['checkpoint'] == 'last of 120 iterations' and record['protocol']['iterations'] == 120
    assert record['axes'] == {'bits': '4'} and record['threads'] == 2 and set(record['seconds']) == {'train', 'test'}
    assert values['psnr'] == pytest.approx(sum(image['psnr'] for image in values['images'].values()) / 6)
    assert 0 < values['levels_max'] <= 16 and values['levels_over'] == 0 and 'levels' not in values
    assert record['protocol']['tests']['TinyVal']['pictures'] == 6 and record['quant']['weight_bits'] == 4


def make_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the commands of a cluster on the path."""
    folder.mkdir()
    for name, text in CLUSTER.items():
        (folder / name).write_text(f'#!/bin/bash\n{text}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')


def wait_for(condition: Callable[[], Any], process: subprocess.Popen | None, seconds: float = PATIENCE) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.2)


def processes_in(folder: Path) -> list[str]:
    """Returns the command lines of the processes that work in a folder, or have its path as an argument."""
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            command = (entry / 'cmdline').read_bytes().decode().replace('\0', ' ')
            where = os.readlink(entry / 'cwd')
        except OSError:
            continue
        if str(folder) in where or str(folder) in command:
            found.append(command)
    return found


def test_two_calls_at_once_share_the_runs(tmp_path: Path, write_file):
    """Both end without a failure; each run is trained and tested once."""
    axes = {'seed': {seed: {'manual_seed': seed} for seed in (1, 2)}}
    file, out = write_file(axes, set={'train.total_iter': 2}), tmp_path / 'out'
    command = [sys.executable, '-m', 'compsrt_basicsr.cli.compsrt', 'sweep', str(file), '-o', str(out)]
    calls = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [call.communicate(timeout=PATIENCE)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0], outputs
    assert not (out / 'failed.json').exists() and len(records(out)) == 2
    steps = [json.loads(line)['step'] for file in out.glob('work/*/seconds.jsonl') for line in file.open()]
    assert sorted(steps) == ['test', 'test', 'train', 'train']
