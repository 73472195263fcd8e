"""The command `compsrt`: its list of subcommands, and names of earlier versions."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from compsrt_basicsr.cli.compsrt import RENAMED, SUBCOMMANDS, main
from compsrt_basicsr.version import __version__


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name='compsrt')


def test_help_lists_every_subcommand_once():
    listed = [line.split()[0] for line in run('--help').output.partition('Commands:')[2].splitlines() if line.strip()]
    assert listed == sorted(SUBCOMMANDS)


@pytest.mark.parametrize('name', SUBCOMMANDS)
def test_every_subcommand_has_a_help(name):
    result = run(name, '--help')
    assert result.exit_code == 0 and result.output.startswith(f'Usage: compsrt {name} ')


def test_version():
    assert run('--version').output == f'compsrt, version {__version__}\n'


@pytest.mark.parametrize(('old', 'new'), RENAMED.items())
def test_old_names_run_the_new_commands(old, new):
    result, expected = run(old, '--help'), run(new, '--help')
    assert result.stdout == expected.stdout and result.exit_code == 0
    assert len(result.stderr.splitlines()) == 1 and f'compsrt {new}' in result.stderr


def test_unknown_subcommands_are_wrong_usage():
    result = run('upscael')
    assert result.exit_code == 2 and 'upscael' in result.stderr and '`upscale`' in result.stderr
