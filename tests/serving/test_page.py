"""The page in a real browser: Playwright drives the Chromium of this machine (``make test-browser``
installs both). Without them this is skipped, unless MATCH_RCNN_BROWSER is set."""

import json
import os
import re
import shutil

import cv2
import pytest

from match_rcnn import cli
from match_rcnn.serving.app import Metrics, build_app
from match_rcnn.serving.limits import Limits
from match_rcnn.serving.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        missing = "no browser here: make test-browser installs one"
        pytest.fail(missing) if os.environ.get("MATCH_RCNN_BROWSER") else pytest.skip(missing)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(predictor, built, tmp_path_factory, listening):
    """The address of a service with a gallery, one item of which has no picture."""
    folder = shutil.copytree(built, tmp_path_factory.mktemp("site") / "shop.gallery")
    limits = Limits(max_bytes=1 << 20)
    service = Service(predictor, folder, limits=limits)
    with listening(build_app(service, Metrics()), limits) as port:
        yield f"http://127.0.0.1:{port}", folder
    service.close()


@pytest.fixture
def page(browser, site):
    """A page of desk size, opened at the site; afterwards its console must be empty."""
    context = browser.new_context(viewport=DESK, base_url=site[0])
    page, said = context.new_page(), []
    page.console_said = said
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(r.url) if not local(r.url, site[0]) else None)
    page.goto("/")
    page.wait_for_selector("#samples img")
    yield page
    context.close()
    assert said == []


def local(url, base):
    return url.startswith((base, "blob:"))


@pytest.fixture
def file(photo, tmp_path):
    """The photo, under a name that means harm."""
    (tmp_path / "<img src=x onerror=alert(1)>.png").write_bytes(photo[1])
    return tmp_path / "<img src=x onerror=alert(1)>.png"


def upload(page, file):
    page.set_input_files("#file", file)
    page.wait_for_selector("#shapes .garment")


def click_shape(page, number):
    """With the mouse, where the shape is not below another one."""
    spot = page.evaluate(
        """(number) => {
            const rim = document.querySelector("#shapes").getBoundingClientRect();
            for (let y = rim.top + 1; y < rim.bottom; y += 2)
                for (let x = rim.left + 1; x < rim.right; x += 2) {
                    const hit = document.elementFromPoint(x, y)?.closest(".garment");
                    if (hit?.dataset.garment === String(number)) return [x, y];
                }
        }""",
        number,
    )
    page.mouse.click(*spot)


def results(page):
    """The ids of the results, when they are there."""
    page.wait_for_selector("body:not(.searching) #hits a")
    return [link.get_attribute("data-id") for link in page.query_selector_all("#hits a")]


def changed(page, before):
    """The results, when they are others than before."""
    page.wait_for_function(
        "ids => JSON.stringify([...document.querySelectorAll('#hits a')].map(a => a.dataset.id))"
        " !== JSON.stringify(ids) && !document.body.classList.contains('searching')",
        arg=before,
    )
    return results(page)


