"""The commands `compsrt data prepare` and `compsrt data lr`, and how `compsrt` reports errors."""

import errno
import subprocess
import sys

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import compsrt_basicsr
from compsrt_basicsr.cli.common import LazyGroup, SentenceGroup
from compsrt_basicsr.cli.compsrt import SUBCOMMANDS, main
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.version import __version__


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / 'images'
    made.mkdir()
    for name in ('a.png', 'b.png'):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 42, 3), dtype=np.uint8)).save(made / name)
    return made


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_prepare_prints_option_lines_that_basicsr_takes(folder, tmp_path):
    out = tmp_path / 'out'
    scales = ('--scale', 2, '--scale', 3)
    result = run('data', 'prepare', folder, '-o', out, '--name', 'toy', *scales, '--crop', 24, '--step', 12)
    assert result.exit_code == 0, result.output
    assert 'Stored 12 entries from 2 images' in result.stdout
    blocks = [
        yaml.safe_load('dataroot_gt' + block.split('\n\n')[0]) for block in result.stdout.split('dataroot_gt')[1:]
    ]
    assert blocks == [
        {
            'dataroot_gt': str(out / 'toy_HR_sub.lmdb'),
            'dataroot_lq': str(out / f'toy_LRx{scale}_sub.lmdb'),
            'io_backend': {'type': 'lmdb'},
        }
        for scale in (2, 3)
    ]
    assert (out / 'toy_LRx2_sub.lmdb/meta_info.txt').exists()


def test_prepare_options_reach_the_work(folder, tmp_path):
    Image.new('RGBA', (48, 48)).save(folder / 'c.png')
    command = ('data', 'prepare', folder, '-o', tmp_path / 'out', '--name', 'toy', '--scale', 2, '--crop', 0)
    refused = run(*command)
    assert refused.exit_code == 1
    assert refused.stderr.startswith('Error: 1 of 3 images')
    assert 'c.png has an alpha channel' in refused.stderr
    done = run(*command, '--skip-bad')
    assert done.exit_code == 0
    assert 'Left out: c.png has an alpha channel.' in done.stdout
    assert (tmp_path / 'out/toy_HR.lmdb').is_dir()
    again = run(*command, '--skip-bad')
    assert (again.exit_code, again.stdout) == (1, '')
    assert '--force' in again.stderr
    assert run(*command, '--skip-bad', '--force').exit_code == 0
    (tmp_path / 'out/toy.partial.json').write_text('{')
    assert run(*command, '--skip-bad', '--force').exit_code == 1
    assert run(*command, '--skip-bad', '--force', '--restart').exit_code == 0


def test_lr_writes_images(folder, tmp_path):
    result = run('data', 'lr', folder, '-o', tmp_path / 'lr', '--scale', 4)
    assert (result.exit_code, result.stdout) == (0, f'Wrote 2 images to {tmp_path / "lr"}.\n')
    assert Image.open(tmp_path / 'lr/ax4.png').size == (10, 7)
    assert run('data', 'lr', folder, '-o', tmp_path / 'lr', '--scale', 4).exit_code == 1
    assert run('data', 'lr', folder, '-o', tmp_path / 'lr', '--scale', 4, '--force').exit_code == 0


@pytest.mark.parametrize(
    'error,status,text',
    [
        (CompSRTError('`bits` is wrong.'), 1, 'Error: `bits` is wrong.\n'),
        (KeyboardInterrupt(), 130, 'Interrupted: give'),
        (OSError(errno.ENOSPC, 'No space left on device', '/x'), 1, 'Error: No space left on device at `/x`; free'),
        (PermissionError(errno.EACCES, 'Permission denied', '/x'), 1, 'Error: Permission denied at `/x`; change'),
        (OSError('odd'), 1, 'Error: odd; check'),
    ],
)
def test_errors_are_one_sentence(error, status, text):
    @click.group(cls=SentenceGroup)
    def top():
        pass

    @top.group()
    def middle():
        pass

    @middle.command()
    def leaf():
        raise error

    result = CliRunner().invoke(top, ['middle', 'leaf'])
    assert result.exit_code == status
    assert result.stderr.startswith(text)
    assert result.stderr.count('\n') == 1
    assert result.stdout == ''


def test_errors_of_the_program_keep_their_traceback():
    @click.group(cls=SentenceGroup)
    def top():
        pass

    @top.command()
    def leaf():
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(top, ['leaf']).exception, ZeroDivisionError)


def test_every_subcommand_can_be_imported_and_is_in_the_help():
    result = run('--help')
    for name, (_, line) in SUBCOMMANDS.items():
        assert f'{name}  ' in result.stdout
        assert line in result.stdout
        assert run(name, '--help').exit_code == 0
    assert run('--version').stdout == f'compsrt, version {__version__}\n'
    assert run('dta').exit_code == 2


def test_help_lists_eager_commands_beside_lazy_ones():
    group = LazyGroup('top', lazy={'late': ('no.such.module:x', 'Comes later.')})
    group.add_command(click.Command('early', help='Is here.'))
    output = CliRunner().invoke(group, ['--help']).stdout
    assert 'early  Is here.' in output
    assert 'late   Comes later.' in output


@pytest.mark.parametrize('command', ['prepare', 'lr', 'get', 'check'])
def test_help_imports_nothing_heavy(command):
    """The package's `__init__` is replaced: only the command's own modules count."""
    code = (
        'import sys, types; package = types.ModuleType("compsrt_basicsr"); '
        f'package.__path__ = {list(compsrt_basicsr.__path__)!r}; sys.modules["compsrt_basicsr"] = package; '
        f'from compsrt_basicsr.cli.compsrt import main; main(["data", "{command}", "--help"], standalone_mode=False); '
        'print(sorted(set(sys.modules) & {"torch", "numpy", "cv2", "lmdb", "PIL", "basicsr"}))'
    )
    shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == '[]'
