"""A checkpoint is read without running what it holds, and what is not one is refused with its cause."""

import io
import os
import pickle
import struct
import subprocess
import warnings
import webbrowser
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy
import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from vqclip.checkpoints.load import load_generator
from vqclip.checkpoints.tensors import open_tensors
from vqclip.errors import UserError


class Call:
    """Pickles as a call of a function, which any ordinary reader would make."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def refusal(path):
    with pytest.raises(UserError) as error:
        open_tensors(Path(path))
    return str(error.value)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes) -> Path:
        path = tmp_path / "last.ckpt"
        path.write_bytes(content)
        return path

    return write


ZIP = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@ZIP
def test_lightning_checkpoint_with_all_its_objects(tmp_path, zipped):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).half()
    weights = model.state_dict()
    weights["transposed"] = torch.arange(6.0).view(2, 3).T  # a view: other strides, shared storage
    weights["part"] = torch.arange(10)[3:5]
    weights["parameter"] = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    content = {
        "state_dict": weights,
        "callbacks": {ModelCheckpoint: {"best": Path("x"), "score": numpy.float64(0.5)}, EarlyStopping: {"wait": 3}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(5)}}, "param_groups": [{"betas": (0.5, 0.9)}]}],
        "hparams": ModelCheckpoint(),
        "others": [
            Counter("aab"),
            defaultdict(list),
            {1, 2},
            numpy.arange(3),
            torch.device("cpu"),
            torch.Size([1]),
            slice(1, 2),
        ],
        "class": torch.optim.Adam,
    }
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    file = open_tensors(tmp_path / "last.ckpt")
    assert set(file.shapes) == set(weights)
    for name, value in weights.items():
        assert file.shapes[name] == tuple(value.shape)
        assert torch.equal(file.get(name), value) and file.get(name).dtype == value.dtype


def test_torchscript_archive(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, torch.zeros(1, 2)).save(str(tmp_path / "a.pt"))
    file = open_tensors(tmp_path / "a.pt")
    assert set(file.shapes) == set(model.state_dict())
    assert all(torch.equal(file.get(name), value) for name, value in model.state_dict().items())


@ZIP
@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {mark}",), "system"),
        (exec, ("open('{mark}', 'w')",), "builtins.exec"),
        (eval, ("open('{mark}', 'w')",), "builtins.eval"),
        (subprocess.Popen, (["touch", "{mark}"],), "subprocess.Popen"),
        (getattr, ("", "join"), "builtins.getattr"),
        (open, ("{mark}", "w"), "open"),
        (webbrowser.open, ("x",), "webbrowser.open"),
        (torch.load, ("{mark}",), "calls torch.serialization.load"),
        (torch.hub.load, ("x", "y"), "calls torch.hub.load"),
        (numpy.load, ("{mark}",), "calls numpy."),
    ],
)
def test_payload_is_refused_and_does_not_run(tmp_path, zipped, function, args, name):
    mark = tmp_path / "ran"
    filled = [[part.format(mark=mark) for part in a] if isinstance(a, list) else a.format(mark=mark) for a in args]
    content = {"state_dict": {"a": torch.ones(2)}, "hparams": Call(function, *filled)}
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    said = refusal(tmp_path / "last.ckpt")
    assert name in said and "it was not run" in said and "last.ckpt is refused" in said
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "setattr"), ("builtins", "str_"), ("builtins", "tuple.x"), ("functools", "partialmethod")],
)
def test_a_name_that_begins_as_a_harmless_one_is_refused(write, module, name):
    assert f"names {module}.{name}, which has no place" in refusal(write(f"c{module}\n{name}\n.".encode()))


def test_of_two_sets_of_weights_the_running_mean_is_taken(tmp_path):
    torch.save({"params": {"w": torch.zeros(2)}, "params_ema": {"w": torch.ones(2)}}, tmp_path / "last.ckpt")
    assert torch.equal(open_tensors(tmp_path / "last.ckpt").get("w"), torch.ones(2))


def test_the_payload_is_a_real_one(tmp_path):
    """The same file does run where it is read the ordinary way: the test above tests something."""
    torch.save(Call(os.system, f"touch {tmp_path}/ran"), tmp_path / "last.ckpt")
    torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_bare_pickles(write, tmp_path, protocol):
    assert "system" in refusal(write(pickle.dumps(Call(os.system, f"touch {tmp_path}/ran"), protocol)))
    assert not (tmp_path / "ran").exists()


def test_bare_pickle_without_tensors(write):
    assert "a plain pickle without tensors" in refusal(write(pickle.dumps({"a": 1})))


def forged(pickled: bytes, **records: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, record in records.items():
            archive.writestr(f"archive/data/{name}", record)
    return stream.getvalue()


def tensor_pickle(offset: int, shape: tuple, stride: tuple) -> bytes:
    """The pickle of {'a': tensor}, by hand."""

    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    return (
        b"\x80\x02}S'a'\nctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"I%d\n" % offset
        + numbers(shape)
        + numbers(stride)
        + b"I00\n}tRs."
    )


def test_forged_tensors_stay_in_their_storage(write):
    good = open_tensors(write(forged(tensor_pickle(0, (4,), (1,)), **{"0": bytes(16)})))
    assert torch.equal(good.get("a"), torch.zeros(4))
    for offset, shape, stride in ((1, (4,), (1,)), (0, (5,), (1,)), (0, (2, 2), (4, 1)), (0, (10**9,), (0,))):
        file = open_tensors(write(forged(tensor_pickle(offset, shape, stride), **{"0": bytes(16)})))
        with pytest.raises(UserError, match="reaches beyond its storage"):
            file.get("a")
    assert "impossible shape" in refusal(write(forged(tensor_pickle(-1, (4,), (1,)), **{"0": bytes(16)})))


def test_attributes_of_the_reader_cannot_be_set(write):
    """BUILD on what the reader itself gave out: the next file would be read by a changed reader."""
    for name in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"csome.module\nClass\n"):
        said = refusal(write(forged(b"\x80\x02" + name + b"}S'__call__'\nI1\nsb.")))
        assert "malformed" in said or "no tensors" in said


def test_forged_memo_index_costs_nothing(write):
    """`LONG_BINPUT 4 billion` makes C's reader take 64 GB."""
    said = refusal(write(forged(b"\x80\x02}r\xff\xff\xff\xff.")))
    assert "no tensors" in said


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_storage_that_is_named_by_tuples_without_end(write, place):
    names = ["storage", "FloatStorage", "0", "cpu", 1]
    names[place] = ()
    for _ in range(60):
        names[place] = names[place], names[place]
    pickled = pickle.dumps(tuple(names), 2)[:-1] + b"Q."  # BINPERSID
    assert "nests tuples without end" in refusal(write(forged(pickled)))


