"""The shipped sweeps: every run could start, and has the options of its method."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import ROOT

from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.sweep import TRAIN
from compsrt_basicsr.study.sweep.option_files import check_run
from compsrt_basicsr.study.sweep.runs import Run, choose, expand
from compsrt_basicsr.study.sweep.spec import read_sweep

SWEEPS = ROOT / 'options/sweeps'
RUNS = {
    'packaged_x2.yml': 17 * 3 * 3 + 1,
    'packaged_x3_x4.yml': 2 * (3 + 1) * 3 + 2,
    'paper_table.yml': 2 * 3 * 3 + 3,
    'ablation_x2.yml': (2 * 26 - 3) * 3 * 3 - 2 * 2 * 3 + 1,
    'pruning_x2.yml': 6 * 2 * 3 + 1,
    'budget_x2.yml': 2 * 2 * 3 * 3 + 1,
    'training_x2.yml': 11 * 3 * 3 + 1,
    'transform_x2.yml': 11 * 3 * 3 + 1,
    'recipe_x2.yml': 2 * 3 + 2,
    'mambairv2_linears.yml': 6 * 3 + 1,
    'mambairv2_all.yml': 6 * 2 + 2,
    'mambairv2_all_w2a2.yml': 6 * 2 + 2,
    'mambairv2_paper.yml': 2 * 2,
}


def runs_of(name: str, *only: str) -> list[Run]:
    sweep = read_sweep(SWEEPS / name)
    return choose(expand(sweep), only)


def test_all_are_known():
    assert {file.name for file in SWEEPS.glob('*.yml')} == set(RUNS)


@pytest.mark.parametrize('name', RUNS)
def test_files_agree_with_the_schema_that_they_name(name: str):
    schema = jsonschema.Draft7Validator(json.loads((SWEEPS / 'schema.json').read_text(encoding='utf-8')))
    text = (SWEEPS / name).read_text(encoding='utf-8')
    content = json.loads(json.dumps(yaml.safe_load(text)))  # keys are texts
    assert text.startswith('# yaml-language-server: $schema=schema.json\n')
    assert [error.message for error in schema.iter_errors(content)] == []
    assert list(schema.iter_errors({**content, 'axs': {}})) and list(schema.iter_errors({**content, 'slurm': 5}))


@pytest.mark.parametrize('name', RUNS)
def test_every_run_could_start(name: str):
    runs = runs_of(name)
    assert len(runs) == len({run.name for run in runs}) == RUNS[name]
    assert f'Command: compsrt sweep options/sweeps/{name}' in (SWEEPS / name).read_text()
    seen = []
    for run in runs:
        variant = {key: value for key, value in run.axes.items() if key != 'seed'}
        if variant not in seen:  # seeds differ in numbers alone
            seen.append(variant)
            check_run(run, has_training_set=TRAIN in run.settings['datasets'])


def test_the_packaged_sweep_has_every_method_at_equal_budget():
    runs = [run for run in runs_of('packaged_x2.yml') if run.trains]
    as_compsrt = {'2dquant_weights', 'lsq_weights'}
    variants = [f'{name}{how}' for name in ('compsrt', 'compsrt_tensor') for how in ('', '_calibrated', '_frozen')]
    assert {run.axes['method'] for run in runs} == {*METHODS, *as_compsrt, *variants}
    for run in runs:
        train = run.options['train']
        assert train['total_iter'] == (0 if train['trainable'] == 'none' else 300)
        if run.axes['method'] in as_compsrt:
            recipe = {**METHODS['compsrt'].train, 'total_iter': 300}
            assert all(train[key] == value for key, value in recipe.items() if key != 'scheduler')
    data = {str(run.options['datasets'][TRAIN]) for run in runs}
    assert len(data) == 1


def test_a_method_changes_the_run(monkeypatch: pytest.MonkeyPatch):
    """The options of a method are part of the run, so that a preset that changes makes new runs."""
    (before,) = runs_of('packaged_x2.yml', 'method=lsq,bits=4,seed=3407')
    assert before.options['network_g']['quant']['step_gradient'] == 'lsq'
    monkeypatch.setitem(METHODS['lsq'].train['optim_g'], 'lr', 0.5)
    (after,) = runs_of('packaged_x2.yml', 'method=lsq,bits=4,seed=3407')
    assert after.options['train']['optim_g']['lr'] == 0.5 and after.name != before.name


def test_an_option_file_as_base(tmp_path: Path):
    """Its validation, names and logging are ignored."""
    (tmp_path / 'g.yml').write_text(
        f'base: {ROOT}/options/compsrt_x2_w4a4.yml\naxes: {{a: {{b: {{}}}}}}\ndatasets: {{train: x, Set5: y}}\n'
    )
    (run,) = expand(read_sweep(tmp_path / 'g.yml'))
    assert run.options['train']['total_iter'] == 4000 and 'val' not in run.options
