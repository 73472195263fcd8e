"""Training and test of a request by BasicSR's own commands. Each goes on where it was interrupted."""

from __future__ import annotations

import json
import platform
import signal
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
from compsrt_basicsr.utils import child_process, interruption
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.version import __version__

BATCH_KEY = 'datasets:train:batch_size_per_gpu'


class Experiment:
    """The files and commands of a request.

    Args:
        request: the request.
        root: working directory, in which experiments/, results/ and reproduce/ lie.
        roots: `gt` and `lq`, the LMDBs of the training set.

    Attributes:
        folder: folder of the option files, the request and the row.
        weights: the trained network.
    """

    def __init__(self, request: Request, root: Path, roots: Mapping[str, Path]) -> None:
        self.request, self.root = request, root
        self.folder = root / 'reproduce' / request.name
        self.train_options, self.test_options = request.train_options(roots), request.test_options()
        self.weights = root / 'experiments' / request.name / 'models/net_g_latest.pth'

    def begin(self) -> None:
        """Writes the request and the option files.

        Raises:
            CompSRTError: if the name belongs to another request.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / 'request.json'
        if file.exists() and file.read_text(encoding='utf-8') != self.request.to_json():
            raise CompSRTError(
                f'`{self.folder}` was begun with other options (see `{file.name}` there): give the same options, or '
                'another --name.'
            )
        header = '# Written by `compsrt reproduce`; the next call writes it again.\n\n'
        for name, options in (('train.yml', self.train_options), ('test.yml', self.test_options)):
            write_text(self.folder / name, header + yaml.safe_dump(options, sort_keys=False))
        write_text(file, self.request.to_json())

    @property
    def is_trained(self) -> bool:
        """Whether training is finished. The last network is written at its end, and not before."""
        return self.weights.exists()

    @property
    def is_tested(self) -> bool:
        """Whether the row of the trained network is written."""
        try:
            row = json.loads((self.folder / 'row.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return False
        return self.is_trained and row.get('weights_sha256') == sha256_of(self.weights)

    def train(self, gpus: int = 0) -> None:
        """Trains on a CPU, a GPU or several, unless that is done.

        Raises:
            CompSRTError: if training fails, or the GPUs cannot share the batch.
        """
        if self.is_trained:
            return
        options = ['-opt', str(self.folder / 'train.yml'), '--auto_resume']
        if gpus < 2:
            self._command([sys.executable, '-m', 'compsrt_basicsr', 'train', *options], 'Training')
        else:
            launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
            share = f'{BATCH_KEY}={self._batch_for(gpus)}'
            command = ['-m', 'compsrt_basicsr', 'train', *options, '--launcher', 'pytorch', '--force_yml', share]
            self._command([*launcher, *command], 'Training')

    def test(self) -> Path:
        """Tests the trained network, unless that is done; returns the row as Markdown.

        Raises:
            CompSRTError: if the test fails.
        """
        if not self.is_tested:
            options = ['-opt', str(self.folder / 'test.yml')]
            self._command([sys.executable, '-m', 'compsrt_basicsr', 'test', *options], 'The test')
            write_row(self.folder, self.request.setting, self._record())
        return self.folder / 'row.md'

    def _batch_for(self, gpus: int) -> int:
        batch = self.train_options['datasets']['train']['batch_size_per_gpu']
        if batch % gpus:
            raise CompSRTError(
                f'{gpus} GPUs cannot share a batch of {batch}: choose a number that divides it with --gpus.'
            )
        return batch // gpus

    def _record(self) -> dict[str, Any]:
        scale, train = self.request.setting.scale, self.train_options
        return {
            'setting': str(self.request.setting),
            'changes': self.request.changes(),
            'protocol': f'Y channel, a border of {scale} pixels cropped, symmetric padding to the window, the last '
            f'network of {train["train"]["total_iter"]:,} iterations, seed {train["manual_seed"]}, teacher '
            f'{self.request.teacher}',
            'results': read_quality(self.root / 'results' / self.test_options['name'] / 'metrics.json'),
            'weights_sha256': sha256_of(self.weights),
            'version': __version__,
            'torch': torch.__version__,
            'hardware': torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            'options': train,
        }

    def _command(self, command: Sequence[str], what: str) -> None:
        """Runs a command in the working directory, which reports its own errors."""
        status = child_process.run(command, cwd=self.root)
        for number in (signal.SIGINT, signal.SIGTERM):
            if status in (-number, 128 + number):
                raise interruption.Interruption(number)
        if status:
            raise CompSRTError(f'{what} stopped (see above); give the same command again to go on from there.')
