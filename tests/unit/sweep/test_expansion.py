"""The words of a sweep and the points they stand for."""

from pathlib import Path

import pytest

from lmrun.config import compose, paths
from lmrun.config.places import Places
from lmrun.errors import LmrunError
from lmrun.sweep.expansion import expand

CANARY = "hf_canary9f31c07e"


def values(word: str) -> list[object]:
    """What a sweep of one word has for its key."""
    [*found] = expand([word], Places.at(Path.cwd())).candidates
    return [next(iter(candidate.keys.values())) for candidate in found]


GRAMMAR: dict[str, list[object]] = {
    "kv.bits=16,8,4": [16, 8, 4],
    "kv.bits=choice(16,8)": [16, 8],
    "calibration.seed=range(3)": [0, 1, 2],
    "calibration.seed=range(1,7,2)": [1, 3, 5],
    "kv.memory_ratio=range(0.5,0.9,0.2)": [0.5, 0.7],
    "kv.memory_ratio=range(0.2,0.8,0.2)": [0.2, 0.4, 0.6],
    "kv.memory_ratio=range(0.9,0.5,-0.2)": [0.9, 0.7],
    "kv.bits=sort(16,4,8)": [4, 8, 16],
    "kv.bits=sort(16,4,8,reverse=true)": [16, 8, 4],
    "kv.bits=tag(memory,choice(4,8))": [4, 8],
    "kv.prefix_caching=true,false": [True, False],
    "backend.threads=null,1": [None, 1],
    "model.served_name='a,b','c d'": ["a,b", "c d"],
    "model.served_name=1,2": ["1", "2"],
    "quant.skip=[a],[b,c],[]": [["a"], ["b", "c"], []],
    "bench.concurrency=[1,4],[8]": [[1, 4], [8]],
    "evaluate.min_task_accuracy={arc:0.5},{arc:0.6}": [{"arc": 0.5}, {"arc": 0.6}],
    "evaluate.min_task_accuracy.arc=0.5,0.6": [0.5, 0.6],
    "frontend.api_keys=['${oc.env:A}'],['${oc.env:B}']": [["${oc.env:A}"], ["${oc.env:B}"]],
    "kv=glob(*)": ["kv16", "kv4", "kv8"],
    "kv=glob(*,exclude=kv16)": ["kv4", "kv8"],
    "quant=none,rtn": ["none", "rtn"],
    "+recipe=glob(*)": ["w16_kv16_server", "w4a16_kv4_server"],
    "recipe=glob(w4*)": ["w4a16_kv4_server"],
    "+recipe=[w16_kv16_server],[w16_kv16_server,w4a16_kv4_server]": [
        ["w16_kv16_server"],
        ["w16_kv16_server", "w4a16_kv4_server"],
    ],
}


@pytest.mark.parametrize("word", GRAMMAR)
def test_a_swept_word_has_these_values(word: str) -> None:
    assert values(word) == GRAMMAR[word]


@pytest.mark.parametrize("word", [word for word in GRAMMAR if not word.startswith("frontend")])
def test_each_point_says_in_a_single_run_what_it_says_in_the_sweep(word: str) -> None:
    for candidate in expand([word], Places.at(Path.cwd())).candidates:
        [(key, value)] = candidate.keys.items()
        composed = compose(candidate.overrides)
        group, _, leaf = key.partition(".")
        if key == "recipe":
            chosen = composed.recipe
            assert chosen is not None
            assert chosen.name == (value if isinstance(value, str) else value[-1])
        elif not leaf:
            assert composed.choices[group][-1].option == value
        elif key.count(".") == 1:
            assert getattr(getattr(composed.run, group), leaf) == value


def test_a_glob_finds_the_recipes_of_the_user_too() -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("kv:\n  bits: 8\n")
    found = expand(["+recipe=glob(*)"], Places.at(Path.cwd())).candidates
    assert ("+recipe=mine",) in [candidate.overrides for candidate in found]
    assert len(found) == 3


def test_the_last_key_moves_first_and_words_that_are_not_swept_stay_as_typed() -> None:
    words = ["model.revision=v1.10", "kv.bits=8,4", "+recipe=w4a16_kv4_server", "quant=none,rtn"]
    found = expand(words, Places.at(Path.cwd())).candidates
    assert [candidate.overrides for candidate in found[:2]] == [
        ("model.revision=v1.10", "kv.bits=8", "+recipe=w4a16_kv4_server", "quant=none"),
        ("model.revision=v1.10", "kv.bits=8", "+recipe=w4a16_kv4_server", "quant=rtn"),
    ]
    assert found[2].keys == {"kv.bits": 4, "quant": "none"}


