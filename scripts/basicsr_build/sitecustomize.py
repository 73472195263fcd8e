"""Lets BasicSR 1.4.2 be built on Python 3.13 and later; used on PYTHONPATH while pip builds it, and nowhere else.

Its setup.py runs `exec(...)` in a function and reads the result from `locals()`, which has been a copy since Python
3.13 (PEP 667). Here a call of `exec` without namespaces gets those of its caller, whose write-through proxy keeps the
new names.
"""

import builtins
import sys

_exec = builtins.exec


def _exec_in_caller(source, globals=None, locals=None, /, **options):
    if globals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    _exec(source, globals, locals, **options)


if sys.version_info >= (3, 13):
    builtins.exec = _exec_in_caller
