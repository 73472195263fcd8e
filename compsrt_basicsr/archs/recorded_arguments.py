"""Arguments of networks from records that are not trusted: of the right types, and no more layers than the file has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from compsrt_basicsr.archs.build_limit import Stored
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.text import counted

_LARGEST, _LONGEST, _DEEPEST, _LONGEST_KEY = 2**14, 1024, 8, 256
_MAX_SCALE = 16
_MAX_ATTENTION = 2**24  # elements of the attention of one window, unless the file has more numbers


def check_sizes(value: Any, depth: int = 0, numbers: bool = True) -> None:
    """Checks that no number, text, list or nesting is larger than any network has.

    Args:
        value: what the record holds.
        depth: how deep it is nested.
        numbers: whether numbers are bounded too; those of `quant` have ranges of their own.

    Raises:
        CompSRTError: if one is.
    """
    parts = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else []
    wrong = depth > _DEEPEST or len(parts) > _LONGEST
    if isinstance(value, Mapping):
        wrong = wrong or not all(
            isinstance(key, str) and len(key) <= _LONGEST_KEY and key.isprintable() for key in value
        )
    elif isinstance(value, str):
        wrong = wrong or len(value) > _LONGEST or not value.isprintable()
    elif isinstance(value, (int, float)) and numbers:
        wrong = wrong or not abs(value) <= _LARGEST  # false for NaN too
    if wrong:
        text = (
            f'a {type(value).__name__} of {counted(len(value), "entry", "entries")}'
            if isinstance(value, (str, Mapping, list))
            else f'{value!r:.40}'
        )
        raise CompSRTError(f'The recorded arguments of the network are out of any range: {text}.')
    for part in parts:
        check_sizes(part, depth + 1, numbers)


def check_counts(arguments: Mapping[str, Any], stored: Stored) -> None:
    """Checks that the file can hold as many layers as the arguments ask for, and the attention of its windows.

    Raises:
        CompSRTError: if it cannot.
    """
    blocks = math.prod(_counts(arguments.get(name)) for name in ('num_group', 'num_block', 'num_conv'))
    if max(blocks, _counts(arguments.get('depths'))) > stored.names:
        raise CompSRTError('The recorded arguments ask for more layers than the file has: it is damaged.')
    attention = _counts(arguments.get('window_size')) ** 4 * _counts(arguments.get('num_heads'), max)
    if attention > _MAX_ATTENTION + 8 * stored.numbers:
        raise CompSRTError('The recorded arguments ask for a network far larger than the file: it is damaged.')


def check_types(arch: str, arguments: Mapping[str, Any]) -> None:
    """Checks the arguments of one of BasicSR's architectures, which takes wrong ones and fails on the first image.

    Raises:
        CompSRTError: if one is of a wrong type or out of range.
    """
    for name, value in arguments.items():
        if name in _RULES and not _RULES[name][0](value):
            raise CompSRTError(f'`{name}` of {arch} in the record must be {_RULES[name][1]}, got {value!r:.40}.')


def _counts(value: Any, join: Callable[[list[int]], int] = sum) -> int:
    """Returns a count, or the counts of a list together; 1 for what is none."""
    numbers = [number for number in (value if isinstance(value, (list, tuple)) else [value]) if _is_count(number)]
    return join(numbers) if numbers else 1


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_pair(value: Any) -> bool:
    return _is_size(value) or (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_size, value)))


def _are_counts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_count, value))


def _are_sizes(value: Any) -> bool:
    return _are_counts(value) and min(value) > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_factor(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_colour(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_number, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_scale(value: Any) -> bool:
    return _is_size(value) and value <= _MAX_SCALE


_Rule = tuple[Callable[[Any], bool], str]
_COUNT: _Rule = (_is_count, 'a whole number, 0 or more')
_SIZE: _Rule = (_is_size, 'a whole number, 1 or more')
_PAIR: _Rule = (_is_pair, 'a whole number, 1 or more, or two of them')
_COUNTS: _Rule = (_are_counts, 'a list of whole numbers, 0 or more')
_SIZES: _Rule = (_are_sizes, 'a list of whole numbers, 1 or more')
_POSITIVE: _Rule = (_is_positive, 'a number above 0')
_SHARE: _Rule = (_is_share, 'a number from 0 to 1')
_COLOUR: _Rule = (_is_colour, 'a list of three numbers')
_FLAG: _Rule = (_is_flag, 'true or false')
_TEXT: _Rule = (_is_text, 'a text')
_SCALE: _Rule = (_is_scale, f'a whole number, 1 to {_MAX_SCALE}')

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(('num_block', 'num_group', 'num_conv'), _COUNT),
    **dict.fromkeys(('num_in_ch', 'num_out_ch', 'in_channels', 'mid_channels', 'out_channels', 'in_chans'), _SIZE),
    **dict.fromkeys(('num_feat', 'num_grow_ch', 'num_channel', 'squeeze_factor', 'embed_dim', 'window_size'), _SIZE),
    **dict.fromkeys(('img_size', 'patch_size'), _PAIR),
    'depths': _COUNTS,
    'num_heads': _SIZES,
    **dict.fromkeys(('upscale', 'scale'), _SCALE),
    **dict.fromkeys(('img_range', 'mlp_ratio'), _POSITIVE),
    **dict.fromkeys(('drop_rate', 'attn_drop_rate', 'drop_path_rate'), _SHARE),
    **dict.fromkeys(('qkv_bias', 'ape', 'patch_norm', 'use_checkpoint', 'with_idt'), _FLAG),
    **dict.fromkeys(('act_type', 'upsampler', 'resi_connection'), _TEXT),
    **dict.fromkeys(('rgb_mean', 'rgb_std'), _COLOUR),
    'res_scale': (_is_number, 'a number'),
    'qk_scale': (_is_factor, 'a number or null'),
}
