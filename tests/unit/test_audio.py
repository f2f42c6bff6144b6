"""A sound from any array: the samples come through, whatever shape and type they came in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiosr_core.audio import Audio
from audiosr_core.errors import AudioError, NotFiniteError

RATE = 16_000
MONO = np.linspace(-1, 0.99, 200, dtype=np.float32)
STEREO = np.stack([MONO, MONO[::-1]])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (MONO, MONO[None]),
        (STEREO, STEREO),
        (STEREO[None], STEREO),
        (MONO[None, None], MONO[None]),
        (MONO[::-1], MONO[None, ::-1]),
        (MONO.astype(">f4"), MONO[None]),
        ([0.0, 0.5], np.array([[0, 0.5]])),
        (np.zeros(0, np.float32), np.zeros((1, 0))),
    ],
    ids=["n", "c n", "1 c n", "1 1 n", "backwards", "big endian", "list", "nothing"],
)
def test_every_shape_becomes_planar(array, expected):
    np.testing.assert_array_equal(Audio.of(array, RATE).samples, expected)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int16", "float32"),
        ("int32", "float64"),
    ],
)
def test_no_bit_is_lost_and_full_scale_is_one(dtype, kept):
    scale = -float(np.iinfo(dtype).min) if dtype.startswith("int") else 1.0
    array = (STEREO.astype(np.float64) * scale).astype(dtype)
    samples = Audio.of(array, RATE).samples
    assert samples.dtype == kept
    np.testing.assert_array_equal((samples * scale).astype(dtype), array)
    assert samples.min() == -1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_is_taken_with_its_gradient_and_in_half_precision(dtype):
    tensor = torch.from_numpy(STEREO).to(dtype)[None].requires_grad_()
    samples = Audio.of(tensor, RATE).samples
    np.testing.assert_array_equal(samples, tensor.detach()[0].double().numpy())
    assert samples.dtype == (np.float64 if dtype == torch.float64 else np.float32)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 1, 100)), "one by one"),
        (np.zeros((1, 1, 1, 100)), r"\[channels, samples\]"),
        (np.float32(0), r"\[channels, samples\]"),
        (np.zeros((100, 2)), "transpose"),
        (np.zeros((100, 100)), "channels"),
        (np.zeros(100, np.int64), "full scale"),
        (np.zeros(100, np.uint8), "full scale"),
        (np.zeros(100, np.complex64), "floating point"),
        ("a sound", r"got \[\]"),
        ([[0.0], [0.0, 1.0]], "array of numbers"),
    ],
)
def test_what_is_no_sound_is_one_sentence(array, says):
    with pytest.raises(AudioError, match=says):
        Audio.of(array, RATE)


def test_a_sample_that_is_no_number_is_named():
    with pytest.raises(NotFiniteError, match="sample 3"):
        Audio.of([0.0, 0.0, 0.0, float("nan")], RATE)
