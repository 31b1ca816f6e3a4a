"""``vqclip --help``: tools, groups and keys in 80 columns, from the schema; ``--help GROUP``: all of a group."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from vqclip.config.choices import about_choice, choices_of, group_names
from vqclip.config.reference import Row, groups, rows, summary
from vqclip.errors import UserError, closest

__all__ = ["help_page"]

HEADER = """\
vqclip: text to image by optimising the latent of a VQGAN under CLIP.

  vqclip "a red apple on a blue background"
  vqclip "a castle" prompts.exclude=blurry seed=3 size=[128,192]
  vqclip -m loss.anchor=1,10 optimizer.lr=.01,.05,.2 "a snail"
  vqclip experiment=reference checkpoints=imagenet_f16_16384 "a castle"

Tools (each has --help):
  vqclip models                 list, fetch and verify checkpoints
  vqclip show                   schedules and cost of a config, before it runs
  vqclip resume=RUN             continue a run where it stopped
  vqclip rerun RUN|PNG          reproduce it from its record, compare bytes
  vqclip interpolate RUN...     a video from picture to picture
  vqclip compare DIR...         contact sheet and page of a sweep or of runs
  vqclip dashboard SWEEP        a W&B workspace for it
  vqclip sync SWEEP|RUN         upload to W&B what it has not got yet
  vqclip evaluate RUN...        scores by judges that did not guide the runs
  vqclip evaluate --battery DIR key=value ...  frozen prompts by a config
  vqclip film PROMPT...         zooms, stories, videos in another style
  vqclip import FILE|COMMAND    another program's settings as an experiment
  vqclip completion SHELL       complete all of this with TAB
"""

FOOTER = """\
Flags, anywhere on the line:
  -m                            a sweep: every combination of KEY=A,B,C
  --cfg job                     the whole config as it would run
  --info                        where Hydra found its files
  --config-dir DIR              groups of your own: DIR/GROUP/NAME.yaml
  --offline                     fetch nothing
  --version   --help [GROUP]   --hydra-help

Bare words are prompts.  Put a prompt that looks like a key after --:
  vqclip -- seed=3"""


def help_page(about: Sequence[str] = ()) -> str:
    """The help page, or everything about the groups and keys ``about``.

    Raises:
        UserError: there is no such group or key.
    """
    names = [word.rstrip("/.") for word in about]
    if named := [name for name in names if re.fullmatch(r"\S+", name)]:  # words with spaces are prompts
        return "\n\n".join(_page_about(name) for name in named)
    lines = [HEADER, "Groups (GROUP=CHOICE; vqclip --help GROUP has its keys):"]
    for group in _chosen_groups():
        lines += _wrapped(group, ", ".join(choices_of(group)))
    lines += ["", "Keys, with examples (--cfg job shows the defaults):"]
    for group in ("", "prompts", "loss", "noise", "optimizer", "augmentations", "memory"):
        for _, found in rows(group)[:1]:
            lines += [
                line
                for row in found
                if row.key.example != "null"
                for line in _wrapped(f"{row.path}={row.key.example}", row.doc)
            ]
    return "\n".join([*lines, "", FOOTER])


def _chosen_groups() -> list[str]:
    """Groups that have choices, those of the schema first."""
    names = dict.fromkeys([*groups(), *group_names()])
    return [name for name in names if name not in ("", "hydra") and choices_of(name)]


def _wrapped(name: str, text: str) -> Iterator[str]:
    """Wrap a name and its text in two columns, 80 wide."""
    column = 32
    first = f"  {name:<{column - 3}} "
    if len(first) > column:
        yield first.rstrip()
        first = " " * column
    yield from textwrap.wrap(
        text, 80, initial_indent=first, subsequent_indent=" " * column, break_on_hyphens=False
    ) or [first.rstrip()]


def _page_about(name: str) -> str:
    if name not in groups():
        path = name.replace("/", ".")  # nested groups may be typed with a dot or a slash
        every = [row for group in groups() for _, found in rows(group) for row in found]
        inside = [row for row in every if row.path == path or row.path.startswith(f"{path}.")]
        if not inside and not choices_of(name):
            near = closest(name, _chosen_groups())
            raise UserError(f"--help {name}: there is no such group or key.{near} All of them: vqclip --help")
        return "\n".join([*_choices(name), *(line for row in inside for line in _told(row))])
    lines = [textwrap.fill(summary(name), 80)]
    if options := list(_choices(name)):
        lines += ["", *options]
    for title, found in rows(name):
        lines += ["", *([textwrap.fill(title, 80)] if title else [])]
        lines += [line for row in found for line in _told(row)]
    return "\n".join(lines)


def _choices(group: str) -> Iterator[str]:
    """Each choice of a group as it is typed, with the description in its file."""
    group = group.replace(".", "/")
    typed = "+loss/terms=[{}]" if group == "loss/terms" else group + "={}"
    for choice in choices_of(group):
        yield from _wrapped(typed.format(choice), about_choice(group, choice))


def _told(row: Row) -> Iterator[str]:
    """A key with an example, its description, default and allowed values."""
    default = f" [default: {row.default}]" if row.default else ""
    yield from _wrapped(f"{row.path}={row.key.example}", f"{row.doc}{default}. Allowed: {row.key.allowed}")
