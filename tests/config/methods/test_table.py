"""The tables of docs/methods.md are those of the presets, and each switch that it lists is an option."""

import re
from pathlib import Path

import click.testing

from compsrt_basicsr.cli.compsrt import main
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.config.training import TrainOptions

PAGE = (Path(__file__).resolve().parents[3] / 'docs/methods.md').read_text(encoding='utf-8')


def test_the_page_holds_what_the_command_prints():
    """Renew with `compsrt methods`, between the markers."""
    result = click.testing.CliRunner().invoke(main, ['methods'])
    assert result.exit_code == 0
    assert re.search(r'<!-- presets -->\n(.*)<!-- end of presets -->', PAGE, re.S)[1].strip() == result.output.strip()


def test_every_method_has_its_equations_on_the_page():
    for name in METHODS:
        assert re.search(rf'^\*\*{re.escape(name)}[.*]', PAGE, re.M), name


def test_every_switch_is_an_option():
    known = {'quant': QuantConfig, 'calibration': CalibrationConfig, 'train': TrainOptions}
    switches = re.findall(r'`(quant|calibration|train)\.(\w+)', PAGE.split('## Switches')[1])
    assert len(switches) > 10
    assert [f'{section}.{name}' for section, name in switches if name not in known[section].model_fields] == []
