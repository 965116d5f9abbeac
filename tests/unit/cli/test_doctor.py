"""The doctor's report: what is found, what to do, and its exit status."""

import json
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lmrun
from lmrun.artifacts.measurements import load_ceilings, save_ceilings
from lmrun.bench import alone, ceilings
from lmrun.cli import doctor, doctor_checks, main, nvml
from lmrun.cli.doctor_checks import Check, Status
from lmrun.errors import ExitStatus
from lmrun.plan.machine import this_machine
from unit.artifacts.test_measurements import CEILINGS


def report(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    main.run(["doctor", "--json"])
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    jsonschema.Draft202012Validator(doctor.schema()).validate(document)
    return document


def check(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in document["checks"] if row["name"] == name)


def test_a_machine_that_runs_the_tests_has_what_lmrun_needs(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["doctor"]) is ExitStatus.OK
    lines = capfd.readouterr().out.splitlines()
    names = [line[6:].split("  ")[0] for line in lines if line[:5].strip()]
    wanted = "cpu cores memory gpu kernels engine python packages torch store port ceilings"
    assert set(wanted.split()) <= set(names)
    assert not [line for line in lines if line.startswith("fail")]
    assert next(line for line in lines if " engine " in line).startswith("ok    engine")


def test_the_document_keeps_its_schema_and_tells_the_worst(
    capfd: pytest.CaptureFixture[str],
) -> None:
    document = report(capfd)
    assert document["schema_version"] == 1
    assert document["status"] == "warn"  # nothing was measured here
    row = check(document, "ceilings")
    assert row == {
        "name": "ceilings",
        "status": "warn",
        "found": "not measured on this machine",
        "advice": "`lmrun doctor --measure` measures once, in some 15 s; plans then tell speed.",
    }
    assert document["ceilings"] is None


def test_measured_ceilings_are_shown_with_their_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path))
    machine = this_machine().identity
    save_ceilings(tmp_path, replace(CEILINGS, machine=machine))
    assert main.run(["doctor"]) is ExitStatus.OK
    out = capfd.readouterr().out
    assert "ok    ceilings          measured 2026-11-21T12:00:00+00:00\n" in out
    assert "\nceilings, 2 threads, isa avx512, 2026-11-21T12:00:00+00:00\n" in out
    assert "  memory read              60.0 GB/s\n" in out
    assert "  u4 decode                30.0 GB/s of weights\n" in out
    assert "  u4 prefill              200.0 GFLOP/s, 256 tokens a step\n" in out
    assert "  KV 4 bits decode          4.0 GB/s of K and V\n" in out
    assert "  a layer of it             4.0 µs beside what it reads\n" in out
    assert "  engine process           30.0 MiB beside model and KV\n" in out


@pytest.fixture
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    monkeypatch.setattr(alone, "lock_file", lambda: tmp_path / "lock" / alone.LOCK_NAME)


@pytest.mark.usefixtures("_own_machine")
def test_measuring_keeps_the_ceilings_for_later_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path))
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (99.5, 1.0, 1.0))
    monkeypatch.setattr(ceilings, "DEFAULT", ceilings.Effort(1, 0.005, 1, caches=1))
    assert main.run(["doctor", "--measure"]) is ExitStatus.OK
    printed = capfd.readouterr()
    assert printed.err.startswith("measuring: a server\nmeasuring: round 1 of 1\n")
    assert printed.err.splitlines()[2:] == [
        "measuring: the machine was busy (load 99.5, "
        f"{this_machine().cores} cores), figures may be too low. Measure again when it is not:"
        " the better ones stay."
    ]
    assert load_ceilings(tmp_path, this_machine().identity) is not None
    assert "\nceilings, " in printed.out


