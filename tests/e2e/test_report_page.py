"""The page of `lmrun report`, opened from its file in a real browser without a network."""

from pathlib import Path

import pytest
from e2e.browser import WIDTHS
from e2e.test_sweep_report import Watched
from playwright.sync_api import Browser, expect

from lmrun.config import compose
from lmrun.reports.gather import gather
from lmrun.reports.html import html
from unit.reports.conftest import built, quality_of  # noqa: F401 - `built` is a fixture
from unit.stages.projects import Project


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_shows_its_plots_and_tables_without_a_network(
    browser: Browser,
    built: Project,  # noqa: F811 - the fixture
    tmp_path: Path,
    width: str,
) -> None:
    words = quality_of(built)
    run = compose(built.overrides(*words)).run
    file = tmp_path / "report.html"
    file.write_text(html(gather(built.plan(*words), run.kv, built.store)), encoding="utf-8")
    watched = Watched(browser, *WIDTHS[width])
    page = watched.open(file.as_uri())
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    for plot, markers in (("errors", 7 * 3), ("scales", 4 * 3), ("kv", 6 * 3)):
        expect(page.locator(f"#plot-{plot} .points path.point")).to_have_count(markers)
    expect(page.locator("#plot-seconds .bars .point")).to_have_count(3 * 3)
    expect(page.get_by_text("perplexity", exact=True)).to_be_visible()
    expect(page.locator("table").first.locator("tbody tr")).to_have_count(7 * 3)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0]
    watched.close(file.as_uri())
