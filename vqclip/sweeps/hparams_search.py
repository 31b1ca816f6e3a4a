"""Hyperparameter search: a sampler proposes values from the scores so far, instead of all combinations.

Proposals depend on the seed and the scores alone, so repeating a search makes the same jobs, finds them done, and
continues after them.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from vqclip.config.grammar import unquoted
from vqclip.errors import UserError
from vqclip.io.files import atomic_write

if TYPE_CHECKING:
    import optuna

__all__ = ["distributions_of", "plot", "require_score", "score_of", "search"]


def search(
    settings: Mapping[str, Any],
    space: Mapping[str, Override],
    start: Mapping[str, Any],
    run: Callable[[list[dict[str, str]]], list[float | None]],
) -> optuna.Study:
    """Propose values, run them and report the scores, until all trials are done.

    Args:
        settings: ``conf/hparams_search``.
        space: the searched keys, as ranges.
        start: values of the first trial; those outside of their range are drawn instead.
        run: runs trials with the given values and returns their scores, None for a failed trial.

    Raises:
        UserError: Optuna is not installed, or there is nothing to search.
    """
    distributions = distributions_of(space)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=settings["seed"], constant_liar=settings["at_once"] > 1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    choices = {k: isinstance(d, optuna.distributions.CategoricalDistribution) for k, d in distributions.items()}
    first = {key: str(value) if choices[key] else value for key, value in start.items()}
    study.enqueue_trial({key: value for key, value in first.items() if _within(value, distributions[key])})
    for begin in range(0, settings["trials"], settings["at_once"]):
        count = min(settings["at_once"], settings["trials"] - begin)
        trials = [study.ask(distributions) for _ in range(count)]
        scores = run([{key: _shown(value) for key, value in trial.params.items()} for trial in trials])
        for trial, score in zip(trials, scores, strict=True):
            study.tell(trial, score, state=optuna.trial.TrialState.FAIL if score is None else None)
    return study


def distributions_of(space: Mapping[str, Override]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distribution for each key.

    Raises:
        UserError: Optuna is not installed, there is nothing to search, or a range is invalid.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError('hparams_search=optuna: Optuna is not installed. Try: pip install "vqclip[optuna]"')
    if not space:
        raise UserError("hparams_search: no key has a range. Try: 'loss.beta=interval(0,1)'")
    return {key: _distribution(override) for key, override in space.items()}


def require_score(kind: str, configs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse trials that would have no such score, before any of them runs.

    Raises:
        UserError: the judge's score is asked for, but a prompt has no text.
    """
    from vqclip.runs.evaluate import with_text

    if kind == "judge" and not all(any(with_text(config)) for config in configs):
        raise UserError(
            "hparams_search.score=judge: the judge compares with a text, and prompts.include has pictures only. "
            "Allowed: a text, or the guide's own score. Try: hparams_search.score=score"
        )


def score_of(folder: Path, report: Mapping[str, Any], kind: str) -> float:
    """The mean score of a finished run's pictures: the judge's, or one from ``run.json``.

    Raises:
        UserError: there is no such score.
    """
    if kind == "judge":
        from vqclip.runs.evaluate import judge_runs

        scores = [verdict.opinions["judge"].similarity for verdict in judge_runs([folder])]
    else:
        known = report["pictures"][0]["best"]
        if kind not in known:
            raise UserError(f"hparams_search.score={kind}: no such score. Allowed: judge, {', '.join(known)}")
        scores = [picture["best"][kind] for picture in report["pictures"]]
    return sum(scores) / len(scores)


def plot(study: optuna.Study, path: Path, score: str) -> None:
    """Plot the scores in the order of the trials, and over every searched key."""
    from matplotlib.figure import Figure
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    done = [trial for trial in study.trials if trial.value is not None]
    keys = list(study.trials[0].params)
    figure = Figure(figsize=(3.2 * (1 + len(keys)), 3.2), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(keys), sharey=True)
    numbers, scores = [trial.number for trial in done], [trial.value for trial in done if trial.value is not None]
    # Whether the first trial has the config's values: it did not fail, and no value was drawn instead.
    stands = numbers[0] == 0 and {*keys} == {*study.trials[0].system_attrs.get("fixed_params", ())}
    first.plot(numbers, [max(scores[: i + 1]) for i in range(len(scores))], color="0.6", drawstyle="steps-post")
    columns = [numbers, *([trial.params[key] for trial in done] for key in keys)]
    for axes, key, values in zip([first, *others], ["trial", *keys], columns, strict=True):
        range_ = study.trials[0].distributions.get(key)
        if isinstance(range_, CategoricalDistribution):  # matplotlib would log a warning about numbers as strings
            labels = [unquoted(str(choice)) for choice in range_.choices]
            axes.set_xticks(range(len(labels)), labels, parse_math=False)
            values = [range_.choices.index(value) for value in values]
        axes.scatter(values, scores, c=numbers, cmap="viridis", s=18)
        if stands:
            axes.scatter(values[:1], scores[:1], marker="s", s=60, facecolors="none", edgecolors="tab:red")
        axes.set_xlabel(key)
        if isinstance(range_, FloatDistribution | IntDistribution) and range_.log:
            axes.set_xscale("log")
            axes.set_xticks([range_.low, range_.high], [f"{range_.low:g}", f"{range_.high:g}"])
            axes.minorticks_off()
    first.set_ylabel(score)
    if stands:
        first.set_title("square: the config as it stands", fontsize=8, loc="left")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    atomic_write(path, out.getvalue())


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value, why = override.value(), "not a range"
    try:
        if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
            start, stop = float(value.start), float(value.end)
            if math.isfinite(start) and math.isfinite(stop):
                return FloatDistribution(start, stop, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            start, stop, step = value.start, value.stop, value.step
            if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
                return IntDistribution(start, stop - 1, step=step)
        if isinstance(value, ChoiceSweep | RangeSweep):
            return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:  # Optuna's: a reversed range, a logarithm of 0
        why = str(error).rstrip(".")
    raise UserError(f"{override.input_line}: {why}. Allowed: interval(0,1), range(0,4), choice(a,b)")


def _within(value: Any, distribution: optuna.distributions.BaseDistribution) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
