"""What a deployment prints when it is ready."""

import json
import re
import shlex
from pathlib import Path

from lmrun.deploy.ports import reachable
from lmrun.models import chat_template
from lmrun.plan.plan import Plan

PROMPT = "Once upon a time"
MAX_TOKENS = 32


def base_url(host: str, port: int) -> str:
    """URL of a listening address for a client on this machine, without a path."""
    return f"http://{reachable(host)}:{port}"


def ready_text(plan: Plan, *, key_reference: str | None) -> str:
    """URL, model name, and a command that works as it is, for a built plan."""
    has_template = chat_template.load(plan.chat_template, Path(plan.engine.workspace)) is not None
    url = base_url(plan.frontend.host, plan.frontend.port)
    lines = [
        f"api    {url}/v1",
        f"model  {plan.served_name}",
        "",
        curl(url, plan.served_name, has_template=has_template, key_reference=key_reference),
    ]
    return "\n".join(lines)


def curl(url: str, model: str, *, has_template: bool, key_reference: str | None) -> str:
    """A shell command for a short completion, a chat where the model can.

    `key_reference` is the config's ``${oc.env:NAME}``; the command reads the same variable.
    """
    if has_template:
        path = "chat/completions"
        text: dict[str, object] = {"messages": [{"role": "user", "content": PROMPT}]}
    else:
        path, text = "completions", {"prompt": PROMPT}
    body = json.dumps({"model": model, **text, "max_tokens": MAX_TOKENS}, ensure_ascii=False)
    lines = [f"curl {url}/v1/{path} -H 'Content-Type: application/json'"]
    name = re.fullmatch(r"\$\{oc\.env:(\w+)\}", key_reference or "")
    if name is not None:
        lines.append(f'-H "Authorization: Bearer ${name[1]}"')
    lines.append(f"-d {shlex.quote(body)}")
    return " ".join(lines)
