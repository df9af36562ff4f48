"""The command line as scripts and people meet it: help with an example, JSON, exit codes, one-line errors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tasuki.sdk import errors
from tasuki.sdk.cli import EXTRAS, tasuki


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tasuki.sdk", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **env})


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


COMMANDS = list(walk(tasuki, ("tasuki",)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_help_has_an_example(path: tuple[str, ...], command: click.Command) -> None:
    words = command.get_help(click.Context(command, info_name=path[-1]))
    assert "Example: tasuki" in words


def test_every_command_of_the_issue_is_there() -> None:
    paths = {" ".join(path[1:]) for path, _ in COMMANDS}
    for name in ("demo", "distil", "convert", "inspect", "bench relay"):
        assert name in paths
    for name in ("boards", "build", "run", "flash", "export"):
        assert f"firmware {name}" in paths
    for name in [
        "predict",
        "explain",
        "embed",
        "generate",
        "score",
        "learn",
        "forget",
        "replace",
        "sync",
        "run",
        "status",
    ]:
        assert f"device {name}" in paths
    for name in ("init", "enrol", "run", "status"):
        assert f"gateway {name}" in paths
    assert set(EXTRAS) == set(tasuki.list_commands(click.Context(tasuki)))


def test_commands_that_print_figures_have_json() -> None:
    silent = {"firmware flash", "firmware export"}
    for path, command in COMMANDS:
        if not isinstance(command, click.Group) and " ".join(path[1:]) not in silent:
            options = {option for parameter in command.params for option in parameter.opts}
            assert "--json" in options, path


def test_predict_learn_status(tiny_artifact: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state")
    done = run("device", "predict", tiny_artifact, "turn on the light", "--json", *state)
    assert set(json.loads(done.stdout)) == {
        "text", "label", "probability", "margin", "uncertain", "answered_by", "latency_ms"
    }  # fmt: skip
    done = run("device", "learn", tiny_artifact, "make it cosy", "movie_night", "--new-label", "--json", *state)
    assert done.returncode == 0
    assert json.loads(done.stdout)["examples"] == 1
    status = json.loads(run("device", "status", tiny_artifact, "--json", *state).stdout)
    assert status["own_labels"] == ["movie_night"]
    assert len(bytes.fromhex(status["public_key"])) == 32
    assert json.loads(run("device", "forget", tiny_artifact, "--all", "--yes", "--json", *state).stdout) == {
        "forgotten_examples": 1
    }


def test_limits_of_a_device(tiny_artifact: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state")
    words = ("--disk", "2000000", "--bytes-per-day", "5000", "--hours", "0-24", "--json", *state)
    status = json.loads(run("device", "status", tiny_artifact, *words).stdout)
    assert status["limits"] == {"disk": 2_000_000, "bytes_per_day": 5000, "hours": [[0.0, 24.0]]}
    for wrong in (("--hours", "late"), ("--disk", "1000"), ("--hours", "7-7")):
        done = run("device", "status", tiny_artifact, *wrong, *state)
        assert done.returncode == errors.InputError.exit_code
        assert done.stderr.startswith("tasuki: error: ")


def test_inspect(tiny_artifact: Path) -> None:
    figures = json.loads(run("inspect", tiny_artifact, "--json").stdout)
    assert figures["bytes"] == tiny_artifact.stat().st_size
    assert figures["labels"][0] == "light_off"
    assert "light_off" in run("inspect", tiny_artifact).stdout


def test_gateway_init_enrol_status(tiny_artifact: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    gateway = tmp_path / "gateway"
    words = ("gateway", "init", gateway, "--fleet", "lamps", "--artifact", tiny_artifact, "--held-out", held_out)
    assert run(*words, "--json").returncode == 0
    assert run(*words).returncode == errors.StateMismatch.exit_code
    key = json.loads(run("device", "status", tiny_artifact, "--json", "--state", tmp_path / "s").stdout)["public_key"]
    enrolment = tmp_path / "attic.json"
    assert run("gateway", "enrol", gateway, "attic", "--key", key, "-o", enrolment, "--json").returncode == 0
    assert enrolment.stat().st_mode & 0o777 == 0o600
    done = run("device", "enrol", tiny_artifact, enrolment, "--state", tmp_path / "s", "--json")
    assert json.loads(done.stdout) == {"fleet": "lamps", "device": "attic", "broker": "127.0.0.1:1883"}
    status = json.loads(run("gateway", "status", gateway, "--json").stdout)
    assert status["devices"] == [{"device": "attic", "updates": 0, "sequence": 0, "online": None, "since": None}]
    assert (gateway / "mosquitto" / "acl").exists()
    for private in ("keys/signing.pem", "keys/sealing-x25519.pem", "tls/ca.key", "tls/broker.key"):
        assert (gateway / private).stat().st_mode & 0o777 == 0o600


def bad_inputs(artifact: Path, folder: Path) -> Iterator[tuple[str, tuple[str | Path, ...], type[errors.TasukiError]]]:
    truncated, foreign = folder / "truncated.tflite", folder / "foreign.tflite"
    truncated.write_bytes(artifact.read_bytes()[:-100])
    foreign.write_bytes(b"\x7fELF" + bytes(100))
    state = ("--state", folder / "state")
    gone = folder / "gone.json"
    predict = ("device", "predict")
    yield "truncated", (*predict, truncated, "hello", *state), errors.ArtifactCorrupt
    yield "foreign", (*predict, foreign, "hello", *state), errors.ArtifactForeign
    yield "missing", (*predict, folder / "no.tflite", "hello", *state), errors.ArtifactMissing
    yield "unknown label", ("device", "learn", artifact, "hello", "nope", *state), errors.UnknownLabel
    yield "empty text", (*predict, artifact, "", *state), errors.EmptyText
    yield "not enrolled", ("device", "sync", artifact, *state), errors.NotEnrolled
    yield "no enrolment file", ("device", "enrol", artifact, gone, *state), errors.KeyInvalid
    yield "inspect foreign", ("inspect", foreign), errors.ArtifactForeign
    yield "no gateway", ("gateway", "status", folder / "nothing"), errors.KeyInvalid
    yield "wrong key", ("gateway", "enrol", folder / "gateway", "a", "--key", "beef"), errors.KeyInvalid
    yield "no hex", ("gateway", "enrol", folder / "gateway", "a", "--key", "xyz"), errors.KeyInvalid
    yield "bad name", ("gateway", "enrol", folder / "gateway", "A/+", "--key", "00" * 32), errors.InputError
    yield "bad broker", ("gateway", "run", folder / "gateway", "--broker", "nowhere"), errors.InputError
    yield "firmware of a truncated artifact", ("firmware", "build", truncated), errors.ArtifactCorrupt
    yield "firmware of something else", ("firmware", "run", foreign), errors.ModelCorrupt


def test_each_bad_input_has_its_exit_code_and_one_line(tiny_artifact: Path, tmp_path: Path) -> None:
    from tasuki.aggregator import fleet

    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(tmp_path / "gateway", "lamps", tiny_artifact, held_out)
    for name, words, error in bad_inputs(tiny_artifact, tmp_path):
        done = run(*words)
        assert done.returncode == error.exit_code, (name, done.stderr)
        said = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
        assert len(said) == 1, (name, said)
        assert said[0].startswith("tasuki: error: "), name


def test_text_of_a_megabyte(tiny_artifact: Path, tmp_path: Path) -> None:
    # One argument of a command line may have 128 KiB on Linux; a script that sends more uses the library.
    done = run("device", "predict", tiny_artifact, "x" * 100_000, "--state", tmp_path)
    assert done.returncode == errors.TextTooLong.exit_code


def test_a_broker_that_is_not_there(tiny_artifact: Path, tmp_path: Path) -> None:
    from tasuki.aggregator import fleet

    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(tmp_path / "gateway", "lamps", tiny_artifact, held_out, port=9)
    key = json.loads(run("device", "status", tiny_artifact, "--json", "--state", tmp_path / "s").stdout)["public_key"]
    made = fleet.enrol(tmp_path / "gateway", "attic", bytes.fromhex(key))
    fleet.write_enrolment(tmp_path / "attic.json", made)
    assert run("device", "enrol", tiny_artifact, tmp_path / "attic.json", "--state", tmp_path / "s").returncode == 0
    done = run("device", "sync", tiny_artifact, "--timeout", "1", "--state", tmp_path / "s")
    assert done.returncode == errors.BrokerUnreachable.exit_code
    assert "127.0.0.1:9" in done.stderr


def test_errors_are_a_closed_tree_with_exit_codes() -> None:
    def below(error: type[errors.TasukiError]) -> Iterator[type[errors.TasukiError]]:
        yield error
        for child in error.__subclasses__():
            yield from below(child)

    for error in below(errors.TasukiError):
        if error.__module__ == errors.__name__:
            assert f" {error.__name__}" in (errors.__doc__ or ""), "the tree at the top of the file"
        assert 64 <= error.exit_code <= 78
