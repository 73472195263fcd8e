"""A request: the row, and how the run differs from the published experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compsrt_basicsr.checkpoints.find import full_name
from compsrt_basicsr.config.force_options import apply_forced
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.published import TEST_SETS
from compsrt_basicsr.study.reproduce.setting import Setting
from compsrt_basicsr.utils.yaml_reader import parse_yaml

TRAINING_SET = 'DF2K'


@dataclass(frozen=True)
class Request:
    """A row that is to be reproduced.

    Attributes:
        setting: the row.
        name: name of the run; the row's own by default.
        teacher: weights of the teacher, a path or a zoo name; the official ones by default.
        training_set: data set to train on.
        test_sets: data sets to test on.
        data: folder of the data sets, as given.
        forced: further options, as `--force_yml` takes them.
    """

    setting: Setting
    name: str
    teacher: str
    training_set: str = TRAINING_SET
    test_sets: tuple[str, ...] = TEST_SETS
    data: str = 'datasets'
    forced: tuple[str, ...] = ()

    @classmethod
    def of(cls, setting: Setting, *, name: str | None = None, teacher: str | None = None, **others: Any) -> Request:
        """Builds a request with the defaults of its setting."""
        official = f'zoo://swinir_light_x{setting.scale}'
        return cls(setting, name or setting.name, full_name(teacher) if teacher else official, **others)

    def changes(self) -> list[str]:
        """Returns the differences from the published experiment, apart from the machine."""
        usual = Request.of(self.setting)
        found = [] if self.setting.paper else ['strict code range and its recipe: codes are clamped']
        if self.teacher != usual.teacher:
            found.append(f'teacher {self.teacher}')
        if self.training_set != usual.training_set:
            found.append(f'trained on {self.training_set}')
        missing = [name for name in usual.test_sets if name not in self.test_sets]
        if missing:
            found.append(f'not tested on {", ".join(missing)}')
        return found + [f'{option} forced' for option in self.forced]

    def train_options(self, roots: Mapping[str, Path]) -> dict[str, Any]:
        """Returns the options of the training, the forced ones included.

        Args:
            roots: `gt` and `lq`, the LMDBs of the training set.

        Raises:
            CompSRTError: if the section of a forced option does not exist.
        """
        options = parse_yaml(self.setting.option_files()[0], 'The training file')
        options['name'] = self.name
        options['path']['pretrain_network_t'] = self.teacher
        train = options['datasets']['train']
        train |= {'name': self.training_set, 'dataroot_gt': str(roots['gt']), 'dataroot_lq': str(roots['lq'])}
        if 'Set5' in self.test_sets:
            self._relocate(options['datasets']['val'])
        else:
            del options['datasets']['val'], options['val']
        apply_forced(options, self.forced)
        return options

    def test_options(self) -> dict[str, Any]:
        """Returns the options of the test, with the forced ones that apply to it: `num_gpu`, `network_g` and `val`."""
        options = parse_yaml(self.setting.option_files()[1], 'The test file')
        options['name'] = f'test_{self.name}'
        options['path']['pretrain_network_g'] = f'experiments/{self.name}/models/net_g_latest.pth'
        known = {dataset['name']: dataset for dataset in options['datasets'].values()}
        options['datasets'] = {f'test_{i}': known[name] for i, name in enumerate(self.test_sets, 1)}
        for dataset in options['datasets'].values():
            self._relocate(dataset)
        tested = ('num_gpu', 'method', 'network_g', 'val')
        shared = [entry for entry in self.forced if entry.split(':')[0].split('=')[0] in tested]
        apply_forced(options, shared)
        return options

    def _relocate(self, dataset: dict[str, Any]) -> None:
        for key in ('dataroot_gt', 'dataroot_lq'):
            dataset[key] = str(Path(self.data) / Path(dataset[key]).relative_to('datasets'))

    def to_json(self) -> str:
        """Returns a text that is the same for the same request."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + '\n'


def check_test_sets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns test sets in the order of the table.

    Raises:
        CompSRTError: if the table does not have one of them, or there is none.
    """
    unknown = [name for name in names if name not in TEST_SETS]
    if unknown or not names:
        raise CompSRTError(f'`--test` takes {", ".join(TEST_SETS)}, got {", ".join(unknown) or "nothing"}.')
    return tuple(name for name in TEST_SETS if name in names)
