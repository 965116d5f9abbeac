"""The texts of ``lmrun --help`` and ``lmrun VERB --help``: constants, so that they cost nothing."""

SHORT = """\
lmrun deploys open LLMs from YAML recipes.

    lmrun plan +recipe=w4a16_kv4_server      what will run, what it costs, whether it fits
    lmrun +recipe=w4a16_kv4_server           build what is missing, launch, serve
    lmrun +recipe=w4a16_kv4_server model.path=/path/to/model kv.bits=8
    lmrun -m +recipe=w4a16_kv4_server kv.bits=16,8,4        which setting is best, measured

lmrun --help lists the verbs, lmrun list the recipes.
"""

FULL = """\
usage: lmrun [VERB] [KEY=VALUE ...] [--FLAG ...]

verbs
  up      build what is missing, launch the engine, serve, stop on Ctrl-C (the default)
  plan    what would run and why, the memory budget, whether it fits; writes nothing
  build   the offline stages only: prune, quantize, convert, and evaluate where the recipe asks
  lock    build, then pin config, model, artifacts and versions in a file for review
  verify  is everything as it was locked? hashes all of it, builds nothing
  explain which file or override set a value, and what it beat
  diff    what differs between two deployments, and what follows from it
  eval    perplexity, KL, tasks and tool calls, held against the bounds of the recipe
  bench   TTFT, inter-token latency, tokens/s and memory, beside what the machine can do
  report  what quantizing did to each layer, and what it cost: text, JSON, a page with plots
  sweep   what sweeps found: table, CSV, HTML report; choose a point, write its recipe
  chat    talk to a running server in the terminal
  export  the quantized folder or the engine workspace, as a folder of yours
  store   the artifacts on this machine: ls, verify, gc, rm, export, import, key
  new     write a recipe for a model, after a look at it and at this machine
  list    recipes, models, quantizers, backends, devices, chat templates, artifacts, …
  schema  JSON Schema of recipes and of what lmrun writes; editor set-up
  doctor  what is missing on this machine; with --measure, what it can do at most
  completion   Tab in bash and zsh

settings: KEY=VALUE sets a key, GROUP=OPTION picks a file of configs/GROUP
  +recipe=NAME         start from a recipe; several: '+recipe=[A,B]', the last wins
  model.path=PATH      a checkpoint folder, a quantized folder or a workspace
  quant=awq_w4_g128    4-bit weights; none keeps 16 bits; lmrun list quantizers shows the others
  kv.bits=16|8|4       bits of the KV cache
  frontend.port=23333  port of the API

flags, anywhere on the line
  -m                   a sweep: every combination of kv.bits=16,8,4 'quant=glob(*)' … is built,
                       evaluated and timed (up, build, eval, bench, plan); lmrun sweep --help
  --cfg job            print the composed settings and stop (up, plan, build)
  --events FILE        append what happens to FILE, one JSON object a line
  --log-format json    the log on stderr as one JSON object a line
  -v, -q               more log; errors alone, and no plan before a build
  --help, -h           this text, or that of a verb
  --version            versions of lmrun and of its engine

Quiet without a terminal: no progress bars, no colours (NO_COLOR does the latter anywhere). In
GitHub Actions, plan, build, eval, verify and diff add to the job summary.

environment
  LMRUN_HOME           folder of the artifact store
  LMRUN_MODELS         folders searched for model.path=NAME
  LMRUN_RECIPE_PATH    folders searched for recipes before ./recipes and the shipped ones
  LMRUN_LOG            debug, info, warning or error

exit statuses: 0 ok, 1 bug, 2 usage, 3 configuration, 4 refused for this model or machine,
5 stage or launch failed, 6 quality gate failed, 7 drift since the lock, 8 diff found a difference,
10 part of a sweep failed, 130 interrupted before ready
"""

