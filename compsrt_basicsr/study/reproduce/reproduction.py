"""The steps of a reproduction: teacher, data, training, test, row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate

from compsrt_basicsr.data.catalog import find as find_data_sets
from compsrt_basicsr.data.catalog import load_catalog
from compsrt_basicsr.data.dataset_folder import DatasetFolder
from compsrt_basicsr.data.get import SCALES, Step, ensure, plan
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import SCHEME
from compsrt_basicsr.hub.catalog import find
from compsrt_basicsr.study.reproduce.estimate import duration, seconds_to_test, seconds_to_train
from compsrt_basicsr.study.reproduce.experiment import Experiment
from compsrt_basicsr.study.reproduce.request import Request
from compsrt_basicsr.utils.disk_space import size_text
from compsrt_basicsr.utils.expand_user import expand_user
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.progress import SILENT, Progress


class Reproduction:
    """All that a request needs.

    Args:
        request: the request.
        root: working directory.
        gpus: number of GPUs to train on; None takes all.
        accept_terms: whether the user accepts the terms of the data sets.

    Raises:
        CompSRTError: if the teacher, a data set or an option does not exist, or the teacher is of another scale.
    """

    def __init__(self, request: Request, root: Path, gpus: int | None = None, accept_terms: bool = False) -> None:
        self.request, self.accept_terms = request, accept_terms
        self.gpus = torch.cuda.device_count() if gpus is None else gpus
        self.data = root / request.data
        self._check_teacher()
        datasets = find_data_sets([request.training_set], load_catalog())
        if len(datasets) != 1:
            raise CompSRTError(f'`--train` takes one data set, got {request.training_set!r}.')
        gt, lq = DatasetFolder(datasets[0], self.data).pair(request.setting.scale)
        self.experiment = Experiment(request, root, {'gt': gt, 'lq': lq})

    def plan(self) -> str:
        """Returns all steps, what they write and how long they take."""
        request, experiment = self.request, self.experiment
        steps = self._data_steps()
        train, tests = experiment.train_options, request.test_sets
        times = seconds_to_train(train), seconds_to_test(request.setting.scale, tests)
        training, testing = ('' if self.gpus else f'about {duration(seconds)}' for seconds in times)
        rows = [
            ['teacher', request.teacher, *self._teacher_state()],
            *([f'{s.kind} {s.dataset}', str(s.target), _size(s.bytes), _state(s.done)] for s in steps),
            ['train', f'{train["train"]["total_iter"]:,} iterations', training, _state(experiment.is_trained)],
            ['test', ', '.join(tests), testing, _state(experiment.is_tested)],
            ['row', str(experiment.folder / 'row.md'), '', ''],
        ]
        place = f'{self.gpus} GPU{"s"[: self.gpus != 1]}' if self.gpus else 'CPU; times are for two cores of a server'
        table = tabulate(rows, ['step', 'what', 'size or time', 'state'], disable_numparse=True)
        parts = [f'{request.setting} on {place}', table]
        if changes := request.changes():
            parts.append(f'Not the published experiment: {"; ".join(changes)}.')
        return '\n\n'.join(parts + list(dict.fromkeys(s.obstacle for s in steps if s.obstacle))) + '\n'

    def run(
        self,
        progress: Progress = SILENT,
        report: Callable[[str], None] = lambda line: None,
    ) -> Path:
        """Does what is not done; returns the row as Markdown.

        Raises:
            CompSRTError: if a step fails. What is complete stays, and the next call goes on.
            Busy: if another call reproduces the row under this name.
        """
        request, experiment = self.request, self.experiment
        is_finished = experiment.is_trained and experiment.is_tested
        obstacles = [step.obstacle for step in self._data_steps() if step.obstacle]
        if obstacles and not is_finished:
            raise CompSRTError(f'{obstacles[0]} Or leave a test set out: name the others with --test.')
        with locked(experiment.folder / '.lock', f'`{experiment.folder}`'):
            experiment.begin()
            if request.teacher.startswith(SCHEME):
                find(request.teacher).fetch(progress)
            if not is_finished:
                for names, scales in self._data_sets():
                    ensure(names, self.data, scales, accept_terms=self.accept_terms, progress=progress, report=report)
            experiment.train(self.gpus)
            return experiment.test()

    def _data_sets(self) -> list[tuple[list[str], tuple[int, ...]]]:
        """Returns data sets and their scales. A training set gets the LMDBs of all scales, which add little to HR."""
        return [([self.request.training_set], SCALES), ([*self.request.test_sets], (self.request.setting.scale,))]

    def _data_steps(self) -> list[Step]:
        """Returns the steps of all data sets; archives that several share are counted once."""
        steps: dict[Path, Step] = {}
        for names, scales in self._data_sets():
            for step in plan(names, self.data, scales, accept_terms=self.accept_terms):
                steps.setdefault(step.target, step)
        return list(steps.values())

    def _check_teacher(self) -> None:
        teacher, scale = self.request.teacher, self.request.setting.scale
        if not teacher.startswith(SCHEME):
            if not expand_user(teacher).is_file():
                raise CompSRTError(
                    f'The teacher `{teacher}` does not exist: give a file, or a name of the zoo, with --teacher.'
                )
        elif find(teacher).entry.scale != scale:
            raise CompSRTError(f'The teacher `{teacher}` is of x{find(teacher).entry.scale}, the row of x{scale}.')

    def _teacher_state(self) -> list[str]:
        if not self.request.teacher.startswith(SCHEME):
            return ['', _state(True)]
        located = find(self.request.teacher)
        return [_size(0 if located.is_here else located.entry.size or 0), _state(located.is_here)]


def _state(done: bool) -> str:
    return 'done' if done else 'to do'


def _size(count: int) -> str:
    return f'about {size_text(count)}' if count else ''
