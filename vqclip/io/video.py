"""Reads and writes videos (H.264 in mp4, GIF) frame by frame, so that memory does not grow with length."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from vqclip.errors import UserError
from vqclip.io.files import refuse_endless
from vqclip.io.images import open_undecoded, pixels
from vqclip.io.pixels import read_image
from vqclip.io.run_files import PictureFolder

__all__ = ["count_frames", "frame_rate", "read_frames", "timelapse", "write_video"]


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int | Fraction) -> None:
    """Write frames [H,W,3] uint8 atomically: ``.mp4`` as H.264 in yuv420p, or ``.gif``.

    yuv420p halves the resolution of colours, so sides must be even: odd ones lose their last row or column, or double
    it if it is the only one.
    """
    gif = path.suffix == ".gif"
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)  # else a symbolic link in an untrusted folder would be written through
    try:
        # The index goes to the front, so that browsers can play before the end is loaded.
        options = {} if gif else {"movflags": "faststart"}
        with av.open(_address(temporary), "w", format=path.suffix[1:], options=options) as container:
            stream = None
            for frame in frames:
                if not gif:
                    height, width = frame.shape[:2]
                    frame = np.pad(frame, ((0, height == 1), (0, width == 1), (0, 0)), "edge")
                    frame = frame[: max(2, height // 2 * 2), : max(2, width // 2 * 2)]
                if stream is None:
                    stream = _stream(container, gif, fps, *frame.shape[:2])
                container.mux(stream.encode(_paletted(frame) if gif else _full(frame)))
            if stream is None:
                raise ValueError(f"{path}: a video of no frames")
            container.mux(stream.encode())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _address(path: Path) -> str:
    """A path for FFmpeg, absolute, since FFmpeg takes what precedes the colon of ``12:30/a.mp4`` for a protocol."""
    return str(path.absolute())


def _stream(container: OutputContainer, gif: bool, fps: int | Fraction, height: int, width: int):
    # One thread and no B-frames, so that equal frames give equal bytes: to choose B-frames, x264 reads uninitialised
    # memory of pictures under 64 pixels wide.
    options = {} if gif else {"crf": "16", "threads": "1", "x264-params": "bframes=0"}
    stream = container.add_stream("gif" if gif else "libx264", rate=fps, options=options)
    stream.height, stream.width = height, width
    stream.pix_fmt = "pal8" if gif else "yuv420p"
    return stream


def _full(frame: np.ndarray) -> av.VideoFrame:
    halved = _converted(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"), "yuv420p")
    # Through an array: the converter leaves random padding beside the rows, which would change the encoder's bytes.
    return av.VideoFrame.from_ndarray(halved.to_ndarray(), "yuv420p")


def _converted(frame: av.VideoFrame, format: str) -> av.VideoFrame:
    # A new converter: PyAV's shared one has threads, which a forked process would wait for forever.
    return VideoReformatter().reformat(frame, format=format)


def _paletted(frame: np.ndarray) -> av.VideoFrame:
    """Reduce a frame to its best 256 colours."""
    picture = Image.fromarray(np.ascontiguousarray(frame)).quantize(256)
    colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, dtype=np.uint8)  # alpha, red, green, blue
    palette[: len(colours), 1:] = colours
    pair: Any = (np.asarray(picture), palette)  # av accepts it for pal8, but its annotation does not
    return av.VideoFrame.from_ndarray(pair, "pal8")


def timelapse(picture: PictureFolder, fps: int, told: Callable[[], Any] = lambda: None) -> None:
    """Write ``timelapse.mp4`` from the snapshots of a picture; ``told`` is called after each."""

    snapshots = sorted(picture.snapshots())

    def frames() -> Iterator[np.ndarray]:
        frame = None
        for path in snapshots:
            frame = np.asarray(open_undecoded(path).convert("RGB"))
            yield frame
            told()
        if frame is not None:
            yield from [frame] * fps

    if not snapshots:  # somebody has removed them
        print(f"note: no timelapse: {picture.steps} has no snapshots", file=sys.stderr)
        return
    write_video(picture.timelapse, frames(), fps)


def read_frames(path: Path, stride: int = 1, skip: int = 0) -> Iterator[np.ndarray]:
    """Read frames [H,W,3] uint8 of a video, or of a folder of pictures in order of their names, one at a time.

    Names sort numerically: 2 before 10.  Frames are upright; transparent pictures are laid over white.

    Args:
        stride: take every n-th frame.
        skip: leave out this many of those at the beginning.

    Raises:
        UserError: it is neither a video nor a folder of pictures.
    """
    if path.is_dir():
        for file in _pictures(path)[skip * stride :: stride]:
            yield _upright(file)
        return
    with _opened(path) as video:
        for i, frame in enumerate(video.decode(video=0)):
            if i % stride == 0 and i // stride >= skip:
                # Phones store frames unrotated, with the rotation as metadata.
                yield np.rot90(_converted(frame, "rgb24").to_ndarray(), frame.rotation // 90)


def frame_rate(path: Path) -> Fraction | None:
    """Frames per second of a video (the mean, if the rate varies); None for a folder of pictures.

    Raises:
        UserError: it is not a video.
    """
    if path.is_dir():
        return None
    with _opened(path) as video:
        return video.streams.video[0].average_rate or None


def count_frames(path: Path, stride: int = 1) -> int:
    """Count the frames that :func:`read_frames` yields, without decoding a video.

    Raises:
        UserError: it is neither a video nor a folder of pictures.
    """
    if path.is_dir():
        return -(-len(_pictures(path)) // stride)
    with _opened(path) as video:
        return -(-sum(packet.size > 0 for packet in video.demux(video=0)) // stride)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        refuse_endless(path)
        with av.open(_address(path)) as video:
            yield video
    except (OSError, IndexError, FFmpegError) as error:
        raise UserError(
            f"{path}: not a video that can be read ({error}). Allowed: a video, or a folder of pictures"
        ) from None


def _pictures(folder: Path) -> list[Path]:
    kinds = (".png", ".jpg", ".jpeg", ".webp")
    # macOS puts a "._NAME" beside every file on foreign file systems.
    files = [file for file in folder.iterdir() if file.suffix.lower() in kinds and not file.name.startswith(".")]
    if not files:
        raise UserError(f"{folder}: no picture in it. Allowed: a video, or a folder of PNGs or JPEGs")
    return sorted(files, key=lambda file: (re.sub(r"\d+", lambda digits: digits[0].zfill(20), file.name), file.name))


def _upright(path: Path) -> np.ndarray:
    try:
        return pixels(read_image(path)[0])
    except ValueError as error:
        raise UserError(f"a frame cannot be read. Allowed: {error}") from None
