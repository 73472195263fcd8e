"""scripts/prepare_data.sh makes what the option files read; `compsrt` itself is a stand-in that notes its arguments."""

import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """\
#!/usr/bin/env bash
echo "$*" >> "$NOTES"
while [ $# -gt 0 ]; do case $1 in -o) out=$2;; --name) name=$2;; --crop) crop=$2;; esac; shift; done
mkdir -p "$out/${name}_HR$([ "${crop:-480}" = 0 ] || echo _sub).lmdb"
"""


def prepare(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    tool = folder / 'bin/compsrt'
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(STAND_IN)
    tool.chmod(0o755)
    env = {**os.environ, 'PATH': f'{tool.parent}{os.pathsep}{os.environ["PATH"]}', 'NOTES': str(folder / 'notes')}
    script = ROOT / 'scripts/prepare_data.sh'
    return subprocess.run([script, *arguments], cwd=folder, env=env, capture_output=True, text=True)


def test_makes_the_lmdbs_of_the_option_files_once(tmp_path: Path):
    for name in ('Set5', 'Set14', 'B100', 'Urban100'):
        (tmp_path / 'bench' / name / 'HR').mkdir(parents=True)
    first = prepare(tmp_path, 'DF2K_HR', 'bench')
    assert first.returncode == 0, first.stderr
    assert 'Manga109 is skipped' in first.stdout
    calls = (tmp_path / 'notes').read_text().splitlines()
    assert len(calls) == 1 + 4 * 3
    for scale in (2, 3, 4):
        options = yaml.safe_load((ROOT / f'options/test_compsrt_x{scale}_w4a4.yml').read_text())
        wanted = [d['dataroot_gt'] for d in options['datasets'].values() if d['name'] != 'Manga109']
        assert all((tmp_path / path).is_dir() for path in wanted)
    training = yaml.safe_load((ROOT / 'options/compsrt_x2_w4a4.yml').read_text())['datasets']['train']
    assert (tmp_path / training['dataroot_gt']).is_dir()

    again = prepare(tmp_path, 'DF2K_HR', 'bench')
    assert again.returncode == 0
    assert len((tmp_path / 'notes').read_text().splitlines()) == len(calls)


def test_says_how_it_is_used(tmp_path: Path):
    result = prepare(tmp_path, 'DF2K_HR')
    assert result.returncode == 2
    assert re.search(r'^\s*scripts/prepare_data.sh TRAIN_HR BENCHMARK', result.stderr, re.MULTILINE)
