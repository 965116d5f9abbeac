"""The chat page in a real browser, before a real deployment."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from e2e.browser import WIDTHS
from e2e.deployment import Deployment, wait_until
from playwright.sync_api import Browser, Page, TimeoutError, expect

# With the reference kernels the tiny model writes slowly enough to be watched, and greedy "hello"
# does not end before the token limit.
OVERRIDES = ("frontend.ui=gradio", "backend.isa=generic")


@pytest.fixture(scope="module")
def deployment(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One deployment with a page for the tests of this file."""
    up = Deployment(tmp_path_factory.mktemp("page"), home, *OVERRIDES)
    up.wait_for("page")
    yield up
    up.clean_up()


@pytest.fixture(params=WIDTHS)
def page(
    browser: Browser, deployment: Deployment, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The page at desktop and at phone width; fails if anything but loopback was contacted."""
    width, height = WIDTHS[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    contacted: set[str | None] = set()
    errors: list[str] = []
    page.on("request", lambda call: contacted.add(urlsplit(call.url).hostname))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(deployment.line("page").split()[1])
    expect(_box(page)).to_be_visible(timeout=30_000)
    expect(_folder(page)).to_be_visible(timeout=30_000)
    # The page has loaded once it knows its width: on a phone the settings are folded.
    expect(_temperature(page)).to_be_visible(visible=width > 800)
    yield page
    page.close()
    assert contacted == {"127.0.0.1"}
    assert errors == []


def test_a_message_is_answered_piece_by_piece_and_stop_aborts_it(
    page: Page, deployment: Deployment, tmp_path: Path
) -> None:
    page.screenshot(path=tmp_path / "empty.png")
    _set(page, temperature="0", max_tokens="1900")
    _box(page).fill("hello")
    _box(page).press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(_replies(page)).to_have_count(1, timeout=20_000)
    lengths = [len(_replies(page).inner_text())]
    wait_until(lambda: _grown(page, lengths), 20)
    wait_until(lambda: _grown(page, lengths), 20)
    page.screenshot(path=tmp_path / "streaming.png")
    assert _gauge(deployment, "lmrun_requests_running") == 1
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#notice")).to_contain_text("Stopped.")
    wait_until(lambda: _gauge(deployment, "lmrun_requests_running") == 0, 3)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.screenshot(path=tmp_path / "stopped.png")
    size = page.viewport_size
    assert size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for name in ("Send", "New chat"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
        assert box["y"] + box["height"] <= size["height"]


def test_a_refusal_is_shown_and_the_message_returns_to_the_box(page: Page, tmp_path: Path) -> None:
    text = "too long " * 2000
    _box(page).fill(text)
    page.get_by_role("button", name="Send").click()
    shown = page.locator("#notice p.error")
    expect(shown).to_contain_text(re.compile("context"), timeout=20_000)
    expect(_box(page)).to_have_value(text)
    expect(_replies(page)).to_have_count(0)
    page.screenshot(path=tmp_path / "refused.png")


def test_a_finished_reply_is_counted_and_a_new_chat_forgets_it(page: Page) -> None:
    _set(page, temperature="0", max_tokens="12")
    _box(page).fill("hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#notice")).to_contain_text("Cut at the token limit. 12 tokens,")
    page.get_by_role("button", name="New chat").click()
    expect(_replies(page)).to_have_count(0)
    expect(page.locator("#notice")).to_have_text("")


def _box(page: Page):  # noqa: ANN202 - playwright's Locator
    return page.get_by_placeholder("Write a message")


def _temperature(page: Page):  # noqa: ANN202 - playwright's Locator
    return page.get_by_label("number input for Temperature")


def _replies(page: Page):  # noqa: ANN202 - playwright's Locator
    return page.locator("#chat").get_by_test_id("bot")


def _folder(page: Page):  # noqa: ANN202 - playwright's Locator
    return page.get_by_role("button", name="Settings")


def _set(page: Page, *, temperature: str, max_tokens: str) -> None:
    was_folded = not _temperature(page).is_visible()
    _fill(page, "Temperature", temperature)
    _fill(page, "Max tokens", max_tokens)
    if was_folded and _temperature(page).is_visible():
        _folder(page).click()
        expect(_temperature(page)).to_be_hidden()


def _fill(page: Page, name: str, value: str) -> None:
    """Set a number, unfolding the settings as often as the page, still loading, folds them."""
    control = page.get_by_label(f"number input for {name}")
    for _ in range(5):
        if not control.is_visible():
            _folder(page).click()
        with contextlib.suppress(TimeoutError):
            control.fill(value, timeout=3_000)
            control.press("Tab", timeout=3_000)
            break
    expect(control).to_have_value(value)


def _grown(page: Page, lengths: list[int]) -> bool:
    """Whether the reply is longer than when last asked."""
    now = len(_replies(page).inner_text())
    if now > lengths[-1]:
        lengths.append(now)
        return True
    return False


def _gauge(deployment: Deployment, name: str) -> float:
    text = httpx.get(f"{deployment.url}/metrics", trust_env=False).text
    return next(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")
    )
