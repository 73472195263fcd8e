"""Measure PSNR of SwinIR-light x2 on the packaged teacher by stage: MinMax, calibrated, distilled; strict and paper.

    python scripts/packaged_table.py IMAGES [--work packaged_table] [--json docs/results/packaged_x2.json] [--pruned]

IMAGES holds `train/*/` (HR images for distillation) and `benchmark/Set5/HR`. Each row runs `compsrt data prepare`,
`basicsr train` and `basicsr test` with the shipped option file of its setting; the record states the options that are
changed. Give the same command again after an interruption: it goes on where it stopped, and keeps the rows of the
record. Delete the record to measure everything again. --pruned adds the settings with 40% of the weights pruned (4 and
3 bits) to those that --bits and --ranges choose. `python scripts/make_results.py` puts the record into docs/stages.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from force_yml import force

from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text

OPTIONS = Path(__file__).resolve().parents[1] / 'options'
TEACHER = 'zoo://swinir_light_x2_house'
FOLDERS = {'strict': OPTIONS, 'paper': OPTIONS / 'paper'}
# Both ranges have the attention as published. Strict training differs from the paper's in clamped codes, a rate that
# suits their steps, and a feature loss that is a mean. Sweeps measure what `method: compsrt` does beyond that.
AS_PUBLISHED = {'network_g:quant:attention_transform': True, 'network_g:quant:softmax': 'normalized'}
PLAIN_TRAINING = {
    'strict': {
        'calibration:reconstruct': False,
        'train:trainable': 'quantizers',
        'train:weight_lr': None,
        'train:unquantized_lr': None,
        'train:optim_g:lr': 3e-2,
        'train:feature_opt': {'type': 'FeatureDistillationLoss', 'loss_weight': 5.0},
    },
    'paper': {},
}
BITS = (4, 3, 2)
PRUNED_BITS = (4, 3)
PROTOCOL = {
    'teacher': TEACHER,
    'iterations': 300,
    'batch': 4,
    'lr_patch': 32,
    'seed': 3407,
    'calibration_patches': 32,
    'test': 'Set5 x2, Y channel, border 2, padding symmetric',
}


class Table:
    """The rows measured so far, each in a file of its own.

    Two calls may share a work folder if their --ranges or --bits differ.
    """

    def __init__(self, work: Path, threads: int) -> None:
        self.work, self.folder = work, work / 'rows'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}

    def rows(self) -> dict[str, Any]:
        """Returns the metrics by row."""
        return {file.stem: json.loads(file.read_text()) for file in sorted(self.folder.glob('*.json'))}

    def command(self, arguments: list[str]) -> None:
        """Runs a command of this package in the work folder; its output goes to log.txt there."""
        print(' '.join(arguments[:4]), '...', flush=True)
        with open(self.work / 'log.txt', 'a') as log:
            program = Path(sys.executable).parent / arguments[0]
            streams = {'stdout': log, 'stderr': log}
            done = subprocess.run([program, *arguments[1:]], cwd=self.work, env=self.environment, **streams)
        if done.returncode:
            raise SystemExit(f'`{" ".join(arguments[:4])} ...` failed; see {self.work / "log.txt"}.')

    def adopt(self, record: Path) -> None:
        """Takes over the rows of an earlier record of the same protocol."""
        earlier = json.loads(record.read_text()) if record.exists() else {}
        if earlier.get('protocol') == PROTOCOL:
            for row, values in earlier['rows'].items():
                write_text(self.folder / f'{row}.json', json_text(values))

    def has(self, row: str) -> bool:
        """Tells whether a row was measured."""
        return (self.folder / f'{row}.json').exists()

    def test(self, row: str, file: Path, forced: dict[str, Any]) -> None:
        """Tests a network on Set5 and keeps its metrics, unless the row was measured."""
        if self.has(row):
            return
        forced = {
            'name': row,
            'num_gpu': 0,
            'datasets': {'test_1': dataset('Set5')},
            'val:count_codes': 'skip',
            **forced,
        }
        self.command(['basicsr', 'test', '-opt', str(file), *force(forced)])
        metrics = json.loads((self.work / 'results' / row / 'metrics.json').read_text())
        (values,) = metrics['Set5'].values()
        write_text(self.folder / f'{row}.json', json_text(values))
        print(f'  {row}: {values}', flush=True)


def dataset(name: str) -> dict[str, Any]:
    """Returns the options of a pair of LMDBs that `prepare` makes."""
    return {
        'name': name,
        'type': 'PairedImageDataset',
        'dataroot_gt': f'data/{name}_HR.lmdb',
        'dataroot_lq': f'data/{name}_LRx2.lmdb',
        'io_backend': {'type': 'lmdb'},
    }


def prepare(table: Table, images: Path) -> None:
    """Makes the LMDBs of Set5 and of all training images, which are not cut."""
    sources = {'train': sorted(images.glob('train/*/*')), 'Set5': sorted(images.glob('benchmark/Set5/HR/*'))}
    for name, files in sources.items():
        folder = table.work / f'{name}_pictures'
        if (table.work / 'data' / f'{name}_LRx2.lmdb').exists():
            continue
        folder.mkdir(exist_ok=True)
        for file in files:
            link = folder / f'{file.parent.name}_{file.name}'
            if not link.exists():
                link.symlink_to(file.resolve())
        arguments = ['-o', 'data', '--name', name, '--scale', '2', '--crop', '0', '--skip-bad']
        table.command(['compsrt', 'data', 'prepare', folder.name, *arguments])


def train(table: Table, recipe: str, row: str, name: str, **forced: Any) -> Path:
    """Calibrates and distils with the shipped file of a row such as w4a4; returns the folder of the checkpoints."""
    file = FOLDERS[recipe] / f'compsrt_x2_{row}.yml'
    models = table.work / 'experiments' / name / 'models'
    if (models / 'net_g_latest.pth').exists():
        return models
    training_set = {
        **dataset('train'),
        'gt_size': 2 * PROTOCOL['lr_patch'],
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': PROTOCOL['batch'],
        'dataset_enlarge_ratio': 10,
    }
    options = {
        **AS_PUBLISHED,
        **PLAIN_TRAINING[recipe],
        'name': name,
        'num_gpu': 0,
        'manual_seed': PROTOCOL['seed'],
        'path:pretrain_network_t': TEACHER,
        'datasets': {'train': training_set},
        'calibration:num_patches': PROTOCOL['calibration_patches'],
        'train:total_iter': PROTOCOL['iterations'],
        'val': None,
        'logger:print_freq': 25,
        'logger:save_checkpoint_freq': 50,
        'logger:use_tb_logger': False,
    }
    if 'periods' in file.read_text():
        options['train:scheduler:periods'] = [PROTOCOL['iterations']]
    table.command(['basicsr', 'train', '-opt', str(file), '--auto_resume', *force({**options, **forced})])
    return models


def checkpoint(models: Path, which: str) -> dict[str, Any]:
    """Returns options that test a checkpoint of a run."""
    return {**AS_PUBLISHED, 'path:pretrain_network_g': str(models / f'net_g_{which}.pth')}


def measure(table: Table, recipe: str, bits: int, pruned: bool = False) -> None:
    """Measures the three rows of a setting that are still missing."""
    row = f'w{bits}a{bits}' + ('_p40' if pruned else '')
    setting = f'{recipe}_{row}'
    tests = FOLDERS[recipe] / f'test_compsrt_x2_{row}.yml'
    if not table.has(f'{setting}_minmax'):
        short = {'calibration:method': 'minmax', 'train:total_iter': 1}
        models = train(table, recipe, row, f'{setting}_minmax', **short)
        table.test(f'{setting}_minmax', tests, checkpoint(models, 'calibrated'))
    if table.has(f'{setting}_calibrated') and table.has(f'{setting}_distilled'):
        return
    models = train(table, recipe, row, setting)
    table.test(f'{setting}_calibrated', tests, checkpoint(models, 'calibrated'))
    table.test(f'{setting}_distilled', tests, {**checkpoint(models, 'latest'), 'val:count_codes': 'all'})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', type=Path)
    parser.add_argument('--work', type=Path, default=Path('packaged_table'))
    parser.add_argument('--json', type=Path, default=Path('docs/results/packaged_x2.json'))
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--bits', type=int, nargs='+', default=BITS, choices=BITS)
    parser.add_argument('--ranges', nargs='+', default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument('--pruned', action='store_true')
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    table = Table(args.work.resolve(), args.threads)
    table.adopt(args.json)
    prepare(table, args.images)

    for bits in args.bits:
        for recipe in args.ranges:
            measure(table, recipe, bits)
            if args.pruned and bits in PRUNED_BITS:
                measure(table, recipe, bits, pruned=True)
    teacher = {'network_g': {**SWINIR_LIGHT, 'type': 'SwinIR', 'upscale': 2}, 'path:pretrain_network_g': TEACHER}
    table.test('full_precision', FOLDERS['strict'] / 'test_compsrt_x2_w4a4.yml', teacher)

    record = {
        'command': 'python scripts/packaged_table.py IMAGES',
        'protocol': PROTOCOL,
        'processor': platform.processor() or platform.machine(),
        'rows': table.rows(),
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.json, json_text(record, indent=2))


if __name__ == '__main__':
    from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT

    main()
