"""``vqclip sync``: what was made offline reaches a server whole, once, and in order."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from test_sweep import sweep

from vqclip import UserError, run
from vqclip.cli import sync
from vqclip.loggers.wandb_files import files_outside, is_uploaded, records_in, records_of


def synced(server, *words):
    """``vqclip sync`` in a process of its own, for a user who has logged in: W&B reads its settings once a process."""
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40}
    command = [sys.executable, "-P", "-m", "vqclip", "sync", *map(str, words)]  # -P: as from bin/vqclip
    return subprocess.run(command, env=os.environ | account, capture_output=True, text=True, timeout=600)


def upload(server, *words):
    done = synced(server, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def steps(rows, key):
    return [row["step"] for row in rows if key in row]


def test_a_sweep_and_a_resumed_run_go_up_once(wandb_pair, tmp_path, wandb_server):
    folder = tmp_path / "multirun" / "foxes"
    assert sweep(f"hydra.sweep.dir={folder}", "seed=0,1", "a fox", pair=wandb_pair) == 0
    run(None, [f"resume={folder / '0'}", "steps=6"])
    records = records_in([folder])
    assert len(records) == 4  # two jobs, what was resumed of one, and the comparison
    assert "4 of 4 W&B records to upload" in upload(wandb_server, folder, "--dry-run") and not wandb_server.runs
    assert "4 uploaded" in upload(wandb_server, folder)
    assert wandb_server.unknown == []
    for n in (0, 1):
        report = json.loads((folder / str(n) / "run.json").read_text())
        rows, own = wandb_server.history(report["wandb"]), wandb_server.runs[report["wandb"]]
        assert steps(rows, "loss") == list(range(1, 7 if n == 0 else 5))
        assert [row["_step"] for row in rows] == list(range(len(rows))), "W&B's own step never goes back"
        assert wandb_server.summary(report["wandb"])["judge"] == report["pictures"][0]["judge"]
        assert own["displayName"] == f"seed={n}" and json.loads(own["config"])["sweep"]["value"]["swept"]
        names = {path.split("/", 1)[1] for path in wandb_server.files if path.startswith(f"{report['wandb']}/")}
        assert sum(name.startswith("media/images/picture") for name in names) == (4 if n == 0 else 3)
        assert sum(name.startswith("media/table/result") for name in names) == (2 if n == 0 else 1)
        kinds = [artifact["type"] for artifact in wandb_server.artifacts if artifact["run"] == report["wandb"]]
        assert {"latents", "checkpoint"} <= set(kinds)
        used = {own["name"]: own["metadata"] for own in wandb_server.artifacts if report["wandb"] in own["used by"]}
        assert json.loads(used["weights-generator"])["sha256"] == report["weights"]["generator"]
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.synced"))
    assert "0 of 4 W&B records to upload" in upload(wandb_server, tmp_path / "copy", folder)


def test_of_copies_of_a_record_the_whole_one_counts(tmp_path):
    name = "wandb/offline-run-20260101_000000-abc/run-abc.wandb"
    backup, whole = tmp_path / "backup" / name, tmp_path / "outputs" / name
    for path, size in ((backup, 10), (whole, 1000)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    backup.with_name(f"{backup.name}.synced").touch()
    assert sync._records([tmp_path]) == ([whole], [whole])


def test_runs_that_were_moved_go_up_once_linked_to_where_they_were(wandb_pair, tmp_path, wandb_server):
    """Artifacts name their files by the whole path; what W&B does not find there it leaves out, for good."""
    old, new = tmp_path / "of the cluster/w1", tmp_path / "here/w 2"
    for job in ("0", "1"):
        run("a fox", wandb_pair, old / job)
    new.parent.mkdir()
    old.rename(new)
    old.parent.rmdir()
    done = synced(wandb_server, new)
    assert done.returncode == 1 and not wandb_server.artifacts and done.stderr.count("was moved") == 1
    [said] = [line for line in done.stderr.splitlines() if "was moved" in line]
    assert "wandb sync" not in said
    subprocess.run(said.partition("Try: ")[2], shell=True, check=True)
    assert old.resolve() == new and "2 uploaded" in upload(wandb_server, new)
    kinds = [own["type"] for own in wandb_server.artifacts if own["state"] == "COMMITTED"]
    assert len(kinds) == len(wandb_server.artifacts) and kinds.count("latents") == 2


def test_what_wandb_staged_on_another_machine_is_said_to_be_missing(wandb_pair, tmp_path, wandb_server, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "cluster"))
    folder = run("a fox", wandb_pair, tmp_path / "run").folder
    shutil.rmtree(tmp_path / "cluster")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "home"))
    done = synced(wandb_server, folder)
    assert done.returncode == 1 and not wandb_server.runs
    assert f"{tmp_path}/cluster/artifacts/staging: has files of these runs that are not there" in done.stderr
    assert "wandb sync" not in done.stderr


@pytest.mark.parametrize("by", ["key", "environment"])
def test_records_elsewhere_are_found_of_single_runs_and_comparisons_at_any_depth(wandb_pair, tmp_path, monkeypatch, by):
    elsewhere, outputs = tmp_path / "elsewhere", tmp_path / "outputs"
    if by == "environment":
        monkeypatch.setenv("WANDB_DIR", str(elsewhere))
    words = [*wandb_pair, *([f"logger.wandb.save_dir={elsewhere}"] if by == "key" else [])]
    single = run("a fox", words, outputs / "2026-01-01" / "12-00-00").report["wandb"]
    assert sweep(f"hydra.sweep.dir={outputs}/foxes", "seed=0,1", "a fox", pair=words) == 0
    reports = [
        json.loads((outputs / "foxes" / name).read_text()) for name in ("0/run.json", "1/run.json", "sweep.json")
    ]
    found = {path.stem.removeprefix("run-") for path in records_in([outputs])}
    assert found == {single, *(report["wandb"] for report in reports)}
    assert len(records_in([outputs / "foxes"])) == 3


def test_what_is_missing_is_said_in_a_line(tmp_path, wandb_pair):
    with pytest.raises(UserError, match="no such folder"):
        sync.main([str(tmp_path / "none")])
    with pytest.raises(UserError, match=r"no W&B record in it.* WANDB_DIR=FOLDER vqclip sync"):
        sync.main([str(tmp_path)])


def test_a_record_of_any_name_is_looked_up_by_it(tmp_path):
    record, other = (tmp_path / f"wandb/run-20260101_000000-{name}/run-{name}.wandb" for name in ("**", "[a]"))
    for path in (record, other):
        path.parent.mkdir(parents=True)
        path.touch()
        assert records_of(tmp_path, path.stem.removeprefix("run-")) == [path] and not is_uploaded(path)


@pytest.mark.parametrize("name", ["click", "wandb"])
def test_no_code_of_the_working_folder_runs(wandb_pair, tmp_path, wandb_server, monkeypatch, name):
    """``cd RUN && vqclip sync .``"""
    theirs = run("a fox", wandb_pair, tmp_path / "run").folder
    (theirs / name).mkdir(exist_ok=True)
    (theirs / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(theirs)
    done = synced(wandb_server, ".")
    assert not (tmp_path / "ran").exists() and "1 uploaded" in done.stdout, done.stderr


@pytest.fixture
def server_of(tmp_path, monkeypatch):
    """The server that W&B takes in a working folder, or the refusal, for a user with a key."""
    for name in ("WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()

    def ask(*settings, folder="wandb", mode="online", users="", **environment):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "settings").write_text("\n".join(["[default]", *settings]))
        (tmp_path / "home/settings").write_text(f"[default]\n{users}")
        code = f"from vqclip.io.wandb_server import known_settings; print(known_settings({mode!r}).base_url)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
        return done.stdout.strip() or done.stderr.splitlines()[-1]

    return ask


THEIR_SERVER = "http://127.0.0.1:1"


@pytest.mark.parametrize("folder", ["wandb", ".wandb"])
def test_a_folder_does_not_say_who_gets_the_key(server_of, tmp_path, folder):
    said = server_of(f"base_url = {THEIR_SERVER}", folder=folder)
    assert f"UserError: {tmp_path}/{folder}/settings: base_url = {THEIR_SERVER}: W&B would send your key there" in said
    assert said.endswith(f"Try: export WANDB_BASE_URL={THEIR_SERVER}")
    assert server_of(f"base_url = {THEIR_SERVER}", WANDB_BASE_URL=THEIR_SERVER) == THEIR_SERVER
    assert "https_proxy = " in server_of(f"https_proxy = {THEIR_SERVER}", folder=folder)


def test_a_folders_settings_are_read_that_send_no_key_elsewhere(server_of):
    assert server_of("project = mine").startswith("https://api.")
    assert server_of(f"base_url = {THEIR_SERVER}/", users=f"base_url = {THEIR_SERVER}") == THEIR_SERVER
    assert server_of(f"base_url = {THEIR_SERVER}", mode="offline") == THEIR_SERVER
    assert server_of(f"base_url = {THEIR_SERVER}", mode=None, WANDB_MODE="offline") == THEIR_SERVER


def test_a_server_that_does_not_know_the_key_costs_no_picture(wandb_pair, tmp_path, wandb_server):
    wandb_server._Viewer = lambda variables: {"viewer": None}
    account = {"WANDB_BASE_URL": wandb_server.url, "WANDB_API_KEY": "x" * 40}
    code = f"import vqclip; print(vqclip.run('a fox', {wandb_pair!r}, {str(tmp_path / 'run')!r}).status)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | account, capture_output=True, text=True, timeout=600)
    # W&B's own threads may complain at the end of a process whose server refused it.
    assert "finished" in done.stdout and "AuthenticationError" not in done.stderr, done.stderr
    assert "W&B: " in done.stderr and "the run goes on without it" in done.stderr


THEIRS = """
import wandb
run = wandb.init(mode="offline", dir={folder!r}, settings=wandb.Settings(silent=True))
artifact = wandb.Artifact("latents", "latents")
artifact.add_file({file!r}, "latents.txt", policy="immutable")
run.log_artifact(artifact)
run.log({{"x": 1}})
run.finish()
"""


@pytest.mark.parametrize("link", [False, True])
def test_a_strangers_record_sends_no_file_of_ones_own(tmp_path, wandb_server, link):
    """W&B uploads what its record names, whatever is there now."""
    private, theirs = tmp_path / "private.txt", tmp_path / "theirs"
    theirs.mkdir()
    named = theirs / "latents.txt" if link else private
    named.write_text("theirs")
    subprocess.run([sys.executable, "-c", THEIRS.format(folder=str(theirs), file=str(named))], check=True, timeout=600)
    private.write_text("tell nobody")
    if link:
        named.unlink()
        named.symlink_to(private)
    done = synced(wandb_server, theirs)
    assert done.returncode == 1 and f"would send {named}" in done.stderr and "0 uploaded" in done.stdout
    assert not wandb_server.files and not wandb_server.artifacts
    # W&B's own reader goes on behind a block of zeros.
    [record] = records_in([theirs])
    content = record.read_bytes()
    record.write_bytes(content[:7] + bytes(32768 - 7) + content[7:])
    assert files_outside(record, [theirs]) == [named]


def test_more_records_than_one_command_takes_go_up_in_several(tmp_path, monkeypatch):
    for i in range(450):
        record = tmp_path / f"{i}/wandb/offline-run-20260101_000000-{i}/run-{i}.wandb"
        record.parent.mkdir(parents=True)
        record.write_bytes(b"")
    sent = []
    monkeypatch.setattr(sync, "_refuse_without_server", lambda: None)
    monkeypatch.setattr(sync.subprocess, "run", lambda command, **_: sent.append([w for w in command if ".wandb" in w]))
    assert sync.main([str(tmp_path)]) == 1
    assert [len(words) for words in sent] == [200, 200, 50] and len({word for words in sent for word in words}) == 450


def test_a_folder_of_wandbs_that_many_runs_share_is_listed_once(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("WANDB_DIR", str(elsewhere))
    for name in ("a", "b-a", "a-b"):
        record = elsewhere / f"wandb/offline-run-20260101_000000-{name}/run-{name}.wandb"
        record.parent.mkdir(parents=True)
        record.write_bytes(b"")
    for name, known in (("0", "a"), ("1", "b-a"), ("2", "gone"), ("3", "*")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps({"wandb": known}))
    listed, glob = [], type(tmp_path).glob
    monkeypatch.setattr(type(tmp_path), "glob", lambda self, *args: listed.append(self) or glob(self, *args))
    records, left = sync._records([tmp_path / "runs"])
    assert [path.stem for path in records] == ["run-a", "run-b-a"] and left == records
    assert listed.count(elsewhere) == 1
