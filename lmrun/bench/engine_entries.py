"""The peers of `lmrun bench engine`, in the settings that are measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.bench.engine import Engine, Entry
from lmrun.bench.engine_peers import LlamaBench, OpenVinoPeer
from lmrun.bench.peers_folder import QUANTS, PeersFolder
from lmrun.errors import UsageError

LLAMA_CPP, OPENVINO, LLAMA_BENCH = "llama.cpp", "openvino", "llama-bench:"
_ONE = frozenset({"one"})
_EIGHT_BITS = "8 bits, made on the fly"


@dataclass(frozen=True)
class Against:
    """Who is asked for."""

    names: tuple[str, ...]
    folder: PeersFolder | None
    gguf: tuple[Path, ...]
    """In place of the files made of the checkpoint."""
    is_quick: bool
    """The first setting of each peer alone."""

    def check(self) -> None:
        """`UsageError` where a folder is needed and none was named, or lacks a program."""
        if LLAMA_CPP in self.names:
            self._installed().program("llama-bench")
        elif OPENVINO in self.names or (self.names and not self.gguf):
            self._installed()

    def entries(
        self, shape: str, checkpoint: Path, threads: int, kv_bits: Sequence[int]
    ) -> list[Entry]:
        """Makes the models that the peers read where they are not there yet.

        Each peer at its default; llama.cpp also with a KV cache of each of ``kv_bits`` that it has,
        after a context alone; OpenVINO also with products of float32 inputs.
        """
        found: list[Entry] = []
        for name in self.names:
            if name == OPENVINO:
                found += self._openvino(shape, checkpoint, threads)
            else:
                found += self._llama(name, shape, checkpoint, threads, kv_bits)
        return found

    def _llama(
        self, name: str, shape: str, checkpoint: Path, threads: int, kv_bits: Sequence[int]
    ) -> Iterator[Entry]:
        program = (
            self._installed().program("llama-bench")
            if name == LLAMA_CPP
            else Path(name.removeprefix(LLAMA_BENCH)).expanduser().absolute()
        )
        label = LLAMA_CPP if name == LLAMA_CPP else program.name
        if name != LLAMA_CPP and LLAMA_CPP in self.names:
            label = f"{program.parent.name}/{program.name}"
        for index, (weights, gguf) in enumerate(self._files(shape, checkpoint)):
            others = [bits for bits in kv_bits if bits in (4, 8)] if index == 0 else []
            for bits in dict.fromkeys((16, *others)):
                suffix = "" if bits == 16 else f" kv{bits}"
                engine = LlamaBench(f"{label} {weights}{suffix}", program, gguf, threads, bits)
                yield _entry(engine, weights, bits, _EIGHT_BITS, None if bits == 16 else _ONE)

    def _files(self, shape: str, checkpoint: Path) -> Iterator[tuple[str, Path]]:
        """Label and file."""
        if self.gguf:
            yield from ((file.stem, file) for file in self.gguf)
            return
        for quant in QUANTS[:1] if self.is_quick else QUANTS:
            yield quant, self._installed().gguf(shape, checkpoint, quant)

    def _openvino(self, shape: str, checkpoint: Path, threads: int) -> Iterator[Entry]:
        folder = self._installed()
        model = folder.openvino(shape, checkpoint)
        weights = "i4 symmetric, groups of 128; embedding and head i8"
        for precision in ("default",) if self.is_quick else ("default", "f32"):
            suffix = "" if precision == "default" else f" {precision}"
            engine = OpenVinoPeer(
                f"{OPENVINO}{suffix}", folder.python, model, threads, 8, precision
            )
            inside = "as its plugin chooses" if precision == "default" else "f32 hint"
            yield _entry(engine, weights, 8, inside)

    def _installed(self) -> PeersFolder:
        if self.folder is None:
            raise UsageError(
                f"--against={','.join(self.names)}: expected --peers DIR beside it, the folder that"
                " lmrun bench engine --install-peers DIR fills."
            )
        return self.folder


def _entry(
    engine: Engine,
    weights: str,
    kv_bits: int,
    activations: str,
    only: frozenset[str] | None = None,
) -> Entry:
    return Entry(engine, False, weights, kv_bits, activations, only)
