"""The report of a sweep, opened from its file in a real browser without a network."""

from pathlib import Path

import pytest
from e2e.browser import WIDTHS
from playwright.sync_api import Browser, Page, expect

from lmrun.sweep.choose import choose
from lmrun.sweep.conclusion import conclude
from lmrun.sweep.html import html
from lmrun.sweep.rows import Status
from unit.sweep.grid import bench, grid, measured, quality, sweep, with_status


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sweep with a point of each end."""
    folder = tmp_path_factory.mktemp("report")
    rows = list(grid(folder).rows)
    rows[5] = with_status(rows[5], Status.failed, "build: no space left")
    rows[8] = with_status(rows[8], Status.gate_failed, "evaluate.max_kl=0.02: got 0.03")
    rows[26] = with_status(rows[26], Status.skipped, "too large")
    conclusion = conclude(sweep(folder, rows))
    chosen = choose(conclusion, "max tokens_per_s where ppl_ratio < 1.02")
    file = folder / "report.html"
    file.write_text(html(conclusion, chosen), encoding="utf-8")
    return file


class Watched:
    """A page, and what it asked for and complained of."""

    def __init__(self, browser: Browser, width: int, height: int) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, offline=True
        )
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def open(self, address: str) -> Page:
        """Go there and wait for the last plot."""
        self.page.goto(address)
        expect(self.page.locator(".js-plotly-plot .legend").last).to_be_visible()
        return self.page

    def close(self, *asked: str) -> None:
        """Nothing else was asked for, and nothing went wrong."""
        self.context.close()
        assert self.asked == list(asked)
        assert self.said == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_shows_its_points_without_a_network(
    browser: Browser, report: Path, tmp_path: Path, width: str
) -> None:
    watched = Watched(browser, *WIDTHS[width])
    page = watched.open(report.as_uri())
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    for plot in ("quality-memory", "quality-speed", "speed-memory"):
        markers = page.locator(f"#plot-{plot} .points path.point")
        expect(markers).to_have_count(25 + 1)  # the measured ones and the ring of the chosen one
        places = markers.evaluate_all(
            "found => new Set(found.map(one => one.getAttribute('transform'))).size"
        )
        assert places > 10
        expect(page.locator(f"#plot-{plot} .lines path.js-line")).to_have_count(1)
    expect(page.locator("tbody tr")).to_have_count(25)
    expect(page.get_by_text("build: no space left")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0]
    watched.close(report.as_uri())


def test_a_click_on_a_head_sorts_by_numbers_and_keeps_what_is_missing_last(
    browser: Browser, tmp_path: Path
) -> None:
    speeds = [90.0, 1000.0, 200.0]
    rows = [
        measured(n, {"kv.bits": n}, quality(1.0 + n / 9), bench(1, 1, speed))
        for n, speed in enumerate(speeds)
    ]
    rows.append(measured(3, {"kv.bits": 3}, quality(1.5)))
    file = tmp_path / "report.html"
    file.write_text(html(conclude(sweep(tmp_path, rows))), encoding="utf-8")
    watched = Watched(browser, 1280, 800)
    page = watched.open(file.as_uri())
    numbers = page.locator("tbody tr td:first-child")
    head = page.get_by_role("button", name="tokens/s")
    head.click()
    assert numbers.all_inner_texts() == ["1", "3", "2", "4"]
    assert head.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    head.click()
    assert numbers.all_inner_texts() == ["2", "3", "1", "4"]
    watched.close(file.as_uri())


def test_a_pointer_on_a_point_shows_its_settings(browser: Browser, report: Path) -> None:
    watched = Watched(browser, 1280, 800)
    page = watched.open(report.as_uri())
    box = page.locator("#plot-quality-speed .points path.point").last.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = page.locator("#plot-quality-speed .hoverlayer")
    expect(shown).to_contain_text("quant.method=awq")
    expect(shown).to_contain_text("kv.bits=4")
    watched.close(report.as_uri())


def test_one_plot_alone_is_a_picture(browser: Browser, report: Path, tmp_path: Path) -> None:
    watched = Watched(browser, 900, 500)
    address = f"{report.as_uri()}?only=quality-speed"
    page = watched.open(address)
    picture = page.screenshot(path=tmp_path / "picture.png")
    expect(page.locator(".js-plotly-plot")).to_have_count(1)
    expect(page.locator("table")).not_to_be_visible()
    assert page.evaluate("document.documentElement.scrollHeight") <= 500
    assert len(picture) < 120_000
    watched.close(address)


def test_the_report_prints_on_paper(browser: Browser, report: Path) -> None:
    watched = Watched(browser, 720, 1000)
    page = watched.open(report.as_uri())
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    expect(page.locator(".modebar").first).not_to_be_visible()
    watched.close(report.as_uri())
