"""Training and test of a request, by BasicSR's own commands, each taken up where it stopped."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.hub.publish import read_quality
from compsrt_basicsr.study.reproduce.request import Request
from compsrt_basicsr.study.reproduce.row import write_row
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.version import __version__

BATCH_KEY = 'datasets:train:batch_size_per_gpu'
_INTERRUPTED = 130


class Run:
    """The files and commands of a request.

    Args:
        request: what is asked for.
        root: working directory: experiments/, results/ and reproduce/ lie in it.
        roots: `gt` and `lq`, the LMDBs of the training set.

    Attributes:
        folder: option files, request and row.
        weights: the trained network.
    """

    def __init__(self, request: Request, root: Path, roots: Mapping[str, Path]) -> None:
        self.request, self.root = request, root
        self.folder = root / 'reproduce' / request.name
        self.train_options, self.test_options = request.train_options(roots), request.test_options()
        self.weights = root / 'experiments' / request.name / 'models/net_g_latest.pth'

    def begin(self) -> None:
        """Writes request and option files.

        Raises:
            CompSRTError: the name belongs to another request.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / 'request.json'
        if file.exists() and file.read_text(encoding='utf-8') != self.request.to_json():
            raise CompSRTError(
                f'`{self.folder}` was begun with other options (see `{file.name}` there): give the same, or another '
                '--name.'
            )
        header = '# Written by `compsrt reproduce`; the next call writes it again.\n\n'
        for name, options in (('train.yml', self.train_options), ('test.yml', self.test_options)):
            (self.folder / name).write_text(header + yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        write_text(file, self.request.to_json())

    @property
    def is_trained(self) -> bool:
        """Whether training has come to its end: the last network is written then, and not before."""
        return self.weights.exists()

    def train(self, gpus: int = 0) -> None:
        """Trains on a CPU, one GPU or several.

        Raises:
            CompSRTError: training failed, or the batch cannot be shared among the GPUs.
        """
        if self.is_trained:
            return
        options = ['-opt', str(self.folder / 'train.yml'), '--auto_resume']
        if gpus < 2:
            self._command([sys.executable, '-m', 'compsrt_basicsr', 'train', *options], 'Training')
        else:
            launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
            share = f'{BATCH_KEY}={self._share(gpus)}'
            command = ['-m', 'compsrt_basicsr', 'train', *options, '--launcher', 'pytorch', '--force_yml', share]
            self._command([*launcher, *command], 'Training')

    def _share(self, gpus: int) -> int:
        batch = self.train_options['datasets']['train']['batch_size_per_gpu']
        if batch % gpus:
            raise CompSRTError(
                f'{gpus} GPUs cannot share a batch of {batch}: choose a number that divides it with --gpus.'
            )
        return batch // gpus

    @property
    def is_tested(self) -> bool:
        """Whether the row of the trained network is written."""
        written = self._written_row()
        return written is not None and self.is_trained and written.get('weights_sha256') == sha256_of(self.weights)

    def test(self) -> Path:
        """Tests the trained network unless its row is written already; returns the row as Markdown.

        Raises:
            CompSRTError: the test failed.
        """
        if not self.is_tested:
            options = ['-opt', str(self.folder / 'test.yml')]
            self._command([sys.executable, '-m', 'compsrt_basicsr', 'test', *options], 'The test')
            write_row(self.folder, self.request.setting, self._record())
        return self.folder / 'row.md'

    def _written_row(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / 'row.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None

    def _record(self) -> dict[str, Any]:
        name = self.test_options['name']
        results = read_quality(self.root / 'results' / name / 'metrics.json')
        scale, train = self.request.setting.scale, self.train_options
        return {
            'setting': str(self.request.setting),
            'changes': self.request.changes(),
            'protocol': f'Y channel, a border of {scale} pixels cropped, symmetric padding to the window, the last '
            f'network of {train["train"]["total_iter"]:,} iterations, seed {train["manual_seed"]}, teacher '
            f'{self.request.teacher}',
            'results': results,
            'weights_sha256': sha256_of(self.weights),
            'version': __version__,
            'torch': torch.__version__,
            'hardware': torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            'options': train,
        }

    def _command(self, command: Sequence[str], what: str) -> None:
        """Runs a command of ours in the working directory; it tells its own faults on the way."""
        status = subprocess.run(command, cwd=self.root).returncode
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise CompSRTError(f'{what} stopped (see above); give the same command again to go on where it was.')
