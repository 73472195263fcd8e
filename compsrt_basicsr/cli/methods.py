"""`compsrt methods`: the methods that `method` can name, as Markdown tables."""

from __future__ import annotations

import click

from compsrt_basicsr.config.methods.table import preset_tables


@click.command()
def methods() -> None:
    """Show the quantization methods and the options that each sets."""
    click.echo(preset_tables())
