"""Weight files: the packaged teacher, names, keys, and the faults of files."""

import pytest
import torch
from basicsr.archs.swinir_arch import SwinIR
from compsrt_basicsr.checkpoints.weights import read_weights, resolve
from safetensors.torch import save_file

from compsrt_basicsr.archs.compsrt_swinir_arch import SWINIR_LIGHT
from compsrt_basicsr.archs.state_dicts import RECOMPUTABLE
from compsrt_basicsr.errors import CompSRTError

STATE = {'a.weight': torch.tensor([1.0, 2.0]), 'a.bias': torch.tensor([3.0])}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_house_teacher_is_small():
    file = resolve('zoo://swinir_light_x2_house')
    assert file.is_file() and file.stat().st_size <= 2 * 2**20


def test_house_teacher_loads_into_swinir():
    """Strictly, but for the buffers that SwinIR computes itself; in float32; and it has learned something."""
    network = SwinIR(**SWINIR_LIGHT, upscale=2).eval()
    state = read_weights('zoo://swinir_light_x2_house')
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert {key.rpartition('.')[2] for key in missing} == set(RECOMPUTABLE)
    assert {value.dtype for value in state.values()} == {torch.float32}
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
    with torch.no_grad():
        picture = network(ramp)
    fine = torch.nn.functional.interpolate(ramp, scale_factor=2, mode='bilinear')
    assert (picture - fine).abs().mean() < 0.02  # an untrained network gives noise around 0


def test_paths(tmp_path):
    assert resolve(tmp_path / 'x.pth') == tmp_path / 'x.pth'
    assert '~' not in str(resolve('~/x.pth'))


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('zoo://swinir_light_x2_hause', r'no model `swinir_light_x2_hause`\. Did you mean `swinir_light_x2_house`\?'),
        ('zoo://zzz', r'no model `zzz`\. `compsrt zoo list` shows what it has; other weights are given by their path'),
    ],
)
def test_unknown_names(name, text):
    with pytest.raises(CompSRTError, match=text):
        read_weights(name)


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
    assert same(read_weights(tmp_path / 'x.pth', key), STATE)


def test_safetensors_in_half_precision(tmp_path):
    save_file({k: v.half() for k, v in STATE.items()}, tmp_path / 'x.safetensors')
    assert same(read_weights(tmp_path / 'x.safetensors'), STATE)


@pytest.mark.parametrize(
    ('name', 'content', 'text'),
    [
        ('x.pth', {'state_dict': STATE, 'epoch': 3}, 'has no weights under `params`; it has: state_dict, epoch'),
        ('x.pth', {}, 'has no weights under `params`'),
        ('x.pth', [1, 2], 'holds a list'),
        ('x.pth', None, 'does not exist'),
        ('x.safetensors', None, 'do not exist: check the path'),
        ('x.safetensors', b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":', 'truncated or no safetensors file'),
        ('x.safetensors', b'', 'truncated or no safetensors file'),
    ],
)
def test_faults(tmp_path, name, content, text):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(CompSRTError, match=text):
        read_weights(tmp_path / name)


@pytest.mark.parametrize('name', ['x.pth', 'x.safetensors'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, name, share):
    file = tmp_path / name
    large = {'a': torch.rand(1000)}
    torch.save({'params': large}, file) if name.endswith('.pth') else save_file(large, file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(CompSRTError, match='truncated'):
        read_weights(file)
