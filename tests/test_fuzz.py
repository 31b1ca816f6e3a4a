"""Anything at all, wherever something from outside is read: a value or one sentence, never a traceback.

Five seconds in the suite; ``HYPOTHESIS_EXAMPLES=N`` multiplies the examples, and draws others in each run
(experiments/reliability --hours).
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from vqclip.cli.arguments import FLAGS, parse_arguments, top_level
from vqclip.config.check import errors_in
from vqclip.config.compose import compose
from vqclip.config.grammar import quote
from vqclip.config.kinds import Scheduled
from vqclip.config.resolve import resolve
from vqclip.errors import UserError
from vqclip.io.images import open_picture, read_record
from vqclip.prompts import parse, parse_prompts
from vqclip.runs.folder import RunFolder
from vqclip.runs.schema import FORMAT, problem_in, refuse_newer
from vqclip.schedules import SHAPES, schedule

#: Times as many examples as in the suite.
MORE = int(os.environ.get("HYPOTHESIS_EXAMPLES", "1"))


def examples(count):
    return settings(
        max_examples=count * MORE,
        deadline=None,
        derandomize=MORE == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


#: No float holds the last of them.
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, 10**400])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=12)


def plain(keys):
    """Any plain data whose keys are often these."""
    names = st.sampled_from(keys) | st.text(max_size=6) | st.integers() | st.none()
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=10,
    )


# Prompts

ENTRY_KEYS = ["text", "image", "parts", "row", "column", "weight", "stop", "region", "templates", "file", "points"]
GRAMMAR = st.text(st.sampled_from("ab :;.\\\"'{}[]-+e019%\0\n٣") | st.characters(), max_size=20)
ENTRIES = st.fixed_dictionaries(
    {"text": st.just("a fox") | GRAMMAR},
    optional={key: plain(ENTRY_KEYS) for key in ENTRY_KEYS[1:]},
)


@examples(150)
@given(GRAMMAR | ENTRIES | plain(ENTRY_KEYS))
def test_an_entry_is_a_prompt_or_a_sentence(value):
    for read in (parse, partial(parse, open_files=True), parse_prompts):
        try:
            read(value)
        except ValueError as error:
            assert str(error)


WORDS_OF_YAML = [*"{}[]:,&*!|>-?#'\"% \n\tab01", "!!int ", "!!bool ", "!!timestamp ", "&a ", "*a", "<<: "]
YAML = st.lists(st.sampled_from(WORDS_OF_YAML), max_size=12).map("".join)


@examples(60)
@given(st.binary(max_size=60) | (YAML | plain(ENTRY_KEYS).map(repr)).map(lambda text: f"{{text: {text}".encode()))
def test_a_file_of_prompts_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "prompts.txt"
    path.write_bytes(content)
    try:
        parse_prompts({"file": str(path)})
    except ValueError as error:
        assert str(error)


# Quoting

OVERRIDES = OverridesParser.create()


QUOTED = st.sampled_from("\\\"'${}[](),=:# \n") | st.characters(codec="utf-8", exclude_characters="\0")


@examples(40)
@given(st.text(QUOTED, max_size=24))
def test_what_is_quoted_is_read_as_it_was(text):
    [override] = OVERRIDES.parse_overrides([f"key={quote(text)}"])
    assert list(OmegaConf.create([override.value()])) == [text]


# Schedules

SCHEDULE_KEYS = ["start", "end", "shape", "warmup", "points"]
SCHEDULES = st.fixed_dictionaries(
    {"start": NUMBERS, "end": NUMBERS},
    optional={"shape": st.sampled_from([*SHAPES, "x"]) | SCALARS, "warmup": st.floats(-1, 2) | SCALARS},
) | st.fixed_dictionaries(
    {"points": st.lists(st.lists(st.floats(-1, 2) | SCALARS, max_size=3), max_size=3)},
    optional={"shape": st.sampled_from([*SHAPES, "x"]) | SCALARS},
)


@examples(150)
@given(SCHEDULES | plain(SCHEDULE_KEYS))
def test_a_schedule_is_one_or_is_refused(value):
    try:
        made = schedule(value)
    except (TypeError, ValueError):
        return
    assert callable(made)


@examples(150)
@given(SCHEDULES | NUMBERS | st.text())
def test_a_schedule_that_is_allowed_stays_within_its_bounds(value):
    try:
        Scheduled(0, 10).check(value)
    except ValueError:
        return
    assert all(0 <= schedule(value)(step / 20) <= 10 for step in range(21))


# Config

CONFIG = resolve(compose([]))


def paths_of(value, path=()):
    """Where there is something in plain data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


def put(value, path, new):
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = put(value[path[0]], path[1:], new)
    return changed


# Without classes by name: which of them are imported, test_attacks looks at.
PATHS = [path for path in paths_of(CONFIG) if path[-1] != "_target_"]


@examples(120)
@given(st.sampled_from(PATHS), plain(["start", "end", "shape", "path", "text", "weight"]) | SCHEDULES)
def test_any_value_of_any_key_is_taken_or_told_of(path, value):
    assert all(isinstance(error, str) and error for error in errors_in(put(CONFIG, path, value)))


# Records

REPORT = {"status": "finished", "seed": 0, "steps": 2, "pictures": [{"best": {"step": 1, "score": 0.5}, "final": {}}]}
REPORT_KEYS = ["format", *REPORT, "best", "final", "score", "step"]


