"""The steps of a reproduction, in their order: teacher, data, training, test, row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate

from compsrt_basicsr.data.catalog import find as find_data_sets
from compsrt_basicsr.data.catalog import load_catalog
from compsrt_basicsr.data.get import SCALES, Step, ensure, plan
from compsrt_basicsr.data.layout import Layout
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import SCHEME
from compsrt_basicsr.hub.catalog import find
from compsrt_basicsr.study.reproduce.estimate import duration, seconds_to_test, seconds_to_train
from compsrt_basicsr.study.reproduce.request import Request
from compsrt_basicsr.study.reproduce.run import Run
from compsrt_basicsr.utils.disk_space import size_text
from compsrt_basicsr.utils.progress import SILENT, Progress


class Job:
    """All that a request needs.

    Args:
        request: what is asked for.
        root: working directory.
        gpus: GPUs to train on; None takes all.
        accept_terms: the user's word that the terms of data sets are accepted.

    Raises:
        CompSRTError: a data set, the teacher or an option is not known.
    """

    def __init__(self, request: Request, root: Path, gpus: int | None = None, accept_terms: bool = False) -> None:
        self.request, self.accept_terms = request, accept_terms
        self.gpus = torch.cuda.device_count() if gpus is None else gpus
        self.data = root / request.data
        self._check_teacher()
        datasets = find_data_sets([request.training_set], load_catalog())
        if len(datasets) != 1:
            raise CompSRTError(f'`--train` takes one data set, got {request.training_set!r}.')
        gt, lq = Layout(datasets[0], self.data).pair(request.setting.scale)
        self.run_of = Run(request, root, {'gt': gt, 'lq': lq})

    def plan(self) -> str:
        """The steps with what they write and how long they take, those that are done included."""
        request, run = self.request, self.run_of
        rows = [['teacher', request.teacher, *self._teacher_state()]]
        obstacles = []
        for step in self._data_steps():
            rows.append([f'{step.kind} {step.dataset}', str(step.target), _size(step.bytes), _done(step.done)])
            obstacles += [step.obstacle] if step.obstacle else []
        training = duration(seconds_to_train(run.train_options))
        iterations = f'{run.train_options["train"]["total_iter"]:,} iterations'
        rows.append(['train', iterations, '' if self.gpus else f'about {training}', _done(run.is_trained)])
        testing = duration(seconds_to_test(request.setting.scale, request.test_sets))
        rows.append(
            ['test', ', '.join(request.test_sets), '' if self.gpus else f'about {testing}', _done(run.is_tested)]
        )
        rows.append(['row', str(run.folder / 'row.md'), '', ''])
        table = tabulate(rows, ['step', 'what', 'size or time', 'state'], disable_numparse=True)
        place = f'{self.gpus} GPU{"s"[: self.gpus != 1]}' if self.gpus else 'CPU; times are for two cores of a server'
        changes = request.changes()
        parts = [f'{request.setting} on {place}', table]
        parts += [f'Not the published experiment: {"; ".join(changes)}.'] if changes else []
        return '\n\n'.join(parts + list(dict.fromkeys(obstacles))) + '\n'

    def run(
        self,
        progress: Progress = SILENT,
        report: Callable[[str], None] = lambda line: None,
    ) -> Path:
        """Does what is not done; returns the row as Markdown.

        Raises:
            CompSRTError: a step cannot be done; what is complete stays, and the next call goes on.
        """
        request, run = self.request, self.run_of
        obstacles = [step.obstacle for step in self._data_steps() if step.obstacle]
        if obstacles and not (run.is_trained and run.is_tested):
            raise CompSRTError(f'{obstacles[0]} Or leave a test set out: name the others with --test.')
        run.begin()
        if request.teacher.startswith(SCHEME):
            find(request.teacher).fetch(progress)
        if not run.is_trained or not run.is_tested:
            shared = {'accept_terms': self.accept_terms, 'progress': progress}
            for names, scales in self._data_sets():
                ensure(names, self.data, scales, report=report, **shared)
        run.train(self.gpus)
        return run.test()

    def _data_sets(self) -> list[tuple[list[str], tuple[int, ...]]]:
        """Data sets and their scales: a training set serves all scales, whose LMDBs are cheap beside its HR one."""
        return [([self.request.training_set], SCALES), ([*self.request.test_sets], (self.request.setting.scale,))]

    def _data_steps(self) -> list[Step]:
        """The steps of all data sets; archives that several share are counted once."""
        steps = []
        for names, scales in self._data_sets():
            steps += plan(names, self.data, scales, accept_terms=self.accept_terms)
        seen = set()
        return [step for step in steps if not (step.target in seen or seen.add(step.target))]

    def _check_teacher(self) -> None:
        teacher, scale = self.request.teacher, self.request.setting.scale
        if not teacher.startswith(SCHEME):
            if not Path(teacher).expanduser().is_file():
                raise CompSRTError(f'The teacher `{teacher}` does not exist: give a file or zoo://NAME with --teacher.')
        elif find(teacher).entry.scale != scale:
            raise CompSRTError(f'The teacher `{teacher}` is of x{find(teacher).entry.scale}, the row of x{scale}.')

    def _teacher_state(self) -> list[str]:
        if not self.request.teacher.startswith(SCHEME):
            return ['', _done(True)]
        located = find(self.request.teacher)
        return [_size(0 if located.is_here else located.entry.size or 0), _done(located.is_here)]


def _done(done: bool) -> str:
    return 'done' if done else 'to do'


def _size(count: int) -> str:
    return f'about {size_text(count)}' if count else ''
