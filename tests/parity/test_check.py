"""The checker itself: it sees what is disturbed, tells what is missing, and reads any set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.parity import check
from tests.parity.recorded import Array, ParitySet, kept, thinned
from tests.parity.report import Result
from tests.parity.tally import EXACT, Tally, Tolerance
from tests.parity.tolerances import tolerance
from tests.support.parity import parity_folder

STAGES = {stage.name: stage for stage in check.STAGES}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A set of our own to disturb; without what only takes time."""
    folder = tmp_path / "set"
    folder.mkdir()
    for path in parity_folder().iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def change(path: Path, edit: Callable[[dict[str, Array]], None]) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    edit(arrays)
    np.savez(path, **arrays)


def result(folder: Path, stage: str) -> Result:
    return check.run(ParitySet(folder), STAGES[stage])


@pytest.mark.parametrize(
    ("stage", "file", "name", "by"),
    [
        ("schedule buffers", "schedule.npz", "buffer/betas", 1e-4),
        ("schedule buffers", "schedule.npz", "buffer/sqrt_recip_alphas_cumprod", 1e-4),
        ("ddim tables", "schedule.npz", "f64_ddim10/sigmas_eta1", 1e-5),
        ("step counts", "schedule.npz", "effective_step_count_for_request_1_to_1000", 1),
        ("time embedding", "schedule.npz", "timestep_embedding/out", 1e-5),
        ("draws", "schedule.npz", "torch_randn/seed42", 1e-4),
        ("filterbank", "dsp.npz", "mel/filterbank", 1e-5),
        ("log-mel", "dsp.npz", "mel/speech/log_mel_bins_by_frames", 0.2),
        ("log-mel", "dsp.npz", "mel/tones/cutoff_bin", 1),
        ("level", "dsp.npz", "norm/tones/normalized", 1e-4),
        ("resample", "dsp.npz", "resample/44100/out48k", 1e-4),
        ("low-pass", "dsp.npz", "lowpass/ellip/12000", 1e-4),
        ("wave replacement", "dsp.npz", "post/case1/out", 1e-3),
        ("wave replacement", "dsp.npz", "post/case1/cutoff_index", 1),
        ("mel replacement", "dsp.npz", "melreplace/out", 1e-3),
        ("autoencoder, encode", "nets.npz", "vae/logvar", 1e-3),
        ("autoencoder, decode", "nets.npz", "vae/decoded_mel", 1e-3),
        ("u-net", "nets.npz", "unet/v_t1_981", 1e-3),
        ("vocoder", "nets.npz", "vocoder/wave", 1e-3),
    ],
)
def test_one_disturbed_value_is_out(
    copied: Path, stage: str, file: str, name: str, by: float
) -> None:
    def disturb(arrays: dict[str, Array]) -> None:
        array = arrays[name].copy()
        array.flat[array.size // 3] += by
        arrays[name] = array

    change(copied / file, disturb)
    found = result(copied, stage)
    assert found.state == "OUT"
    assert found.worst is not None
    assert found.worst.name == name


def keep_only(folder: Path, *files: str) -> None:
    for path in folder.iterdir():
        if path.name not in {"manifest.json", *files}:
            path.unlink()


def test_the_exit_code_says_it_and_missing_files_are_told(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_only(copied, "dsp.npz")
    assert check.main([str(copied)]) == check.EXIT_OK
    told = capsys.readouterr().out
    assert "absent  schedule.npz: listed in manifest.json" in told
    assert "absent  end to end" in told

    change(
        copied / "dsp.npz", lambda arrays: arrays.update({"melreplace/cutoff_bin": np.asarray(9)})
    )
    assert check.main([str(copied)]) == check.EXIT_OUT
    assert "OUT     mel replacement" in capsys.readouterr().out


def test_a_missing_array_is_told_and_a_strange_one_is_not_skipped_in_silence(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_only(copied, "schedule.npz")

    def edit(arrays: dict[str, Array]) -> None:
        del arrays["buffer/betas"]
        arrays["something/else"] = np.zeros(3)

    change(copied / "schedule.npz", edit)
    assert check.main([str(copied)]) == check.EXIT_OK
    told = capsys.readouterr().out
    assert "absent  schedule.npz: buffer/betas" in told
    assert "not compared  schedule.npz: something/else" in told


def rename(arrays: dict[str, Array], old: str, new: str) -> None:
    for name in list(arrays):
        if name.startswith(old):
            arrays[new + name.removeprefix(old)] = arrays.pop(name)


def test_numbers_in_names_are_read(copied: Path) -> None:
    """Other steps, rates, cutoffs and frames: what the name says is what is computed."""

    def dsp(arrays: dict[str, Array]) -> None:
        rename(arrays, "lowpass/butter/1000", "lowpass/butter/1000.5")  # rounded down: the same
        rename(arrays, "lowpass/cheby1/12000", "lowpass/cheby1/24000_error")  # which raises
        rename(arrays, "lowpass/ellip/12000", "lowpass/ellip/9000")
        rename(arrays, "post/case0/final_every3", "post/case0/final_every6")
        arrays["post/case0/final_every6"] = arrays["post/case0/final_every6"][::2]

    change(copied / "dsp.npz", dsp)
    found = result(copied, "low-pass")
    assert found.compared == 20
    assert found.worst is not None
    assert (found.state, found.worst.name) == ("OUT", "lowpass/ellip/9000")
    assert result(copied, "wave replacement").state == "ok"

    def nets(arrays: dict[str, Array]) -> None:
        both = arrays["unet/v_t1_981"]
        arrays["unet/x_T16"], arrays["unet/cond_T16"] = (
            arrays["unet/x"][:1],
            arrays["unet/cond"][:1],
        )
        arrays["unet/v_T16_t1"] = both[:1]
        rename(arrays, "unet/model_direct_out_t77", "unet/model_direct_out_t78")

    change(copied / "nets.npz", nets)
    found = result(copied, "u-net")
    assert found.compared == 6
    assert found.worst is not None
    assert (found.state, found.worst.name) == ("OUT", "unet/model_direct_out_t78")

    def schedule(arrays: dict[str, Array]) -> None:
        rename(arrays, "ddim10/", "ddim20/")

    change(copied / "schedule.npz", schedule)
    assert result(copied, "ddim tables").state == "OUT"


def test_what_raises_inside_a_stage_is_its_result(copied: Path) -> None:
    (copied / "weights.safetensors").write_bytes(b"no weights")
    found = result(copied, "vocoder")
    assert found.state == "OUT"
    assert found.said


def test_a_sound_that_the_reference_refuses_must_be_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    rows = [row for row in manifest["cutoff_table"] if row["name"] in ("white", "silence")]
    manifest["cutoff_table"] = rows
    for row in rows:
        row["error"] = None if row["error"] else "ValueError: made up"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    found = result(copied, "cutoff table")
    assert found.state == "OUT"
    assert "silence: error" in f"{found.worst} {found.said}"
    assert "white: error" in f"{found.worst} {found.said}"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe", b'{"files": {}}'])
def test_garbage_is_no_parity_set(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    assert check.main([str(tmp_path)]) == check.EXIT_NO_SET
    assert "is not a parity set" in capsys.readouterr().err


def test_a_manifest_without_numbers_is_no_parity_set(copied: Path) -> None:
    keep_only(copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["full_config_recipe"]  # which can be followed without any file
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert check.main([str(copied)]) == check.EXIT_NO_SET


def test_parts_by_name() -> None:
    wave, mel = np.arange(100), np.arange(600).reshape(100, 6)
    assert (kept("w_every5", wave) == wave[::5]).all()
    assert (kept("w_every8_from_3", wave) == wave[3::8]).all()
    assert (kept("w_first64", wave) == wave[:64]).all()
    assert (kept("w_first_32", wave) == wave[:32]).all()
    assert (kept("w_last9", wave) == wave[-9:]).all()
    assert (kept("m_every16_frames_from_7", mel) == mel[7::16]).all()
    assert (kept("m_frames_2_to_5", mel) == mel[2:6]).all()
    assert (thinned(wave, np.zeros(15)) == wave[::7]).all()


def test_a_tolerance_is_the_manifests(copied: Path) -> None:
    parity = ParitySet(copied)
    assert tolerance(parity, "log mel") == Tolerance(2e-3, rms=1e-4)
    parity.manifest["suggested_tolerance"] = {"dsp.npz mel": "5e-3 abs, 3e-4 rms"}
    assert tolerance(parity, "log mel") == Tolerance(5e-3, rms=3e-4)
    assert tolerance(parity, "resample") == Tolerance(2e-6)


@pytest.mark.parametrize("ours", [np.nan, np.inf, 1.1])
def test_what_is_no_number_is_out(ours: float) -> None:
    tally = Tally()
    tally.compare("x", [1.0, ours], [1.0, 1.0], Tolerance(1e-3))
    assert len(tally.out) == 1


def test_another_shape_is_out() -> None:
    tally = Tally()
    tally.compare("x", np.zeros(3), np.zeros(4), EXACT)
    assert tally.out
