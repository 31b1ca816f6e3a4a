"""The plan of a run: what it will do, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vqclip.config.check import check
from vqclip.config.signatures import refusal
from vqclip.errors import UserError
from vqclip.prompts import Prompt, parse_prompts
from vqclip.runs.schema import FORMAT

__all__ = ["RunPlan"]


@dataclass(frozen=True)
class RunPlan:
    """A checked config and the pictures that it makes: every prompt with every seed."""

    config: Mapping[str, Any]  #: resolved, plain data
    prompts: tuple[Prompt, ...]  #: the include entry of each picture
    seeds: tuple[int, ...]  #: of each picture
    callbacks: tuple[Any, ...] = ()  #: Lightning callbacks besides those of the config
    record_format: int = FORMAT  #: of the records in the PNGs; 0 is the format before there were numbers
    recorded: Mapping[str, Any] = field(default_factory=dict)  #: the config without secrets, for all records

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        callbacks: Sequence[Any] = (),
        record_format: int = FORMAT,
        recorded: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Make the plan of a resolved config.

        Args:
            recorded: the config without secrets; None if it has none.

        Raises:
            UserError: the config has mistakes; all are named.
        """
        check(config)
        if errors := [
            f"callbacks: {type(callback).__name__}: {why}" for callback in callbacks if (why := refusal(type(callback)))
        ]:
            raise UserError("\n".join(errors))
        include, size = parse_prompts(config["prompts"]["include"]), config["batch_size"]
        return cls(
            config=config,
            prompts=tuple(prompt for prompt in include for _ in range(size)),
            seeds=tuple(config["seed"] + i for _ in include for i in range(size)),
            callbacks=tuple(callbacks),
            record_format=record_format,
            recorded=config if recorded is None else recorded,
        )

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """The prompt and seed of each picture, for run.json."""
        both = zip(self.prompts, self.seeds, strict=True)
        return [{"prompt": prompt.label, "seed": seed} for prompt, seed in both]
