"""The command `compsrt`."""

from __future__ import annotations

import click

from compsrt_basicsr.cli.common import LazyGroup
from compsrt_basicsr.version import __version__

SUBCOMMANDS = {
    'data': ('compsrt_basicsr.cli.data:data', 'Make training LMDBs and low-resolution pictures.'),
    'pack': ('compsrt_basicsr.cli.pack:pack', 'Pack a quantized checkpoint into a small file.'),
    'size': ('compsrt_basicsr.cli.pack:size', 'Show what a file stores, part by part.'),
    'unpack': ('compsrt_basicsr.cli.pack:unpack', 'Turn a packed file into a checkpoint.'),
}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='compsrt')
def main() -> None:
    """Low-bit quantized super-resolution for BasicSR: the work around training."""


if __name__ == '__main__':
    main(prog_name='compsrt')
