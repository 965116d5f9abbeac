"""What the plan hands to the engine at launch, and what the engine is asked back for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineSettings:
    """Launch settings of one engine process.

    The worker passes them to the native engine and answers `effective_config` in the same
    fields; a difference fails the deploy.
    """

    workspace: str
    """Folder of the engine workspace."""
    isa: str
    """`auto`, `generic`, `avx2`, `avx512` or `amx`."""
    threads: int
    num_blocks: int
    """KV blocks; the plan divides the budget, the engine allocates exactly these."""
    block_size: int
    """Tokens in a block."""
    kv_bits: int | tuple[int, ...]
    """32, 16, 8 or 4: of all layers, or of each."""
    activation_bits: int
    """32, 16 or 8: of the inputs of linears whose weights are codes in groups."""
    max_num_seqs: int
    max_batch_tokens: int
    context_length: int
    """Longest prompt plus completion, in tokens."""
    prefix_caching: bool
    weight_memory: str = "auto"
    """`auto`, `huge_pages` or `mapped`; what was chosen in those that are in force."""
