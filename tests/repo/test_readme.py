"""Every command of README.md is run, in a folder of tiny pictures and with a few options forced to tiny values."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import skimage
from PIL import Image
from tiny_catalog import archive, write_catalog
from web_server import running_server

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BENCHMARKS = ('Set5', 'Set14', 'B100', 'Urban100', 'Manga109')
HOUSE = 'zoo://swinir_light_x2_house'
TINY = (
    f'path:pretrain_network_t={HOUSE}',
    'num_gpu=0',
    'datasets:train:gt_size=32',
    'datasets:train:batch_size_per_gpu=1',
    'datasets:train:num_worker_per_gpu=0',
    'calibration:num_patches=1',
    'logger:save_checkpoint_freq=1',
    'logger:use_tb_logger=false',
)

Check = Callable[[str, Path], None]


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Yields the commands of the bash blocks; a loop is one command."""
    for block in blocks('bash'):
        pending = ''
        for line in block.splitlines(keepends=True):
            pending += line
            if not pending.startswith('for ') or line.strip() == 'done':
                yield pending.strip()
                pending = ''
        assert not pending, f'unfinished: {pending}'


def run(*forced: str) -> Check:
    """Returns a check that runs the command as it stands, with `forced` at the end of its --force_yml."""

    def check(command: str, folder: Path) -> None:
        flag = '' if not forced or '--force_yml' in command else ' --force_yml'
        tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        shell = ['bash', '-euc', f'{command}{flag} {" ".join(forced)}']
        env = {**os.environ, 'PATH': tools, 'PYTHONPATH': search, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        result = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, f'{command}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}'

    return check


def reproduce(command: str, folder: Path) -> None:
    """Runs the command with the packaged teacher and tiny options."""
    forced = ' '.join(f'--force {option}' for option in (*TINY[1:], 'train:total_iter=1'))
    run()(f'{command} --teacher {HOUSE} --name row {forced}', folder)


def export(command: str, folder: Path) -> None:
    """Runs the command, comparing on a photograph: in tiny made pictures one moved code changes the PSNR."""
    run()(f'{command} --benchmark originals', folder)


def compare(command: str, folder: Path) -> None:
    """Runs the command on the picture that is there, in which regions must be small."""
    (folder / 'photos/coffee.png').symlink_to(folder / 'photos/picture.png')
    run()(f'{command} --region-size 16', folder)


def grid(command: str, folder: Path) -> None:
    """Lists the runs as the command says, then makes one of them, calibrated only, for the report."""
    for name in ('train/photos', 'benchmark/Set5/HR', 'benchmark/Set14/HR', 'benchmark/B100/HR'):
        (folder / 'PICTURES' / name).mkdir(parents=True)
        for picture in ('a', 'b'):
            shutil.copy(folder / 'originals/astronaut.png', folder / 'PICTURES' / name / f'{picture}.png')
    run()(command, folder)
    run()(f'{command.removesuffix(" --dry-run")} --only method=minmax,bits=4,seed=3407', folder)


def would_make(expected: str) -> Check:
    """Returns a check that `make` would run `expected`; running it here would install, or test the tests."""

    def check(command: str, folder: Path) -> None:
        dry = [*command.split(), '-n', '--no-print-directory']  # a make inside `make test` would print where it is
        shown = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert shown.splitlines()[-1].endswith(expected), shown

    return check


def installs_as_setup_does(command: str, folder: Path) -> None:
    """pip needs a network: its line is compared with scripts/setup_venv.sh, which is how environments are made."""
    script = (ROOT / 'scripts/setup_venv.sh').read_text(encoding='utf-8')
    known = {word for line in re.findall(r"^install '[^']+' (.+)$", script, re.MULTILINE) for word in shlex.split(line)}
    head, words = shlex.split(command)[:4], shlex.split(command)[4:]
    assert head == ['python', '-m', 'pip', 'install']
    assert set(words) - {'.'} <= known
    isolated = '--no-build-isolation' not in words
    assert isolated == ('torch' in words), 'torch first; then BasicSR, built beside it'
    assert ('.' in words) == ('basicsr==1.4.2' in words)


RULES: dict[str, Check] = {
    'make demo': would_make('scripts/demo.py'),
    'make test': would_make('pytest -m "not gpu and not data"'),
    'python -m pip install': installs_as_setup_does,
    'compsrt data get': run(),
    'compsrt reproduce x2-w4a4 --dry-run': run(),
    'compsrt reproduce': reproduce,
    'compsrt zoo list': run(),
    'basicsr train -opt options/compsrt_x2_w4a4.yml --auto_resume': run(*TINY, 'train:total_iter=2'),
    'basicsr train': run(*TINY, 'train:total_iter=1'),
    'basicsr test': run('num_gpu=0'),
    'compsrt export': export,
    'compsrt pack': run(),
    'compsrt size': run(),
    'compsrt upscale': run(),
    'compsrt bench': run(),
    'compsrt compare': compare,
    'compsrt analyze': run(),
    'compsrt grid': grid,
    'compsrt report': run(),
    'torchrun': run(*TINY, 'train:total_iter=1'),
    'python my_train.py': run(*TINY, 'train:total_iter=1'),
}


def rule_of(command: str) -> Check | None:
    return next((check for start, check in RULES.items() if command.startswith(start)), None)


def test_every_command_has_a_rule_and_every_rule_a_command():
    found = list(commands())
    assert [command for command in found if rule_of(command) is None] == []
    assert set(RULES.values()) == {rule_of(command) for command in found}


def test_install_and_make_commands(tmp_path: Path):
    for command in commands():
        if command.startswith(('make ', 'python -m pip')):
            rule_of(command)(command, tmp_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with what README says to have, and tiny data sets under the names of the real ones."""
    (tmp_path / 'options').symlink_to(ROOT / 'options')
    for script in blocks('python'):
        name = re.match(r'# (\w+\.py)\n', script)
        (tmp_path / name[1]).write_text(script)
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'catalog.yml'))
    monkeypatch.setenv('COMPSRT_OFFLINE', '0')
    with running_server() as server:
        write_catalog(server, tmp_path / 'catalog.yml', {'DF2K': (1, 480, 480)}, BENCHMARKS)
        (tmp_path / 'originals').mkdir()
        Image.fromarray(skimage.data.astronaut()[:128, 128:256]).save(tmp_path / 'originals/astronaut.png')
        (tmp_path / 'photos').mkdir()
        (tmp_path / 'photos/picture.png').write_bytes(zipfile.Path(io.BytesIO(archive(1, 48)), 'HR/0.png').read_bytes())
        (tmp_path / 'Manga109.zip').write_bytes(server.files.pop('Manga109.zip'))
        yield tmp_path


@pytest.mark.integration
@pytest.mark.timeout(1800)  # two dozen processes, one after the other
def test_every_command_runs(folder: Path):
    """In README's order, each finds what those before it made; reproducing comes last, when the data are there."""
    runnable = [command for command in commands() if not command.startswith(('make ', 'python -m pip'))]
    for command in sorted(runnable, key=lambda command: rule_of(command) is reproduce):
        rule_of(command)(command, folder)
    made = {path.name for path in (folder / 'experiments').iterdir()}
    assert {'compsrt_x2_w4a4', 'compsrt_x2_w4a8', 'compsrt_paper_x2_w4a4', 'row'} <= made
    assert 'Urban100' in (folder / 'reproduce/row/row.md').read_text(encoding='utf-8')
    assert (folder / 'results/test_compsrt_x2_w4a4/metrics.json').exists()
