"""Checkpoints: what fits gives the same weights, what does not is named, what harms is not run."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audiosr_core import store
from audiosr_core.checkpoint import import_model
from audiosr_core.checkpoint.conversion import convert
from audiosr_core.checkpoint.keys import AUTOENCODER, CONDITIONER, UNET, averaged_name, match
from audiosr_core.checkpoint.writing import Entry, write_safetensors
from audiosr_core.errors import ModelError, UsageError
from audiosr_core.model.audiosr import layout
from audiosr_core.model.config import AudioSRConfig, config_from
from audiosr_core.published import PUBLISHED
from tests.support.checkpoints import TINY, needed_tensors, official_state, write_official
from tests.support.parity import parity_folder

SIZES = TINY.as_dict()
WANTED = layout(TINY)


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(folder))
    return folder


def same(found, expected) -> bool:
    return set(found) == set(expected) and all(torch.equal(found[k], expected[k]) for k in found)


def converted(path: Path, dtype: str | None = None):
    """In this process, unconfined: what the child does, quicker. Result and tensors."""
    folder = path.parent / f"out-{len(list(path.parent.iterdir()))}"
    folder.mkdir()
    made = convert(path, folder, SIZES, dtype)
    return made, load_file(folder / "model.safetensors")


# ---- what fits


def test_an_official_container_becomes_its_needed_tensors(tmp_path, models):
    path = write_official(tmp_path / "pytorch_model.bin")
    imported = import_model(path, "mine", config=SIZES)
    weights = load_file(imported.info.path)
    assert float(weights.pop("scale_factor")) == TINY.scale_factor
    assert same(weights, needed_tensors())
    card = json.loads((models / "mine" / "card.json").read_text())
    assert card["sha256"] == store.hash_file(imported.info.path)
    assert card["size_bytes"] == imported.info.path.stat().st_size
    assert card["num_parameters"] == sum(w.numel() for w in weights.values())
    assert card["provenance"]["source_sha256"] == store.hash_file(path)
    assert card["provenance"]["source"] == "pytorch_model.bin"
    assert card["family"] == "audiosr"
    assert config_from(card["config"]) == TINY
    assert sorted(os.listdir(models)) == [".lock", "mine"]


def test_our_own_file_is_imported_without_being_told_its_sizes(tmp_path):
    path = write_official(tmp_path / "pytorch_model.bin")
    first = import_model(path, "first", config=SIZES).info
    second = import_model(first.path, "second").info
    assert second.sha256 == first.sha256
    assert config_from(second.config) == TINY


def _flat(state):
    return state


def _nested(state):
    return {"state_dict": state, "epoch": 3, "callbacks": {"a": [1, 2]}}


def _wrapped(state):
    return {f"module._orig_mod.{k}": v for k, v in state.items()}


def _trimmed(state):
    return {k: v for k, v in state.items() if k in WANTED or k == "scale_factor"}


def _conditioner_only(state):
    return {k: v for k, v in state.items() if not k.startswith(AUTOENCODER)}


@pytest.mark.parametrize("form", [_flat, _nested, _wrapped, _trimmed, _conditioner_only])
def test_every_form_that_circulates_gives_the_same_weights(form, tmp_path):
    torch.save(form(official_state()), tmp_path / "a.ckpt")
    made, weights = converted(tmp_path / "a.ckpt")
    assert weights.pop("scale_factor") == TINY.scale_factor
    assert same(weights, needed_tensors())
    if form is _conditioner_only:
        assert any("conditioner" in note for note in made.notes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("trim", [False, True])
def test_flat_safetensors_keep_their_dtype(dtype, trim, tmp_path):
    state = official_state()
    state = _trimmed(state) if trim else state
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    save_file(state, tmp_path / "a.safetensors")
    _, weights = converted(tmp_path / "a.safetensors")
    assert float(weights.pop("scale_factor")) == TINY.scale_factor
    assert same(weights, {k: state[k] for k in WANTED})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_are_widened_without_loss(dtype, tmp_path):
    state = {k: v.to(dtype) for k, v in needed_tensors().items()}
    save_file(state, tmp_path / "a.safetensors")
    made, weights = converted(tmp_path / "a.safetensors")
    weights.pop("scale_factor")
    assert same(weights, {k: v.to(torch.float16) for k, v in state.items()})
    assert any("stored as float16" in note for note in made.notes)


def test_another_dtype_on_request(tmp_path):
    torch.save(official_state(), tmp_path / "a.bin")
    _, weights = converted(tmp_path / "a.bin", "fp16")
    assert same({k: weights[k] for k in WANTED}, {k: v.half() for k, v in needed_tensors().items()})
    assert weights["scale_factor"].dtype == torch.float32


def test_only_the_moving_average_is_there(tmp_path):
    state = {k: v for k, v in official_state().items() if not k.startswith(UNET)}
    torch.save(state, tmp_path / "a.bin")
    made, weights = converted(tmp_path / "a.bin")
    key = next(k for k in WANTED if k.startswith(UNET))
    assert torch.equal(weights[key], needed_tensors()[key] + 1)
    assert any("moving average" in note for note in made.notes)


def test_a_different_second_copy_is_told(tmp_path):
    state = official_state()
    key = next(k for k in WANTED if k.startswith(AUTOENCODER))
    state[CONDITIONER + key.removeprefix(AUTOENCODER)] += 1
    torch.save(state, tmp_path / "a.bin")
    made, weights = converted(tmp_path / "a.bin")
    assert torch.equal(weights[key], needed_tensors()[key])
    assert any(note.startswith("warning:") and key in note for note in made.notes)


def test_a_missing_or_rounded_scale_factor_is_the_published_one(tmp_path):
    published = AudioSRConfig.scale_factor
    state = needed_tensors()
    torch.save(state, tmp_path / "a.bin")
    made, _ = converted(tmp_path / "a.bin")
    assert made.config.scale_factor == published
    assert any("scale_factor" in note for note in made.notes)
    torch.save({**state, "scale_factor": torch.tensor(published).half()}, tmp_path / "b.bin")
    assert converted(tmp_path / "b.bin")[0].config.scale_factor == published
    torch.save({**state, "scale_factor": torch.tensor(0.25).half()}, tmp_path / "c.bin")
    assert converted(tmp_path / "c.bin")[0].config.scale_factor == 0.25


def test_the_average_has_a_name_of_its_own_for_every_tensor():
    keys = [key for key in layout(AudioSRConfig()) if key.startswith(UNET)]
    assert len({averaged_name(key) for key in keys}) == len(keys) == 1104
    assert averaged_name(UNET + "time_embed.0.weight") == (
        "model_ema.diffusion_modeltime_embed0weight"
    )


def test_the_layout_of_the_published_file_fits():
    recorded = json.loads((parity_folder() / "layout_full.json").read_text())
    found = {name: tuple(shape) for name, (shape, _) in recorded.items()}
    wanted = layout(AudioSRConfig())
    matched = match(wanted, found)
    assert len(found) == 3743
    assert matched.keys == {key: key for key in wanted}
    assert len(matched.copies) == 506
    assert matched.scale_factor == "scale_factor"
    assert matched.notes == []
    for prefix in (AUTOENCODER, UNET):  # the moving average, the conditioner's copy
        fewer = {name: shape for name, shape in found.items() if not name.startswith(prefix)}
        assert len(match(wanted, fewer).notes) == 1


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.tuples(
            st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
            st.lists(st.integers(0, 4), max_size=3).map(tuple),
        ),
        max_size=6,
    )
)
def test_what_is_written_is_what_the_library_reads(tmp_path_factory, kinds):
    tensors = {
        name: torch.randn(shape).to(dtype)
        for name, (dtype, shape) in kinds.items()
        if name != "__metadata__"
    }
    entries = {name: Entry(t.dtype, tuple(t.shape)) for name, t in tensors.items()}
    path = tmp_path_factory.mktemp("w") / "a.safetensors"

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

        def __enter__(self):
            return self.tensor

        def __exit__(self, *_):
            return None

    sha256, size = write_safetensors(path, entries, lambda k: Held(tensors[k]), {"a": "b"})
    assert same(load_file(path), tensors)
    assert (sha256, size) == (store.hash_file(path), path.stat().st_size)


# ---- what does not fit


def test_missing_unexpected_and_misshapen_keys_are_named_in_one_sentence(tmp_path):
    state = official_state()
    first, second, *_ = [k for k in WANTED if k.startswith(UNET)]
    del state[first]
    state[second] = torch.zeros(3, 5)
    state[UNET + "other.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.bin")
    with pytest.raises(ModelError) as caught:
        converted(tmp_path / "a.bin")
    text = str(caught.value)
    for part in (f"1 missing ({first})", f"1 unexpected ({UNET}other.weight)", second, "[3, 5]"):
        assert part in text
    assert caught.value.exit_code == 4
    assert "\n" not in text


@given(st.dictionaries(st.text(max_size=200), st.just((1,)), max_size=5))
def test_strange_names_give_one_line(found):
    with pytest.raises(ModelError) as caught:
        match(WANTED, found)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.to(torch.int8), "floating point"),
        (lambda t: torch.full_like(t, torch.nan), "finite"),
        (lambda t: t.to(torch.complex64), "floating point"),
    ],
)
def test_values_that_are_no_weights_are_refused(change, says, tmp_path):
    state = official_state()
    key = next(iter(WANTED))
    state[key] = change(state[key])
    torch.save(state, tmp_path / "a.bin")
    with pytest.raises(ModelError, match=says):
        converted(tmp_path / "a.bin")


def test_values_too_large_for_the_wanted_dtype_are_refused(tmp_path):
    state = official_state()
    state[next(iter(WANTED))] += 1e6
    torch.save(state, tmp_path / "a.bin")
    with pytest.raises(ModelError, match="finite as float16"):
        converted(tmp_path / "a.bin", "fp16")


# ---- what harms


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _zip_with_pickle(path: Path, payload: bytes) -> None:
    """A torch zip whose pickle is this."""
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as old:
        members = {one.filename: old.read(one) for one in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, content in members.items():
            new.writestr(name, payload if name.endswith("data.pkl") else content)


def _planted(function, template):
    def write(path: Path, marker: Path) -> None:
        payload = pickle.dumps({"state_dict": Call(function, template.format(marker))}, 2)
        _zip_with_pickle(path, payload)

    return write


def _gadget(module: str, name: str, template: str):
    """A call of a function by its name alone: GLOBAL, argument, REDUCE."""

    def write(path: Path, marker: Path) -> None:
        text = template.format(marker).encode()
        argument = b"X" + len(text).to_bytes(4, "little") + text
        _zip_with_pickle(path, f"\x80\x02c{module}\n{name}\n".encode() + argument + b"\x85R.")

    return write


def _old_format(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {marker}"), 2))


def _compressed(path: Path, marker: Path) -> None:
    torch.save(official_state(), path)
    with zipfile.ZipFile(path) as old:
        members = {one.filename: old.read(one) for one in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)


def _bomb(path: Path, marker: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("archive/data.pkl", b"\0" * (1 << 28))


def _twice(path: Path, marker: Path) -> None:
    torch.save(official_state(), path)
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as new,
    ):
        new.writestr(new.namelist()[0], pickle.dumps({}))


def _cut(path: Path, marker: Path) -> None:
    torch.save(official_state(), path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def _claims_much(path: Path, marker: Path) -> None:
    """A storage of 2^40 floats that the file does not have."""
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(7)}, buffer)
    with zipfile.ZipFile(buffer) as old:
        data = next(old.read(n) for n in old.namelist() if n.endswith("data.pkl"))
    assert data.count(b"K\x07") == 2
    _zip_with_pickle(path, data.replace(b"K\x07", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")))


def _safetensors(header: bytes | dict, data: bytes = b"\0" * 8, length: int | None = None):
    def write(path: Path, marker: Path) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = len(text) if length is None else length
        path.write_bytes(size.to_bytes(8, "little") + text + data)

    return write


def _entry(offsets, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "os.system": _planted(os.system, "touch {}"),
    "eval": _planted(eval, "open({!r}, 'w')"),
    "exec": _planted(exec, "open({!r}, 'w')"),
    "torch.hub": _gadget("torch.hub", "load_state_dict_from_url", "file://{}"),
    "torch.load": _gadget("torch", "load", "{}"),
    "torch.save": _gadget("torch.serialization", "save", "{}"),
    "torch.mkdir": _gadget("torch._inductor.codecache", "write_atomic", "{}"),
    "torch.from_file": _gadget("torch.storage", "UntypedStorage.from_file", "{}"),
    "old format": _old_format,
    "compressed": _compressed,
    "bomb": _bomb,
    "member twice": _twice,
    "cut": _cut,
    "claims much": _claims_much,
    "empty": lambda path, marker: path.write_bytes(b""),
    "text": lambda path, marker: path.write_bytes(b"not a model\n" * 99),
    "dict of numbers": lambda path, marker: torch.save({"a": 1}, path),
    "a list": lambda path, marker: torch.save([torch.zeros(1)], path),
    "header 2^63": _safetensors(b"{}", length=1 << 63),
    "header beyond the file": _safetensors(b"{}", length=1 << 20),
    "no JSON": _safetensors(b"{not json at all}"),
    "deep JSON": _safetensors(b'{"a":' * 100_000),
    "no object": _safetensors(b"{" + b" " * 20),
    "overlap": _safetensors({"a": _entry((0, 4)), "b": _entry((2, 6))}),
    "beyond the data": _safetensors({"a": _entry((0, 1 << 40), (1 << 38,))}),
    "negative shape": _safetensors({"a": _entry((0, 4), (-1, -1))}),
    "negative offset": _safetensors({"a": _entry((-4, 0))}),
    "wrong size": _safetensors({"a": _entry((0, 8), (1,))}),
    "unknown dtype": _safetensors({"a": _entry((0, 4), (1,), "F99")}),
    "huge shape": _safetensors({"a": _entry((0, 8), (1 << 62, 4))}),
    "given twice": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    ),
    "hostile config": _safetensors(
        {"__metadata__": {"config": "[" * 50}, "a": _entry((0, 8), (2,))}
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_one_sentence_and_runs_nothing(kind, tmp_path):
    path, marker = tmp_path / "hostile.bin", tmp_path / "ran"
    HOSTILE[kind](path, marker)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ModelError) as caught:
        convert(path, folder, None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert not marker.exists()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("kind", ["os.system", "bomb", "header 2^63", "claims much"])
def test_a_hostile_file_leaves_nothing_in_the_store(kind, tmp_path, models):
    path, marker = tmp_path / "hostile.bin", tmp_path / "ran"
    HOSTILE[kind](path, marker)
    with pytest.raises(ModelError, match=r"cannot import hostile\.bin: ") as caught:
        import_model(path, "mine")
    assert caught.value.exit_code == 4
    assert not marker.exists()
    assert os.listdir(models) == [".lock"]


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ModelError, match="regular file"):
            import_model(tmp_path / name, "mine")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ModelError, match="regular file"):
            import_model(path, "mine")
    with pytest.raises(ModelError, match="cannot read"):
        import_model(tmp_path / "absent", "mine")


# ---- the store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, and a store with the model made of it; to be copied, for making takes time."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.FOLDER_VARIABLE, str(folder / "models"))
        import_model(write_official(folder / "a.bin"), "mine", config=SIZES)
    return folder


@pytest.fixture
def installed(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return store.model_info("mine")


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "a/b", "A", "-a", "a.", "a" * 65, "a\n"])
def test_an_id_plays_no_tricks(id, tmp_path):
    with pytest.raises(UsageError, match="name must be"):
        store.check_new(id)
    with pytest.raises(ModelError):
        store.remove_model(id)
    with pytest.raises(ModelError):
        store.model_info(id)


def test_the_embedded_model_is_neither_replaced_nor_removed(tmp_path):
    with pytest.raises(UsageError, match="embedded"):
        store.check_new("lite", replace=True)
    with pytest.raises(UsageError, match="stays"):
        store.remove_model("lite")


def test_a_model_is_replaced_only_with_force(installed, tmp_path, models):
    other = write_official(tmp_path / "b.bin", seed=1)
    with pytest.raises(UsageError, match="installed already"):
        import_model(other, "mine", config=SIZES)
    assert store.model_info("mine") == installed
    replaced = import_model(other, "mine", config=SIZES, force=True).info
    assert store.model_info("mine") == replaced != installed
    assert sorted(os.listdir(models)) == [".lock", "mine"]


def test_a_failed_replacement_leaves_the_old_one(installed, tmp_path):
    (tmp_path / "bad.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError):
        import_model(tmp_path / "bad.bin", "mine", force=True)
    installed.verify()
    assert store.model_info("mine") == installed


def test_a_removed_model_is_gone(installed, models):
    store.remove_model("mine")
    assert os.listdir(models) == [".lock"]
    with pytest.raises(ModelError, match="there is no model 'mine'"):
        store.model_info("mine")


def test_an_unchanged_file_is_hashed_once(installed, monkeypatch):
    hashed = []
    hash_file = store.hash_file
    monkeypatch.setattr(store, "hash_file", lambda path: hashed.append(path) or hash_file(path))
    installed.verify(trust_stamp=True)
    installed.verify(trust_stamp=True)
    assert len(hashed) == 1
    installed.verify()
    assert len(hashed) == 2
    os.utime(installed.path, (1, 1))
    installed.verify(trust_stamp=True)
    assert len(hashed) == 3


def test_damage_is_told_with_what_to_run(installed):
    installed.verify()
    weights = bytearray(installed.path.read_bytes())
    weights[-1] ^= 1
    installed.path.write_bytes(weights)
    for trust_stamp in (True, False):
        with pytest.raises(ModelError, match="models import FILE --as mine --force"):
            installed.verify(trust_stamp=trust_stamp)


@pytest.mark.parametrize("harm", ["no card", "half a card", "a list", "no weights", "short"])
def test_a_broken_model_spoils_no_other(harm, installed, tmp_path, models):
    shutil.copytree(models / "mine", models / "other")
    card = models / "mine" / "card.json"
    if harm == "no card":
        card.unlink()
    elif harm == "half a card":
        card.write_bytes(card.read_bytes()[:50])
    elif harm == "a list":
        card.write_text("[]")
    elif harm == "no weights":
        installed.path.unlink()
    else:
        installed.path.write_bytes(b"")
    assert [one.id for one in store.list_models()] == ["lite", "other"]
    assert "mine" in [one.id for one in store.broken_models()]
    with pytest.raises(ModelError, match="--force"):
        store.model_info("mine")
    store.remove_model("mine")


def test_what_a_kill_left_is_swept(installed, tmp_path, models):
    (models / ".new-12345678").mkdir()
    (models / ".new-12345678" / "model.safetensors").write_bytes(b"half")
    assert "mine" in [one.id for one in store.list_models()]
    import_model(tmp_path / "a.bin", "other", config=SIZES)
    assert sorted(os.listdir(models)) == [".lock", "mine", "other"]


def test_one_import_at_a_time(installed, tmp_path):
    with store.staging(), pytest.raises(ModelError, match="another audiosr-bridge"):
        import_model(tmp_path / "a.bin", "other", config=SIZES)


@pytest.mark.parametrize("id", PUBLISHED)
def test_a_published_model_that_is_not_there_says_how_to_get_it(id):
    with pytest.raises(ModelError) as caught:
        store.load_model(id)
    assert f"models install {id}" in str(caught.value)
    assert f"models import FILE --as {id}" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    path = write_official(tmp_path / "a.bin")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path / "file" / "models"))
    with pytest.raises(ModelError, match="cannot write"):
        import_model(path, "mine", config=SIZES)
    assert [one.id for one in store.list_models()] == ["lite"]
