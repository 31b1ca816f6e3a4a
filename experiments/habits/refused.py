"""What users of Lightning and Hydra type, and what is not done here, with words of the answer (``|`` between them)."""

from __future__ import annotations

LIGHTNING = "pytorch_lightning.callbacks"


def callback(name: str, **arguments: object) -> str:
    told = "".join(f", {key}: {value}" for key, value in arguments.items())
    return f"'+callbacks.mine={{_target_: {LIGHTNING}.{name}{told}}}'"


_TO_LIGHTNING = {
    callback("StochasticWeightAveraging", swa_lrs=0.1): "callbacks.mine|Try: search.average=0.9",
    callback("EMAWeightAveraging"): "callbacks.mine|Try: search.average=0.9",
    callback("GradientAccumulationScheduler", scheduling="{0: 2}"): "augmentations.crops.count",
    callback("LearningRateFinder"): "Try: -m optimizer.lr=",
    callback("BatchSizeFinder"): "Try: memory.picture_chunk=null",
    callback("OnExceptionCheckpoint", dirpath="x"): "last.ckpt|Try: resume=RUN",
    callback("BackboneFinetuning"): "no layer",
    callback("ModelPruning", pruning_fn="l1_unstructured"): "no layer",
    callback("BasePredictionWriter"): "nothing is predicted",
    callback("EarlyStopping", monitor="val_loss"): "callbacks.mine.monitor='val_loss'|Allowed: one of loss, score",
    callback("ModelCheckpoint", monitor="exclude"): "callbacks.mine.monitor='exclude'|Allowed: one of loss, score",
    callback("ModelCheckpoint", every_n_epochs=2): "one epoch|Try: every_n_train_steps=10",
    callback("EarlyStopping", monitor="loss", check_on_train_epoch_end="true"): "one epoch",
    callback("Timer", duration="00:00:01:00", interval="epoch"): "callbacks.mine.interval='epoch'|one epoch",
    "'+callbacks.mine={_target_: lightning_fabric.utilities.spike.SpikeDetection}'": "no class for callbacks.mine",
    "'+callbacks.mine={_target_: lightning.pytorch.callbacks.Timer}'": f"Try: callbacks.mine._target_={LIGHTNING}",
    f"'callbacks=[{{_target_: {LIGHTNING}.Timer}}]'": "by name|Try: 'callbacks={one:",
    "logger=true": "Allowed: one of csv, mlflow, none",
    "trainer.precision=64-true": "Allowed: one of 32-true, bf16-mixed",
    "+trainer.limit_train_batches=0": "leaves none|a part of them as 0.5",
    "+trainer.limit_train_batches=0.001": "leaves none",
    "trainer.devices=[0] trainer.accelerator=cpu": "trainer|Try: trainer=cpu",
    "trainer.accelerator=tpu": "trainer|Try: trainer=cpu",
    "+trainer.strategy=ddp": "trainer.strategy='ddp'|hydra/launcher=workers",
    "+trainer.fast_dev_run=true": "Try: debug=fast",
    "+trainer.barebones=true": "Try: logger=none callbacks=none",
    "+trainer.inference_mode=false": "trainer.inference_mode",
    "+trainer.model_registry=mine": "trainer.model_registry",
    "+trainer.max_time=soon": "DD:HH:MM:SS",
    "'+trainer.profiler={_target_: pytorch_lightning.profilers.Nope}'": "there is no Nope in",
    "'optimizer={_target_: torch.optim.Muon, lr: 0.1}'": "Muon only supports 2D|Try: optimizer=default",
    "'optimizer={_target_: torch.optim.Adam, params: [], lr: 0.1}'": "optimizer.params",
    "'optimizer={_target_: torch.optim.Adam}'": "optimizer.lr: missing",
    "'+scheduler={_target_: torch.optim.lr_scheduler.StepLR, step_size: 3}'": "Did you mean optimizer.lr={start: 0.1",
    "'optimizer.lr={_target_: torch.optim.lr_scheduler.StepLR, step_size: 3}'": "optimizer.lr=|or a schedule {start",
    "'+optimizer.lr_scheduler={_target_: torch.optim.lr_scheduler.StepLR}'": "optimizer.lr_scheduler",
    "ckpt_path=last.ckpt": "Did you mean resume?",
    "max_epochs=3": "Did you mean steps?",
}

_TO_HYDRA = {
    "-cp mine": "-cp|Try: --config-dir DIR",
    "--config-path mine": "Try: --config-dir DIR",
    "--experimental-rerun config.pickle": "Try: vqclip rerun RUN",
    "--config-name nobody": "--config-name nobody: there is no such file",
    "-m hydra/sweeper=optuna loss.alpha=0,1": "hydra/sweeper=optuna|hparams_search=optuna",
    "-m loss.alpha=interval(0,1)": "a range to search|hparams_search=optuna",
    "'hydra.run.dir=out/${prompt}'": "there is no key prompt|Try: ${prompts.include.0}",
    "'tags=[\"${hydra:job.name}\"]'": "tags[0]|not known before Hydra begins|${now:%H-%M}",
    "'tags=[\"${oc.env:NOBODY_SET_THIS}\"]'": "tags[0]|NOBODY_SET_THIS",
    "'loss.beta=${loss.nothing}'": "loss.beta|loss.nothing",
    "seed=": "seed=''|a whole number",
    "~optimizer": "optimizer: missing|Try: optimizer=",
    "noise@elsewhere=none": "noise@elsewhere",
    "+mine=3": "mine: there is no such key",
    "'prompts.include=[\"a dog\"]'": "says it already",
    "hydra/hydra_logging=colorlog": "there is no such choice",
    "hydra.job.chdir=true": "hydra.job.chdir=true|the folder where the command is typed",
}

#: Part of the table → what is typed beside a prompt → words of the answer.
REFUSED = {"Lightning": _TO_LIGHTNING, "Hydra": _TO_HYDRA}
