"""Finds keys that have no effect on a picture, given the other keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vqclip.config.grammar import job_name
from vqclip.prompts import parse_prompts
from vqclip.schedules import ever_nonzero
from vqclip.sweeps.jobs import Job

__all__ = ["inert_keys", "inert_warnings"]

#: Optimizers whose step does not depend on the scale of the gradient.
SCALE_FREE = ("Adam", "AdamW", "Adamax", "NAdam", "OneScaleAdam", "RAdam", "RMSprop", "Rprop")


def inert_keys(config: Mapping[str, Any]) -> dict[str, str]:
    """Keys of a resolved config that have no effect on its picture → why."""
    loss, noise, prompts, optimizer, init = (
        config.get(group) or {} for group in ("loss", "noise", "prompts", "optimizer", "init")
    )
    extras, exclude = parse_prompts(prompts.get("extras")), parse_prompts(prompts.get("exclude"))
    beta, anchor = (ever_nonzero(loss.get(name, 0)) for name in ("beta", "anchor"))
    found = {"snapshot_every": "the latent goes the same way, only other steps of it are kept"}
    if not ever_nonzero(noise.get("factor", 0)):
        found["noise.num_rands"] = "noise.factor is 0"
    if init.get("mask") is None and init.get("ground") is None:
        found["init.feather"] = "init.mask and init.ground are null"
    if not exclude:
        found["loss.beta"] = "prompts.exclude is empty"
    if not beta:
        found["prompts.exclude"] = "loss.beta is 0"
    if not extras:
        found["prompts.extras_weight"] = "prompts.extras is empty"
        found["prompts.include_weight"] = "prompts.extras is empty, and the target is brought to unit length"
    alone = not anchor and not (exclude and beta) and not any((loss.get("terms") or {}).values())
    kind = str(optimizer.get("_target_")).rsplit(".", 1)[-1]
    scale_free = kind in SCALE_FREE and (kind == "AdamW" or not optimizer.get("weight_decay"))
    alpha = loss.get("alpha", 0)
    if alone and scale_free and optimizer.get("clip") is None and not isinstance(alpha, Mapping) and alpha > 0:
        found["loss.alpha"] = f"it is the only term of the loss, and {kind} cancels a common factor"
    return found


def inert_warnings(jobs: Sequence[Job]) -> list[str]:
    """One line for every swept key that has no effect on the picture, in all jobs or in some."""
    lines = []
    for key in dict.fromkeys(key for job in jobs for key in job.swept):
        alike: dict[tuple, set[str]] = {}
        for job in jobs:
            rest = tuple((k, v) for k, v in job.swept.items() if k != key)
            alike.setdefault(rest, set()).add(job.identity)
        if len(jobs) > len(alike) and all(len(found) == 1 for found in alike.values()):
            lines.append(f"{key} does not change the picture: its values make the same job, which runs once")
            continue
        reasons = [reason for job in jobs if (reason := inert_keys(job.config).get(key))]
        if len(reasons) > 1:
            where = "" if len(reasons) == len(jobs) else f" in {len(reasons)} of {len(jobs)} jobs"
            lines.append(f"{key} cannot change the picture{where}: {'; '.join(dict.fromkeys(reasons))}")
    return lines or _same_jobs(jobs)


def _same_jobs(jobs: Sequence[Job]) -> list[str]:
    """A line about combinations that make the same job, such as of a group's choice and of a key in it."""
    first: dict[str, Job] = {}
    pairs = [(job, one) for job in jobs if (one := first.setdefault(job.identity, job)) is not job]
    if not pairs:
        return []
    job, one = pairs[0]
    return [
        f"{len(pairs)} of {len(jobs)} combinations make the same job as another and run once: "
        f"{job_name(job.swept)} is {job_name(one.swept)}"
    ]
