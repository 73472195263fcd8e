"""LMDBs: opened twice, pickled, forked, missing, truncated, with absent or broken images."""

import multiprocessing
import pickle
import shutil
from multiprocessing.reduction import ForkingPickler

import lmdb
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.data.prefetch_dataloader import PrefetchDataLoader
from basicsr.utils import FileClient

from compsrt_basicsr.basicsr_compat.spawning import make_portable
from compsrt_basicsr.errors import CompSRTError


def client(*paths):
    keys = [f'k{number}' for number in range(len(paths))]
    return FileClient('lmdb', db_paths=[str(path) for path in paths], client_keys=keys)


@pytest.fixture
def own_lmdb(tiny_lmdb, tmp_path):
    """A pair that a test may damage."""
    for folder in tiny_lmdb:
        shutil.copytree(folder, tmp_path / folder.name)
    return type(tiny_lmdb)(*(tmp_path / folder.name for folder in tiny_lmdb))


IN_TRAINING = {'phase': 'train', 'gt_size': 32, 'use_hflip': False, 'use_rot': False}


@pytest.fixture
def dataset_for(stock_options):
    def build(pair, **changes):
        options = {**stock_options['datasets']['val'], 'phase': 'val', 'scale': 2, **changes}
        return build_dataset({**options, 'dataroot_gt': str(pair.hr), 'dataroot_lq': str(pair.lr)})

    return build


def in_forked_process(dataset, index):
    """Returns the sum of a sample read by a forked process."""
    context = multiprocessing.get_context('fork')
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(float(dataset[index]['lq'].sum())))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return answers.get()


def test_one_lmdb_opened_many_times(tiny_lmdb, tmp_path):
    (tmp_path / 'link.lmdb').symlink_to(tiny_lmdb.hr)
    first, second, third = client(tiny_lmdb.hr), client(tiny_lmdb.hr), client(tmp_path / 'link.lmdb')
    value = first.get('3', 'k0')
    assert value and value == second.get('3', 'k0') == third.get('3', 'k0')
    del second, third
    assert first.get('3', 'k0') == value  # the others closed nothing


def test_unused_lmdb_is_closed(own_lmdb):
    client(own_lmdb.hr)
    lmdb.open(str(own_lmdb.hr), map_size=2**24).close()  # refused while it is open in this process


def test_used_data_set_goes_to_a_forked_process(tiny_lmdb, dataset_for):
    dataset = dataset_for(tiny_lmdb)
    here = float(dataset[2]['lq'].sum())
    assert in_forked_process(dataset, 2) == here


def test_second_data_set_in_a_forked_process(tiny_lmdb, dataset_for):
    """A validation set was read here; a training worker then opens the same LMDB."""
    used, fresh = dataset_for(tiny_lmdb), dataset_for(tiny_lmdb)
    here = float(used[1]['lq'].sum())
    assert in_forked_process(fresh, 1) == here


def test_used_data_set_can_be_pickled(tiny_lmdb, dataset_for):
    dataset = dataset_for(tiny_lmdb)
    sample = dataset[0]['gt']
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]['gt'], sample)


def test_data_set_sent_to_a_process_brings_this_package_first(tiny_lmdb, dataset_for):
    dataset = dataset_for(tiny_lmdb)
    make_portable(dataset)
    sent = bytes(ForkingPickler.dumps(dataset))
    assert sent.index(b'compsrt_basicsr') < sent.index(b'basicsr.data')
    assert torch.equal(pickle.loads(sent)[0]['gt'], dataset[0]['gt'])
    assert b'compsrt_basicsr.basicsr_compat.spawning' not in pickle.dumps(dataset)


@pytest.mark.parametrize('victim', ['meta_info.txt', 'data.mdb'])
def test_missing_files_are_named(own_lmdb, dataset_for, victim):
    (own_lmdb.lr / victim).unlink()
    with pytest.raises(CompSRTError, match=rf'lr\.lmdb` has no {victim}'):
        dataset_for(own_lmdb)


