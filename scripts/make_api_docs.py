"""Makes docs/api.md from the docstrings of the public names.

    python scripts/make_api_docs.py
"""

from __future__ import annotations

import re
from pathlib import Path

from griffe import GriffeLoader, Parser
from griffe2md import render_object_docs

import compsrt_basicsr

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/api.md'
NAMES = ('load_network', 'LoadedNetwork', 'compress', 'quantize_', 'calibrate', 'upscale', 'save_packed', 'QuantConfig',
         'CalibrationConfig', 'register', 'CompSRTError')  # fmt: skip
INTRODUCTION = """# Python API

<!-- Made by scripts/make_api_docs.py from the docstrings; edit those. -->

```python
import compsrt_basicsr as compsrt
```

Importing the package is quick: each name below is imported when it is first used. README has an example of ten lines.
All errors that you can fix are `CompSRTError`. `__version__` is the version of the package.
"""
_LINK, _TEXT = re.compile(r'\[([^][]*)\]\([^()]*\)'), r'\1'
OPTIONS = {
    'heading_level': 2,
    'members': False,
    'separate_signature': True,
    'show_object_full_path': False,
    'show_root_full_path': False,
    'summary': False,
}


def page() -> str:
    """Returns the text of docs/api.md."""
    if set(NAMES) | {'__version__'} != set(compsrt_basicsr.__all__):
        raise SystemExit('NAMES of scripts/make_api_docs.py must be those of `compsrt_basicsr.__all__`.')
    loader = GriffeLoader(docstring_parser=Parser.google, allow_inspection=False, search_paths=[str(ROOT)])
    package = loader.load('compsrt_basicsr')
    loader.resolve_aliases(external=False)
    parts = [_plain(render_object_docs(package[name].final_target, dict(OPTIONS))) for name in NAMES]
    return '\n'.join([INTRODUCTION, *parts])


def _plain(text: str) -> str:
    """Replaces types, whose links lead nowhere on a single page, by code, and joins blank lines."""
    text = re.sub(r'<code>(.*?)</code>', lambda match: '`' + _LINK.sub(_TEXT, match[1]) + '`', text, flags=re.S)
    text = re.sub(r'\[\*\*(\w+)\*\*\]\([^()]*\)', r'**\1**', text)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
