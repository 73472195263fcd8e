"""From names to files, and from files to state dicts; and the errors of names and files."""

from pathlib import Path

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from safetensors.torch import save_file
from tiny_networks import tiny_edsr

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT
from compsrt_basicsr.checkpoints.find import find_file, full_name, short_name
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.packed import save_packed

STATE = {'a.weight': torch.tensor([1.0, 2.0]), 'a.bias': torch.tensor([3.0])}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_house_teacher_is_small():
    file = find_file('zoo://swinir_light_x2_house')
    assert file.is_file() and file.stat().st_size <= 2 * 2**20


def test_house_teacher_loads_into_swinir():
    """Strictly, but for the buffers that SwinIR computes itself; in float32; and it has learned something."""
    network = SwinIR(**SWINIR_LIGHT, upscale=2).eval()
    state = read_state('zoo://swinir_light_x2_house')
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert {key.rpartition('.')[2] for key in missing} == {'attn_mask', 'relative_position_index'}
    assert {value.dtype for value in state.values()} == {torch.float32}
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
    with torch.no_grad():
        picture = network(ramp)
    fine = torch.nn.functional.interpolate(ramp, scale_factor=2, mode='bilinear')
    assert (picture - fine).abs().mean() < 0.02  # an untrained network gives noise around 0


def test_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        full_name('swinir_light_x2_house') == full_name('zoo://swinir_light_x2_house') == 'zoo://swinir_light_x2_house'
    )
    assert find_file('swinir_light_x2_house') == find_file('zoo://swinir_light_x2_house')
    for path in ('x.pth', './x', str(tmp_path / 'x'), tmp_path / 'x'):
        assert full_name(path) == str(path)
    (tmp_path / 'swinir_light_x2_house').write_bytes(b'')
    assert full_name('swinir_light_x2_house') == 'swinir_light_x2_house'
    (tmp_path / 'swinir_light_x2_house').unlink()
    assert find_file(tmp_path / 'x.pth') == tmp_path / 'x.pth'
    assert '~' not in str(find_file('~/x.pth'))


def test_a_folder_does_not_hide_a_model(tmp_path, monkeypatch):
    """Results are often put into a folder that is called like the model."""
    monkeypatch.chdir(tmp_path)
    before = find_file('swinir_light_x2_house')
    (tmp_path / 'swinir_light_x2_house').mkdir()
    assert find_file('swinir_light_x2_house') == before
    (tmp_path / 'lq').mkdir()
    for path in ('lq', './lq', tmp_path / 'lq'):
        with pytest.raises(CompSRTError, match=r'lq` is a folder'):
            find_file(path)


def test_names_with_dots_and_slashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert full_name('mine.v2') == full_name(Path('zoo://mine.v2')) == 'zoo://mine.v2'
    assert short_name('mine.v2') == 'mine.v2' and short_name('a/net.v2.pth') == 'net.v2'
    with pytest.raises(CompSRTError, match='home folder of `~nosuch` is not known'):
        find_file('~nosuch/x.pth')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('zoo://swinir_light_x2_hause', r'no model `swinir_light_x2_hause`\. Did you mean `swinir_light_x2_house`\?'),
        ('zzz', r'no model `zzz`\. `compsrt zoo list` shows what it has; other weights are given by their path'),
    ],
)
def test_unknown_names(name, text):
    with pytest.raises(CompSRTError, match=text):
        read_state(name)


@pytest.mark.parametrize(
    ('stored', 'key'),
    [
        ({'params': STATE}, 'params'),
        ({'params': {}, 'params_ema': STATE}, 'params_ema'),
        ({'params': STATE}, 'params_ema'),  # not there: `params`
        (STATE, 'params'),
        (STATE, None),
    ],
)
def test_keys_of_a_pth(tmp_path, stored, key):
    torch.save(stored, tmp_path / 'x.pth')
    assert same(read_state(tmp_path / 'x.pth', key), STATE)


def test_safetensors_in_half_precision(tmp_path):
    """Floats are widened; codes and records are not."""
    record = {'record': torch.arange(3, dtype=torch.uint8)}
    save_file({k: v.half() for k, v in STATE.items()} | record, tmp_path / 'x.safetensors')
    found = read_state(tmp_path / 'x.safetensors')
    assert same(found, STATE | record) and {v.dtype for v in found.values()} == {torch.float32, torch.uint8}


def test_packed_files_are_unpacked(tmp_path):
    network = tiny_edsr()
    save_packed(network, tmp_path / 'x', rest='fp32')
    state = read_state(tmp_path / 'x')
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state['conv_first.weight'], network.state_dict()['conv_first.weight'])


@pytest.mark.parametrize(
    ('name', 'content', 'text'),
    [
        ('x.pth', {'state_dict': STATE, 'epoch': 3}, 'has no weights under `params`; it has: state_dict, epoch'),
        ('x.pth', {}, 'has no weights under `params`'),
        ('x.pth', [1, 2], 'holds a list'),
        ('x.pth', None, 'does not exist'),
        ('x.safetensors', None, 'do not exist: check the path'),
        ('x.safetensors', b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":', 'truncated or are not a safetensors file'),
        ('x.safetensors', b'', 'truncated or are not a safetensors file'),
    ],
)
def test_faults(tmp_path, name, content, text):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(CompSRTError, match=text):
        read_state(tmp_path / name)


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, name, share):
    file = tmp_path / name
    large = {'a': torch.rand(1000)}
    torch.save({'params': large}, file) if name.endswith('.pth') else save_file(large, file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(CompSRTError, match='truncated'):
        read_state(file)
