"""`python -m lmrun.ui`: the page, with its settings as one JSON document on stdin."""

import os
import sys

from lmrun import log
from lmrun.ui.settings import PageSettings


def main() -> None:
    """Entry point."""
    log.setup()
    # Gradio reads these when it is imported, hence the late import.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lmrun.ui.serve import serve  # noqa: PLC0415

    serve(PageSettings.from_json(sys.stdin.read()))


if __name__ == "__main__":
    main()