def test_the_second_garments_first_result_is_what_search_prints(
    page, site, file, photo, tmp_path, capfd
):
    upload(page, file)
    click_shape(page, 2)
    shown = results(page)
    cv2.imwrite(str(tmp_path / "query.png"), photo[0])
    words = ["--query", str(tmp_path / "query.png"), "--output", str(tmp_path), "--min-score", "0"]
    assert cli.main(["search", "--index", str(site[1]), *words, "--top", "24", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["results"][1]
    assert shown == [hit["id"] for hit in found["hits"]]
    chosen = page.locator("#garments [aria-pressed=true]")
    assert found["garment"]["category"] in chosen.inner_text()
    alike = page.locator("#hits .alike").first.inner_text()
    assert f"{found['hits'][0]['score']:.2f}" in alike
    assert page.locator("#hits img").first.evaluate("i => i.decode().then(() => i.naturalWidth)")


def test_a_files_name_is_text(page, file):
    upload(page, file)
    assert page.locator("#photo").get_attribute("alt") == file.name
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert file.name in page.title()


def test_what_is_shown(page, file):
    upload(page, file)
    assert page.locator("#shapes .fill").count() == 5
    page.get_by_label("Masks").uncheck()
    assert page.locator("#shapes .fill").count() == 0
    assert page.locator("#shapes .frame").count() == 5
    page.get_by_label("Landmarks").check()
    assert page.locator("#shapes .dot").count() > 5
    page.get_by_label("Measures").check()
    assert page.locator("#shapes text").count() > 0
    assert "show=landmarks+measures" in page.url
    page.locator("#from").fill("95")
    assert page.locator("#shapes .garment").count() == 0
    assert "None of 5 garments" in page.locator("#status").inner_text()
    page.locator("#from").fill("0")
    page.locator("#garments button").first.click()
    assert page.locator("#details dt").count() > 0
    assert "garment=1" in page.url
    page.locator("#garments button").first.click()
    assert "garment" not in page.url
    assert page.locator("#details").inner_html() == ""


def test_results_are_filtered_grouped_and_the_next_query(page, site):
    page.locator("#samples a").first.click()
    page.wait_for_selector("#garments button")
    page.locator("#garments button").first.click()
    by_product = results(page)
    assert len(by_product) == 4  # photos, as no product is known
    page.select_option("#group", "none")
    every = changed(page, by_product)
    assert len(every) == 20
    page.select_option("#category", "skirt")
    some = changed(page, every)
    assert len(some) == 4
    assert set(page.locator("#hits a .name:nth-child(3)").all_inner_texts()) == {"skirt"}
    page.select_option("#category", "")
    assert changed(page, some) == every
    page.locator("#hits a").nth(1).click()
    page.wait_for_function("location.search.includes('item=')")
    following = changed(page, every)
    assert every[1] not in following
    assert every[1] in page.locator("#status").inner_text()
    page.wait_for_selector("#shapes .frame")
    address = page.url
    page.go_back()
    assert changed(page, following) == every
    page.goto(address)  # as somebody else would open it
    assert results(page) == following


def test_an_address_says_all_of_it(page):
    page.goto("/?sample=dress.jpg&garment=2&show=landmarks&from=0&group=none&category=")
    shown = results(page)
    assert page.locator("#garments [aria-pressed=true]").get_attribute("data-garment") == "2"
    assert page.locator("#shapes .dot").count() > 0
    assert page.locator("#group").input_value() == "none"
    page.reload()
    assert results(page) == shown
    page.goto("/?own")
    page.wait_for_selector("#alert:not([hidden])")
    assert "choose it again" in page.locator("#alert").inner_text()
    page.get_by_role("button", name="Another photo").click()
    assert page.locator("#start").is_visible()
    assert page.locator("#alert").is_hidden()


def test_a_box_of_ones_own_by_mouse(page, file):
    upload(page, file)
    page.get_by_role("button", name="Draw a box").click()
    rim = page.locator("#photo").bounding_box()
    page.mouse.move(rim["x"] + 0.25 * rim["width"], rim["y"] + 0.2 * rim["height"])
    page.mouse.down()
    page.mouse.move(rim["x"] + 0.5 * rim["width"], rim["y"] + 0.5 * rim["height"])
    page.mouse.move(rim["x"] + 0.75 * rim["width"], rim["y"] + 0.9 * rim["height"])
    page.mouse.up()
    results(page)
    box = re.search(r"box=([\d%C]+)", page.url)[1].split("%2C")
    assert [abs(int(b) - a) <= 1 for b, a in zip(box, (30, 20, 90, 90), strict=True)] == [True] * 4
    with page.expect_request("**/embed?*category=skirt*"):
        page.select_option("#kind", "skirt")
    assert "kind=skirt" in page.url


def test_all_by_keys(page):
    page.locator("#samples a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#shapes .garment")
    page.locator("#shapes .garment").last.focus()
    page.keyboard.press("Enter")
    results(page)
    assert page.evaluate("document.activeElement.matches('#shapes .garment.chosen')")
    page.keyboard.press(" ")
    assert page.locator("#shapes .chosen").count() == 0
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown", "Escape"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.id") == "draw"
    assert "box=" not in page.url
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('box=')")
    results(page)
    page.locator("#hits a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('item=')")


def test_a_screen_reader_is_told(page, file):
    upload(page, file)
    shapes = page.get_by_role("group", name="Garments in the photo").get_by_role("button")
    assert shapes.count() == 5
    assert re.fullmatch(r"[a-z ]+, \d+ %", shapes.first.get_attribute("aria-label"))
    assert "5 garments" in page.locator("#status[role=status]").inner_text()
    page.get_by_role("list", name="Garments").get_by_role("button").first.click()
    results(page)
    assert page.get_by_role("region", name="Like it in the gallery").is_visible()
    assert "search for it" in page.locator("#hits a").first.get_attribute("aria-label")
    assert page.evaluate(
        """[...document.querySelectorAll("input, select, button, a")].every((control) =>
            control.hidden || control.labels?.length || control.ariaLabel
            || control.textContent.trim())"""
    )


def test_phone_width(page, file):
    page.set_viewport_size(PHONE)
    upload(page, file)
    page.locator("#garments button").first.click()
    results(page)
    for address in (page.url, "/"):
        page.goto(address) if address == "/" else None
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        small = page.evaluate(
            """[...document.querySelectorAll("button, select, .chip")].filter((control) =>
                control.offsetParent && control.getBoundingClientRect().height < 34).length"""
        )
        assert small == 0


def test_dark_and_light(page):
    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.emulate_media(color_scheme="light")
    light = paper()
    page.emulate_media(color_scheme="dark")
    dark = paper()
    assert dark != light
    page.locator("#theme").click()
    assert paper() == light
    page.reload()
    assert paper() == light
    page.locator("#theme").click()
    assert paper() == dark


def test_what_is_wrong_is_said(page, tmp_path):
    (tmp_path / "notes.png").write_text("no photo")
    page.set_input_files("#file", tmp_path / "notes.png")
    page.wait_for_selector("#alert:not([hidden])")
    assert page.locator("#alert").inner_text().startswith("This is no JPEG")
    assert len(page.console_said) == 1  # the browser's own line about the answer
    assert "415" in page.console_said.pop()
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    page.set_input_files("#file", tmp_path / "large.png")
    page.wait_for_function("document.querySelector('#alert').textContent.includes('larger')")
    page.get_by_role("button", name="Another photo").click()
    assert page.locator("#alert").is_hidden()
