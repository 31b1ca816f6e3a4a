"""What every way to make a picture must stand: a break and a resume, and a rerun, each with the same bytes."""

import pytest
import pytorch_lightning as pl

from vqclip import run
from vqclip.runs.rerun import rerun


class Break(pl.Callback):
    """Ends a run after its second step, as ctrl-c would."""

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == 2:
            raise KeyboardInterrupt


def pictures_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def stands_break_and_rerun(overrides, folder):
    """The run of ``overrides``, unbroken; it is broken and resumed, and reproduced, to the same pictures."""
    whole = run(overrides=overrides, folder=folder / "whole")
    with pytest.raises(SystemExit):
        run(overrides=[*overrides, "+callbacks.stop._target_=ways.Break"], folder=folder / "half")
    run(overrides=[f"resume={folder}/half", "callbacks=none"])
    assert pictures_of(folder / "half") == pictures_of(whole.folder)
    lines, same = rerun(whole.folder / "picture-00" / "final.png", [], folder / "again")
    assert same, lines
    return whole
