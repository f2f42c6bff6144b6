"""`audiosr-bridge models` as people run it: real processes, and a stand-in for the hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiosr_core.store import hash_file
from tests.support.checkpoints import TINY, write_official
from tests.support.hub import COMMIT, Hub, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a checkpoint and its sizes."""
    folder = tmp_path_factory.mktemp("made")
    write_official(folder / "pytorch_model.bin")
    (folder / "sizes.json").write_text(json.dumps(TINY.as_dict()))
    return folder


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """An empty home; no hub but the one a test serves."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_", "AUDIOSR_"))}
    return {
        **kept,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "AUDIOSR_BRIDGE_MODELS": str(tmp_path / "models"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def cli(environment, tmp_path):
    """Run the command; CompletedProcess out."""

    def run(*arguments, **extra):
        done = subprocess.run(
            [sys.executable, "-m", "plugin_host.cli", *map(str, arguments)],
            env={**environment, **extra},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def sentence(done) -> str:
    """The error: one line, the last one, and nothing on standard output."""
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines[-1]


def test_import_list_verify_remove(cli, made, tmp_path):
    source, sizes = made / "pytorch_model.bin", made / "sizes.json"
    done = cli("models", "import", source, "--as", "audiosr-basic", "--config", sizes, "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["id"] == "audiosr-basic"
    assert card["licence"].startswith("apache-2.0")
    assert card["provenance"]["source_sha256"] == hash_file(source)
    assert "not the published file" in done.stderr
    assert "licence: apache-2.0" in done.stderr

    listed = [json.loads(line) for line in cli("models", "list", "--json").stdout.splitlines()]
    assert [one["id"] for one in listed] == ["lite", "audiosr-basic"]
    paths = json.loads(cli("paths", "--json").stdout)
    assert Path(listed[1]["path"]).is_relative_to(paths["models"])

    checked = cli("models", "verify", "--json")
    assert checked.returncode == 0
    assert [json.loads(line)["ok"] for line in checked.stdout.splitlines()] == [True, True]
    weights = Path(card["path"])
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    checked = cli("models", "verify", "--json")
    assert checked.returncode == 4
    assert [json.loads(line)["ok"] for line in checked.stdout.splitlines()] == [True, False]
    assert "models install audiosr-basic --force" in sentence(
        cli("models", "verify", "audiosr-basic")
    )
    broken = cli("doctor", "--json")
    assert broken.returncode == 1

    assert sentence(cli("models", "import", source, "--as", "audiosr-basic"))
    done = cli(
        "models", "import", source, "--as", "audiosr-basic", "--force", "--config", sizes,
        "--dtype", "fp16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert cli("models", "verify").returncode == 0

    assert cli("models", "remove", "audiosr-basic").returncode == 0
    gone = cli("models", "remove", "audiosr-basic")
    assert gone.returncode == 4
    assert sentence(gone)
    assert cli("models", "list").stdout.count("\n") == 1


def test_a_broken_model_is_listed_as_broken(cli, tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    done = cli("models", "list")
    assert done.returncode == 0
    assert done.stdout.startswith("lite")
    assert "broken: the model 'mine' is damaged" in done.stderr
    listed = [json.loads(line) for line in cli("models", "list", "--json").stdout.splitlines()]
    assert listed[1]["id"] == "mine"
    assert "broken" in listed[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["import", "absent.bin"], 4),
        (["import", "file", "--as", "../x"], 2),
        (["import", "file", "--as", "lite"], 2),
        (["import", "file", "--dtype", "int4"], 2),
        (["import", "file", "--config", "absent.json"], 2),
        (["import", "file", "--config", "file"], 2),
        (["import", "file"], 4),
        (["import", "."], 4),
        (["install", "nope"], 2),
        (["install", "audiosr-basic", "--dtype", "int4"], 2),
        (["verify", "nope"], 4),
        (["remove", "nope"], 4),
        (["remove", "../models"], 4),
        (["remove", "lite"], 2),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, code, cli, tmp_path):
    (tmp_path / "file").write_text("no checkpoint")
    done = cli("models", *arguments)
    assert done.returncode == code
    sentence(done)


def test_extend_without_the_weights_names_both_ways_to_get_them(cli, tmp_path):
    done = cli("extend", ROOT / "examples" / "guitar.flac", "--model", "audiosr-basic")
    assert done.returncode == 4
    assert "models install audiosr-basic" in done.stderr
    assert "models import FILE --as audiosr-basic" in done.stderr


def test_a_kill_at_any_time_leaves_a_whole_model_or_none(environment, made, cli, tmp_path):
    command = [
        sys.executable, "-m", "plugin_host.cli", "models", "import",
        str(made / "pytorch_model.bin"), "--as", "mine", "--force",
        "--config", str(made / "sizes.json"),
    ]  # fmt: skip
    for delay in (0.5, 1.0, 1.5, 1.9, 2.3, 2.7):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
        listed = [json.loads(one) for one in cli("models", "list", "--json").stdout.splitlines()]
        assert not any("broken" in one for one in listed)
        assert cli("models", "verify").returncode == 0
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "models")) == [".lock", "mine"]


# ---- the hub

pytest.importorskip("huggingface_hub", reason="needs the extra hub")


@pytest.fixture
def install(cli, made, tmp_path):
    """Run `models install audiosr-speech` against a hub."""

    def run(hub, *arguments, id="audiosr-speech", **extra):
        endpoint = {"HF_ENDPOINT": hub.endpoint} if hub else {}
        sizes = ["--config", made / "sizes.json"]
        return cli("models", "install", id, *sizes, *arguments, **endpoint, **extra)

    return run


@pytest.fixture
def content(made) -> bytes:
    return (made / "pytorch_model.bin").read_bytes()


def downloads(tmp_path) -> list[Path]:
    found = (tmp_path / ".cache" / "audiosr-bridge" / "downloads").glob("models--*/blobs/*")
    return list(found)


def test_install_fetches_converts_and_clears_up(install, content, tmp_path):
    with serve(Hub(content)) as hub:
        done = install(hub, "--json")
        assert done.returncode == 0, done.stderr
        again = install(hub)
        kept = install(hub, "--force", "--keep")
    card = json.loads(done.stdout)
    assert card["provenance"]["source_sha256"] == hashlib.sha256(content).hexdigest()
    assert card["provenance"]["source"] == "pytorch_model.bin"
    assert card["provenance"]["origin"] == f"haoheliu/audiosr_speech/pytorch_model.bin@{COMMIT}"
    assert card["licence"].startswith("unknown")
    assert (again.returncode, kept.returncode) == (2, 0)
    assert len(downloads(tmp_path)) == 1  # what was kept, and nothing of the first
    with serve(Hub(content)) as hub:
        assert install(hub, "--force").returncode == 0
        assert not any(method == "GET" and "/resolve/" in path for method, path, _ in hub.asked)


def test_what_lies_in_the_hubs_own_cache_is_taken_and_left(install, made, content, tmp_path):
    sha256 = hashlib.sha256(content).hexdigest()
    repository = tmp_path / "hub" / "models--haoheliu--audiosr_speech"
    for folder in ("blobs", "refs", "snapshots/abc"):
        (repository / folder).mkdir(parents=True)
    (repository / "blobs" / sha256).write_bytes(content)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc" / "pytorch_model.bin").symlink_to(f"../../blobs/{sha256}")
    done = install(None, HF_HUB_CACHE=str(tmp_path / "hub"))
    assert done.returncode == 0, done.stderr
    assert (repository / "blobs" / sha256).exists()


@pytest.mark.parametrize(
    ("status", "says"), [(404, "no such file"), (401, "not authorised"), (500, "HTTP 500")]
)
def test_a_hub_that_refuses(status, says, install, content):
    with serve(Hub(content, status=status)) as hub:
        done = install(hub)
    assert done.returncode == 4
    assert says in sentence(done)


def test_a_hub_that_is_not_there(install):
    done = install(None)
    assert done.returncode == 4
    assert "Connection refused" in sentence(done)
    done = install(None, HF_HUB_OFFLINE="1")
    assert done.returncode == 4
    assert "HF_HUB_OFFLINE" in sentence(done)


def test_a_download_cut_once_goes_on(install, content):
    with serve(Hub(content, cut_after=len(content) // 2, cuts=1)) as hub:
        done = install(hub)
    assert done.returncode == 0, done.stderr


def test_a_download_that_is_always_cut(install, content, tmp_path):
    with serve(Hub(content, cut_after=1000)) as hub:
        done = install(hub)
    assert done.returncode == 4
    assert "cannot fetch" in sentence(done)
    assert not (tmp_path / "models" / "audiosr-speech").exists()


def test_other_content_than_the_hub_told(install, content, tmp_path):
    with serve(Hub(content, served=content[:-1] + b"!")) as hub:
        done = install(hub)
    assert done.returncode == 4
    assert "must have SHA-256" in sentence(done)
    assert downloads(tmp_path) == []


def test_another_file_than_the_published_one_is_not_even_fetched(install, content):
    with serve(Hub(content)) as hub:
        done = install(hub, id="audiosr-basic")
        assert not any(method == "GET" and "/resolve/" in path for method, path, _ in hub.asked)
    assert done.returncode == 4
    assert "models import FILE --as audiosr-basic" in sentence(done)


def test_no_checkpoint_at_all(install, tmp_path):
    with serve(Hub(b"hello" * 1000)) as hub:
        done = install(hub)
    assert done.returncode == 4
    assert "cannot import pytorch_model.bin" in sentence(done)
    assert not (tmp_path / "models" / "audiosr-speech").exists()


def test_without_the_extra_the_two_ways_are_named(cli, tmp_path):
    (tmp_path / "shadow" / "huggingface_hub").mkdir(parents=True)
    (tmp_path / "shadow" / "huggingface_hub" / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path / "shadow"), str(ROOT)])
    done = cli("models", "install", "audiosr-basic", PYTHONPATH=path)
    assert done.returncode == 4
    assert "pip install 'audiosr-bridge[hub]'" in sentence(done)
