"""Downloads from a server that misbehaves: the right bytes under the name, or a sentence and no file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import web_server
from web_server import (
    announce,
    chunked,
    cut,
    ignore_range,
    send,
    serve,
    stall,
    status,
    without_length,
    without_validator,
)

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import answer, guard, transfer
from compsrt_basicsr.hub.checksum import verify
from compsrt_basicsr.hub.download import download
from compsrt_basicsr.hub.home import home
from compsrt_basicsr.hub.source import Source
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.progress import BYTES, Progress

BODY = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, 'FIRST_PAUSE', 0.001)
    monkeypatch.setattr(answer, 'READ_TIMEOUT', 0.2)
    monkeypatch.delenv('COMPSRT_OFFLINE', raising=False)
    with web_server.running_server() as running:
        running.files['file'] = BODY
        yield running


def source(server, *names, size=10240, sha256=DIGEST):
    return Source(tuple(server.url(name) for name in names or ['file']), size, sha256)


def get(source, folder, **options):
    return download(source, folder / 'model.pth', what='model `x`', **options)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def test_a_good_server(server, tmp_path):
    assert get(source(server), tmp_path / 'new') == DIGEST
    assert (tmp_path / 'new/model.pth').read_bytes() == BODY
    assert visible(tmp_path / 'new') == ['model.pth']
    assert get(source(server), tmp_path / 'new') == DIGEST
    assert len(server.requests) == 1, 'a complete file is not asked for again'


def test_the_name_that_an_address_ends_with_is_not_sent(server, tmp_path):
    """What follows `#` tells under which name the file is kept, where the server calls it otherwise."""
    assert get(source(server, 'file#model.pth'), tmp_path / 'new') == DIGEST
    assert (tmp_path / 'new/model.pth').read_bytes() == BODY


@pytest.mark.parametrize('known', [True, False], ids=['checksum', 'no checksum'])
@pytest.mark.parametrize(
    ('behaviours', 'ranges'),
    [
        ([cut(3000)], [None, 'bytes=3000-']),
        ([cut(3000), cut(2000), cut(1000)], [None, 'bytes=3000-', 'bytes=5000-', 'bytes=6000-']),
        ([cut(3000), ignore_range], [None, 'bytes=3000-']),
        ([cut(3000), web_server.wrong_range], [None, 'bytes=3000-', None]),
        ([cut(3000), status(416)], [None, 'bytes=3000-', None]),
        ([stall(0.6)], [None, f'bytes={len(BODY) // 2}-']),
        ([status(429, Retry_After='0'), status(500), status(503)], [None] * 4),
        ([chunked()], [None]),
        ([chunked(4)], [None, 'bytes=4000-']),
    ],
    ids=['cut', 'cut thrice', 'ignores Range', 'wrong range', '416', 'stalls', 'busy', 'chunked', 'chunks cut'],
)
def test_the_right_bytes_in_the_end(server, tmp_path, behaviours, ranges, known):
    server.behaviours['file'] = list(behaviours)
    wanted = source(server) if known else source(server, size=None, sha256=None)
    assert get(wanted, tmp_path) == DIGEST
    assert (tmp_path / 'model.pth').read_bytes() == BODY
    assert [asked for _, asked, _ in server.requests] == ranges


def test_a_part_is_continued_without_etag_only_where_a_checksum_is_known(server, tmp_path):
    for folder, sha256, expected in (('known', DIGEST, 'bytes=3000-'), ('unknown', None, None)):
        server.behaviours['file'] = [cut(3000, etag=None), without_validator]
        assert get(source(server, sha256=sha256), tmp_path / folder) == DIGEST
        assert server.requests[-1][1] == expected


def test_a_file_that_changed_is_fetched_anew(server, tmp_path):
    """If-Range with the ETag of the first half: the server answers with the whole new file."""
    new = b'new' * 5000
    server.behaviours['file'] = [cut(3000), send(new)]
    get(source(server, size=None, sha256=None), tmp_path)
    assert (tmp_path / 'model.pth').read_bytes() == new


def test_a_killed_download_goes_on(server, tmp_path):
    """The process dies after a part has reached the disk; the next one asks for the rest."""
    server.files['file'] = body = os.urandom(3 * transfer._BLOCK)
    server.behaviours['file'] = [stall(20)]
    target = tmp_path / 'model.pth'
    code = (
        'import sys; from pathlib import Path; from compsrt_basicsr.hub.download import download; '
        'from compsrt_basicsr.hub.source import Source; '
        'download(Source((sys.argv[1],)), Path(sys.argv[2]), what="x")'
    )
    process = subprocess.Popen([sys.executable, '-c', code, server.url('file'), str(target)])
    part = tmp_path / 'model.pth.part'
    deadline = time.monotonic() + 60
    while transfer.length(part) < transfer._BLOCK and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = transfer.length(part)
    assert kept >= transfer._BLOCK and not target.exists()
    download(Source((server.url('file'),)), target, what='x')
    assert target.read_bytes() == body
    assert server.requests[-1][1] == f'bytes={kept}-'


def test_mirrors(server, tmp_path):
    """404, then wrong bytes, then right ones; a part of the wrong file does not spoil the next."""
    server.files['wrong'] = bytes(len(BODY))
    assert get(source(server, 'absent', 'wrong', 'file'), tmp_path) == DIGEST


def test_a_spoilt_part_is_thrown_away_once(server, tmp_path):
    (tmp_path / 'model.pth.part').write_bytes(b'rubbish')
    assert get(source(server), tmp_path) == DIGEST
    assert [asked for _, asked, _ in server.requests] == ['bytes=7-', None]


def test_a_complete_part_needs_no_request(server, tmp_path):
    (tmp_path / 'model.pth.part').write_bytes(BODY)
    assert get(source(server), tmp_path) == DIGEST
    assert server.requests == []


@pytest.mark.parametrize(
    ('behaviours', 'text'),
    [
        ([status(404)], r'answers 404 Not Found'),
        ([status(403)], r'answers 403 Forbidden'),
        ([status(500)] * 9, r'answers 500 Internal Server Error, 5 times in a row'),
        ([status(429, Retry_After='9999')], r'answers 429 Too Many Requests and asks for a pause of 9999 s'),
        ([status(429, Retry_After='soon')] * 9, r'answers 429 Too Many Requests, 5 times in a row'),
        ([send(bytes(len(BODY)))], r'gave a file whose SHA-256 is [0-9a-f]{64}, not'),
        ([send(BODY[:-1])], r'offers 10,239 bytes where 10,240 are expected'),
        ([without_length(100)] * 9, r'broke off after 100 of 10,240 bytes, 5 times in a row'),
        ([cut(0)] * 9, r'(breaks off|broke off after 0 of 10,240 bytes), 5 times in a row'),
        ([announce(100)], r'offers 100 bytes where'),
    ],
    ids=['404', '403', '500', '429 for hours', '429 oddly', 'bytes', 'short', 'cut', 'nothing', 'announces less'],
)
def test_faults_are_one_sentence_and_leave_no_file(server, tmp_path, behaviours, text):
    server.behaviours['file'] = list(behaviours)
    with pytest.raises(CompSRTError, match=rf'^Could not download model `x`: http://\S+ {text}.*model\.pth`\.$'):
        get(source(server), tmp_path)
    assert 'model.pth' not in visible(tmp_path)


def test_a_sender_of_too_much_is_stopped(server, tmp_path):
    server.behaviours['file'] = [lambda handler, body: handler.answer(200, 99 * body, Content_Length=None)]
    with pytest.raises(CompSRTError, match=r'sends more than the 10,240 bytes it should'):
        get(source(server), tmp_path)
    assert transfer.length(tmp_path / 'model.pth.part') == 0


def test_nobody_answers(server, tmp_path):
    url = server.url('file')
    server.shutdown()
    server.server_close()
    with pytest.raises(CompSRTError, match='cannot be reached, 5 times in a row'):
        get(Source((url,), len(BODY), DIGEST), tmp_path)


def test_offline_names_file_and_place(server, tmp_path, monkeypatch):
    monkeypatch.setenv('COMPSRT_OFFLINE', '1')
    with pytest.raises(CompSRTError) as caught:
        get(source(server), tmp_path)
    assert f'fetch {server.url("file")} elsewhere and put it at `{tmp_path / "model.pth"}`' in str(caught.value)
    (tmp_path / 'model.pth').write_bytes(BODY)
    assert get(source(server), tmp_path) == DIGEST
    monkeypatch.setenv('COMPSRT_OFFLINE', 'perhaps')
    with pytest.raises(CompSRTError, match='COMPSRT_OFFLINE must be 1 or 0'):
        get(source(server), tmp_path / 'other')


def test_an_altered_file_is_refused_and_kept(server, tmp_path):
    target = tmp_path / 'model.pth'
    target.write_bytes(BODY[:-1] + b'x')
    with pytest.raises(CompSRTError, match=r'is not model `x`: its SHA-256'):
        get(source(server), tmp_path)
    target.write_bytes(BODY[:-1])
    with pytest.raises(CompSRTError, match=r'has 10,239 bytes, model `x` has 10,240'):
        get(source(server), tmp_path)
    assert target.read_bytes() == BODY[:-1]


def test_an_unknown_checksum_is_recorded_and_holds(server, tmp_path):
    unknown = source(server, size=None, sha256=None)
    assert get(unknown, tmp_path) == DIGEST
    assert (tmp_path / 'model.pth.sha256').read_text() == f'{DIGEST}  model.pth\n'
    assert verify(unknown, tmp_path / 'model.pth', what='x') == DIGEST
    (tmp_path / 'model.pth').write_bytes(b'other')
    with pytest.raises(CompSRTError, match='is not x'):
        verify(unknown, tmp_path / 'model.pth', what='x')


def test_two_at_once_ask_once(server, tmp_path):
    server.behaviours['file'] = [lambda handler, body: (time.sleep(0.1), serve(handler, body))[1]]
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(source(server), tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DIGEST] * 4 and len(server.requests) == 1


def test_a_file_that_is_there_needs_no_lock(server, tmp_path):
    """As in a cache that cannot be written to."""
    (tmp_path / 'model.pth').write_bytes(BODY)
    with locked(tmp_path / '.model.pth.lock', 'it'):
        assert get(source(server), tmp_path) == DIGEST
    assert server.requests == []


def test_space_is_checked_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(CompSRTError, match=r'^Downloading model `x` needs .*10,240 bytes.* has 5 bytes'):
        get(source(server), tmp_path)
    assert server.requests == []


class Display(Progress):
    """Notes every bar that is started, and gives each number of bytes to a function."""

    def __init__(self, update):
        self.started, self.update = [], update

    @contextlib.contextmanager
    def start(self, label, total, unit, done=0):
        self.started.append((label, total, unit, done))
        yield self


def test_a_full_disk_keeps_what_was_received(server, tmp_path):
    def full(count):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CompSRTError, match=r'is full: free some space .* is kept'):
        get(source(server), tmp_path, progress=Display(full))
    assert transfer.length(tmp_path / 'model.pth.part') > 0
    assert get(source(server), tmp_path) == DIGEST


def test_progress_counts_every_byte(server, tmp_path):
    counts = []
    display = Display(counts.append)
    server.behaviours['file'] = [cut(3000)]
    get(source(server), tmp_path, progress=display)
    assert display.started == [('model `x`', len(BODY), BYTES, 0), ('model `x`', len(BODY), BYTES, 3000)]
    assert sum(counts) == len(BODY)


def test_a_compressed_answer_is_kept_as_it_is(server, tmp_path):
    """A `.tar.gz` that a server labels `Content-Encoding: gzip` must not be unpacked on the way."""
    server.behaviours['file'] = [lambda handler, body: handler.answer(200, body, Content_Encoding='gzip')]
    assert get(source(server), tmp_path) == DIGEST


def test_a_redirect_is_followed_but_not_out_of_https(server, tmp_path):
    server.files['here'] = b''
    server.behaviours['here'] = [web_server.redirect(server.url('file'))]
    assert get(source(server, 'here'), tmp_path) == DIGEST
    assert answer.next_address('https://example.org/a/b', '../c', verified=False) == 'https://example.org/c'
    for location in ('http://example.org/file', 'http://127.0.0.1/file'):
        with pytest.raises(answer.Refused, match=f'leads to {location}, which is not encrypted'):
            answer.next_address('https://example.org/file', location, verified=True)
    server.behaviours['here'] = [web_server.redirect('http://example.org/file')]
    with pytest.raises(CompSRTError, match='which is not encrypted'):
        get(source(server, 'here', sha256=None), tmp_path / 'unknown')


def test_redirects_end(server, tmp_path):
    server.behaviours['file'] = [web_server.redirect(server.url('file'))] * 99
    with pytest.raises(CompSRTError, match='leads on more than 10 times'):
        get(source(server), tmp_path)
    assert len(server.requests) == 11


FOUND = b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: '
OK, BUSY = b'HTTP/1.1 200 OK\r\n', b'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: '


@pytest.mark.parametrize(
    'head',
    [
        FOUND + b'http://[bad',
        FOUND + b'https://.example/',
        FOUND + b'https://a..b/',
        FOUND + b'https://' + b'a' * 70 + b'.org/',
        FOUND + b'http://127.0.0.1:99999/',
        FOUND + b'/\xe9',
        FOUND + b'ftp://example.org/x',
        OK + b'Content-Length: ' + b'9' * 5000,
        OK + b'Content-Length: ' + b'9' * 4000,
        OK + b'Content-Length: -3',
        OK + b'Content-Length: 3\r\nContent-Length: 10240',
        b'HTTP/1.1 404 \x1b[2J' + b'x' * 9999,
        b'\x00\xff',
        BUSY + b'9' * 5000,
        BUSY + b'Fri, 31 Dec 99999999 23:59:59 GMT',
    ],
    ids=lambda head: str(head[-20:]),
)
def test_nonsense_of_a_server_does_not_block_the_next(server, tmp_path, head):
    """Each of these ended in a traceback, or was taken for a file, or reached the terminal as it was."""
    server.files['odd'] = BODY
    server.behaviours['odd'] = [web_server.say(head)] * 9
    with pytest.raises(CompSRTError, match=r'^Could not download model `x`: http://\S+/odd ') as error:
        get(source(server, 'odd', size=None, sha256=None), tmp_path / 'alone')
    assert len(str(error.value)) < 600 and '\x1b' not in str(error.value)
    server.behaviours['odd'] = [web_server.say(head)] * 9
    assert get(source(server, 'odd', 'file', sha256=None), tmp_path) == DIGEST


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(guard, 'SPAN', 0.2)
    monkeypatch.setattr(guard, 'ANSWER_TIME', 0.3)
    monkeypatch.setattr(transfer, 'ATTEMPTS', 2)


@pytest.mark.parametrize(
    ('head', 'piece'),
    [
        (b'', b'H'),
        (OK + b'A: ', b'x'),
        (b'', b'HTTP/1.1 100 Continue\r\n\r\n'),
        (OK + b'Content-Length: 10240\r\n\r\n', b'x'),
        (OK + b'\r\n', b'x'),
        (OK + b'Transfer-Encoding: chunked\r\n\r\n5;', b'x'),
    ],
    ids=['status', 'header', 'continues', 'body', 'without length', 'length of a chunk'],
)
def test_a_server_that_drips_is_given_up(server, tmp_path, impatient, head, piece):
    """A byte every 20 ms satisfies every timeout of a socket. Then comes the next address."""
    server.files['slow'] = BODY
    server.behaviours['slow'] = [web_server.drip(head, piece)] * 9
    with pytest.raises(CompSRTError, match='/slow sends less than 1,000 bytes a second, 2 times in a row'):
        get(source(server, 'slow', size=None, sha256=None), tmp_path / 'alone')
    assert get(source(server, 'slow', 'file'), tmp_path) == DIGEST


def test_a_slow_server_that_is_fast_enough_may_go_on(server, tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(guard, 'LEAST_SPEED', 100)
    server.files['slow'] = body = b'x' * 1000
    server.behaviours['slow'] = [web_server.drip(OK + b'Content-Length: 1000\r\n\r\n', b'x' * 20)]
    get(source(server, 'slow', size=1000, sha256=None), tmp_path)
    assert (tmp_path / 'model.pth').read_bytes() == body and len(server.requests) == 1


def test_a_server_that_gives_a_byte_each_time_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, 'LEAST_SPEED', 1e9)
    server.behaviours['file'] = [cut(1)] * 99
    with pytest.raises(CompSRTError, match='5 times in a row'):
        get(source(server), tmp_path)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'urls': ('ftp://x/y',)}, 'not an https:// address'),
        ({'urls': ('https:///y',)}, 'not an https:// address'),
        ({'urls': ('https://[::1',)}, 'not an https:// address'),
        ({'urls': ('https://x:port/y',)}, 'not an https:// address'),
        ({'urls': ('https://x:99999/y',)}, 'not an https:// address'),
        ({'urls': ('https://.example/y',)}, 'not an https:// address'),
        ({'urls': (f'https://{"x" * 70}.org/y',)}, 'not an https:// address'),
        ({'urls': ('https://\ud800.org/y',)}, r'\\ud800\S* is not an https:// address'),
        ({'urls': ('https://x/\x1b[2J',)}, r'x/\\x1b\[2J` is not an https:// address'),
        ({'urls': ('https://x/y',), 'size': 10**5000}, '`size` must be a positive'),
        ({'urls': ('http://example.org/y',)}, 'is not encrypted and the file has no known checksum'),
        ({'urls': ('https://x/y',), 'size': 0}, '`size` must be a positive'),
        ({'urls': ('https://x/y',), 'sha256': DIGEST.upper()}, '`sha256` must be 64'),
    ],
)
def test_sources_are_checked(options, text):
    with pytest.raises(CompSRTError, match=text):
        Source(**options)


def test_plain_http_with_a_checksum_is_accepted():
    assert Source(('http://example.org/y',), sha256=DIGEST).size is None


def test_a_file_without_address_is_named(tmp_path):
    with pytest.raises(CompSRTError, match=r'No address is known for model `x`'):
        get(Source(()), tmp_path)


def test_names_of_other_alphabets_are_addresses():
    assert Source(('https://exämple.org/ä',)).urls


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv('COMPSRT_HOME', '~nosuch/x')
    with pytest.raises(CompSRTError, match=r'\$COMPSRT_HOME: .*`~nosuch` is not known'):
        home()
    monkeypatch.delenv('COMPSRT_HOME')
    assert home().name == 'compsrt'