@examples(100)
@given(plain(REPORT_KEYS) | st.fixed_dictionaries({}, optional={key: plain(REPORT_KEYS) for key in REPORT_KEYS}))
def test_any_report_has_a_problem_or_none_or_is_of_a_newer_version(value):
    for name in ("run", "config"):
        problem = problem_in(value, name)
        assert problem is None or problem
        try:
            refuse_newer(value, Path("run.json"))
        except UserError as error:
            assert value["format"] > FORMAT and "a newer vqclip wrote it" in str(error)


@examples(100)
@given(
    name=st.sampled_from(["run.json", "config.yaml"]),
    content=st.binary(max_size=80)
    | YAML.map(str.encode)
    | st.tuples(plain(REPORT_KEYS), st.integers(0, 200)).map(lambda made: json.dumps(made[0])[: made[1]].encode())
    | st.tuples(st.sampled_from(PATHS), YAML).map(lambda made: spoilt(*made)),
)
def test_the_files_of_a_run_are_read_or_refused(tmp_path_factory, name, content):
    run = RunFolder(tmp_path_factory.getbasetemp() / "fuzzed")
    run.path.mkdir(exist_ok=True)
    (run.path / name).write_bytes(content)
    for read in (run.report, run.config, run.try_report, run.finished_report):
        try:
            read()
        except UserError as error:
            assert str(error) and "\n" not in str(error)


WHOLE = yaml.safe_dump(put(CONFIG, ("paths", "output_dir"), "was"))


def spoilt(path, text):
    """A config's file with some text in the place of a value."""
    return yaml.safe_dump(put(CONFIG, path, "HERE"), allow_unicode=True).replace("HERE", text).encode()


@pytest.mark.parametrize(
    "content",
    [
        "a: !!int ''",
        "a: !!int x",
        "a: !!bool x",
        "a: !!float ''",
        "a: !!timestamp x",
        "a: 2001-99-99",
        "&a [*a]",
        f"{WHOLE}\nmine: &a {{b: *a}}",
        f"{WHOLE}\nmine: 0x{'f' * 9000}",
        f"seed: 0x{'f' * 9000}",
        f"{WHOLE}\na: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 14)),
        "[" * 5000,
    ],
    ids=lambda content: content[-20:],
)
def test_yaml_that_python_trips_over_is_refused(tmp_path, content):
    run = RunFolder(tmp_path)
    run.config_file.write_text(content)
    with pytest.raises(UserError) as refused:
        run.config()
    assert "\n" not in str(refused.value)


# Pictures


def picture(text="{}"):
    """A small PNG in its chunks: kind and content."""
    from PIL.PngImagePlugin import PngInfo

    info, out = PngInfo(), io.BytesIO()
    info.add_itxt("vqclip", text)
    Image.new("RGB", (4, 4)).save(out, "PNG", pnginfo=info)
    content, at, chunks = out.getvalue(), 8, []
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png(chunks):
    """Chunks, each with its right length and checksum."""
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


KINDS = [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"gAMA", b"cHRM", b"pHYs", b"acTL"]
KINDS += [b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"sRGB", b"bKGD", b"tIME"]
SPOILT = st.binary(max_size=30) | st.binary(max_size=20).map(lambda tail: b"vqclip\0" + tail)


@examples(150)
@given(
    chunks=st.lists(st.tuples(st.sampled_from(KINDS), SPOILT), max_size=3),
    places=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    drop=st.none() | st.integers(0, 3),
    text=st.text(max_size=10) | plain(["config"]).map(repr),
    cut=st.none() | st.integers(0, 120),
)
def test_any_picture_has_a_record_or_is_refused(tmp_path_factory, chunks, places, drop, text, cut):
    own = picture(text.encode("utf-8", "replace").decode())
    if drop is not None:
        del own[drop]
    for place, chunk in zip(places, chunks, strict=False):
        own.insert(place, chunk)
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(png(own)[:cut])
    try:
        record = read_record(path)
    except UserError:
        return
    assert isinstance(record, dict)


@pytest.mark.parametrize("chunk", [(kind, content) for kind in KINDS[3:] for content in (b"", b"\0")], ids=str)
def test_a_chunk_that_pillow_trips_over(tmp_path, chunk):
    first, *rest = picture()
    (tmp_path / "spoilt.png").write_bytes(png([first, *rest[:-1], chunk]))
    for read in (read_record, open_picture):
        try:
            read(tmp_path / "spoilt.png")
        except (UserError, ValueError) as error:
            assert str(error)


# Command line

WORDS = st.one_of(
    GRAMMAR,
    st.sampled_from([*FLAGS, "-m", "-c", "-p", "--", "-", "", "~", "=", "+", "--cfg=", "--config-dir=\0"]),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "+", "++", "~", "-", "--"]),
        st.sampled_from([*top_level(), "loss.alpha", "noise.factor", "optimizer@x", "hydra.sweep.subdir"]),
        st.sampled_from(["", "=", ".", "/", "@", ":"]),
        GRAMMAR,
    ),
)


@examples(150)
@given(st.lists(WORDS, max_size=5))
def test_any_command_line_is_a_command_or_a_sentence(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQCLIP_OFFLINE", "")
        try:
            command = parse_arguments(words)
        except UserError as error:
            assert str(error)
            return
    assert all(isinstance(word, str) for word in command.words)
