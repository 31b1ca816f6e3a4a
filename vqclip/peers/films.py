"""Converts other programs' settings of films to one ``vqclip film`` command.

Each function takes the value and all given settings, and returns that command, or nothing if films are switched off.
"""

from __future__ import annotations

import math
from pathlib import Path
from shlex import quote
from typing import Any

from vqclip.config.grammar import as_typed
from vqclip.peers.prompts import entries_of, scenes
from vqclip.peers.values import Given, NoEqual, number

#: Border mode there → ours.
BORDERS = {"mirror": "reflect", "wrap": "wrap", "black": "zeros", "smear": "reflect"}


def film(value: Any, given: Given) -> list[str]:
    words = _of_vqgan_clip(given) or _of_pytti(given) or _of_pixray(given) if value not in (False, "0", 0) else []
    return [f"vqclip film {' '.join(words)}"] if words else []


def motion(value: Any, given: Given) -> list[str]:
    """Like :func:`film`, for a number."""
    if value is True or not math.isfinite(number(value)):
        raise ValueError(value)
    return film(value, given)


def animation_mode(value: str, given: Given) -> list[str]:
    depth = ["note: no depth network comes along; vqclip film moves in the plane"] if value == "3D" else []
    return [*film(value, given), *depth]


def infill_mode(value: str, given: Given) -> list[str]:
    if value not in BORDERS:
        raise ValueError(value)
    return film(value, given)


def zoom_x_2d(value: Any, given: Given) -> list[str]:
    if number(value) and not _pytti_zoom(given, "zoom_x_2d"):
        raise ValueError(value)
    return motion(value, given)


def zoom_y_2d(value: Any, given: Given) -> list[str]:
    across, own = _pytti_zoom(given, "zoom_x_2d"), _pytti_zoom(given, "zoom_y_2d")
    if number(value) and not own:
        raise ValueError(value)
    lines = motion(value, given)
    if lines and across and own != across:
        lines.append(f"note: vqclip film zooms alike in both directions, by {across} as zoom_x_2d says")
    return lines


def _of_vqgan_clip(given: Given) -> list[str]:
    if frames := given.get("video_style_dir"):
        return [f"--video {quote(str(frames))}", f"--each {_whole(given, 'iterations', 500)}", *_fps_there(given)]
    zooms, story = given.get("zoom_video"), max(0, _whole(given, "change_prompt_every"))
    if not zooms and not story:
        return []
    each, words, start, steps = _whole(given, "zoom_frequency", 10), [], 0, _whole(given, "iterations", 500)
    if zooms:
        start = max(0, _whole(given, "zoom_start"))
        scale = _number(given, "zoom_scale", 0.99)
        shift = _pan(_number(given, "zoom_shift_x"), _number(given, "zoom_shift_y"))
        words = [f"--zoom {scale:g}", *shift, *(["--border wrap"] if shift and scale >= 1 else [])]
    frames = max(1, (steps - start) // each)
    words += [f"--frames {frames}", f"--each {each}", *_fps_there(given, steps // each), f"steps={max(1, start)}"]
    if not story:
        return words
    first = start // story  # there, scenes are counted from step 0, even if the zoom starts later
    return words + _story(given, first, min(frames, max(1, math.ceil(steps / story) - first)))


def _story(given: Given, first: int, count: int) -> list[str]:
    """The film's scenes, if they differ from the run's: there, scenes repeat until the last step."""
    found = scenes(str(given.get("prompts", "")))
    entries = entries_of(found)[0] if len(found) > 1 else []
    told = [entries[i % len(entries)] for i in range(first, first + count)] if entries else []
    return [as_typed("prompts.include", told)] if told != entries else []


def _fps_there(given: Given, saved: int = 0) -> list[str]:
    """Frames per second of VQGAN-CLIP's film of ``saved`` pictures; unknown for a folder.

    From an output rate of 10 on, it interpolates between frames at the input rate; else the video's length counts.
    """
    if _number(given, "output_video_fps") > 9:
        return _fps(_number(given, "input_video_fps") or 15)
    return _fps(min(60, max(10, saved / (_number(given, "video_length") or 10)))) if saved else []


def _of_pytti(given: Given) -> list[str]:
    """Convert pytti's film, whose y axis and rotation are reversed."""
    keys = ("animation_mode", "video_path", "translate_x", "translate_y", "rotate_2d", "zoom_x_2d", "zoom_y_2d")
    mode = given.get("animation_mode")
    if mode in ("off", False) or not any(key in given for key in (*keys, "infill_mode", "pre_animation_steps")):
        return []
    words = _pytti_camera(given)
    video = given.get("video_path") if mode in (None, "Video Source") else None
    if video:
        stride = _whole(given, "frame_stride", 1)
        words = [f"--video {quote(str(video))}", *([f"--stride {stride}"] if stride > 1 else [])]
    if each := _whole(given, "steps_per_frame"):
        told = max(1, len(scenes(str(given.get("scenes", "")))))
        if steps := _whole(given, "steps_per_scene") * told if not video else 0:
            words.append(f"--frames {max(1, steps // each)}")
        words.append(f"--each {each}")
    if (first := _whole(given, "pre_animation_steps")) and not video:
        words.append(f"steps={max(1, first)}")
    return words + (_fps(_number(given, "frames_per_second")) if words else [])


def _pytti_camera(given: Given) -> list[str]:
    words = _pan(_number(given, "translate_x"), 0 - _number(given, "translate_y"))
    if turn := _number(given, "rotate_2d"):
        words.append(f"--turn={-turn:g}")
    if factor := _pytti_zoom(given, "zoom_x_2d") or _pytti_zoom(given, "zoom_y_2d"):
        words.append(f"--zoom {factor}")
    if border := BORDERS.get(str(given.get("infill_mode"))):
        words.append(f"--border {border}")
    return words


def _pytti_zoom(given: Given, key: str) -> str:
    """The zoom factor of cropping some pixels and scaling up the rest; empty if nothing is left."""
    pixels, whole = _number(given, key), _whole(given, "width" if key == "zoom_x_2d" else "height", 512)
    return f"{whole / (whole - pixels):.4g}" if pixels and whole > pixels else ""


def _of_pixray(given: Given) -> list[str]:
    if not (folder := given.get("animation_dir")):
        return []
    source = Path(str(given.get("init_image") or given.get("target_images") or folder))
    source = source.parent if "*" in source.name else source
    keep, each = _number(given, "animation_alpha", 128) / 255, _whole(given, "iterations", 250)
    return [f"--video {quote(str(source))}", f"--keep {keep:.2g}", f"--each {each}", f"--to {quote(str(folder))}"]


def _pan(x: float, y: float) -> list[str]:
    return [f"--pan={x:g},{y:g}"] if x or y else []


def _fps(fps: float) -> list[str]:
    return [f"--fps {max(1, round(fps))}"] if fps > 0 else []


def _number(given: Given, key: str, default: float = 0.0) -> float:
    """A number; the default for formulas and the like, which are reported elsewhere."""
    value = given.get(key)
    try:
        found = default if value in (None, "") or isinstance(value, bool) else number(value)
    except NoEqual:
        return default
    return found if math.isfinite(found) else default


def _whole(given: Given, key: str, default: int = 0) -> int:
    return int(_number(given, key)) or default
