"""The record that lets an interrupted `prepare` resume, and the moves from partial to finished LMDBs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compsrt_basicsr.data.prepare_settings import PrepareSettings
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_text

WRITING = 'writing'  # the partial LMDBs are being filled
FINISHING = 'finishing'  # all are complete; some may have been renamed
_FORMAT = 1  # raise it when the same settings come to mean other bytes


@dataclasses.dataclass
class PrepareState:
    """State of one run of `prepare` that has not finished.

    Attributes:
        record: the JSON file that holds the state until the run has finished.
        outputs: final LMDB folder by scale (1 = HR).
        settings: what decides the content, as JSON values.
        sources: [name, bytes, modification time in ns] of every image found.
        stage: `WRITING` or `FINISHING`.
        bad: reason for each unusable image by file name; None before the check.
    """

    record: Path
    outputs: dict[int, Path]
    settings: dict[str, Any]
    sources: list[list[Any]]
    stage: str = WRITING
    bad: dict[str, str] | None = None

    @property
    def partials(self) -> dict[int, Path]:
        """Working LMDB folder by scale."""
        return {scale: path.with_suffix('.partial.lmdb') for scale, path in self.outputs.items()}

    def save(self) -> None:
        """Replaces the record on disk atomically."""
        content = {
            'format': _FORMAT,
            'stage': self.stage,
            'settings': self.settings,
            'bad': self.bad,
            'sources': self.sources,
        }
        write_text(self.record, json.dumps(content, indent=1))

    def load(self) -> None:
        """Takes stage and unusable images from the record of the interrupted run, after comparing the rest.

        Raises:
            CompSRTError: if the record is unreadable, or was made with other settings or from other images.
        """
        try:
            content = json.loads(self.record.read_text(encoding='utf-8'))
            found_format, settings = content['format'], content['settings']
            sources = {name: (size, time) for name, size, time in content['sources']}
            self.stage, self.bad = content['stage'], content['bad']
        except (ValueError, KeyError, TypeError) as error:
            raise CompSRTError(f'`{self.record}` is damaged; start again with --restart.') from error
        if found_format != _FORMAT:
            raise CompSRTError(f'`{self.record}` is of another version of this program; start again with --restart.')
        for key, value in self.settings.items():
            if settings.get(key) != value:
                raise CompSRTError(
                    f'`{self.record}` is of an unfinished run with `{key}` {settings.get(key)}, not {value}; give the '
                    'same settings to resume it, or --restart to discard it.'
                )
        now = {name: (size, time) for name, size, time in self.sources}
        changed = sorted(name for name in now.keys() | sources.keys() if now.get(name) != sources.get(name))
        if changed:
            raise CompSRTError(
                f'Images were added, removed or changed since the unfinished run `{self.record}` started '
                f'({len(changed)}, the first is `{changed[0]}`); give --restart to start again.'
            )

    def check_outputs(self, force: bool) -> None:
        """Refuses to replace finished LMDBs of another run.

        Raises:
            CompSRTError: if one exists and `force` is false.
        """
        for scale, path in self.outputs.items():
            ours = self.stage == FINISHING and not self.partials[scale].exists()
            if path.exists() and not ours and not force:
                raise CompSRTError(
                    f'`{path}` exists already; give --force to replace it, or another --name or output folder.'
                )

    def discard(self) -> None:
        """Deletes the record and the partial LMDBs."""
        for partial in self.partials.values():
            if partial.exists():
                shutil.rmtree(partial)
        self.record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Moves the complete LMDBs to their final names, then deletes the record; may be repeated."""
        for scale, partial in self.partials.items():
            if partial.exists():
                if self.outputs[scale].exists():
                    shutil.rmtree(self.outputs[scale])
                os.replace(partial, self.outputs[scale])
        self.record.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int]:
    """Returns size and modification time of an image, or of a link that leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        status = path.lstat()
    return status.st_size, status.st_mtime_ns


def open_state(
    out: Path, settings: PrepareSettings, sources: Sequence[Path], *, force: bool, restart: bool
) -> PrepareState:
    """Starts a run, or resumes the one that was interrupted.

    Raises:
        CompSRTError: if the output exists, or the interrupted run cannot be resumed with these arguments.
    """
    state = PrepareState(
        record=out / f'{settings.stem}.partial.json',
        outputs=settings.outputs(out),
        settings=json.loads(json.dumps(dataclasses.asdict(settings))),
        sources=[[path.name, *_stamp(path)] for path in sources],
    )
    resumed = state.record.exists() and not restart
    if resumed:
        state.load()
    state.check_outputs(force)
    if resumed:
        return state
    orphans = [path for path in state.partials.values() if path.exists()]
    if orphans and not restart:
        raise CompSRTError(f'`{orphans[0]}` lacks its record `{state.record.name}`; start again with --restart.')
    state.discard()
    return state
