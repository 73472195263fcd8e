"""The flags of `basicsr train` and `basicsr test`, which are BasicSR's; imports nothing heavy."""

from __future__ import annotations

import argparse


def flag_parser() -> argparse.ArgumentParser:
    """Returns the parser of the flags. Wrong flags end the program with status 2 and a usage message."""
    parser = argparse.ArgumentParser()
    parser.add_argument('-opt', type=str, required=True, help='Path to option YAML file.')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='job launcher')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest saved state, if any')
    parser.add_argument('--debug', action='store_true', help='a short run: validate and save every 8 iterations')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    parser.add_argument(
        '--force_yml',
        nargs='+',
        action='extend',  # given twice, both hold
        help='Force to update yml files. Examples: train:ema_decay=0.999',
    )
    return parser
