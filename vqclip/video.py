"""Videos: H.264 in mp4, frame by frame, so that memory does not grow with length."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from PIL import Image

__all__ = ["timelapse", "write_video"]


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write frames [H,W,3] uint8 as H.264, yuv420p; odd sides lose their last row or column."""
    temporary = path.with_name(f".{path.name}")
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = None
        for frame in frames:
            frame = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "threads": "1"})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    os.replace(temporary, path)


def timelapse(folder: Path, fps: int) -> None:
    """``timelapse.mp4`` from the snapshots ``steps/*.png`` of a picture's folder."""

    def frames() -> Iterable[np.ndarray]:
        paths = sorted((folder / "steps").glob("*.png"))
        for path in paths + paths[-1:] * fps:
            yield np.asarray(Image.open(path).convert("RGB"))

    write_video(folder / "timelapse.mp4", frames(), fps)
