"""How OpenMP's threads wait: set by the commands before torch is imported, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest
from commands import ROOT

from compsrt_basicsr.utils.openmp import SETTINGS, wait_briefly


@pytest.mark.parametrize('own', [{}, {'OMP_NUM_THREADS': '2'}])
def test_threads_sleep_early_by_default(own):
    environment = dict(own)
    wait_briefly(environment)
    assert environment == {**own, **SETTINGS}


@pytest.mark.parametrize('name', ['GOMP_SPINCOUNT', 'KMP_BLOCKTIME', 'OMP_WAIT_POLICY', 'KMP_LIBRARY'])
def test_settings_of_the_user_win(name):
    environment = {name: 'own'}
    wait_briefly(environment)
    assert environment == {name: 'own'}


def test_commands_set_it_before_torch_is_imported():
    """GNU's OpenMP prints the settings that it has read; other libraries print theirs in another form."""
    code = 'import sys; from compsrt_basicsr.cli import start; assert "torch" not in sys.modules; import torch'
    clean = {key: value for key, value in os.environ.items() if not key.startswith(('OMP_', 'GOMP_', 'KMP_'))}
    environment = {**clean, 'OMP_DISPLAY_ENV': 'verbose', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    if 'GOMP_' not in done.stderr:
        pytest.skip('torch has no OpenMP of GNU')
    assert f"GOMP_SPINCOUNT = '{SETTINGS['GOMP_SPINCOUNT']}'" in done.stderr
