"""What the Makefile, .ci/run and scripts/setup_venv.sh promise, without installing anything."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {'help', 'venv', 'demo', 'test', 'lint', 'clean-demo'}

pytestmark = pytest.mark.skipif(not (shutil.which('sh') and shutil.which('make')), reason='needs sh and make')

# Runs the code that setup_venv.sh hands to `python -c` as if by another version of Python.
STUB = """\
#!{python}
import collections, platform, sys
Version = collections.namedtuple('Version', 'major minor micro')
sys.version_info = Version(*{version})
platform.python_version = lambda: '.'.join(map(str, {version}))
if sys.argv[1] == '-c':
    exec(sys.argv[2])
else:
    print('stub', *sys.argv[1:])
    sys.exit(3)
"""


def write_stub(path: Path, version: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STUB.format(python=sys.executable, version=version))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def setup_venv(venv: Path, **env: str) -> subprocess.CompletedProcess:
    command = [shutil.which('sh'), str(ROOT / 'scripts/setup_venv.sh'), str(venv)]
    clean = {key: value for key, value in os.environ.items() if key != 'PYTHON'}
    return subprocess.run(command, env={**clean, **env}, capture_output=True, text=True, timeout=60)


def only_tools(folder: Path) -> str:
    """Make a PATH whose one folder has the few tools of the script, and no Python."""
    folder.mkdir(exist_ok=True)
    for tool in ('dirname', 'rm', 'touch'):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_basicsr_can_read_its_version_while_it_is_built(tmp_path: Path):
    """Its setup.py looks for what `exec` defined in `locals()`, which fails on Python 3.13 without our help."""
    code = "def version():\n    exec(compile('__version__ = 7', 'v', 'exec'))\n    return locals()['__version__']\n"
    env = {**os.environ, 'PYTHONPATH': str(ROOT / 'scripts/basicsr_build')}
    (tmp_path / 'setup.py').write_text(f'{code}print(version())\n')
    result = subprocess.run([sys.executable, 'setup.py'], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.stdout == '7\n', result.stderr


def test_python_39_is_refused(tmp_path: Path):
    result = setup_venv(tmp_path / 'venv', PYTHON=str(write_stub(tmp_path / 'python3.9', (3, 9, 18))))
    assert result.returncode == 1
    assert 'is Python 3.9.18' in result.stderr


def test_missing_python_is_named(tmp_path: Path):
    result = setup_venv(tmp_path / 'venv', PYTHON='no-such-python')
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'no-such-python' in result.stderr


def test_no_python_on_path(tmp_path: Path):
    write_stub(tmp_path / 'bin/python3', (3, 9, 18))
    result = setup_venv(tmp_path / 'venv', PATH=only_tools(tmp_path / 'bin'))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'on PATH' in result.stderr


@pytest.mark.parametrize('version', [(3, 10, 13), (3, 11, 7), (3, 13, 0), (3, 14, 0)])
def test_supported_python_is_taken_from_path(tmp_path: Path, version: tuple[int, int, int]):
    """A supported Python is asked for a venv, one that only pretends to be there is passed over."""
    broken = tmp_path / 'bin/python3.11'
    write_stub(broken, version).write_text('#!/bin/sh\nexit 127\n')
    write_stub(tmp_path / 'bin/python3', version)
    result = setup_venv(tmp_path / 'venv', PATH=only_tools(tmp_path / 'bin'))
    assert f'stub -m venv {tmp_path / "venv"}' in result.stdout
    assert result.returncode == 1
    assert "'python3 -m venv' failed" in result.stderr


def fake_venv(venv: Path, failing: str) -> None:
    """Make a venv whose pip logs its arguments and fails on a command that contains `failing`."""
    python = venv / 'bin/python'
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *"{failing}"*) echo "no route to host" >&2; exit 1;; esac\necho "$*" >>"{venv}/log"\n'
    )
    python.chmod(0o755)


def test_failing_pip_ends_with_one_sentence_and_no_stamp(tmp_path: Path):
    fake_venv(tmp_path / 'venv', failing='basicsr==1.4.2')
    (tmp_path / 'venv/.installed').touch()
    result = setup_venv(tmp_path / 'venv')
    assert result.returncode == 1
    reason, sentence = result.stderr.splitlines()
    assert reason == 'no route to host'
    assert sentence.startswith('setup_venv: pip could not install BasicSR 1.4.2; ')
    assert not (tmp_path / 'venv/.installed').exists(), 'a half-finished install must be repeated'


def test_install_order(tmp_path: Path):
    """torch comes first; what is built is built beside it, without isolation; all under the tested versions."""
    fake_venv(tmp_path / 'venv', failing='nothing at all')
    assert setup_venv(tmp_path / 'venv').returncode == 0
    installs = [line for line in (tmp_path / 'venv/log').read_text().splitlines() if ' pip install ' in line]
    assert [line.split()[-1] for line in installs] == ['torchvision', 'basicsr==1.4.2', '.[test,demo,lint]']
    assert all('-c constraints.txt' in line for line in installs)
    assert ['--no-build-isolation' in line for line in installs] == [False, True, True]
    assert (tmp_path / 'venv/.installed').exists()


def test_make_lists_its_targets():
    for command in (['make'], ['make', 'help']):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert set(re.findall(r'^make (\S+)', result.stdout, re.MULTILINE)) == TARGETS


def test_ci_runs_lint_and_the_readme_test_command():
    script = ROOT / '.ci/run'
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line.startswith('make ')]
    assert commands == ['make lint', 'make test']


def test_constraints_name_no_place_of_one_machine():
    """Every line is NAME==VERSION with an optional marker: no paths, links or hosts."""
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith('#')]
    assert [line for line in pins if not re.fullmatch(r'[\w.-]+==[\w.]+(; python_version (<|>=) "3\.11")?', line)] == []
