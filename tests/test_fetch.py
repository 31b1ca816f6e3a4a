"""Fetching from a real HTTP server on loopback: whatever happens ends in a good file or a clear message."""

import hashlib
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from checkpoint_files import SMALL_VQGAN, random_vqgan, write_taming

from vqclip.checkpoints import download as fetching
from vqclip.checkpoints.catalogue import pairs
from vqclip.checkpoints.convert import integrity_error
from vqclip.checkpoints.load import load_generator
from vqclip.checkpoints.tensors import Unreadable
from vqclip.cli.main import main as vqclip
from vqclip.cli.models import main as models
from vqclip.errors import UserError
from vqclip.io.files import sha256

ETAG = '"one"'


class Server:
    """Serves one file under several behaviours; a path names its behaviour.

    Attributes:
        log: (path, Range header or None, bytes sent) of each request, in order.
    """

    def __init__(self, content: bytes):
        self.content, self.log, self.cut_once, self.pause = content, [], set(), 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{behaviour}/last.ckpt"

    def answer(self, request):
        behaviour = request.path.split("/")[-2]  # a proxy is asked for the whole link
        entry = [behaviour, request.headers.get("Range"), 0]
        self.log.append(entry)
        content = self.content
        if behaviour == "gone":
            return request.send_error(404)
        if behaviour == "hang":
            return time.sleep(5)
        if behaviour == "page":
            content = b"<html>Sign in to download</html>"
        if behaviour == "wrong":
            content = bytes(len(content))
        if behaviour == "short":
            content = content[:-1]
        if entry[1] == f"bytes={len(content)}-" or behaviour == "unasked":
            return request.send_error(416)
        if behaviour == "astray":
            request.send_response(302)
            request.send_header("Location", "http://[bad")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", entry[1] or "")
        if match and behaviour != "norange" and request.headers.get("If-Range", ETAG) == ETAG:
            start = int(match[1])
        end = min(start + len(content) // 4, len(content)) if start and behaviour == "pieces" else len(content)
        request.send_response(206 if start else 200)
        request.send_header("Content-Type", "text/html" if behaviour == "page" else "application/octet-stream")
        request.send_header("Content-Length", "many" if behaviour == "many" else str(end - start))
        request.send_header("ETag", ETAG)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        request.end_headers()
        if behaviour in ("cut", "norange") and behaviour not in self.cut_once:
            self.cut_once.add(behaviour)
            end = int(0.4 * len(content))
        if behaviour == "stall":
            end = int(0.4 * len(content))
        for at in range(start, end, 2**16):
            block = content[at : min(at + 2**16, end)]
            request.wfile.write(block)
            entry[2] += len(block)
            time.sleep(self.pause)
        if behaviour == "stall":
            request.wfile.flush()
            time.sleep(5)
        request.close_connection = True


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "last.ckpt"
    return write_taming(path, random_vqgan(SMALL_VQGAN))


@pytest.fixture
def server(checkpoint):
    server = Server(checkpoint.read_bytes())
    yield server
    server.http.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VQCLIP_OFFLINE", raising=False)
    monkeypatch.setattr(fetching, "TIMEOUT", (1.0, 1.0))
    return tmp_path / "cache"


@pytest.fixture
def place(cache, server):
    """Where the file of ``make_card`` belongs."""
    return cache / "other" / hashlib.sha256(server.content).hexdigest()[:16]


@pytest.fixture
def make_card(server, cache):
    def make(*behaviours, **changes):
        return {
            "name": "net",
            "file": "net.ckpt",
            "bytes": len(server.content),
            "sha256": hashlib.sha256(server.content).hexdigest(),
            "urls": [server.url(behaviour) for behaviour in behaviours],
            "architecture": SMALL_VQGAN,
        } | changes

    return make


def check_good(place, checkpoint, model):
    """What is in the cache is the converted file alone, and the model has the source's weights."""
    assert [p.name for p in place.iterdir() if not p.name.endswith(".lock")] == ["net.safetensors"]
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.sha256 == sha256(checkpoint)


def failure(card):
    with pytest.raises(UserError) as error:
        load_generator(card)
    return str(error.value)


def test_first_fetch_and_second_run(make_card, server, place, checkpoint, capsys):
    check_good(place, checkpoint, load_generator(make_card("good")))
    assert "converted to" in capsys.readouterr().out
    load_generator(make_card("good", about="another card, not the one this process has loaded"))
    assert len(server.log) == 1 and capsys.readouterr().out == ""


def test_cut_at_40_percent_and_resumed(make_card, server, place, checkpoint):
    check_good(place, checkpoint, load_generator(make_card("cut")))
    size = len(server.content)
    assert server.log == [["cut", None, int(0.4 * size)], ["cut", f"bytes={int(0.4 * size)}-", size - int(0.4 * size)]]
    assert sum(sent for _, _, sent in server.log) == size  # no byte came twice


def test_resumed_by_the_next_run_from_another_mirror(make_card, server, place, checkpoint):
    """A run that dies leaves the part; a hash makes it good for any mirror."""
    said = failure(make_card("stall"))
    assert "it hangs: nothing came for 1 s" in said
    part = place / "net.ckpt.part"
    assert part.stat().st_size == int(0.4 * len(server.content)) and not (place / "net.ckpt").exists()
    server.log.clear()
    check_good(place, checkpoint, load_generator(make_card("good")))
    assert server.log == [
        ["good", f"bytes={int(0.4 * len(server.content))}-", len(server.content) - int(0.4 * len(server.content))]
    ]


def test_server_without_ranges_starts_again(make_card, server, place, checkpoint):
    check_good(place, checkpoint, load_generator(make_card("norange")))
    assert [sent for _, _, sent in server.log] == [int(0.4 * len(server.content)), len(server.content)]


def test_unknown_hash_resumes_the_same_version_only(make_card, server, cache, checkpoint, capsys):
    model = load_generator(make_card("cut", sha256=None))
    [place] = (cache / "other").iterdir()
    check_good(place, checkpoint, model)
    assert sum(sent for _, _, sent in server.log) == len(server.content)
    assert (
        f"no hash is known of it, only its shapes were checked; this file has sha256 {sha256(checkpoint)}"
        in capsys.readouterr().out
    )
    (place / "net.safetensors").unlink()
    (place / "net.ckpt.part").write_bytes(b"of who knows what")
    server.log.clear()
    load_generator(make_card("cut", sha256=None, about="again"))
    assert server.log[0][1] is None


def test_of_a_card_without_hash_a_bad_file_is_its_mirrors_fault(make_card, server, cache, checkpoint, capsys):
    assert load_generator(make_card("wrong", "good", sha256=None)).sha256 == sha256(checkpoint)
    assert "a text file, not a checkpoint" in capsys.readouterr().out
    said = failure(make_card("wrong", sha256=None))
    assert "/wrong/" in said and "a text file" in said and "Try again later, or put the file at" in said
    assert not list(cache.rglob("net.ckpt*"))  # the next run asks again


def test_a_bad_file_is_closed_before_it_is_removed(make_card, monkeypatch):
    remove, removed = Path.unlink, []

    def as_on_windows(path, *words, **more):
        assert str(path.resolve()) not in [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
        removed.append(path.name)
        remove(path, *words, **more)

    monkeypatch.setattr(Path, "unlink", as_on_windows)
    said = failure(make_card("good", sha256=None, architecture=SMALL_VQGAN | {"embed_dim": 5}))
    assert "no mirror delivered it" in said and "net.ckpt" in removed


def test_a_mirror_without_ranges_loses_nothing_that_has_come(make_card, server, place, checkpoint):
    have = int(0.6 * len(server.content))
    place.mkdir(parents=True)
    (place / "net.ckpt.part").write_bytes(server.content[:have])
    check_good(place, checkpoint, load_generator(make_card("norange", "good")))  # the first one cuts at 40 percent
    assert server.log[1] == ["good", f"bytes={have}-", len(server.content) - have]


def test_what_is_kept_is_used_without_a_lock(make_card, place):
    """The cache may be another's, to read only."""
    load_generator(make_card("good"))
    for lock in place.glob(".*.lock"):
        lock.unlink()
    load_generator(make_card("good", about="another card, not the one this process has loaded"))
    assert [path.name for path in place.iterdir()] == ["net.safetensors"]


def test_a_cache_that_cannot_be_made_is_told_with_the_way_out(make_card, monkeypatch):
    monkeypatch.setenv("VQCLIP_HOME", "/dev/null/cache")
    with pytest.raises(UserError, match=r"^/dev/null/cache/.*Put the cache elsewhere: VQCLIP_HOME=FOLDER$"):
        load_generator(make_card("good"))


def test_mirrors_in_order(make_card, server, place, checkpoint, capsys):
    mirrors = ("gone", "hang", "page", "short", "wrong", "good")
    check_good(place, checkpoint, load_generator(make_card(*mirrors)))
    assert [name for name, _, _ in server.log if name != "wrong"] == [name for name in mirrors if name != "wrong"]
    said = capsys.readouterr().out
    for reason in ("HTTP 404", "it hangs: nothing came for 1 s", "a web page", "the card's has", "another sha256"):
        assert reason in said


@pytest.mark.parametrize("known", [True, False])
def test_a_mirror_that_breaks_the_rules_is_not_the_last_one_tried(make_card, checkpoint, capsys, known):
    """416 to who asked for no range, and links that are none: the card's, and one that a mirror leads to."""
    card = make_card("unasked", "astray", "good", **({} if known else {"sha256": None}))
    assert load_generator(card | {"urls": ["http://[bad", *card["urls"]]}).sha256 == sha256(checkpoint)
    said = capsys.readouterr().out
    assert "/unasked/last.ckpt: HTTP 416" in said
    assert "/astray/last.ckpt: ValueError: Invalid IPv6 URL" in said


def test_what_one_mirror_began_is_not_whole_because_another_says_416(make_card, cache):
    said = failure(make_card("stall", "unasked", sha256=None, bytes=None))
    assert "HTTP 416" in said and "is kept" not in said
    assert not list(cache.rglob("net.ckpt*"))


def test_a_length_that_is_no_number_is_unknown(make_card, place, checkpoint):
    check_good(place, checkpoint, load_generator(make_card("many")))


def test_a_mirror_may_send_the_rest_in_pieces(make_card, server, place, checkpoint):
    have = len(server.content) // 3
    place.mkdir(parents=True)
    (place / "net.ckpt.part").write_bytes(server.content[:have])
    check_good(place, checkpoint, load_generator(make_card("pieces", bytes=None)))
    assert sum(sent for _, _, sent in server.log) == len(server.content) - have


def test_only_what_is_there_is_called_kept(make_card, server, place):
    assert "(what has been fetched is kept)" in failure(make_card("stall"))
    (place / "net.ckpt.part").unlink()
    assert "is kept" not in failure(make_card("gone"))


def test_wrong_mirror_does_not_spoil_a_good_one(make_card, server, place, checkpoint):
    """Half of a wrong file lies there: the good mirror is not blamed for it."""
    place.mkdir(parents=True)
    (place / "net.ckpt.part").write_bytes(bytes(1000))
    check_good(place, checkpoint, load_generator(make_card("good")))
    assert [asked for _, asked, _ in server.log] == ["bytes=1000-", None]


def test_part_that_is_complete_already(make_card, server, place, checkpoint):
    """A run died between the last byte and the rename, and the card knows no size."""
    place.mkdir(parents=True)
    (place / "net.ckpt.part").write_bytes(server.content)
    check_good(place, checkpoint, load_generator(make_card("good", bytes=None)))
    assert sum(sent for _, _, sent in server.log) < 1000


def test_every_mirror_fails(make_card, server, place):
    said = failure(make_card("gone", "wrong", "page"))
    for part in (
        "no mirror delivered it",
        "/gone/",
        "HTTP 404",
        "/wrong/",
        "another sha256",
        "/page/",
        "web page",
        str(place / "net.ckpt"),
    ):
        assert part in said
    assert not list(place.glob("net*"))


def test_unreachable_server(make_card, server):
    server.http.shutdown()
    server.http.server_close()
    assert "it refuses the connection" in failure(make_card("good"))


def test_proxy_is_used(make_card, server, cache, checkpoint, monkeypatch):
    """A site that only the proxy can reach; the test server plays the proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.http.server_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.http.server_port}")
    load_generator(make_card(urls=["http://models.invalid/good/last.ckpt"]))
    assert server.log[0][0] == "good"


def test_offline_does_not_touch_the_network(make_card, server, place, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "1")
    assert str(place / "net.ckpt") in failure(make_card("good")) and server.log == []


def test_file_put_there_by_hand(make_card, server, place, checkpoint, monkeypatch):
    monkeypatch.setenv("VQCLIP_OFFLINE", "1")
    place.mkdir(parents=True)
    (place / "net.ckpt").write_bytes(checkpoint.read_bytes())
    assert load_generator(make_card("good")).sha256 == sha256(checkpoint)
    assert (place / "net.ckpt").exists()  # it is theirs
    (place / "net.safetensors").unlink()
    (place / "net.ckpt").write_bytes(checkpoint.read_bytes() + b" ")
    assert "is not the file that the card of net names: its sha256 is" in failure(make_card("good", about="again"))


def test_file_larger_than_the_disk(make_card, server):
    said = failure(make_card("good", bytes=10**16))
    assert "10,000,000,000 MB" in said and "VQCLIP_HOME=FOLDER" in said and server.log == []


@contextmanager
def files_up_to(size):
    """The kernel refuses to let a file of this process grow beyond ``size``, as a full disk or a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk(make_card, server, place):
    limit = len(server.content) // 2
    with files_up_to(limit):
        said = failure(make_card("good"))
    assert "net.ckpt.part cannot be written: File too large" in said and "VQCLIP_HOME=FOLDER" in said
    assert not (place / "net.ckpt").exists() and not (place / "net.safetensors").exists()
    server.log.clear()
    load_generator(make_card("good"))  # room was made: what had come is used
    assert server.log[0][1] == f"bytes={limit}-"


def test_full_disk_is_not_filled_by_what_no_hash_proves(make_card, server, cache):
    with files_up_to(len(server.content) // 2):
        assert "cannot be written: File too large" in failure(make_card("good", sha256=None))
    assert not list(cache.rglob("net.ckpt*"))


def test_full_disk_at_conversion(make_card, place, checkpoint):
    place.mkdir(parents=True)
    (place / "net.ckpt").write_bytes(checkpoint.read_bytes())
    with files_up_to(10_000):
        assert "net.safetensors cannot be written: File too large" in failure(make_card("good"))
    assert sorted(p.name for p in place.iterdir() if not p.name.endswith(".lock")) == ["net.ckpt"]


SCRIPT = "import json, sys; from vqclip.checkpoints.load import load_generator; load_generator(json.loads(sys.argv[1]))"


def test_two_processes_fetch_once(make_card, server, cache):
    server.pause = 0.005
    command = [sys.executable, "-c", SCRIPT, json.dumps(make_card("good"))]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(server.log) == 1 and server.log[0][2] == len(server.content)


# The tool.


def config_dir(tmp_path, card):
    folder = tmp_path / "conf" / "checkpoints" / "generator"
    folder.mkdir(parents=True)
    (folder / "net.yaml").write_text(yaml.safe_dump(card))
    return ["--config-dir", str(tmp_path / "conf")]


def test_corrupted_cache_is_found_and_mended(make_card, server, place, tmp_path, capsys):
    mine = config_dir(tmp_path, make_card("good"))
    assert models(["verify", "net", *mine]) == 1
    again = shlex.join(["vqclip", "models", "fetch", "generator/net", *mine])
    assert f"net: not on this machine. Try: {again}\n" in capsys.readouterr().out
    assert models(["fetch", "net", *mine]) == 0
    assert models(["verify", *mine]) == 0
    assert "all whole" in capsys.readouterr().out
    kept = place / "net.safetensors"
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    kept.write_bytes(content)
    assert models(["verify", *mine]) == 1
    said = capsys.readouterr().out
    assert f"BAD   {kept}" in said and f"fix it: {again}\n" in said
    assert models(shlex.split(again)[2:]) == 0
    assert models(["verify", "net", *mine]) == 0
    assert len(server.log) == 2
    kept.write_bytes(kept.read_bytes()[:-100])
    assert "truncated or damaged" in failure(make_card("good", about="to be loaded"))
    assert "Try: vqclip models fetch generator/net --config-dir DIR" in failure(make_card("good", about="to be loaded"))
    assert models(["verify", *mine]) == 1
    assert models(["fetch", "net", *mine]) == models(["verify", *mine]) == 0
    assert models(["fetch", "net", *mine]) == 0
    assert len(server.log) == 3  # what is whole is not fetched again


@pytest.mark.parametrize("facts", [{"path": "nowhere.ckpt"}, {"_target_": "torch.nn.Identity"}])
def test_no_fetch_is_proposed_where_there_are_no_links(cache, tmp_path, capsys, facts):
    mine = config_dir(tmp_path, {"name": "net", **facts})
    assert models(["verify", "net", *mine]) == 1
    assert "net: not on this machine. Nothing to fetch: the card has no links" in capsys.readouterr().out


def test_of_a_card_of_ours_the_command_needs_no_folder(cache, capsys):
    assert models(["verify", "vit_b_32"]) == 1
    assert "Try: vqclip models fetch perceptors/vit_b_32\n" in capsys.readouterr().out


def test_what_another_process_has_mended_meanwhile_is_not_fetched_again(make_card, server, place, tmp_path, capsys):
    mine = config_dir(tmp_path, make_card("good"))
    models(["fetch", "net", *mine])
    kept = place / "net.safetensors"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-100])
    with fetching.lock_file(kept):
        second = threading.Thread(target=models, args=(["fetch", "net", *mine],))
        second.start()
        said, end = "", time.monotonic() + 30
        while "waiting for another process" not in said and time.monotonic() < end:
            time.sleep(0.01)
            said += capsys.readouterr().out
        kept.write_bytes(whole)
    second.join(30)
    assert "is damaged and is made anew" in said and "is whole" in capsys.readouterr().out
    assert len(server.log) == 1


def test_fetch_removes_nothing_that_it_cannot_replace(make_card, server, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    place.mkdir(parents=True)
    (place / "net.ckpt").write_bytes(b"a file of the user's own")
    mine = config_dir(tmp_path, make_card("good"))
    for more in ([], ["--offline"]):
        with pytest.raises(UserError, match=r"net\.ckpt is not the file that the card of net names"):
            models(["fetch", "net", *more, *mine])
    (place / "net.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not the file"):
        models(["fetch", "net", *mine])
    (place / "net.ckpt").unlink()
    with pytest.raises(UserError, match="VQCLIP_OFFLINE"):
        models(["fetch", "net", *mine])
    assert (place / "net.safetensors").read_bytes() == b"damaged" and server.log == []
    assert "net.safetensors is damaged and is made anew" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"x")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(Unreadable, match=r"net\.safetensors cannot be read: Too many open files"):
            integrity_error(path, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_list_shows_what_is_here(make_card, server, cache, place, tmp_path, capsys):
    mine = config_dir(tmp_path, make_card("good"))
    assert models(["list", *mine]) == 0
    said = capsys.readouterr().out
    assert str(cache) in said and re.search(r"net +to fetch, \d+ MB", said)
    assert "imagenet_f16_16384" in said and "vit_l_14_336" in said and "[unverified" in said
    place.mkdir(parents=True)
    (place / "net.ckpt.part").write_bytes(bytes(2_000_000))
    models(["list", *mine])
    assert re.search(r"net +cut at 2 MB of", capsys.readouterr().out)
    models(["fetch", "net", *mine])
    models(["list", *mine])
    assert re.search(r"net +here, \d+ MB", capsys.readouterr().out)


def test_offline_flag(make_card, server, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    mine = config_dir(tmp_path, make_card("good"))
    with pytest.raises(UserError, match="VQCLIP_OFFLINE"):
        models(["fetch", "net", "--offline", *mine])
    assert server.log == []


def test_wrong_names_from_the_command_line(capsys, cache):
    with pytest.raises(SystemExit) as exit_:
        vqclip(["models", "fetch", "imagenet_f16_16834"])
    assert exit_.value.code == 2
    assert "no such checkpoint. Did you mean imagenet_f16_16384?" in capsys.readouterr().err


@pytest.mark.parametrize("defaults", ["[coco, _self_]", "[{generator: cocoa}, {perceptors: [vit_b_32]}]", "", "[]"])
@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_pair_without_two_halves(tmp_path, cache, command, defaults):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mypair.yaml").write_text(f"defaults: {defaults}\nname: mypair\n")
    with pytest.raises(UserError, match=r"mypair: a pair whose file names .* no card for all\. Allowed: defaults"):
        models([command, "mypair", "--config-dir", str(tmp_path)])


@pytest.mark.parametrize(
    "file,defaults,said",
    [
        ("mine", "3", "3: no list"),
        ("mine", "{generator: net}", "{generator: 'net'}: no list"),
        ("mine", "[{generator: {a: b}}]", "generator: {a: 'b'}: names no card"),
        ("mine", "[{perceptors: [[a]]}]", "perceptors: [['a']]: names no card"),
        ("generator/mine", "3", "3: no list"),
    ],
)
@pytest.mark.parametrize("command", ["list", "fetch", "verify"])
def test_defaults_that_name_no_cards(tmp_path, cache, command, file, defaults, said):
    path = tmp_path / "checkpoints" / f"{file}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"defaults: {defaults}\n")
    with pytest.raises(UserError, match=re.escape(f"{path}: defaults: {said}. Allowed: ")):
        models([command, *["mine"][: command != "list"], "--config-dir", str(tmp_path)])


def test_every_pair_is_listed(capsys, cache):
    models(["list"])
    said = capsys.readouterr().out.split("pairs   checkpoints=NAME")[1]
    assert all(name in said for name in pairs()) and "llamagen" not in said


def test_list_does_not_load_torch(cache):
    code = "import sys; from vqclip.cli.models import main; main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
