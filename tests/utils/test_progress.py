"""The progress display: what is counted, and that the default shows nothing."""

from contextlib import contextmanager
from types import SimpleNamespace

from compsrt_basicsr.utils.progress import BYTES, SILENT, TERMINAL, Progress


class Recorder(Progress):
    """Notes what was started and how far it came."""

    def __init__(self):
        self.started, self.done = [], []

    @contextmanager
    def start(self, label, total, unit, done=0):
        self.started.append((label, total, unit))
        self.done.append(done)

        def update(n=1):
            self.done[-1] += n

        yield SimpleNamespace(update=update)


def test_items_are_counted_once_they_are_done():
    progress = Recorder()
    for number, item in enumerate(progress.track('abc', 'read', 'letter')):
        assert item == 'abc'[number] and progress.done == [number]
    assert progress.started == [('read', 3, 'letter')] and progress.done == [3]
    assert list(progress.track(iter('ab'), 'read', 'letter')) == ['a', 'b']
    assert progress.started[1] == ('read', None, 'letter')


def test_nothing_is_shown_by_default_nor_where_there_is_no_terminal(capfd):
    for progress in (SILENT, TERMINAL):
        with progress.start('download', 100, BYTES, 20) as bar:
            bar.update(80)
        assert list(progress.track([1, 2], 'read', 'number')) == [1, 2]
    assert capfd.readouterr() == ('', '')


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    with TERMINAL.start('download', 4_000, BYTES, 1_000) as bar:
        bar.update(3_000)
    shown = capsys.readouterr().err
    assert 'download' in shown and '4.00k/4.00k' in shown
