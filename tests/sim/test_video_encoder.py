"""A film is there whole, or not at all."""

import sys

import numpy as np
import pytest

pytestmark = pytest.mark.sim
Image = pytest.importorskip("PIL.Image")

from wm_robot_sim.video_encoder import encode_video


def pictures(count: int):
    for i in range(count):
        yield np.full((64, 96, 3), 20 * i, np.uint8)


def test_a_film_is_one_file_with_every_picture(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = encode_video(tmp_path, pictures(10), 10)
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"] and path == tmp_path / "video.mp4"
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 10


def test_without_an_encoder_it_is_a_gif_with_every_other_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    path = encode_video(tmp_path, pictures(10), 10)
    assert [p.name for p in tmp_path.iterdir()] == ["video.gif"]
    with Image.open(path) as image:
        assert image.n_frames == 5


def test_a_visit_too_short_for_a_picture_has_no_film(tmp_path):
    with pytest.raises(ValueError, match="too short for a film frame"):
        encode_video(tmp_path, pictures(0), 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoder", ["mp4", "gif"])
def test_a_film_that_is_interrupted_does_not_look_whole(tmp_path, monkeypatch, encoder):
    def cut():
        yield from pictures(3)
        raise KeyboardInterrupt

    if encoder == "gif":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(KeyboardInterrupt):
        encode_video(tmp_path, cut(), 10)
    assert not (tmp_path / f"video.{encoder}").exists()
