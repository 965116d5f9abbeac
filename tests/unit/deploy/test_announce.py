import json
import shlex

from lmrun.deploy import announce


def test_the_curl_line_survives_a_shell() -> None:
    line = announce.curl(
        "http://127.0.0.1:1", 'o\'neil "7b"', has_template=False, key_reference=None
    )
    words = shlex.split(line)
    assert words[:2] == ["curl", "http://127.0.0.1:1/v1/completions"]
    assert json.loads(words[-1]) == {
        "model": 'o\'neil "7b"',
        "prompt": "Once upon a time",
        "max_tokens": 32,
    }


def test_a_model_with_a_chat_template_is_asked_to_chat() -> None:
    line = announce.curl("http://h:1", "m", has_template=True, key_reference=None)
    assert line == (
        "curl http://h:1/v1/chat/completions -H 'Content-Type: application/json' -d"
        ' \'{"model": "m", "messages": [{"role": "user", "content": "Once upon a time"}],'
        ' "max_tokens": 32}\''
    )


def test_a_key_stays_a_reference_to_its_variable() -> None:
    line = announce.curl("http://h:1", "m", has_template=False, key_reference="${oc.env:KEY}")
    assert '-H "Authorization: Bearer $KEY"' in line
