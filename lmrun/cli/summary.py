"""The job summary of GitHub Actions: Markdown appended to the file that the runner names."""

from lmrun import env, log

logger = log.get(__name__)


def text(title: str, body: str) -> None:
    """Add a section that shows a text as the terminal does."""
    append(f"### {title}\n\n```text\n{body.rstrip()}\n```")


def append(markdown: str) -> None:
    """Add a section to the job summary; nothing where there is none.

    A summary that cannot be written is a warning: it never changes what the command did.
    """
    path = env.step_summary()
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(markdown.rstrip("\n") + "\n\n")
    except OSError as error:
        logger.warning("GITHUB_STEP_SUMMARY=%s: cannot be written: %s", path, error.strerror)
