"""Makes docs/api.md from the docstrings of the public names.

python scripts/make_api_docs.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from griffe import GriffeLoader, Object, Parser
from griffe2md import render_object_docs

import compsrt_basicsr
from compsrt_basicsr.config.reference import options_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/api.md'
NAMES = ('load_network', 'LoadedNetwork', 'compress', 'quantize_', 'calibrate', 'upscale', 'save_packed', 'QuantConfig',
         'CalibrationConfig', 'register', 'CompSRTError')  # fmt: skip
INTRODUCTION = """# Python API

<!-- Made by `python scripts/make_api_docs.py` from the docstrings; edit those. -->

```python
import compsrt_basicsr as compsrt
```

Importing the package is quick: each name is imported when it is first used. README has an example of a few lines. Every
error that you can fix is a `CompSRTError`. `__version__` is the version of the package.

In signatures `FilePath` is a `str` or an `os.PathLike`, `Array` a NumPy array, `Tensor` a `torch.Tensor`, and `Network`
a `torch.nn.Module` or a `LoadedNetwork`.
"""
OPTIONS = """## `{name}`

{summary}

Give options by keyword: `{name}({example})`. In Python `~` is `None`, `true` is `True`, a list may be a tuple.

{table}
"""
EXAMPLES = {'QuantConfig': 'weight_bits=4, act_bits=4', 'CalibrationConfig': 'num_patches=16'}
RENDERING = {
    'heading_level': 2,
    'members': False,
    'separate_signature': True,
    'show_object_full_path': False,
    'show_root_full_path': False,
    'summary': False,
}
_LINK, _TEXT = re.compile(r'\[([^][]*)\]\([^()]*\)'), r'\1'


def page() -> str:
    """Returns the text of docs/api.md."""
    if {*NAMES, '__version__'} != set(compsrt_basicsr.__all__):
        raise SystemExit('NAMES in scripts/make_api_docs.py must be those of `compsrt_basicsr.__all__`.')
    loader = GriffeLoader(docstring_parser=Parser.google, allow_inspection=False, search_paths=[str(ROOT)])
    package = loader.load('compsrt_basicsr')
    loader.resolve_aliases(external=False)
    return '\n'.join([INTRODUCTION, *(_section(name, package[name].final_target) for name in NAMES)])


def _section(name: str, documented: Object) -> str:
    if name not in EXAMPLES:
        return _plain(render_object_docs(documented, dict(RENDERING)))
    model = getattr(compsrt_basicsr, name)
    summary = inspect.getdoc(model).partition('\n\n')[0]
    return OPTIONS.format(name=name, summary=summary, example=EXAMPLES[name], table=options_table(model))


def _plain(text: str) -> str:
    """Replaces types, whose links lead nowhere on a single page, by code, and joins blank lines."""
    text = re.sub(r'<code>(.*?)</code>', lambda match: '`' + _LINK.sub(_TEXT, match[1]) + '`', text, flags=re.S)
    text = re.sub(r'\[\*\*(\w+)\*\*\]\([^()]*\)', r'**\1**', text)
    text = text.replace('****options**', r'**\*\*options**')
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