VERBS = {
    "up": """\
usage: lmrun [up] [KEY=VALUE ...] [--verify full] [--locked[=FILE]] [--junit FILE] [--cfg job]

Plans, runs the stages that are missing, launches the engine and serves, in the foreground.
Ctrl-C or SIGTERM lets running requests finish (frontend.drain_s), a second one stops at once.

  -m               a sweep over KEY=A,B ...: see lmrun sweep --help
  --verify full    hash every file of the artifacts before the launch, not after it
  --locked         refuse (status 7) anything else than locks/RECIPE.lock.yaml, or FILE, says;
                   --locked=FILE alone takes the settings that FILE was locked with
  --junit FILE     what the quality gate found, as JUnit XML; a bound that is not kept stops before
                   the launch (status 6)
""",
    "plan": """\
usage: lmrun plan [KEY=VALUE ...] [--json] [--cfg job]

Prints the stages (run or cached, and why), the memory budget and whether it fits.
Writes nothing.

  -m        a sweep over KEY=A,B ...: see lmrun sweep --help
  --json    one JSON document on stdout
""",
    "build": """\
usage: lmrun build [KEY=VALUE ...] [--locked[=FILE]] [--junit FILE] [--cfg job]

Runs the offline stages that are missing and prints the folder of the engine workspace. Where the
recipe evaluates (evaluate.*), that too: a bound that is not kept ends with status 6.

  -m              a sweep over KEY=A,B ...: see lmrun sweep --help
  --locked        refuse (status 7) anything else than locks/RECIPE.lock.yaml, or FILE, says;
                  --locked=FILE alone takes the settings that FILE was locked with
  --junit FILE    what the quality gate found, as JUnit XML
""",
    "lock": """\
usage: lmrun lock [KEY=VALUE ...] [--output FILE] [--no-build]

Builds what is missing, then pins everything in locks/RECIPE.lock.yaml: the composed settings,
digests of the model, the calibration text and every artifact, the numeric class that built it,
the engine's build and the versions of packages. Nothing changed, nothing written.

  --output FILE    another file; its name ends in .lock.yaml
  --no-build       refuse (status 4) where something is not built yet
""",
    "verify": """\
usage: lmrun verify [FILE.lock.yaml] [KEY=VALUE ...] [--json]

Compares with locks/RECIPE.lock.yaml, or with FILE (alone: with the overrides it was made with).
Hashes every file and builds nothing. Status 7 names all that drifted, old → new, and what to do.

  --json    one JSON document on stdout
""",
    "chat": """\
usage: lmrun chat [--url URL] [KEY=VALUE ...] [--FLAG ...]

Talks in the terminal: to a running server, or, with overrides, to an engine started for it.

  --url URL           the server (default: http://127.0.0.1:23333)
  --api-key REF       the server's key, as a reference such as '${oc.env:NAME}'
  --system TEXT       system message
  --temperature X     0 always takes the likeliest token (default: 0.7)
  --max-tokens N      longest reply (default: 512)
""",
    "eval": """\
usage: lmrun eval [KEY=VALUE ...] [--json] [--junit FILE]

Builds what is missing, measures the quality of the deployment through the engine that will serve it
(weight bits, KV bits and activation bits together), and prints the figures beside their bounds.
Status 6 where one is not kept. A recipe that asks for nothing gets evaluate=quick.

  evaluate=quick|full             text and tool calls that come with lmrun
  evaluate.data=FILE              perplexity, KL divergence and top-1 agreement on a text of yours
  evaluate.tasks.NAME=FILE        choices by likelihood, or exact answers (JSONL)
  evaluate.tools=FILE             tool calls
  evaluate.max_ppl_ratio=1.02     a bound; also .max_ppl, .max_kl, .min_top1, .min_tool_accuracy,
                                  .min_task_accuracy.NAME

  -m              a sweep over KEY=A,B ...: see lmrun sweep --help
  --json          one JSON document on stdout
  --junit FILE    what the quality gate found, as JUnit XML
""",
    "bench": """\
usage: lmrun bench [KEY=VALUE ...] [--json]
       lmrun bench --url URL [--api-key '${oc.env:NAME}'] [bench.KEY=VALUE ...] [--json]
       lmrun bench startup [KEY=VALUE ...] [--runs N] [--json]
       lmrun bench engine [--shape NAME] [--against llama.cpp,openvino --peers DIR] [--json]
       lmrun bench engine --install-peers DIR
       lmrun bench quantize [--methods awq,gptq,...] [--peers NAME=VENV,...] [--json]
       lmrun bench quality [--models PATH,...] [--methods ...] [--text FILE] [--json]

Builds what is missing, starts engine and server as `up` does, on a free port, and measures them
over HTTP as clients do: time to the first token, inter-token latency, tokens/s, requests/s, errors
and memory, beside what this machine can do at most. The last line is one JSON document. What is
sent stands in bench.*: bench=quick (under a minute on the demo model), bench=full, or

  bench.prompt_tokens, .output_tokens, .requests, .rounds, .seed
  bench.concurrency=[1,4]   requests that are open at the same time, a level each
  bench.trace=FILE          recorded arrivals (CSV) in place of levels, with .trace_speedup,
                            and goodput within .max_ttft_ms and .max_itl_ms

`startup` prints the CPU time of --help, list, explain, plan and diff, and their heaviest imports.
`engine` times the engine alone on a model of 4 bits with random weights: decode, prefill, the
requests of a trace, start-up and peak memory, beside the ceilings of this machine and beside
llama.cpp and OpenVINO GenAI on the same weights, all in turn, each job in a process of its own.
`quantize` times our quantizers on a random model, a layer or more, and counts their error on tokens
held out; --peers puts other tools beside them, each in a virtual environment of its own:
llm-compressor, gptqmodel, auto-round. `quality` builds and evaluates every way to quantize some
models, beside the figures that other tools reach.

  -m            a sweep over KEY=A,B ...: see lmrun sweep --help
  --url URL     a server of any OpenAI-compatible kind that runs already
  --api-key R   a reference to its key
  --json        that document alone
  --runs N      of startup: the least of N runs counts (default: 5)

of engine
  --shape NAME       llama-1b (the shape of TinyLlama, default), internlm2_5-1.8b, demo, or
                     random-llama, which is tiny
  --against A,B      llama.cpp, openvino, or llama-bench:PATH (any program with its flags)
  --peers DIR        where --install-peers DIR put them; their models go there too (2 GiB)
  --install-peers DIR   a virtual environment with OpenVINO GenAI, and llama.cpp's benches built
                     for this machine; needs a C++ compiler and takes some minutes
  --gguf A,B         files for llama.cpp's benches, in place of Q4_0 and Q4_K_M of the shape
  --kv-bits A,B      of our cache (default: 16,4); --activation-bits A,B and --isa A,B likewise
  --threads N        default: the cores this process may use
  --batches A,B      of decode (default: 1,4,8,16), those above 1 at the first context alone;
                     --full: at each
  --contexts A,B     of decode (default: 0,512,2048,4096); --prefill A,B prompts (128,512,2048)
  --rounds N         all engines once a round, in turn (default: 3)
  --trace FILE       recorded arrivals (CSV), the first --requests N (32), --trace-speedup N
  --quick            one round, less of everything
of quantize and quality
  --methods A,B      quantize: awq,gptq,autoround (default), rtn, awq_gptq; quality: float,rtn,awq,
                     gptq,awq_gptq,autoround,rotated_gptq,best,w8a8,w8a16 (default: all)
  --samples N        sequences of calibration (default: 128)
  --seq-len N        tokens of each (default: 512, of quality 256)
of quantize
  --shape NAME       random-llama-1b (the shape of TinyLlama, default) or random-llama
  --layers N         how many of its layers (default: 1)
  --group-size N     default: 128
  --rounds N         every tool once a round, in turn (default: 1)
  --keep DIR         keep checkpoints and logs
of quality
  --models A,B       folders, or builtin:NAME (default: builtin:demo)
  --group-sizes A,B  of 4 bits (default: 128,64,32)
  --text FILE        held out (default: builtin:stories)
  --calibration FILE   default: builtin:sample
  --preset NAME      of autoround and best: light (default) or best
  --max-tokens N, --kl-tokens N   of the text (default: 65535 each), in windows of --window N (256)
""",
    "report": """\
usage: lmrun report [KEY=VALUE ...] [--json] [--html FILE]

What the store has on a deployment that was built: the error of each linear, the scales and alphas
that were chosen, the time of each layer, the expected error of the KV cache at 8 and 4 bits, and
before and after: size, perplexity, KL, top-1 (where it was evaluated). Builds nothing.

  --html FILE   write the page, too: one file with plots, which needs no network
  --json        one JSON document on stdout
""",
    "sweep": """\
usage: lmrun [up|build|eval|bench] -m KEY=A,B [KEY=VALUE ...] [--overlap] [--FLAG ...]
       lmrun plan -m KEY=A,B [KEY=VALUE ...] [--json]
       lmrun sweep ls [--json]
       lmrun sweep show [SWEEP] [--json] [--csv FILE] [--html FILE]
                        [--choose EXPRESSION] [--write-recipe NAME [--force]]
       lmrun sweep rm SWEEP...

-m runs a sweep: every combination of the values, A,B, choice(), range(), glob(*) and all else of
Hydra's grammar, is built, evaluated and timed, and what was done before is not done again (up;
build and eval time nothing, bench evaluates nothing, plan shows the points). What cannot be run
is listed and skipped; status 10 where a point fails. hydra/launcher=joblib builds with several
workers, hydra.launcher.n_jobs=N, and times one point at a time all the same; --overlap times
points while others run. It ends as show does, and takes the flags of show.

SWEEP is an id or the first digits of one; show takes the latest where none is named. It prints a
line a point, points that differ in seeds alone as one with mean and deviation, and marks the
Pareto front.

  --csv FILE            the same for pandas and spreadsheets, units in the heads; - is stdout
  --html FILE           plots and table in one file that needs no network
  --json                one JSON document on stdout, which pandas reads
  --choose EXPRESSION   pick a point: max|min FIGURE [where FIGURE <|<=|>|>=|== NUMBER and ...],
                        as in 'max tokens_per_s where ppl_ratio < 1.02 and memory_gib < 8'. Of
                        equal ones that of fewer bytes, then of less perplexity. Status 4 where
                        no point meets it
  --write-recipe NAME   write ./recipes/NAME.yaml: the settings of the chosen point, or of the
                        one point of the front, with the reason in comments
  --force               replace a recipe, or hide one that comes with lmrun

figures: memory_gib, weights_gib, kv_gib, ppl, ppl_ratio, kl, top1, tool_accuracy, task.NAME,
ttft_ms, itl_ms, tokens_per_s, requests_per_s
""",
    "diff": """\
usage: lmrun diff LEFT... -- RIGHT... [--json | --markdown] [--exit-code]
       lmrun diff SIDE...
       lmrun diff --since REV [KEY=VALUE ...]

Prints which settings differ and where each was set, which stages would run again, and what that
means for memory, downtime, speed and quality. Writes nothing. A side is one of

  KEY=VALUE ...            overrides, as for `lmrun plan`
  FILE.lock.yaml           what `lmrun lock` wrote
  git:REV KEY=VALUE ...    overrides, with the recipes/ and configs/ of that revision

One side alone is compared with its lock, a lock with its own overrides as they compose now.

  --since REV    every recipe here that changed since REV, through a shared file too
  --markdown     for a pull request
  --json         one JSON document on stdout
  --exit-code    end with status 8 where something differs
""",
    "explain": """\
usage: lmrun explain KEY... | GROUP... | recipe | --all [KEY=VALUE ...] [--json]

Prints every value that a key was given, in the order of merging: the default, option files,
recipes, the command line. The last one, marked >, wins. Also what a change of the key would
change: stages that run again, or the launch only. A group shows its options and its keys.

  --all     every key
  --json    one JSON document on stdout
""",
    "export": """\
usage: lmrun export prune|quantize|convert DIR [KEY=VALUE ...] [--link] [--no-build]

Puts the artifact of a stage into DIR, with its manifest, building what is missing first: the
pruned checkpoint (a float Hugging Face folder), the quantized one (in the format of quant.format),
or the engine workspace. Each serves as model.path.
DIR must be new, empty, or an earlier export of the same stage, which is replaced as a whole.

  --link        hard links in place of copies: no bytes, and not to be written to
  --no-build    fail where the artifact is not in the store
""",
    "store": """\
usage: lmrun store COMMAND [...]

  ls [--json]                      every artifact: size, age, last use, and who uses it
  verify [FINGERPRINT ...] [--json]
                                   hash all bytes; what is damaged is named, marked and rebuilt by
                                   the next build; status 5 if anything is
  gc [--dry-run] [--older-than 7d] [--json]
                                   remove what no lock file and no running command needs; asks
                                   nothing. Lock files count where `lmrun lock` wrote them, and in
                                   ./locks. --older-than keeps what was used since
  rm FINGERPRINT ... [--force]     remove artifacts; refused for what a lock file needs (unless
                                   --force) and always for what a running command uses
  export FINGERPRINT FILE.tar      an artifact as one file, to carry to another machine
  export STAGE KEY=VALUE ... FILE.tar
  import FILE.tar ...              put it into the store; every byte is checked first
  key KEY=VALUE ... [--json]       one line that changes when the offline stages would build other
                                   bytes: the key of a CI cache of $LMRUN_HOME

FINGERPRINT is its first 6 digits or more.
""",
    "new": """\
usage: lmrun new NAME --model MODEL [--revision REV] [--output DIR] [--force]

Writes ./recipes/NAME.yaml: the best quality of weights and KV cache that fits this machine, with
the figures in comments. MODEL is a checkpoint folder, a quantized folder, a workspace,
builtin:NAME, or ORG/NAME on the Hugging Face hub (kept at the commit of today).

  --revision REV   branch, tag or commit on the hub (default: main)
  --output DIR     write DIR/NAME.yaml
  --force          replace a recipe, or hide one that comes with lmrun
""",
    "list": """\
usage: lmrun list [KIND ...] [--json]

Prints everything that can be named, or some kinds of it: recipes, models, quantizers, backends,
devices, chat-templates, artifacts, templates (files to copy: a workflow for GitHub Actions).

  --json    one JSON document on stdout
""",
    "schema": """\
usage: lmrun schema [NAME] [--output DIR]
       lmrun schema --editor [--output DIR]

Prints the JSON Schema (draft 2020-12) of a recipe, or of a document that lmrun writes; without
NAME, lists them.

  --output DIR    write DIR/NAME.schema.json, for every schema where none is named
  --editor        write the schema of recipes to ./recipes (or DIR), and say which line of a
                  recipe makes an editor complete and check it
""",
    "doctor": """\
usage: lmrun doctor [--measure] [--json]

Looks at CPU, memory, huge pages, GPUs, versions, disks and ports, and says what to do about what
is wrong. Status 5 where something that lmrun needs is missing, 0 with warnings.

  --measure    measure the ceilings of this machine (20 s): plans then estimate speed. Measured
               again, the better figure stays
  --json       one JSON document on stdout
""",
    "completion": """\
usage: lmrun completion bash|zsh
       lmrun completion install|uninstall [bash|zsh]

Tab completes verbs, flags, recipes, groups, options, keys and values. The first form prints the
script; install adds it to what the shell reads at its start ($SHELL where none is named).
""",
}
