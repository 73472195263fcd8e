"""What the names of weights say about where a checkpoint comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The first that matches a name decides; what is told from SwinIR by one more part stands before it.
_ARCHITECTURES = (
    ('MambaIRv2-light', r'\.convffn\d\.sg\.conv\.'),
    ('MambaIRv2, not its light network', r'\.assm\.selectiveScan\.'),
    ('MambaIR, the first version', r'\.self_attention\.(A_logs|x_proj_weight)$'),
    ('HAT', r'\.overlap_attn\.|\.conv_block\.cab\.'),
    ('DAT', r'\.attn\.attns\.\d'),
    ('Swin2SR', r'\.attn\.(logit_scale|cpb_mlp\.)'),
    ('SwinIR', r'layers\.\d+\.residual_group\.blocks\.\d+\.attn\.relative_position_bias_table$'),
    ('RRDBNet (ESRGAN)', r'^(body|RRDB_trunk|model\.1\.sub)\.\d+\.(rdb1|RDB1)\.'),
    ('RCAN', r'^body\.\d+\.(residual_group\.\d+\.rcab|body\.\d+\.body)\.'),
    ('EDSR as its authors published it', r'^(sub_mean|head\.0|tail\.0\.\d)\.'),
    ('NAFNet', r'^middle_blks\.|^intro\.'),
    ('Restormer', r'^encoder_level1\.'),
    ('ECBSR', r'^backbone\.\d+\.conv3x3\.'),
    ('a video network such as BasicVSR', r'^spynet\.'),
    ('GFPGAN or StyleGAN2', r'^(stylegan_decoder|style_mlp)\.'),
    ('a discriminator', r'^conv\d+(_\d)?\.weight(_orig)?$|^linear1\.'),
    ('MSRResNet', r'^upconv1\.'),
    ('EDSR', r'^body\.\d+\.conv1\.'),
    ('SRVGGNetCompact', r'^body\.\d+\.weight$'),
)
_PREFIXES = {
    '_orig_mod.': 'torch.compile',
    'net_g.': 'another training program',
    'generator.': 'another training program',
    'model.': 'another training program',
    'state_dict.': 'another training program',
}
_SHOWN = 3


def architecture_of(names: Iterable[str]) -> str | None:
    """Returns whose weights have such names, or None where no known network has them.

    Args:
        names: Names of weights, without a prefix that a training program has put before them.
    """
    names = list(names)
    for architecture, pattern in _ARCHITECTURES:
        if any(re.search(pattern, name) for name in names):
            return architecture
    return None


def origin_of(names: Iterable[str]) -> str:
    """Returns a sentence that says what the names of weights look like, such as 'Its keys look like HAT.'.

    Args:
        names: Names of weights, or whatever stands in their place.
    """
    names = [str(name) for name in names if str(name) != 'quant_record.json']
    if not names:
        return 'It holds no weights.'
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in names)), '')
    known = architecture_of(name.removeprefix(prefix) for name in names)
    if prefix:
        inner = f'; without it they look like {known}' if known else ''
        return f'Its keys all start with `{prefix}`, as those of {_PREFIXES[prefix]} do{inner}: save it without that.'
    if known:
        return f'Its keys look like {known}.'
    shown = ', '.join(f'`{name}`' for name in names[:_SHOWN])
    return f'Its keys look like {shown}{" …" if len(names) > _SHOWN else ""}.'
