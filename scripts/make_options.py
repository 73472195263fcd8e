"""Writes the option files, their JSON schema and docs/options.md, so that none drifts from the code.

    python scripts/make_options.py [OUTPUT_DIR]

Writes `options/` and `docs/options.md` below OUTPUT_DIR, by default this checkout. The option files come from the
templates in compsrt_basicsr/study/option_files: the recipe `strict` (options/) keeps every code within its bits,
`paper` (options/paper/) runs the experiment as published; each has a training and a test file for each scale (2, 3, 4)
and bit width (4, 3, 2), and at 4 and 3 bits the same with 40% of the weights pruned (_p40). options/mambairv2/ has the
strict files of MambaIRv2-light in two placements of the quantizers; its published ones are in options/paper/ too.
options/spr2q/ has those of SPR2Q on both networks. Other files pretrain a teacher. The schema and the page come from
the models in compsrt_basicsr/config. A test compares the committed files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from string import Template

from compsrt_basicsr.config import datasets, losses, networks, training, validation
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.json_schema import run_schema, sweep_schema
from compsrt_basicsr.config.pruning import PruneSchedule
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.reference import options_table, renames_table
from compsrt_basicsr.config.run import PathOptions, RunOptions
from compsrt_basicsr.study.option_files import compsrt_files, mambairv2_files, pretrain_files, spr2q_files

TABLES = {
    'run': RunOptions,
    'swinir': networks.SwinIRNetwork,
    'net': networks.CompSRTNet,
    'mambairv2': networks.MambaIRv2LightNetwork,
    'quant': QuantConfig,
    'path': PathOptions,
    'calibration': CalibrationConfig,
    'train': training.TrainOptions,
    'optimizer': training.Optimizer,
    'multistep': training.MultiStepScheduler,
    'cosine': training.CosineScheduler,
    'feature_loss': losses.FeatureDistillationLoss,
    'published_feature_loss': losses.PublishedFeatureLoss,
    'published_pixel_loss': losses.PublishedPixelLoss,
    'prune_schedule': PruneSchedule,
    'dataset': datasets.PairedDataset,
    'io_backend': datasets.IoBackend,
    'val': validation.ValidationOptions,
    'metric': validation.Metric,
    'logger': training.LoggerOptions,
    'wandb': training.WandbOptions,
}


def options_page() -> str:
    """Returns docs/options.md."""
    template = Path(__file__).with_name('options_page.md').read_text(encoding='utf-8')
    tables = {name: options_table(model) for name, model in TABLES.items()}
    return Template(template).substitute(tables, renamed=renames_table())


def all_files() -> dict[str, str]:
    """Returns the text of every file by its path in the repository."""
    made = (module.all_files() for module in (compsrt_files, mambairv2_files, spr2q_files, pretrain_files))
    files = {path: text for some in made for path, text in some.items()}
    for path, schema in (('schema.json', run_schema()), ('sweeps/schema.json', sweep_schema())):
        files[path] = json.dumps(schema, indent=1, ensure_ascii=False) + '\n'
    return {**{f'options/{path}': text for path, text in files.items()}, 'docs/options.md': options_page()}


def write_options(output_dir: Path) -> list[Path]:
    """Writes all files below a folder and returns their paths."""
    written = []
    for path, text in all_files().items():
        target = output_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
        written.append(target)
    return written


def main() -> None:
    """Writes below the folder given on the command line, or below this checkout."""
    if len(sys.argv) > 2 or sys.argv[1:2] in (['-h'], ['--help']):
        print(__doc__)
        return
    output_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    print(f'{len(write_options(output_dir))} files below {output_dir}')


if __name__ == '__main__':
    main()
