"""LMDBs: one environment per file in a process, and errors that name the LMDB."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

import lmdb

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.text import counted

_REMEDY = 'make it again with `compsrt data prepare` or copy it again'

# LMDB refuses to open one file twice in a process, so environments are shared by (device, inode) while they are in use.
# A forked worker inherits them: without locks a read-only environment is a shared map, and safe to read there.
_environments: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = weakref.WeakValueDictionary()


def check_lmdb_folder(path: str, meta_info: bool = True) -> None:
    """Checks that an LMDB has its files.

    Args:
        path: Folder of the LMDB.
        meta_info: Whether BasicSR's meta_info.txt is needed.

    Raises:
        CompSRTError: If the folder, its data.mdb or its meta_info.txt is missing or empty.
    """
    if not os.path.isdir(path):
        raise CompSRTError(f'The LMDB `{path}` does not exist: check the path, or {_REMEDY}.')
    for name in ('data.mdb', 'meta_info.txt') if meta_info else ('data.mdb',):
        file = os.path.join(path, name)
        if not os.path.isfile(file) or os.path.getsize(file) == 0:
            raise CompSRTError(f'The LMDB `{path}` has no {name} or an empty one: {_REMEDY}.')


def open_shared(path: str, **kwargs: Any) -> lmdb.Environment:
    """Opens an LMDB for reading, or returns the environment already open on it.

    Args:
        path: Folder of the LMDB.
        kwargs: For `lmdb.open`.

    Raises:
        CompSRTError: If the LMDB is missing, is no LMDB, or is truncated.
    """
    data_file = os.path.join(path, 'data.mdb')
    if kwargs.get('subdir', True):
        check_lmdb_folder(path, meta_info=False)
    else:
        data_file = path
    try:
        status = os.stat(data_file)
        key = (status.st_dev, status.st_ino)
        environment = _environments.get(key)
        if environment is None:
            environment = lmdb.open(path, **kwargs)
    except (lmdb.Error, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'The LMDB `{path}` cannot be opened ({error}): {_REMEDY}.') from error
    # Reading a page past the end of the file kills the process (SIGBUS), so the length is checked first.
    expected = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if status.st_size < expected:
        environment.close()
        raise CompSRTError(f'The LMDB `{path}` is truncated ({status.st_size} of {expected} bytes): {_REMEDY}.')
    _environments[key] = environment
    return environment


def init_backend(
    original: Callable[..., None],
    backend: Any,
    db_paths: str | list[str],
    client_keys: str | list[str] = 'default',
    readonly: bool = True,
    lock: bool = False,
    readahead: bool = False,
    **kwargs: Any,
) -> None:
    """Replaces `LmdbBackend.__init__`: shares read-only environments without locks, leaves others to BasicSR.

    Raises:
        CompSRTError: As `open_shared`, or if paths and keys differ in number.
    """
    if not readonly or lock:
        original(backend, db_paths, client_keys, readonly, lock, readahead, **kwargs)
        return
    client_keys = [client_keys] if isinstance(client_keys, str) else list(client_keys)
    backend.db_paths = [str(path) for path in db_paths] if isinstance(db_paths, (list, tuple)) else [str(db_paths)]
    if len(client_keys) != len(backend.db_paths):
        raise CompSRTError(
            f'The LMDB backend needs one client key for each path, got {counted(len(client_keys), "key")} '
            f'and {counted(len(backend.db_paths), "path")}.'
        )
    options = {'readonly': True, 'lock': False, 'readahead': readahead, **kwargs}
    backend._shared = (client_keys, options)
    backend._client = {key: open_shared(path, **options) for key, path in zip(client_keys, backend.db_paths)}


def backend_get(original: Callable[..., Any], backend: Any, filepath: Any, client_key: str) -> Any:
    """Replaces `LmdbBackend.get`: returns the same value, or raises an error that names key and LMDB.

    Raises:
        CompSRTError: If the key is absent, or the LMDB is damaged there.
    """
    path = backend._client[client_key].path() if client_key in backend._client else client_key
    try:
        value = original(backend, filepath, client_key)
    except lmdb.Error as error:
        raise CompSRTError(f'The LMDB `{path}` is damaged at key `{filepath}` ({error}): {_REMEDY}.') from error
    if value is None:
        raise CompSRTError(f'The LMDB `{path}` has no image `{filepath}`, which meta_info.txt lists: {_REMEDY}.')
    return value


def backend_getstate(backend: Any) -> dict[str, Any]:
    """Returns the state to pickle, without environments, which `backend_setstate` opens again."""
    state = dict(vars(backend))
    if '_shared' in state:
        del state['_client']
    return state


def backend_setstate(backend: Any, state: dict[str, Any]) -> None:
    """Restores a pickled backend and opens its environments."""
    vars(backend).update(state)
    if '_shared' in state:
        keys, options = state['_shared']
        backend._client = {key: open_shared(path, **options) for key, path in zip(keys, backend.db_paths)}
