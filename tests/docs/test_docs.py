"""The documentation: links lead somewhere, and examples run as shown."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from basicsr.archs import build_network

from compsrt_basicsr.quant.quantizer import quantizers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
MODULES = {'basicsr': 'compsrt_basicsr', 'compsrt': 'compsrt_basicsr.cli.compsrt'}


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', (ROOT / page).read_text(encoding='utf-8'), re.M | re.S)


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(page: Path):
    links = re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text(encoding='utf-8'))
    assert [link for link in links if '://' not in link and not (page.parent / link).exists()] == []


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
@pytest.mark.parametrize(
    'page', ['docs/data.md', 'docs/zoo.md', 'docs/reproduce.md', 'docs/compare.md', 'docs/compress.md']
)
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
