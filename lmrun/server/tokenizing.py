"""The tokenizer over HTTP, under the paths and in the words of vLLM: clients that score prompts
(lm-eval's remote tokenizer) need no copy of it."""

import asyncio
from typing import Any

from starlette.requests import Request

from lmrun.models.tokenizer import Tokenizer
from lmrun.server.bodies import TokenizeBody, parse_detokenize, parse_tokenize
from lmrun.server.errors import invalid
from lmrun.server.frame import read_body
from lmrun.server.logprobs import spelled
from lmrun.server.service import Service

PATHS = ("/tokenize", "/detokenize", "/tokenizer_info")


async def tokenize(service: Service, request: Request) -> dict[str, Any]:
    """POST /tokenize: the token ids of a text."""
    body = parse_tokenize(await read_body(request, service.settings.max_body_bytes))
    service.check_model(body.model)
    ids, names = await asyncio.to_thread(_tokens, service.tokenizer, body)
    return {
        "count": len(ids),
        "max_model_len": service.settings.planned.context_length,
        "tokens": ids,
        "token_strs": names,
    }


def _tokens(tokenizer: Tokenizer, body: TokenizeBody) -> tuple[list[int], list[str] | None]:
    ids = tokenizer.encode(body.prompt, body.add_special_tokens)
    return ids, [spelled(tokenizer, i) for i in ids] if body.return_token_strs else None


async def detokenize(service: Service, request: Request) -> dict[str, Any]:
    """POST /detokenize: the text of token ids, special tokens included."""
    body = parse_detokenize(await read_body(request, service.settings.max_body_bytes))
    service.check_model(body.model)
    vocab_size = service.client.ready.vocab_size if service.client.ready else 0
    if vocab_size and body.tokens and (highest := max(body.tokens)) >= vocab_size:
        raise invalid("tokens", f"expected token ids from 0 to {vocab_size - 1}, got {highest}.")
    text = await asyncio.to_thread(service.tokenizer.decode, body.tokens, False)
    return {"prompt": text}


def tokenizer_info(service: Service) -> dict[str, Any]:
    """GET /tokenizer_info: the special tokens and the chat template."""
    template = service.template
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **service.tokenizer.special_tokens,
        "chat_template": None if template is None else template.source,
    }
