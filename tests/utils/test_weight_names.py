"""Names of weights: whose they look like."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from compsrt_basicsr.utils.weight_names import architecture_of, origin_of

BUILT = {
    'SwinIR': {'depths': (1,), 'num_heads': (2,), 'embed_dim': 8, 'img_size': 16, 'window_size': 8},
    'EDSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
    'RCAN': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 2},
    'RRDBNet': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4},
    'MSRResNet': {'num_feat': 8, 'num_block': 1},
    'SRVGGNetCompact_basicsr': {'num_feat': 8, 'num_conv': 1},
    'ECBSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_block': 1, 'num_channel': 8, 'with_idt': False, 'act_type': 'relu'},
    'UNetDiscriminatorSN_basicsr': {'num_in_ch': 3, 'num_feat': 8},
    'VGGStyleDiscriminator': {'num_in_ch': 3, 'num_feat': 8, 'input_size': 128},
}


@pytest.mark.parametrize('name', BUILT)
def test_architectures_of_basicsr(name):
    arguments = dict(BUILT[name]) | ({'scale': 2} if name == 'ECBSR' else {})
    names = ARCH_REGISTRY.get(name)(**arguments).state_dict()
    found = architecture_of(names)
    expected = 'discriminator' if 'Discriminator' in name else name.removesuffix('_basicsr')
    assert found is not None and expected in found
    assert found in origin_of(names)


@pytest.mark.parametrize(
    ('name', 'architecture'),
    [
        ('layers.0.residual_group.blocks.0.conv_block.cab.0.weight', 'HAT'),
        ('layers.0.residual_group.overlap_attn.qkv.weight', 'HAT'),
        ('layers.0.residual_group.blocks.0.attn.cpb_mlp.0.weight', 'Swin2SR'),
        ('head.0.weight', 'EDSR as its authors published it'),
        ('model.1.sub.0.RDB1.conv1.0.weight', 'RRDBNet (ESRGAN)'),
    ],
)
def test_architectures_of_others(name, architecture):
    swinir = 'layers.0.residual_group.blocks.0.attn.relative_position_bias_table'
    assert architecture_of([swinir, name] if 'residual_group' in name else [name]) == architecture


def test_unknown_names_are_shown_and_prefixes_named():
    assert '`alpha.weight`, `beta.weight`' in origin_of(['alpha.weight', 'beta.weight'])
    compiled = origin_of([f'_orig_mod.{name}' for name in ('conv_first.weight', 'body.0.conv1.weight')])
    assert '`_orig_mod.`' in compiled and 'EDSR' in compiled
    assert 'no weights' in origin_of([])
