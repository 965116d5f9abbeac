"""Ceilings and observations, and the file that keeps them."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest

from lmrun.artifacts import measurements
from lmrun.artifacts.measurements import (
    Ceilings,
    MachineIdentity,
    Observation,
    Rate,
    SchemeRates,
    best_of,
    cpu_name,
    find_observation,
    load_ceilings,
    observation_key,
    record_observation,
    save_ceilings,
)

MACHINE = MachineIdentity(
    cpu="EPYC", vendor="AuthenticAMD", isa="avx512", cores=2, memory_bytes=8 << 30
)
RATES = SchemeRates(
    decode_bytes_per_s=3e10, cached_decode_bytes_per_s=4e10, prefill_flops_per_s=2e11
)
CEILINGS = Ceilings(
    machine=MACHINE,
    engine_build="one",
    isa="avx512",
    threads=2,
    read_bytes_per_s=6e10,
    flops_per_s=2.3e11,
    cache_bytes=32 << 20,
    schemes={"u4": RATES, "F16": RATES},
    prefill_rows=256,
    attention_bytes_per_s={"4": 4e9, "16": 1.2e10},
    attention_flops_per_s=1.3e11,
    step_overhead_s=1e-5,
    serving_token_s=1e-5,
    layer_overhead_s=4e-6,
    process_bytes=30 << 20,
    measured_at="2026-11-21T12:00:00+00:00",
)


def rate(tokens_per_s: float, steps: int = 100) -> Rate:
    return Rate(tokens_per_s=tokens_per_s, steps=steps, mean_context=50.0, mean_seqs=1.0)


def seen(home: Path, **changes: object) -> Observation:
    made = Observation(
        key=observation_key(home, {"workspace": str(home / "w"), "threads": 2}, MACHINE),
        engine_build="one",
        weights_resident_bytes=100,
        kv_resident_bytes=10,
        touched_blocks=3,
        peak_used_blocks=2,
        peak_rss_bytes=200,
        decode=rate(40.0),
        decode_all=rate(80.0),
        prefill=None,
        seconds_to_ready=0.5,
        recorded_at="2026-11-21T12:00:00+00:00",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def found(home: Path) -> Observation:
    observation = find_observation(home, seen(home).key)
    assert observation is not None
    return observation


def test_ceilings_come_back_as_they_were_saved(tmp_path: Path) -> None:
    save_ceilings(tmp_path, CEILINGS)
    assert load_ceilings(tmp_path, MACHINE) == CEILINGS
    assert load_ceilings(tmp_path, MACHINE, "one") == CEILINGS


def test_ceilings_of_another_machine_or_build_are_none(tmp_path: Path) -> None:
    assert load_ceilings(tmp_path, MACHINE) is None
    save_ceilings(tmp_path, CEILINGS)
    assert load_ceilings(tmp_path, replace(MACHINE, cores=4)) is None
    assert load_ceilings(tmp_path, MACHINE, "two") is None


def test_each_machine_of_a_shared_store_keeps_its_own_ceilings(tmp_path: Path) -> None:
    other = replace(CEILINGS, machine=replace(MACHINE, cores=8), read_bytes_per_s=1e11)
    save_ceilings(tmp_path, CEILINGS)
    save_ceilings(tmp_path, other)
    assert load_ceilings(tmp_path, MACHINE) == CEILINGS
    assert load_ceilings(tmp_path, other.machine) == other


def test_measured_again_the_better_figure_of_the_same_build_stays(tmp_path: Path) -> None:
    save_ceilings(tmp_path, CEILINGS)
    slower = replace(RATES, decode_bytes_per_s=1e10, prefill_flops_per_s=3e11)
    again = replace(
        CEILINGS,
        read_bytes_per_s=5e10,
        schemes={"u4": slower, "F16": RATES},
        attention_bytes_per_s={"4": 5e9, "16": 1e10},
        step_overhead_s=2e-5,
        serving_token_s=2e-5,
        layer_overhead_s=3e-6,
        process_bytes=31 << 20,
        measured_at="2026-11-22T12:00:00+00:00",
    )
    save_ceilings(tmp_path, again)
    kept = load_ceilings(tmp_path, MACHINE)
    assert kept == replace(
        again,
        read_bytes_per_s=6e10,
        schemes={"u4": replace(RATES, prefill_flops_per_s=3e11), "F16": RATES},
        attention_bytes_per_s={"4": 5e9, "16": 1.2e10},
        step_overhead_s=1e-5,
        serving_token_s=1e-5,
    )


def test_another_build_or_number_of_threads_begins_afresh() -> None:
    slower = replace(CEILINGS, engine_build="two", flops_per_s=1e11)
    assert best_of([CEILINGS, slower]) == slower
    fewer = replace(CEILINGS, threads=1, flops_per_s=1e11)
    assert best_of([CEILINGS, fewer]) == fewer


def test_an_observation_comes_back_under_its_key_alone(tmp_path: Path) -> None:
    record_observation(tmp_path, seen(tmp_path))
    assert found(tmp_path) == seen(tmp_path)
    other = observation_key(tmp_path, {"workspace": str(tmp_path / "w"), "threads": 1}, MACHINE)
    assert find_observation(tmp_path, other) is None


def test_a_workspace_in_the_store_is_known_again_when_the_store_moves(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    keys = [
        observation_key(home, {"workspace": str(home / "artifacts/convert/ab")}, MACHINE)
        for home in (here, there)
    ]
    assert keys[0] == keys[1]
    assert keys[0].workspace == "artifacts/convert/ab"
    outside = observation_key(here, {"workspace": "/srv/model"}, MACHINE)
    assert outside.workspace == "/srv/model"


def test_peaks_are_those_of_the_run_that_took_most_memory(tmp_path: Path) -> None:
    record_observation(tmp_path, seen(tmp_path, peak_rss_bytes=300, kv_resident_bytes=60))
    record_observation(tmp_path, seen(tmp_path, peak_rss_bytes=250, recorded_at="later"))
    assert found(tmp_path).peak_rss_bytes == 300
    assert found(tmp_path).kv_resident_bytes == 60
    assert found(tmp_path).recorded_at == "later"


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (rate(40.0), rate(30.0), rate(40.0)),
        (rate(40.0), rate(50.0), rate(50.0)),
        (rate(90.0, steps=2), rate(30.0), rate(30.0)),
        (rate(40.0), rate(90.0, steps=2), rate(40.0)),
        (rate(10.0, steps=3), rate(12.0, steps=2), rate(12.0, steps=2)),
        (None, rate(1.0, steps=1), rate(1.0, steps=1)),
        (rate(40.0), None, rate(40.0)),
    ],
)
def test_the_better_rate_stays_and_few_steps_give_way(
    tmp_path: Path, old: Rate | None, new: Rate | None, kept: Rate
) -> None:
    record_observation(tmp_path, seen(tmp_path, decode=old))
    record_observation(tmp_path, seen(tmp_path, decode=new))
    assert found(tmp_path).decode == kept


def test_another_engine_build_forgets_what_the_old_one_showed(tmp_path: Path) -> None:
    record_observation(tmp_path, seen(tmp_path))
    newer = seen(tmp_path, engine_build="two", decode=rate(10.0), peak_rss_bytes=150)
    record_observation(tmp_path, newer)
    assert found(tmp_path) == newer


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 9}'])
def test_a_damaged_file_is_forgotten_and_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "measurements.json").write_text(text)
    assert load_ceilings(tmp_path, MACHINE) is None
    assert find_observation(tmp_path, seen(tmp_path).key) is None
    save_ceilings(tmp_path, CEILINGS)
    assert load_ceilings(tmp_path, MACHINE) == CEILINGS


def test_a_file_of_a_later_schema_is_not_read(tmp_path: Path) -> None:
    save_ceilings(tmp_path, CEILINGS)
    file = tmp_path / "measurements.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "schema_version": 3}))
    assert load_ceilings(tmp_path, MACHINE) is None


def test_the_file_keeps_its_published_schema(tmp_path: Path) -> None:
    save_ceilings(tmp_path, CEILINGS)
    record_observation(tmp_path, seen(tmp_path))
    document = json.loads((tmp_path / "measurements.json").read_text())
    jsonschema.Draft202012Validator(measurements.schema()).validate(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(measurements.schema()).validate({**document, "more": 1})


def _record(arguments: tuple[Path, int]) -> None:
    home, number = arguments
    key = observation_key(home, {"workspace": f"/w/{number}"}, MACHINE)
    record_observation(home, seen(home, key=key, peak_rss_bytes=number))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_record, [(tmp_path, number) for number in range(24)]))
    for number in range(24):
        key = observation_key(tmp_path, {"workspace": f"/w/{number}"}, MACHINE)
        observation = find_observation(tmp_path, key)
        assert observation is not None
        assert observation.peak_rss_bytes == number


def test_reading_creates_nothing(tmp_path: Path) -> None:
    home = tmp_path / "none"
    assert load_ceilings(home, MACHINE) is None
    assert find_observation(home, seen(home).key) is None
    assert not home.exists()


def test_the_cpu_is_named_as_the_kernel_names_it(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    assert cpu_name(file) == "unknown"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n")
    assert cpu_name(file) == "Some CPU @ 2 GHz"


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    save_ceilings(tmp_path, CEILINGS)
    document = json.loads((tmp_path / "measurements.json").read_text())
    assert document["ceilings"] == [json.loads(json.dumps(asdict(CEILINGS)))]