def test_a_shuffled_sweep_has_one_order() -> None:
    word = "calibration.seed=shuffle(range(20))"
    assert sorted(map(int, map(str, values(word)))) == list(range(20))
    assert values(word) != list(range(20))
    assert values(word) == values(word)


def test_words_about_the_launcher_are_no_part_of_a_point() -> None:
    words = ["hydra/launcher=joblib", "kv.bits=4,8", "hydra.launcher.n_jobs=2"]
    found = expand(words, Places.at(Path.cwd()))
    assert found.launcher == ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert [candidate.overrides for candidate in found.candidates] == [
        ("kv.bits=4",),
        ("kv.bits=8",),
    ]


REFUSED = {
    (): (
        3,
        "-m (command line): expected what to sweep, got nothing: the sweep is empty."
        " Write lmrun -m +recipe=NAME kv.bits=16,8,4.",
    ),
    ("+recipe=glob(x*)",): (
        3,
        "recipe (command line): matches none of w16_kv16_server, w4a16_kv4_server."
        " The sweep is empty.",
    ),
    ("kv.bits=range(4,4)",): (3, "kv.bits (command line): has no value. The sweep is empty."),
    ("kv.bits=glob(*)",): (
        3,
        "kv.bits (command line): glob is for recipes and options, and this is a key."
        " Write its values: kv.bits=A,B.",
    ),
    ("kv.bits=interval(4,8)",): (
        4,
        "kv.bits (command line): an interval has no list of values, and a search through one is"
        " not built yet. Write kv.bits=range(START,STOP,STEP).",
    ),
    ("model.served_name=1.10,1.20",): (
        3,
        "model.served_name (command line): texts that look like numbers would be swept as"
        " numbers. Quote each: \"model.served_name='1.10','1.20'\".",
    ),
    ("kv.bits=4,8", "kv.bits=16"): (
        3,
        "kv.bits (command line): given twice. Write all its values in one: kv.bits=A,B.",
    ),
    ("+recipe=w16_kv16_server", "recipe=a,b"): (
        3,
        "recipe (command line): given twice. Write all its values in one: recipe=A,B.",
    ),
    ("kv.bitz=4,8",): (
        3,
        "kv.bitz (command line): no such key. Did you mean kv.bits?"
        " Keys of kv: bits, memory_ratio, memory, keep, keep_bits, keep_layers,"
        " block_size, prefix_caching.",
    ),
    ("kv.bits=4,8", "quant=nonne"): (
        3,
        "quant=nonne (command line): no such option. Did you mean none?"
        f" Options of quant: {', '.join(paths.options('quant'))}.",
    ),
    ("calibration.seed=range(200)", "bench.seed=range(200)"): (
        3,
        "-m (command line): expected at most 10,000 points, got 40,000."
        " Sweep fewer values, or sweep them one key after the other.",
    ),
    ("calibration.seed=range(1000000000000)",): (
        3,
        "-m (command line): expected at most 10,000 points, got more."
        " Sweep fewer values, or sweep them one key after the other.",
    ),
    ("hydra.sweep.dir=x", "kv.bits=4,8"): (
        4,
        "hydra.sweep.dir (command line): Hydra's own settings are not built yet.",
    ),
    ("hydra/sweeper=optuna", "kv.bits=4,8"): (
        4,
        "hydra/sweeper (command line): Hydra's own settings are not built yet.",
    ),
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_no_point_can_be_made_of_is_refused_at_once(words: tuple[str, ...]) -> None:
    status, message = REFUSED[words]
    with pytest.raises(LmrunError) as caught:
        expand(words, Places.at(Path.cwd()))
    assert (int(caught.value.status), str(caught.value)) == (status, message)


@pytest.mark.parametrize(
    "word",
    [
        f"model.hub_token={CANARY},${{oc.env:A}}",
        f"frontend.api_keys=[{CANARY}],[b]",
        f"frontend.api_keys={CANARY},b",
        f"model.hub_token=choice('{CANARY}')",
    ],
)
def test_a_swept_secret_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(LmrunError) as caught:
        expand([word], Places.at(Path.cwd()))
    assert CANARY not in str(caught.value)
