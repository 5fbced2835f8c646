"""The output appears complete or not at all, whatever happens to the run."""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import make_checkpoint

from bitnet_py.chat_template import load_chat_template
from bitnet_py.convert import convert
from bitnet_py.convert.exporters.packed_folder import PackedFolder
from bitnet_py.convert.output_folder import OutputFolder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "src")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_existing_output_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stray.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out exists; .*--force"):
        convert(source, tmp_path / "out")
    assert contents(tmp_path / "out") == {"stray.txt": b"mine"}


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_output_is_filled(tmp_path: Path, source: Path, force: bool) -> None:
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out", method="f16", force=force)
    assert "model.safetensors" in names(tmp_path / "out")
    assert names(tmp_path) == {"src", "out"}


def test_force_replaces_a_folder(tmp_path: Path, source: Path) -> None:
    convert(source, tmp_path / "fresh", method="f16")
    convert(source, tmp_path / "out", method="f32")
    (tmp_path / "out" / "stray.txt").write_text("from before")
    convert(source, tmp_path / "out", method="f16", force=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    assert names(tmp_path) == {"src", "fresh", "out"}


CONFIG = '{"model_type": "llama"}'


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"": "precious"}, "it is a file"),
        ({"photos/cat.jpg": "", "config.json": CONFIG, "model.safetensors": ""}, "a folder photos"),
        ({"thesis.tex": "years of work"}, "it has no config.json of a model"),
        ({"config.json": "{", "model.safetensors": ""}, "it has no config.json of a model"),
        ({"config.json": "{}", "model.safetensors": ""}, "its config.json has no model_type"),
        ({"config.json": CONFIG, "thesis.tex": ""}, "it has neither model.safetensors nor"),
        (
            {"chat_templates/a.txt": "", "config.json": CONFIG, "model.safetensors": ""},
            "a folder chat_templates",
        ),
    ],
)
def test_force_spares_what_is_no_model(
    tmp_path: Path, source: Path, files: dict[str, str], reason: str
) -> None:
    out = tmp_path / "out"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    with pytest.raises(FileExistsError, match=f"out is not replaced, .*{reason}"):
        convert(source, out, force=True)
    assert {name: (out / name).read_text() for name in files} == files


def test_a_place_of_a_mounted_disk_is_refused_at_once(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "out")
    with pytest.raises(FileExistsError, match="is where a disk is mounted"):
        convert(source, tmp_path / "out", force=True)


def test_named_chat_templates_are_copied_and_replaced(tmp_path: Path, source: Path) -> None:
    (source / "chat_templates").mkdir()
    (source / "chat_templates" / "rag.jinja").write_text("rag")
    (source / "chat_template.jinja").write_text("plain")
    for force in (False, True):
        convert(source, tmp_path / "out", method="f16", force=force)
        template = load_chat_template(tmp_path / "out")
        assert template is not None
        assert template.names == ("default", "rag")


