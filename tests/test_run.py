"""Whole runs, end to end, on small random models: what is written, and that it is the same every time."""

import csv
import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
import pytorch_lightning as pl
import torch
import torch._inductor.config
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from safetensors.torch import load_file

from vqclip import UserError, load, run
from vqclip.config.compose import compose
from vqclip.io.images import read_record


def digests(folder: Path) -> dict[str, str]:
    """Hash of every picture and latents file of a run."""
    files = [*folder.rglob("*.png"), *folder.rglob("latents.safetensors")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_run_leaves_the_folder_that_design_promises(small_pair, tmp_path):
    folder = tmp_path / "run"
    result = run(["a fox", "an owl"], [*small_pair, "prompts.exclude=blurry", "callbacks=default"], folder)
    assert result.folder == folder and result.images.shape == (2, 3, 32, 32)
    report = json.loads((folder / "run.json").read_text())
    assert report["status"] == "finished" and report["steps"] == 4 and report["seed"] == 0
    assert report["device"] == "cpu" or torch.cuda.is_available() or torch.backends.mps.is_available()
    assert [own["prompt"] for own in report["pictures"]] == ["a fox", "an owl"]
    assert {"torch", "vqclip", "python"} <= set(report["versions"]) and len(report["weights"]["generator"]) == 64
    for i in range(2):
        picture = folder / f"picture-0{i}"
        assert sorted(p.name for p in (picture / "steps").iterdir()) == ["000000.png", "000002.png", "000004.png"]
        latents = load_file(picture / "latents.safetensors")
        assert sorted(latents) == ["000000", "000002", "000004"]
        assert not torch.equal(latents["000002"], latents["000004"])  # copies, not the live parameter
        torch.testing.assert_close(latents["000004"], result.latents[i])
        assert (picture / "final.png").read_bytes() == (picture / "steps" / "000004.png").read_bytes()
        best = report["pictures"][i]["best"]
        assert (picture / "best.png").read_bytes() == (picture / "steps" / f"{best['step']:06d}.png").read_bytes()
        assert (picture / "timelapse.mp4").stat().st_size > 0
    for name, digest in report["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert {"loss", "include", "exclude", "lr", "noise", "include/01"} <= set(rows[0])
    assert (folder / "timing.csv").read_text().splitlines()[0] == "step,seconds"
    assert (folder / "config.yaml").exists() and (folder / "last.ckpt").exists()
    assert not list(folder.rglob(".*.png.*")), "a file half written was left"


def test_of_snapshots_that_score_the_same_the_latest_is_the_best(small_pair, tmp_path):
    """Without weights all score 0; the first is the start, which is noise where a run begins with noise."""
    unscored = [*small_pair, "loss.alpha=0", "loss.beta=0"]
    result = run("a fox", unscored, tmp_path / "run")
    for folder in (result.folder, run(resume=tmp_path / "run", steps=6).folder):
        (picture,) = json.loads((folder / "run.json").read_text())["pictures"]
        assert picture["best"] == picture["final"] and picture["best"]["score"] == 0
        files = [folder / "picture-00" / name for name in ("best.png", "final.png")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert picture["best"]["step"] == 6


def test_the_first_step_has_a_row_whatever_steps_lie_between_two(small_pair, tmp_path):
    words = [*small_pair, "snapshot_every=4", "trainer.log_every_n_steps=3"]
    assert [row["step"] for row in run("a fox", words, tmp_path / "run").history] == [1, 3, 4]


def test_the_checkpoint_holds_the_latent_and_no_network(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    state = torch.load(folder / "last.ckpt", weights_only=False)["state_dict"]
    assert sorted(state) == ["latent", "start"]


def test_same_command_same_bytes_other_seed_other_picture(small_pair, tmp_path):
    one, two = (run("a fox", small_pair, tmp_path / name).folder for name in ("one", "two"))
    other = run("a fox", [*small_pair, "seed=1"], tmp_path / "other").folder
    assert digests(one) == digests(two)
    assert digests(one)["picture-00/final.png"] != digests(other)["picture-00/final.png"]


def test_a_batch_is_prompts_times_seeds_and_each_picture_what_it_is_alone(small_pair, tmp_path):
    batch = run(["a fox", "an owl", "a cat"], [*small_pair, "batch_size=2", "seed=5"], tmp_path / "batch")
    pictures = json.loads((batch.folder / "run.json").read_text())["pictures"]
    assert [(own["prompt"], own["seed"]) for own in pictures] == [
        (text, seed) for text in ("a fox", "an owl", "a cat") for seed in (5, 6)
    ]
    alone = run("an owl", [*small_pair, "seed=6"], tmp_path / "alone")
    # A batch adds in another order than a single picture does; four steps of Adam carry that far.
    assert (batch.images[3] - alone.images[0]).abs().mean() < 2e-3


def test_every_png_carries_its_record(small_pair, tmp_path):
    folder = run("a fox", [*small_pair, "seed=7"], tmp_path / "run").folder
    record = read_record(folder / "picture-00" / "best.png")
    assert record["seed"] == 7 and record["prompt"] == "a fox" and record["config"]["steps"] == 4
    assert str(tmp_path) not in json.dumps({k: v for k, v in record["config"].items() if k != "checkpoints"})


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=reference", "steps=2", "size=[33,45]", "snapshot_every=2"],
        ["experiment=from_noise", "steps=2", "size=[32,32]", "snapshot_every=2"],
        ["latent=quantised", "init=codebook"],
        ["noise=sfumato", "augmentations.affine=null", "loss.anchor={start: 1, end: 0, shape: cosine}"],
        ["optimizer._target_=torch.optim.SGD", "optimizer.lr={start: .1, end: 0, shape: linear}"],
        ["+loss.terms.tv={_target_: vqclip.loss.TotalVariation, weight: .1}", "prompts.extras=[watercolor, paper]"],
        ["debug=fast", "memory.crop_chunk=2", "memory.checkpoint_decoder=true"],
    ],
)
def test_presets_and_parts_run(small_pair, tmp_path, overrides, caplog):
    presets = [o for o in overrides if o.startswith(("experiment=", "debug="))]
    rest = [o for o in overrides if o not in presets]
    result = run("a fox", [*small_pair, *presets, *rest], tmp_path / "run")
    assert torch.isfinite(result.images).all() and torch.isfinite(result.latents).all()
    if "size=[33,45]" in overrides:
        assert result.images.shape[-2:] == (32, 44)
        assert "33×45 asked for, 32×44 made" in caplog.text


def test_what_hastens_a_gpu_runs_here_too_and_ends_with_the_job(small_pair, tmp_path):
    """``trainer=gpu`` on the CPU: the same code, with a compiler that takes the networks as they are."""
    seen = []

    class See(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            networks[:] = [module.generator, *(guide.perceptor for guide in module.guides.values())]
            compiled = {"decode", "encode_image"} & {name for network in networks for name in vars(network)}
            seen.append((torch.backends.cuda.matmul.allow_tf32, sorted(compiled)))

    networks: list = []
    before = torch.backends.cuda.matmul.allow_tf32
    plain = run("a fox", small_pair, tmp_path / "plain")
    gpu = ["trainer=gpu", "trainer.accelerator=cpu", "trainer.compile={backend: eager}"]
    hastened = run("a fox", [*small_pair, *gpu], tmp_path / "gpu", callbacks=[See()])
    assert seen == [(True, ["decode", "encode_image"])] * 4
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert not any({"decode", "encode_image"} & set(vars(network)) for network in networks)
    torch.testing.assert_close(hastened.images, plain.images, atol=0.1, rtol=0)  # bf16
    assert digests(run("a fox", small_pair, tmp_path / "again").folder) == digests(plain.folder)


@pytest.mark.parametrize("wanted,mode", [("null", 0), ("warn", 1), ("true", 2)])
def test_one_order_of_additions_is_asked_for_in_the_run_only(small_pair, tmp_path, monkeypatch, wanted, mode):
    def flags():
        compiler = getattr(torch._inductor.config, "deterministic", False)  # from torch 2.9
        return torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark, compiler, dict(os.environ)

    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen, before = [], flags()
    see = pl.callbacks.LambdaCallback(on_fit_start=lambda *_: seen.append(torch.get_deterministic_debug_mode()))
    asked = run("a fox", [*small_pair, f"+trainer.deterministic={wanted}"], tmp_path / "asked", callbacks=[see])
    assert seen == [mode] and flags() == before
    assert torch.equal(asked.images, run("a fox", small_pair, tmp_path / "plain").images)


def test_what_has_no_one_order_is_named(small_pair, tmp_path):
    def refuse(*_):  # as torch does on a GPU
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you …")

    with pytest.raises(UserError, match=r"=true: adaptive_avg_pool2d_backward_cuda adds.*Try: trainer\.deter"):
        run("a fox", small_pair, tmp_path / "run", callbacks=[pl.callbacks.LambdaCallback(on_train_batch_end=refuse)])


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="this torch has one way only")
@pytest.mark.parametrize("words", [[], ["+trainer.tf32=true"], ["+trainer.tf32=false"]])
@pytest.mark.parametrize("precision", ["tf32", "ieee", "none"])
def test_either_way_to_ask_torch_for_tf32_stands_around_a_run(small_pair, tmp_path, words, precision):
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    matmul.fp32_precision, conv.fp32_precision = precision, "ieee"
    try:
        seen: list[str] = []
        see = pl.callbacks.LambdaCallback(on_fit_start=lambda *_: seen.append(torch.get_float32_matmul_precision()))
        run("a fox", [*small_pair, "steps=1", *words], tmp_path / "run", callbacks=[see])
        used = words == ["+trainer.tf32=true"] or (not words and precision == "tf32")
        assert seen == ["high" if used else "highest"]
        assert (matmul.fp32_precision, conv.fp32_precision) == (precision, "ieee")
    finally:
        matmul.fp32_precision, conv.fp32_precision = before


def test_a_compiler_is_given_the_shapes_of_the_run_and_no_symbols_for_them(small_pair, tmp_path):
    """torch's own compiler fails on these networks with symbolic shapes, which it goes over to at a second shape."""
    from torch._dynamo import register_backend

    symbolic = []

    @register_backend(name="noting")
    def noting(graph, inputs):
        symbolic.append(any(isinstance(value, torch.SymInt) for value in inputs))
        return graph.forward

    run("a fox", [*small_pair, "trainer.compile={backend: noting}"], tmp_path / "run")
    assert len(symbolic) > 2 and not any(symbolic)


def test_a_compiler_that_fails_is_told_in_a_sentence(small_pair, tmp_path):
    from torch._dynamo import register_backend

    @register_backend(name="failing")
    def failing(graph, inputs):
        raise OSError("no C++ compiler")

    for backend, why in (("failing", "no C\\+\\+ compiler"), ("nowhere", "Invalid backend: 'nowhere'")):
        with pytest.raises(UserError, match=rf"trainer.compile=.*{why}.*Try: trainer.compile=null"):
            run("a fox", [*small_pair, f"trainer.compile={{backend: {backend}}}"], tmp_path / backend)
    assert not list(tmp_path.iterdir())  # as of any mistake that shows before the first step
    run("a fox", small_pair, tmp_path / "after")  # the networks that jobs share are as they were


def test_schedules_reach_the_optimiser(small_pair, tmp_path):
    folder = run("a fox", [*small_pair, "optimizer.lr={start: .4, end: .1, shape: linear}"], tmp_path / "run").folder
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_run_is_a_function_before_and_after_its_first_use(small_pair, tmp_path):
    import vqclip

    vqclip.run("a fox", small_pair, tmp_path / "one")
    assert callable(vqclip.run)  # a module of that name would take its place once imported


def test_a_failing_run_says_so_on_disk(small_pair, tmp_path):
    class Broken(pl.Callback):
        def on_train_batch_end(self, *_):
            raise ArithmeticError("a callback of somebody's own")

    with pytest.raises(ArithmeticError):
        run("a fox", small_pair, tmp_path / "run", callbacks=[Broken()])
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["status"] == "failed" and report["error"] == "ArithmeticError: a callback of somebody's own"
    assert "Traceback" in (tmp_path / "run" / "vqclip.log").read_text()


def test_a_callback_finds_its_own_step_on_disk(small_pair, tmp_path):
    class Reads(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
            seen.append((trainer.global_step, int(rows[-1]["step"])))

    seen: list[tuple[int, int]] = []
    run("a fox", small_pair, tmp_path / "run", callbacks=[Reads()])
    assert seen == [(step, step) for step in (1, 2, 3, 4)]


def test_mistakes_are_found_before_a_folder_is_made(small_pair, tmp_path):
    with pytest.raises(UserError, match="steps=0"):
        run("a fox", [*small_pair, "steps=0"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_config_yaml_is_the_whole_resolved_config(small_pair, tmp_path):
    folder = run("a fox", small_pair, tmp_path / "run").folder
    config = OmegaConf.load(folder / "config.yaml")
    assert (
        config.prompts.include == ["a fox"] and config.steps == 4 and "${" not in (folder / "config.yaml").read_text()
    )


def test_a_checkpoint_does_not_pass_through_the_systems_temporary_folder(small_pair, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))  # it may be small, full, or on another disk
    run("a fox", [*small_pair, "steps=2"], tmp_path / "run")
    assert (tmp_path / "run" / "last.ckpt").exists() and not list((tmp_path / "run").glob(".last*"))


def test_a_disk_without_room_for_the_first_file_is_a_sentence(small_pair, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(UserError, match=r"run.json: File too large. Try: df -h .*run$"):
            run("a fox", small_pair, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run("a fox", [*small_pair, "steps=1"], tmp_path / "run")  # the same command, with room


@contextmanager
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    assert torch.get_deterministic_debug_mode() == 2
    torch.use_deterministic_algorithms(False)


@contextmanager
def bfloat16_in_products():
    """What Lightning advises for a GPU, and then the same of convolutions, which only the newer way can say."""
    torch.set_float32_matmul_precision("medium")
    parts = [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv]
    parts[1].fp32_precision = "bf16"
    yield
    assert torch.get_float32_matmul_precision() == "medium" and [p.fp32_precision for p in parts] == ["bf16"] * 2
    torch.set_float32_matmul_precision("highest")
    for part in parts:
        part.fp32_precision = "none"


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this torch has one way only")
def test_what_torch_says_of_its_products_can_be_read_after_a_run_in_tf32(small_pair, tmp_path):
    with bfloat16_in_products():
        run("a fox", [*small_pair, "steps=1", "+trainer.tf32=true"], tmp_path / "run")


@contextmanager
def bfloat16_everywhere():
    with torch.backends.flags(fp32_precision="bf16"):
        yield
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    assert torch.backends.mkldnn.conv.fp32_precision == "none"


@contextmanager
def no_onednn():
    torch.backends.mkldnn.enabled = False
    yield
    assert not torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = True


#: What a notebook may have set for all that it does.
AROUND = {
    "default dtype": double_precision,
    "default device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": deterministic,
    "mkldnn": no_onednn,
}
if hasattr(torch.backends, "fp32_precision"):  # from torch 2.9 on
    AROUND |= {"float32_matmul_precision": bfloat16_in_products, "fp32_precision": bfloat16_everywhere}


@pytest.mark.parametrize("around", AROUND)
def test_what_a_notebook_has_set_of_torch_does_not_reach_a_run(small_pair, tmp_path, around):
    alone = run("a fox", small_pair, tmp_path / "alone").folder
    with AROUND[around]():
        inside = run("a fox", small_pair, tmp_path / "inside").folder
    assert digests(alone) == digests(inside)
    assert digests(run("a fox", small_pair, tmp_path / "after").folder) == digests(alone)


@pytest.mark.parametrize("around", ["default dtype", "default device"])
def test_nor_does_it_reach_what_is_read_of_a_run(small_pair, tmp_path, around):
    made = run("a fox", small_pair, tmp_path / "run")
    with AROUND[around]():
        read = load(tmp_path / "run")
        pictures, latents = read.images, read.latents
    assert pictures.dtype == torch.float32 and torch.equal(latents, made.latents)
    assert torch.allclose(pictures, made.images, atol=0.5 / 255 + 1e-6)


def test_a_run_that_is_read_is_the_one_that_was_made(small_pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run("a fox", small_pair, "run")
    assert made.report == load("run").report == json.loads(Path("run/run.json").read_text())
    written = OmegaConf.load("run/config.yaml")
    assert written.paths.output_dir == str(tmp_path / "run")  # as the command line has it


def test_a_run_leaves_the_users_random_numbers_alone(small_pair, tmp_path):
    before = torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()
    run("a fox", small_pair, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (numpy.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_ctrl_c_is_what_python_has_for_it(small_pair, tmp_path):
    class Press(pl.Callback):
        def on_train_batch_end(self, *args):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("a fox", small_pair, tmp_path / "run", callbacks=[Press()])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert run(resume=tmp_path / "run").status == "finished"


def test_with_nohup_a_closed_terminal_ends_no_run(small_pair, tmp_path):
    class HangUp(pl.Callback):
        def on_train_batch_end(self, *args):
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup hands it over
    try:
        made = run("a fox", [*small_pair, "steps=2"], tmp_path / "run", callbacks=[HangUp()])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (made.status, made.report["steps"]) == ("finished", 2)


def test_a_signal_that_a_program_around_python_handles_stays_its_own(small_pair, tmp_path, monkeypatch):
    ours, before = signal.getsignal, signal.getsignal(signal.SIGHUP)
    # As Python says it of a handler that it did not install.
    monkeypatch.setattr(signal, "getsignal", lambda s: None if s == signal.SIGHUP else ours(s))
    assert run("a fox", [*small_pair, "steps=1"], tmp_path / "run").status == "finished"
    assert ours(signal.SIGHUP) == before


def test_threads_leave_hydra_as_they_found_it(small_pair, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        configs = [*pool.map(lambda i: compose([f"seed={i}"]), range(12))]
    assert [config.seed for config in configs] == [*range(12)]
    assert not GlobalHydra.instance().is_initialized()


class Noted(pl.Callback):
    """Notes every step of a run, and lets other threads have a go there."""

    def __init__(self, name, noted):
        self.name, self.noted = name, noted

    def on_train_batch_end(self, *_):
        self.noted.append(self.name)
        time.sleep(0.01)


def test_runs_in_threads_wait_for_each_other_and_one_within_a_run_does_not(small_pair, tmp_path):
    class Within(pl.Callback):
        def on_train_end(self, *_):
            run("a fox", small_pair, tmp_path / "within")

    noted: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(run, "a fox", small_pair, tmp_path / str(i), callbacks=[Noted(i, noted)]) for i in range(2)]
    assert all(one.result().status == "finished" for one in work)
    assert noted == sorted(noted, key=noted.index) and len(noted) == 8
    run("a fox", small_pair, tmp_path / "around", callbacks=[Within()])
    assert digests(tmp_path / "within") == digests(tmp_path / "around") == digests(tmp_path / "0")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_program_without_a_console_has_no_bar(small_pair, tmp_path, monkeypatch, stream):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", stream and closed)
    assert run("a fox", [*small_pair, "callbacks=default"], tmp_path / "run").status == "finished"
