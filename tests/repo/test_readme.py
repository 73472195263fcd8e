"""Every command of README.md and docs/training.md runs, on tiny images, with a few options forced to tiny values."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import CommandServer, environment
from tiny_catalog import archive, write_catalog
from web_server import running_server

ROOT = Path(__file__).resolve().parents[2]
PAGES = ('README.md', 'docs/training.md')
TEXT = '\n'.join((ROOT / page).read_text(encoding='utf-8') for page in PAGES)
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

Check = Callable[[str, Path, CommandServer], None]
MODULES = {'basicsr': 'compsrt_basicsr', 'compsrt': 'compsrt_basicsr.cli.compsrt'}


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)


def shown() -> dict[str, str]:
    """The output of each command of the console blocks."""
    parts = (block.removeprefix('$ ').partition('\n') for block in blocks('console'))
    return {command: output for command, _, output in parts}


def commands() -> list[str]:
    """The commands of the console and the bash blocks."""
    return [*shown(), *(line for block in blocks('bash') for line in block.splitlines())]


def run(*forced: str) -> Check:
    """Returns a check that runs the command as it stands, with `forced` at the end of its --force_yml."""

    def check(command: str, folder: Path, server: CommandServer) -> None:
        flag = '' if not forced or '--force_yml' in command else ' --force_yml'
        line = f'{command}{flag} {" ".join(forced)}'
        name, *words = shlex.split(line)
        if name in MODULES and not set(line) & set('|&;<>$*'):
            result = server.run(MODULES[name], words, folder, 300, CUDA_VISIBLE_DEVICES='')
        else:
            result = by_shell(line, folder)
        assert result.returncode == 0, f'{command}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}'
        assert result.stdout == shown().get(command, result.stdout)

    return check


def by_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    shell = ['bash', '-euc', line]
    env = environment(PATH=tools, CUDA_VISIBLE_DEVICES='')
    return subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def would_make(expected: str) -> Check:
    """Returns a check that `make` would run `expected`; running it here would install, or test the tests."""

    def check(command: str, folder: Path, server: CommandServer) -> None:
        dry = [*command.split(), '-n', '--no-print-directory']  # a make inside `make test` would print where it is
        printed = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed.splitlines()[-1].endswith(expected), printed

    return check


def installs_as_setup_does(command: str, folder: Path, server: CommandServer) -> None:
    """pip needs a network: its line is compared with scripts/setup_venv.sh, which is how environments are made."""
    script = (ROOT / 'scripts/setup_venv.sh').read_text(encoding='utf-8')
    lines = re.findall(r"^\s*install '[^']+' (.+)$", script, re.MULTILINE)
    known = {word for line in lines for word in shlex.split(line)}
    words = shlex.split(command)
    if words[0].startswith('PYTHONPATH='):
        assert words.pop(0).removeprefix('PYTHONPATH=') in script
    head, words = words[:4], words[4:]
    assert head == ['python', '-m', 'pip', 'install']
    assert set(words) - {'.'} <= known
    isolated = '--no-build-isolation' not in words
    assert isolated == ('torch' in words), 'torch first; then BasicSR, built beside it'
    assert ('.' in words) == ('basicsr==1.4.2' in words)


RULES: dict[str, Check] = {
    'make demo': would_make('scripts/demo.py'),
    'make test': would_make('-n auto --dist worksteal'),
    'python -m pip install': installs_as_setup_does,
    'PYTHONPATH=scripts/basicsr_build python -m pip install': installs_as_setup_does,
    'compsrt data get': run(),
    'basicsr train -opt options/compsrt_x2_w4a4.yml --auto_resume': run(*TINY, 'train:total_iter=2'),
    'basicsr train': run(*TINY, 'train:total_iter=1'),
    'basicsr test': run('num_gpu=0'),
    'compsrt pack': run(),
    'compsrt upscale': run(),
    'torchrun': run(*TINY, 'train:total_iter=1'),
    'python my_train.py': run(*TINY, 'train:total_iter=1'),
}


def rule_of(command: str) -> Check | None:
    return next((check for start, check in RULES.items() if command.startswith(start)), None)


def is_runnable(command: str) -> bool:
    return not command.startswith('make ') and ' pip install ' not in command


def test_every_command_has_a_rule_and_every_rule_a_command():
    found = list(commands())
    assert [command for command in found if rule_of(command) is None] == []
    assert set(RULES.values()) == {rule_of(command) for command in found}


def test_install_and_make_commands(tmp_path: Path, command_server: CommandServer):
    for command in commands():
        if not is_runnable(command):
            rule_of(command)(command, tmp_path, command_server)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with what README says to have, and tiny data sets under the names of the real ones."""
    (tmp_path / 'options').symlink_to(ROOT / 'options')
    for script in blocks('python'):
        if name := re.match(r'# (\w+\.py)\n', script):  # tests/test_api.py runs the other lines
            (tmp_path / name[1]).write_text(script)
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'catalog.yml'))
    monkeypatch.setenv('COMPSRT_OFFLINE', '0')
    with running_server() as server:
        write_catalog(server, tmp_path / 'catalog.yml', {'DF2K': (1, 480, 480)}, BENCHMARKS)
        (tmp_path / 'photos').mkdir()
        (tmp_path / 'photos/picture.png').write_bytes(zipfile.Path(io.BytesIO(archive(1, 96)), 'HR/0.png').read_bytes())
        (tmp_path / 'Manga109.zip').write_bytes(server.files.pop('Manga109.zip'))
        yield tmp_path


@pytest.mark.integration
@pytest.mark.timeout(1800)  # a dozen processes, one after the other
def test_every_command_runs(folder: Path, command_server: CommandServer):
    """The data first, then in the order of the pages: each finds what those before it made."""
    runnable = [command for command in commands() if is_runnable(command)]
    for command in sorted(runnable, key=lambda command: not command.startswith('compsrt data get')):
        rule_of(command)(command, folder, command_server)
    made = {path.name for path in (folder / 'experiments').iterdir()}
    assert {'compsrt_x2_w4a4', 'compsrt_x2_w4a8', 'compsrt_paper_x2_w4a4'} <= made
    assert (folder / 'results/test_compsrt_x2_w4a4/metrics.json').exists()
