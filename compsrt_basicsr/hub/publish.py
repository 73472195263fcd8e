"""Publishing a model in a zoo folder, which any web server can serve as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import WEIGHT_SUFFIXES
from compsrt_basicsr.hub.card import render_card
from compsrt_basicsr.hub.catalog import PACKAGE, asked_before
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.hub.entry import Entry
from compsrt_basicsr.hub.index import read_index, write_index
from compsrt_basicsr.utils.atomic_write import copy_file, write_text
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.log import logger


def publish(
    file: Path, entry: Entry, folder: Path, *, details: Mapping[str, Any] | None = None, force: bool = False
) -> Entry:
    """Copies a weight file into a zoo folder, writes its card, and lists it in the folder's index, in this order.

    Args:
        file: the weights.
        entry: what is known of them; file name, size and checksum are filled in.
        folder: the zoo; made if missing.
        details: further rows of the card.
        force: replace a model of the same name.

    Returns:
        The entry as listed.

    Raises:
        CompSRTError: if the name is taken, here or in the package, whose models are found first; or it ends like a
            file, so that commands would take it for a path.
        OSError: if the file cannot be read, or the folder cannot be written to.
    """
    _check_name(entry.name, folder)
    suffix = file.suffix if file.suffix in WEIGHT_SUFFIXES else '.pth'
    facts = {'file': f'{entry.name}{suffix}', 'size': file.stat().st_size, 'sha256': sha256_of(file), 'urls': ()}
    entry = Entry(**{**entry.to_mapping(), **facts})
    with locked(folder / '.index.lock', f'`{folder}`', waiting=logger.warning):
        entries = read_index(folder)
        if entry.name in entries and not force:
            raise CompSRTError(f'`{folder}` has a model `{entry.name}` already: give --force or another --name.')
        alike = (other for other in entries if other.lower() == entry.name.lower() and other != entry.name)
        other = next(alike, None)
        if other is not None:  # some disks take their files for the same
            raise CompSRTError(
                f'`{folder}` has a model `{other}` already: give a --name that differs in more than case.'
            )
        target, card = folder / entry.file, folder / f'{entry.name}.md'
        copy_file(file, target)
        write_text(card, render_card(entry, details))
        replaced = entries.get(entry.name)
        write_index(folder, {**entries, entry.name: entry}.values())
        if replaced is not None and replaced.file != entry.file:
            (folder / replaced.file).unlink(missing_ok=True)
    return entry


def _check_name(name: str, folder: Path) -> None:
    if asked_before(name, folder) == PACKAGE:
        raise CompSRTError(
            f'`{name}` is a model of the package, which is found before those of all zoos: give another --name.'
        )
    if name.lower().endswith(WEIGHT_SUFFIXES):
        raise CompSRTError(f'`{name}` looks like a file, and commands would take it for one: give another --name.')


def read_quality(file: Path) -> dict[str, dict[str, float]]:
    """Reads the last figures for each data set in a `metrics.json`: {data set: {iteration or run: {metric: value}}}.

    Returns:
        {data set: {metric: value}}.

    Raises:
        CompSRTError: if the file is missing, is not such a record, or a figure in it is not finite.
    """
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        last = {name: list(runs.values())[-1] for name, runs in content.items()}
        for name, values in last.items():
            for metric, value in values.items():
                if value is None or not math.isfinite(value):
                    raise CompSRTError(
                        f'`{file}`: `{metric}` of `{name}` is infinite or undefined, as the log of the test says: take '
                        'that image out of the data set, or leave the metric out, and test again.'
                    )
        return {name: {metric: float(value) for metric, value in values.items()} for name, values in last.items()}
    except FileNotFoundError as error:
        raise CompSRTError(f'`{file}` does not exist; a test run writes it to results/NAME/metrics.json.') from error
    except (ValueError, AttributeError, IndexError, TypeError) as error:
        raise CompSRTError(f'`{file}` is not a metrics.json of a run of this package.') from error