@pytest.mark.usefixtures("_own_machine")
def test_figures_that_cannot_be_kept_are_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_HOME", "/proc/none")
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(ceilings, "DEFAULT", ceilings.Effort(1, 0.005, 1, caches=1))
    assert main.run(["doctor", "--measure"]) is ExitStatus.STAGE_FAILED
    out, err = capfd.readouterr()
    assert "\nmeasuring: not kept, so plans do not know: " in err
    assert "\nceilings, " in out


def test_a_store_that_cannot_be_written_fails_with_status_5(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_HOME", "/proc/none")  # even root writes no file there
    assert main.run(["doctor"]) is ExitStatus.STAGE_FAILED
    out = capfd.readouterr().out
    assert "fail  store             /proc/none: cannot be written (" in out
    assert "Name a writable folder by LMRUN_HOME.\n" in out


def test_a_taken_port_is_a_warning_with_the_next_free_one() -> None:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", 23333))
            listener.listen()
        except OSError:
            pass  # some other program holds it: the same case
        found = doctor_checks.port()
    assert found.status is Status.warn
    assert found.found == "frontend.port=23333: port 23333 of 127.0.0.1 is in use"
    assert found.advice is not None
    assert found.advice.startswith("The next free port: frontend.port=2333")


def test_versions_out_of_bounds_warn_and_missing_packages_fail() -> None:
    fine = doctor_checks.packages(["numpy>=1", "nothing-such; extra == 'test'"])
    assert fine == Check(name="packages", status=Status.ok, found="1, each within its bounds")
    late = doctor_checks.packages(["numpy<1"])
    assert late.status is Status.warn
    assert late.found.startswith("numpy ")
    assert late.found.endswith(", expected <1")
    missing = doctor_checks.packages(["no-such-package>=2", "numpy<1"])
    assert missing.status is Status.fail
    assert missing.found.startswith("no-such-package is missing; numpy ")
    assert missing.advice == "`pip install lmrun` mends them."


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        ("always [madvise] never\n", Status.ok, "madvise"),
        ("[always] madvise never\n", Status.ok, "always"),
        ("always madvise [never]\n", Status.warn, "never"),
    ],
)
def test_huge_pages_that_are_switched_off_are_a_warning(
    tmp_path: Path, text: str, status: Status, found: str
) -> None:
    file = tmp_path / "enabled"
    file.write_text(text)
    row = doctor_checks.huge_pages(file)
    assert (row.status, row.found) == (status, found)
    assert (row.advice is None) == (status is Status.ok)
    assert doctor_checks.huge_pages(tmp_path / "none").found == "the kernel has none"


def test_huge_pages_that_are_promised_and_not_given_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    monkeypatch.setattr("lmrun._engine.gives_huge_pages", lambda: False)
    row = doctor_checks.huge_pages(file)
    assert row.found == "madvise, but memory that asked for some got none"
    assert row.advice == (
        "Weights stay in 4 KiB pages of the workspace file: decoding is some per cent slower."
        " Memory may be short or in pieces."
    )


def test_torch_is_told_without_being_imported(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from lmrun.cli import main; main.run(['doctor']);"
        "bad = {'torch', 'transformers', 'gradio'} & set(sys.modules); sys.exit(len(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch" in done.stdout


def test_a_machine_without_the_driver_has_no_gpu_seen() -> None:
    assert nvml.devices("libno-such-driver.so.1") is None


def test_the_temporary_folder_is_the_one_that_programs_use() -> None:
    assert doctor_checks.temporary_folder().found.startswith(tempfile.gettempdir())


def test_words_that_are_no_flags_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "kv.bits=4"]) is ExitStatus.USAGE
    assert capfd.readouterr().err == (
        "lmrun: doctor: expected flags alone, got kv.bits=4. It looks at the machine.\n"
    )


def test_the_engine_is_named_with_its_version(capfd: pytest.CaptureFixture[str]) -> None:
    row = check(report(capfd), "engine")
    assert row["status"] == "ok"
    assert row["found"].startswith(f"{lmrun.__version__}, ")