@pytest.mark.parametrize("store", [b"Ns", b"Nu", b"\x90"], ids=["item", "items", "set"])
def test_a_key_of_tuples_without_end(write, store):
    """Its hash has no end; `2` takes the last value twice, `\x86` makes a tuple of two."""
    begin = {b"Ns": b"}", b"Nu": b"}(", b"\x90": b"\x8f("}[store]
    said = refusal(write(forged(b"\x80\x04" + begin + b")" + b"2\x86" * 60 + store + b".")))
    assert "nests tuples without end" in said


def test_tuples_of_an_honest_checkpoint(tmp_path):
    words = tuple((f"a{i}", f"b{i}") for i in range(50_000))
    torch.save({"state_dict": {"a": torch.ones(2)}, "merges": words, ("a", ("b", 1)): 2}, tmp_path / "last.ckpt")
    assert open_tensors(tmp_path / "last.ckpt").shapes == {"a": (2,)}


@pytest.mark.parametrize("changes", [{6: 255}, {10: 99}, {9: 8, 46: 255}], ids=["version", "packing", "name"])
def test_damaged_directory(write, tmp_path, changes):
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    content = bytearray((tmp_path / "good.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    for offset, byte in changes.items():
        content[entry + offset] = byte
    assert "last.ckpt is refused" in refusal(write(bytes(content)))


def test_zip_bomb(write):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 * 2**20))
    said = refusal(write(stream.getvalue()))
    assert "looks like a zip bomb" in said and "209,715,200" in said

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(0, (4,), (1,)), zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", bytes(50 * 2**20))
    file = open_tensors(write(stream.getvalue()))
    with pytest.raises(UserError, match="zip bomb"):
        file.get("a")


def test_zip_bomb_of_overlapping_records(write):
    """Many directory entries that point at one record."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(0, (4,), (1,)))
        archive.writestr("archive/data/0", bytes(10_000))
        info = archive.getinfo("archive/data/0")
        for i in range(1, 100):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = (
                info.header_offset,
                10_000,
                10_000,
                info.CRC,
            )
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
    assert "overlap" in refusal(write(stream.getvalue()))


@ZIP
@pytest.mark.parametrize("part", [0.001, 0.4, 0.99])
def test_truncated(write, tmp_path, zipped, part):
    torch.save(
        {"state_dict": {f"w{i}": torch.randn(100, 100) for i in range(5)}},
        tmp_path / "a",
        _use_new_zipfile_serialization=zipped,
    )
    content = (tmp_path / "a").read_bytes()
    assert "truncated" in refusal(write(content[: int(part * len(content))]))


def test_truncated_safetensors(write, tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.randn(100, 100)}, tmp_path / "a")
    assert "truncated or damaged" in refusal(write((tmp_path / "a").read_bytes()[:-10]))
    assert "safetensors header" in refusal(write(struct.pack("<Q", 20) + b"{not json at all}   "))


def test_one_flipped_bit(write, tmp_path):
    torch.save({"a": torch.randn(1000)}, tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    content[len(content) // 2] ^= 1
    file = open_tensors(write(bytes(content)))
    with pytest.raises(UserError, match="damaged"):
        file.get("a")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the file is empty"),
        (b"hello, this is not a checkpoint\n", "it is a text file"),
        ("ein Text mit Umlauten: äöü 猫".encode() * 40, "it is a text file"),
        (b"\n<!DOCTYPE html><html><body>Quota exceeded", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "its format is unknown"),
    ],
)
def test_other_files(write, content, cause):
    assert cause in refusal(write(content))


def test_other_zips(write):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.ckpt", b"x")
    assert "a zip archive of other things (model.ckpt), not a torch checkpoint; unpack it first" in refusal(
        write(stream.getvalue())
    )


def test_missing_file(tmp_path):
    assert "cannot be read: No such file" in refusal(tmp_path / "nowhere.ckpt")


def test_checkpoint_without_weights(tmp_path):
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "a")
    assert "it holds no tensors by name" in refusal(tmp_path / "a")


def test_the_loader_refuses_the_same(tmp_path, monkeypatch):
    """Through the front door, with nothing left in the cache."""
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "cache"))
    torch.save({"state_dict": {}, "x": Call(os.system, f"touch {tmp_path}/ran")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="system"):
        load_generator({"name": "mine", "path": str(tmp_path / "last.ckpt")})
    assert not (tmp_path / "ran").exists() and not list(tmp_path.glob("cache/**/*.safetensors"))
