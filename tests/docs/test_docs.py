"""The documentation: links lead somewhere, options and defaults are those of the code, examples run as shown."""

from __future__ import annotations

import doctest
import inspect
import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from basicsr.archs import build_network
from basicsr.utils.registry import LOSS_REGISTRY

from compsrt_basicsr.config.quantization import CalibrationConfig, PruneSchedule, QuantConfig
from compsrt_basicsr.quant.quantizer import quantizers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
MODULES = {'basicsr': 'compsrt_basicsr', 'compsrt': 'compsrt_basicsr.cli.compsrt'}


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', (ROOT / page).read_text(encoding='utf-8'), re.M | re.S)


def section(page: str, title: str) -> str:
    """The text under a heading, down to the next one of any level."""
    text = (ROOT / page).read_text(encoding='utf-8')
    return re.search(rf'^#+ {re.escape(title)}$(.*?)(?=^#|\Z)', text, re.M | re.S)[1]


def rows(text: str) -> dict[str, str]:
    """Default by option of a Markdown table, both between backticks."""
    return dict(re.findall(r'^\|(?: `\w+`)? *\|? ?`(\w+)` \| `([^`]+)` \|', text, re.M))


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(page: Path):
    links = re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text(encoding='utf-8'))
    assert [link for link in links if '://' not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ('title', 'config'),
    [('`quant`', QuantConfig), ('`calibration`', CalibrationConfig), ('`prune_schedule`', PruneSchedule)],
)
def test_options_of_the_configurations(title: str, config: type):
    documented = {name: yaml.safe_load(default) for name, default in rows(section('docs/options.md', title)).items()}
    expected = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields(config)}
    assert documented == expected


def test_options_of_the_losses():
    text = section('docs/options.md', 'Losses')
    for name, part in re.findall(r'^\| `(\w+Loss)` (.*?)(?=^\| `\w+Loss`|\Z)', text, re.M | re.S):
        loss = LOSS_REGISTRY.get(name)
        expected = {p.name: p.default for p in inspect.signature(loss).parameters.values()}
        found = dict(re.findall(r'\| `(\w+)` \| (`[^`]+`|as above)', part))
        told = {key: yaml.safe_load(value.strip('`')) for key, value in found.items() if value != 'as above'}
        assert set(found) <= set(expected), name
        assert told.items() <= expected.items(), name
    assert {'FeatureDistillationLoss', 'PublishedFeatureLoss', 'PublishedPixelLoss'} <= set(
        re.findall(r'\w+Loss', text)
    )


def test_extending_runs_as_shown():
    namespace: dict = {}
    runner = doctest.DocTestRunner()
    for number, block in enumerate(code_blocks('docs/extending.md', 'python')):
        if '>>>' in block:
            test = doctest.DocTestParser().get_doctest(block, namespace, f'block {number}', None, 0)
            runner.run(test, clear_globs=False)
            namespace = test.globs
        else:
            exec(compile(block, f'block {number}', 'exec'), namespace)
    assert runner.tries > 10 and runner.failures == 0


def test_options_of_extending_build_a_network():
    (text,) = code_blocks('docs/extending.md', 'yaml')
    assert len(quantizers(build_network(yaml.safe_load(text)['network_g']))) == 2 * (2 * 16 + 2)


def assert_prints_what_is_shown(block: str, folder: Path, run_command) -> None:
    """Runs a `$ [NAME=VALUE ...] COMMAND` and compares its output, in which `...` may stand for anything."""
    command, _, shown = block.partition('\n')
    words = shlex.split(command.removeprefix('$ '))
    program = next(index for index, word in enumerate(words) if '=' not in word)
    environment = dict(word.split('=', 1) for word in words[:program])
    result = run_command(['python', '-m', MODULES[words[program]], *words[program + 1 :]], folder, **environment)
    found = (result.stdout + result.stderr).rstrip() + '\n'
    assert doctest.OutputChecker().check_output(shown.rstrip() + '\n', found, doctest.ELLIPSIS), f'{command}\n{found}'


@pytest.mark.integration
@pytest.mark.parametrize('page', ['docs/data.md', 'docs/zoo.md', 'docs/reproduce.md', 'docs/compare.md'])
def test_commands_print_what_is_shown(page: str, run_command, tmp_path: Path):
    """In the order of the page, in a folder with the photographs that docs/data.md speaks of."""
    skimage = pytest.importorskip('skimage')
    (tmp_path / 'photos').mkdir()
    for name in ('astronaut', 'coffee', 'motorcycle_left'):
        shutil.copy(Path(skimage.__file__).parent / 'data' / f'{name}.png', tmp_path / 'photos')
    blocks = code_blocks(page, 'console')
    assert blocks
    for block in blocks:
        assert_prints_what_is_shown(block, tmp_path, run_command)
