"""The names of LR and HR images in two folders: which belong together, and what helps where none do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

_SIDES = ('gt', 'lq')
_IMAGES = ('.bmp', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')


def folder_problem(opt: Mapping[str, Any]) -> str | None:
    """Returns why the folders of a paired data set do not fit together and what helps, or None if they do."""
    folders = {side: opt.get(f'dataroot_{side}') for side in _SIDES}
    if not all(isinstance(folder, str) and os.path.isdir(folder) for folder in folders.values()):
        return None
    names = {side: _listed(str(folder)) for side, folder in folders.items()}
    for side, found in names.items():
        if not found:
            return f'`dataroot_{side}`: `{folders[side]}` has no images; check the path.'
        others = [name for name in found if not name.lower().endswith(_IMAGES)]
        if others:
            more = f' and {len(others) - 1} more files' if len(others) > 1 else ''
            return f'`dataroot_{side}`: `{folders[side]}` holds `{others[0]}`{more}, no images; move them away.'
    template = str(opt.get('filename_tmpl') or '{}')
    wanted = {_partner(name, template): name for name in names['gt']}
    alone = [wanted[name] for name in sorted(set(wanted) - set(names['lq']))]
    extra = sorted(set(names['lq']) - set(wanted))
    if not alone and not extra:
        return None
    if (found_template := _template(names['gt'], names['lq'])) not in (None, template):
        return f"the LR images have other names: set `filename_tmpl: '{found_template}'`."
    parts = [
        f'{len(found)} of {len(names[side])} images in `{folders[side]}` have no partner, such as `{found[0]}`'
        for side, found in (('gt', alone), ('lq', extra))
        if found
    ]
    hint = f' (`{_partner(alone[0], template)}` is not in `dataroot_lq`)' if alone else ''
    return (
        f'{" and ".join(parts)}{hint}: make both folders alike, with the same endings, or set `filename_tmpl`, such as '
        "`'{}x2'`, if the LR images have other names."
    )


def lmdb_problem(opt: Mapping[str, Any]) -> str | None:
    """Returns which key the LMDBs of a paired data set do not share, or None."""
    keys = {}
    for side in _SIDES:
        try:
            with open(os.path.join(str(opt.get(f'dataroot_{side}')), 'meta_info.txt'), encoding='utf-8') as lines:
                keys[side] = {line.split('.')[0] for line in lines}
        except (OSError, UnicodeDecodeError):
            return None
    for side, other in (_SIDES, _SIDES[::-1]):
        if alone := sorted(keys[side] - keys[other]):
            return (
                f'the LMDBs are no pair: {len(alone)} of {len(keys[side])} keys of `{opt[f"dataroot_{side}"]}` are not '
                f'in `{opt[f"dataroot_{other}"]}`, such as `{alone[0]}`; make both with one call of '
                '`compsrt data prepare`.'
            )
    return None


def _listed(folder: str) -> list[str]:
    """Returns the files that BasicSR takes from a folder."""
    return sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith('.') and entry.is_file())


def _partner(name: str, template: str) -> str:
    stem, suffix = os.path.splitext(name)
    try:
        return f'{template.format(stem)}{suffix}'
    except (IndexError, KeyError, ValueError):
        return name


def _template(gt: Sequence[str], lq: Sequence[str]) -> str | None:
    """Returns the template that makes all LR names from the HR names, if there is one."""
    stem, suffix = os.path.splitext(gt[0])
    candidates = (os.path.splitext(name)[0] for name in lq if name.endswith(suffix) and stem in name)
    for candidate in candidates:
        before, _, after = candidate.partition(stem)
        template = f'{before}{{}}{after}'
        if '{' not in before + after and {_partner(name, template) for name in gt} == set(lq):
            return template
    return None
