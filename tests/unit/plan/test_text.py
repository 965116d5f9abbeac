from typing import Any

from lmrun.plan.text import plan_text

Bench = Any  # the fixture's class lives in conftest.py


def test_the_text_form_word_for_word(bench: Bench) -> None:
    plan = bench.plan("kv.bits=4", "frontend=api_gradio")
    short = [str(stage.fingerprint)[:12] for stage in plan.stages]
    assert (
        plan_text(plan)
        == f"""\
model     tiny: checkpoint {bench.checkpoint}
          LlamaForCausalLM, 2 layers, hidden 128, ffn 384, heads 4:2, vocabulary 64, F16,\
 410,240 parameters
note      calibration.seq_len=512: more than the context of this model, 256 tokens;\
 the model was not made for the positions behind

stages
  resolve   cached   {short[0]}  digests known
  calibrate run      {short[1]}  no entry yet
  quantize  run      {short[2]}  no entry yet
  convert   run      {short[3]}  no entry yet
  calibrate needs about 568 MiB of memory and 283 KiB of disk, 8 MiB more while it runs
  quantize needs about 596 MiB of memory and 236 KiB of disk, 64 MiB more while it runs
  convert needs about 514 MiB of memory and 2 MiB of disk
  one after the other: 596 MiB of memory (quantize), 66.5 MiB of disk together

memory
        8 GiB  cpu, installed memory
      -32 MiB  engine process (estimate)
       -2 MiB  weights
                 16 KiB embedding, F16: 8,192 x 16 bits
               50.2 KiB attention, u4 g128: 98,304 x 4.1875 bits
                151 KiB mlp, u4 g128: 294,912 x 4.1875 bits
                2.5 KiB norms, F32: 640 x 32 bits
                 16 KiB head, F16: 8,192 x 16 bits
               1.77 MiB rope table, padding, rounding to whole pages
    -1.79 MiB  activations
               1.75 MiB hidden states, q k v, attention, gate and up: 256 tokens x 1,792 x 4 B
                  8 KiB logits: 32 rows x 64 x 4 B
                 32 KiB rotary: 256 positions x 32 x 4 B
     7.97 GiB  left
     1.25 MiB  KV cache: 128 blocks of 10 KiB (64 tokens x 160 B, 4 bits),\
 8,192 tokens
               a token: 2 layers x 2 KV heads x 2 x (16 B + 4 B of scale and zero) = 160 B
               all that is needed: 32 sequences x 4 blocks (256 tokens) = 128;\
 kv.memory_ratio allows 0.8 x 7.97 GiB
               holds 32 x 256 tokens (4 blocks)

speed     not measured: lmrun doctor --measure

launch
  engine    native, isa auto, 2 threads, context 256 tokens
  api       http://127.0.0.1:23333/v1
  ui        http://127.0.0.1:7860 (gradio)"""
    )


def test_a_share_of_memory_shows_its_factors(bench: Bench) -> None:
    text = plan_text(bench.plan("kv.memory_ratio=0.0001"))
    assert "kv.memory_ratio: 0.0001 x 7.97 GiB; full use would be 32 sequences x 4 blocks" in text
    text = plan_text(bench.plan("kv.memory=1MiB", "backend.context_length=64"))
    assert "kv.memory=1MiB; full use would be 32 sequences x 1 block (64 tokens) = 32" in text