def test_missing_folder_is_named(own_lmdb, dataset_for):
    shutil.rmtree(own_lmdb.hr)
    with pytest.raises(CompSRTError, match=r'hr\.lmdb` does not exist'):
        dataset_for(own_lmdb)
    with pytest.raises(CompSRTError, match=r'hr\.lmdb` does not exist'):
        client(own_lmdb.hr)


@pytest.mark.parametrize(('size', 'message'), [(10, 'cannot be opened'), (9000, 'truncated'), (-1, 'truncated')])
def test_truncated_lmdb_is_named(own_lmdb, dataset_for, size, message):
    data = own_lmdb.hr / 'data.mdb'
    data.write_bytes(data.read_bytes()[:size])
    with pytest.raises(CompSRTError, match=rf'hr\.lmdb` (is|cannot be) .*{message.split()[-1]}'):
        dataset_for(own_lmdb)[0]


def test_different_keys_are_no_pair(own_lmdb, dataset_for):
    with (own_lmdb.lr / 'meta_info.txt').open('a') as stream:
        stream.write('extra.png (32,32,3) 1\n')
    with pytest.raises(CompSRTError, match=r'are no pair.*`extra`'):
        dataset_for(own_lmdb)


def put(folder, key, value):
    with lmdb.open(str(folder), map_size=2**24) as env, env.begin(write=True) as transaction:
        transaction.delete(key) if value is None else transaction.put(key, value)


def test_absent_key_is_named(own_lmdb, dataset_for):
    put(own_lmdb.lr, b'3', None)
    with pytest.raises(CompSRTError, match=r'lr\.lmdb` has no image `3`'):
        dataset_for(own_lmdb, **IN_TRAINING)[3]
    with pytest.raises(CompSRTError, match=r'lr\.lmdb` has no image `3`'):
        dataset_for(own_lmdb)  # all images for validation are looked at before it starts


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_broken_image_is_named(own_lmdb, dataset_for, content):
    put(own_lmdb.hr, b'3', content)
    with pytest.raises(CompSRTError, match=r'`3` in `.*hr\.lmdb` cannot be decoded'):
        dataset_for(own_lmdb, **IN_TRAINING)[3]
    with pytest.raises(CompSRTError, match=r'`3` in `.*hr\.lmdb` cannot be decoded'):
        dataset_for(own_lmdb)


def test_pair_smaller_than_its_patch_is_named(tiny_lmdb, dataset_for):
    dataset = dataset_for(tiny_lmdb, **{**IN_TRAINING, 'gt_size': 128})
    with pytest.raises(CompSRTError, match=r'The pair `0` of .* is smaller than patch size'):
        dataset[0]


def test_broken_image_on_disk_is_named(tmp_path, dataset_for):
    for side in ('hr', 'lr'):
        (tmp_path / side).mkdir()
        (tmp_path / side / 'a.png').write_bytes(b'no image')
    pair = type('Pair', (), {'hr': tmp_path / 'hr', 'lr': tmp_path / 'lr'})
    with pytest.raises(CompSRTError, match=r'`.*hr/a\.png` cannot be decoded'):
        dataset_for(pair, io_backend={'type': 'disk'})[0]


def test_error_in_the_prefetch_thread_reaches_the_loop(own_lmdb, dataset_for):
    """BasicSR's thread dies silently and the loop waits forever."""
    put(own_lmdb.hr, b'3', None)
    loader = PrefetchDataLoader(num_prefetch_queue=1, dataset=dataset_for(own_lmdb, **IN_TRAINING), batch_size=2)
    seen = []
    with pytest.raises(CompSRTError, match='has no image `3`'):
        for batch in loader:
            seen.append(batch)
    assert len(seen) == 1
    assert len(list(PrefetchDataLoader(num_prefetch_queue=1, dataset=range(4), batch_size=2))) == 2
