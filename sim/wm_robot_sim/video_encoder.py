"""Video encoder: images of a camera as one small file for a page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

GIF_COLORS = 64


def encode_video(folder: Path, pictures: Iterator[np.ndarray], rate: float, *, name: str = "video") -> Path:
    """Encode images as a video, whole or not at all: an incomplete video keeps its temporary name.

    Args:
        pictures: Images of one size with even sides, `H W 3`, uint8.
        rate: Images per second.
        name: Name of the file, without its suffix.

    Returns:
        `NAME.mp4` in the folder; `NAME.gif` of half the size without an encoder.

    Raises:
        ValueError: If there is no image.
    """
    first = next(pictures, None)
    if first is None:
        raise ValueError("the session is too short for a film frame")
    part = folder / f"{name}.part.mp4"
    try:
        import imageio_ffmpeg

        encoder = imageio_ffmpeg.write_frames(
            str(part),
            (first.shape[1], first.shape[0]),
            fps=rate,
            codec="libx264",
            output_params=["-crf", "26", "-preset", "veryfast", "-movflags", "+faststart"],
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        encoder.send(None)
    except (ImportError, RuntimeError, OSError):
        return _encode_gif(folder, first, pictures, rate, name)
    encoder.send(np.ascontiguousarray(first))
    for picture in pictures:
        encoder.send(np.ascontiguousarray(picture))
    encoder.close()
    return part.replace(folder / f"{name}.mp4")


def _encode_gif(
    folder: Path, first: np.ndarray, pictures: Iterator[np.ndarray], rate: float, name: str
) -> Path:
    def shrink_image(picture: np.ndarray) -> Image.Image:
        image = Image.fromarray(picture)
        smaller = image.resize((image.width // 2, image.height // 2))
        return smaller.quantize(GIF_COLORS, dither=Image.Dither.NONE)

    others = [shrink_image(picture) for i, picture in enumerate(pictures, 1) if i % 2 == 0]
    part = folder / f"{name}.part.gif"
    shrink_image(first).save(part, save_all=True, append_images=others, duration=round(2000 / rate), loop=0)
    return part.replace(folder / f"{name}.gif")
