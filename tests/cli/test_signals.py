"""Commands that get signals at early and random moments end cleanly, and go on when they are given again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

START = "from compsrt_basicsr.cli import start; print('ready', flush=True); start.compsrt()"
COMMANDS = {
    'list': ['data', 'get'],
    'lr': ['data', 'lr', 'images', '-o', 'out', '--scale', '2'],
    'prepare': ['data', 'prepare', 'images', '-o', 'out', '--name', 'a', '--scale', '2', '--crop', '48', '--step', '4'],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A working folder with images that take a second or so."""
    (tmp_path / 'images').mkdir()
    values = np.random.default_rng(0).integers(0, 255, (8, 120, 120, 3), np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f'images/{number}.png')
    return tmp_path


def run(name: str, folder: Path, seconds: float | None = None, number: int = 0) -> tuple[int, str]:
    """Runs a command, sends it a signal after a while; returns exit status and what it wrote on stderr."""
    process = subprocess.Popen(
        [sys.executable, '-c', START, *COMMANDS[name]],
        cwd=folder,
        env={'PYTHONPATH': str(ROOT), 'PATH': '', 'COMPSRT_HOME': str(folder / 'home')},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stdout is not None
    process.stdout.readline()
    if seconds is not None:
        time.sleep(seconds)
        process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def assert_clean(status: int, errors: str, number: int) -> None:
    """Checks the end of a command that got a signal; one that was complete before it may have any status of its own."""
    assert 'Traceback' not in errors
    if status not in (0, -number):  # a signal after the last line of the program ends it silently
        assert status == 128 + number
        assert errors.splitlines()[-1].startswith({2: 'Interrupted: ', 15: 'Terminated: '}[number])
        assert 'ignored' not in errors


@pytest.mark.parametrize('milliseconds', [0, 10, 30, 60, 100, 150, 250])
def test_ctrl_c_at_an_early_moment(tmp_path, milliseconds):
    assert_clean(*run('list', tmp_path, milliseconds / 1000, signal.SIGINT), signal.SIGINT)


@pytest.mark.parametrize('name', ['lr', 'prepare'])
def test_the_same_command_goes_on(folder, name):
    start = time.monotonic()
    assert run(name, folder) == (0, '')
    whole = time.monotonic() - start
    expected = contents(folder / 'out')
    (folder / 'out').rename(folder / 'expected')
    moments = random.Random(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        status, errors = run(name, folder, moments.uniform(0.2, 0.9) * whole, number)
        assert_clean(status, errors, number)
        assert not [path for path in folder.rglob('.*') if 'unfinished' not in path.name and 'lock' not in path.name]
        if (folder / 'out').exists() and contents(folder / 'out') == expected:
            break  # it was complete when the signal came
    else:
        assert run(name, folder) == (0, '')
    assert contents(folder / 'out') == expected


def contents(folder: Path) -> dict[str, object]:
    """Returns the content of the files below a folder; of an LMDB, whose pages depend on the commits, the entries."""
    found: dict[str, object] = {}
    for path in folder.rglob('*'):
        if path.name == 'data.mdb':
            with lmdb.open(str(path.parent), readonly=True, lock=False) as env, env.begin() as txn:
                found[str(path.relative_to(folder))] = dict(txn.cursor())
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found
