"""An analysis as a page for readers and figures for papers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.analysis.report.captions import CAPTIONS, captions
from compsrt_basicsr.study.analysis.report.figures import NoMatplotlibError, write_figures
from compsrt_basicsr.study.analysis.report.page import page
from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.log import logger

PAGE, FIGURES = 'report.html', 'figures'
_SCHEMA = 1


def write_report(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes report.html, which needs no other file and no network, and figures as PNG and SVG with their captions.

    Without matplotlib a warning says so, and the page is written alone.

    Args:
        analysis: what analysis.json holds.
        folder: gets `report.html` and `figures/`; made where it is missing.

    Returns:
        The files, the page first.

    Raises:
        CompSRTError: the analysis has another schema than this version knows.
        OSError: a file could not be written; each that is there is whole.
    """
    if analysis.get('schema') != _SCHEMA:
        raise CompSRTError(
            f'The analysis has schema {analysis.get("schema")!r}, this version reads {_SCHEMA}: run `compsrt analyze`.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PAGE, page(analysis))
    written = [folder / PAGE]
    try:
        figures = write_figures(analysis, folder / FIGURES)
    except NoMatplotlibError as error:
        logger.warning(str(error))
        return written
    if figures:
        write_text(folder / FIGURES / CAPTIONS, captions(analysis, {path.stem for path in figures}))
        written += [*figures, folder / FIGURES / CAPTIONS]
    return written
