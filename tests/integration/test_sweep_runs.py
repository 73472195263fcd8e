"""`compsrt sweep` and `compsrt report` on a tiny network: runs, failures, interrupts, a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compsrt_runs import distillation_options, make_teacher
from conftest import ROOT, LmdbPair

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * 900)]

PATIENCE = 900  # seconds; each run starts three processes that import torch, on a busy machine too
COMPSRT = ['python', '-m', 'compsrt_basicsr.cli.compsrt']
BITS = {bits: {'network_g.quant.weight_bits': bits, 'network_g.quant.act_bits': bits} for bits in (4, 2)}


@pytest.fixture
def sweep(tmp_path: Path, tiny_lmdb: LmdbPair):
    """Writes `tiny.yml` over the tiny images; takes axes and sections, returns the file."""

    def write(axes, **sections) -> Path:
        base = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
        pair = {'gt': str(tiny_lmdb.hr), 'lq': str(tiny_lmdb.lr)}
        content = {'base': base, 'axes': axes, 'datasets': {'train': pair, 'TinyVal': pair}, **sections}
        file = tmp_path / 'tiny.yml'
        file.write_text(json.dumps(content))  # JSON is YAML, without anchors
        return file

    return write


def records(folder: Path) -> dict[str, dict]:
    found = [json.loads(file.read_text()) for file in (folder / 'runs').glob('*.json')]
    return {' '.join(record['axes'].values()): record for record in found}


def test_runs_failures_and_report(tmp_path: Path, sweep, run_command):
    """A failure is reported and does not stop the others; finished runs are skipped; a cut record is reported."""
    axes = {'part': {'calibrated': {'train.total_iter': 0}, 'broken': {'network_t.depths': [1]}}}
    out = tmp_path / 'out'
    command = [*COMPSRT, 'sweep', sweep(axes, full_precision=True), '-o', out]
    first = run_command([*command, '--jobs', '2'], tmp_path, timeout=PATIENCE)
    assert first.returncode == 1, first.stderr
    assert 'part=broken: FAILED: ' in first.stdout and 'teacher.pth' in first.stdout
    failures = json.loads((out / 'failed.json').read_text())
    assert {failure['axes'].get('part') for failure in failures.values()} == {'broken', None}  # its teacher too
    calibrated, teacher = (records(out)[name] for name in ('calibrated', 'full_precision 2'))
    assert calibrated['checkpoint'] == 'calibrated, not trained' and calibrated['protocol']['iterations'] == 0
    assert teacher['quant'] is None and teacher['results']['TinyVal']['images'].keys() == set('012345')

    again = run_command([*command, '--only', 'part=calibrated'], tmp_path, timeout=PATIENCE)
    assert again.returncode == 0 and '1 of 1 runs are finished already.' in again.stdout, again.stdout

    (out / 'runs/cut.json').write_text('{"schema": 1')
    reported = run_command([*COMPSRT, 'report', out, '--no-figures'], tmp_path, timeout=PATIENCE)
    assert reported.returncode == 1 and 'cut.json' in reported.stderr
    assert 'compsrt, part=calibrated' in (out / 'report/report.md').read_text()


def test_interrupt_leaves_no_process_and_loses_no_iteration(tmp_path: Path, sweep, run_command):
    """After Ctrl-C no process of the run is left, and the next call goes on from the last saved state."""
    file = sweep({'bits': BITS}, set={'train.total_iter': 120})
    out = tmp_path / 'out'
    command = [*COMPSRT, 'sweep', file, '-o', out, '--only', 'bits=4']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([sys.executable, *map(str, command[1:])], cwd=tmp_path, env=environment)
    wait_for(lambda: list(out.glob('work/*/experiments/run/training_states/50.state')), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert not records(out)
    wait_for(lambda: not processes_in(out), None)
    again = run_command(command, tmp_path, timeout=PATIENCE)
    assert again.returncode == 0, again.stdout + again.stderr
    (record,) = records(out).values()
    log = next(out.glob('work/*/log.txt')).read_text()
    assert 'Resuming training from epoch: ' in log and record['checkpoint'] == 'last of 120 iterations'
    kept = {file.name for file in out.glob('work/*/experiments/run/models/*')}
    assert kept == {'net_g_calibrated.pth', 'net_g_latest.pth'}


def test_slurm(tmp_path: Path, sweep, run_command):
    """`sbatch`, `srun` and `sacct` of a cluster of one machine: parameters arrive, and the record is complete."""
    cluster = tmp_path / 'bin'
    cluster.mkdir()
    script = {
        'sbatch': 'cp "$1" "$PWD/submitted.sh"; SLURM_JOB_ID=77 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 '
        'SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SUBMITIT_EXECUTOR=slurm bash "$1" > "$PWD/job.txt" 2>&1 &\n'
        'echo "Submitted batch job 77"',
        'srun': 'while [ "${1#-}" != "$1" ]; do case "$1" in *=*|--unbuffered) shift;; *) shift 2;; esac; done; "$@"',
        'sacct': 'echo "JobID|State|NodeList"; echo "77|RUNNING|here"',
    }
    for name, text in script.items():
        (cluster / name).write_text(f'#!/bin/bash\n{text}\n')
        (cluster / name).chmod(0o755)
    file = sweep({'bits': BITS}, slurm={'partition': 'quick', 'time': 9})
    command = [
        *COMPSRT,
        'sweep',
        file,
        '-o',
        tmp_path / 'out',
        '--only',
        'bits=4',
        '--threads',
        2,
        '--executor',
        'slurm',
    ]
    path = f'{cluster}{os.pathsep}{os.environ["PATH"]}'
    done = run_command(command, tmp_path, timeout=PATIENCE, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / 'job.txt').read_text()
    submitted = (tmp_path / 'submitted.sh').read_text()
    for line in ('--partition=quick', '--time=9', '--cpus-per-task=2', '--job-name=compsrt'):
        assert f'#SBATCH {line}\n' in submitted
    (record,) = records(tmp_path / 'out').values()
    assert record['threads'] == 2 and record['axes'] == {'bits': '4'}
    check_trained(record)


def check_trained(record: dict) -> None:
    """A record has the values of each image, and the largest number of codes, but no counts of single quantizers."""
    values = record['results']['TinyVal']
    assert record['checkpoint'] == 'last of 4 iterations' and record['protocol']['iterations'] == 4
    assert values['psnr'] == pytest.approx(sum(image['psnr'] for image in values['images'].values()) / 6)
    assert 0 < values['levels_max'] <= 16 and values['levels_over'] == 0 and 'levels' not in values
    assert record['protocol']['tests']['TinyVal']['pictures'] == 6 and record['quant']['weight_bits'] == 4
    assert set(record['seconds']) == {'train', 'test'}


def wait_for(condition, process: subprocess.Popen | None, seconds: float = PATIENCE) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.2)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that work in a folder, or were given it."""
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