@pytest.mark.parametrize("out", ["src", "src/out", ".", "link", "link/out"])
def test_source_and_output_lie_apart(tmp_path: Path, source: Path, out: str) -> None:
    (tmp_path / "link").symlink_to(source)
    before = contents(source)
    with pytest.raises(ValueError, match="expected an output apart from the source"):
        convert(source, tmp_path / out, force=True)
    assert contents(source) == before


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_no_trace(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, force: bool
) -> None:
    if force:
        convert(source, tmp_path / "out", method="f32")
    before = contents(tmp_path / "out") if force else None

    def fail_late(*args: Any, **_: Any) -> None:
        folder: Path = args[4]
        (folder / "half.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(PackedFolder, "export", fail_late)
    with pytest.raises(type(error)):
        convert(source, tmp_path / "out", method="f16", force=force)
    assert names(tmp_path) == ({"src", "out"} if force else {"src"})
    assert before is None or contents(tmp_path / "out") == before


def test_too_little_space_is_said_at_once(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(OSError, match=r"0\.00 GB are needed, but only 0\.00 GB are") as caught:
        convert(source, tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == {"src"}


# A conversion that stops when the partial folder has its files, and says so.
STOPPING = """
import sys, time
from bitnet_py.convert import cli
from bitnet_py.convert.exporters.packed_folder import PackedFolder
export = PackedFolder.export
def export_and_wait(*args, **options):
    export(*args, **options)
    print("written", flush=True)
    time.sleep(60)
PackedFolder.export = export_and_wait
cli.main(sys.argv[1:])
"""


@pytest.fixture
def stopped(tmp_path: Path, source: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", STOPPING, str(source), "-o", str(tmp_path / "out"), "--force"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "written\n"
        yield run
        run.kill()


@pytest.mark.parametrize("has_old", [False, True])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run(
    tmp_path: Path,
    source: Path,
    has_old: bool,
    sent: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    out = tmp_path / "out"
    if has_old:
        convert(source, out, method="f32")
    before = contents(out) if has_old else None
    run: subprocess.Popen[str] = request.getfixturevalue("stopped")
    partial = out.with_name(f"out.partial-{run.pid}")
    assert "model.safetensors" in names(partial)
    run.send_signal(sent)
    code = run.wait(timeout=20)
    assert code == {signal.SIGINT: 130}.get(sent, -sent)
    assert run.stderr is not None
    last_line = run.stderr.read().splitlines()[-1]
    said = "bitnet-convert: interrupted; nothing was changed"
    assert (last_line == said) == (sent == signal.SIGINT)
    assert partial.exists() == (sent != signal.SIGINT)
    assert (contents(out) == before) if before else not out.exists()

    convert(source, out, method="f16", force=has_old)  # the second run works, and tidies up
    assert names(tmp_path) == {"src", "out"}
    convert(source, tmp_path / "fresh", method="f16")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_living_run_is_left_alone(
    tmp_path: Path, source: Path, stopped: subprocess.Popen[str]
) -> None:
    convert(source, tmp_path / "out", method="f16")
    assert "model.safetensors" in names(tmp_path / f"out.partial-{stopped.pid}")


@pytest.mark.parametrize("was_renamed", [False, True])
def test_killed_between_the_two_renames(tmp_path: Path, source: Path, was_renamed: bool) -> None:
    """The old output bears another name then; the next run gives it back, or away."""
    out = tmp_path / "out"
    convert(source, out, method="f32")
    before = contents(out)
    out.rename(tmp_path / "out.replaced-12345")
    if was_renamed:
        convert(source, tmp_path / "other", method="f16")
        (tmp_path / "other").rename(out)
        before = contents(out)
    with OutputFolder(out):
        assert contents(out) == before
    assert names(tmp_path) == {"src", "out"}


def test_a_folder_with_the_name_of_a_replaced_one_is_kept(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out.replaced-1").mkdir()
    (tmp_path / "out.replaced-1" / "mine").touch()
    convert(source, tmp_path / "out", method="f16")
    convert(source, tmp_path / "out", method="f16", force=True)
    assert names(tmp_path / "out.replaced-1") == {"mine"}


def test_only_partial_folders_are_removed(tmp_path: Path, source: Path) -> None:
    for name in ("out.partial-notes", "out2.partial-1", "out.partial"):
        (tmp_path / name).mkdir()
    convert(source, tmp_path / "out", method="f16")
    assert {"out.partial-notes", "out2.partial-1", "out.partial"} < names(tmp_path)


def test_an_output_that_appears_meanwhile_is_kept(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = OutputFolder.commit

    def commit_late(self: OutputFolder) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()
        commit(self)

    monkeypatch.setattr(OutputFolder, "commit", commit_late)
    with pytest.raises(FileExistsError, match="changed while the output was being made"):
        convert(source, tmp_path / "out")
    assert names(tmp_path) == {"src", "out"}
    assert names(tmp_path / "out") == {"mine"}
