"""A headless Chromium and what a reader does with it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "Right": "\ue014", "Left": "\ue012", "Down": "\ue015"}


class Browser:
    def __init__(self, chromium: str, driver: str, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(60)

    def open(self, page: Path, **words: object) -> None:
        """Load the page anew at an address, and wait until a document, or why there is none, stands there."""
        self.driver.get("about:blank")
        self.driver.get(page.as_uri() + (f"#{urlencode(words)}" if words else ""))
        self.wait("document.getElementById('main').childElementCount > 0 && !document.querySelector('noscript')")

    def resize(self, width: int, height: int, *, theme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def run(self, script: str, *values: object) -> Any:
        """The value of a JavaScript expression; `arguments` are the values."""
        return self.driver.execute_script(f"return {script.strip()}", *values)

    def wait(self, condition: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: self.run(condition), condition)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*(KEYS.get(key, key) for key in keys)).perform()

    def click(self, selector: str, nth: int = 0) -> None:
        """Click as a mouse does, in the middle of the element."""
        from selenium.webdriver import ActionChains

        element = self.all(selector)[nth]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.driver, duration=0).click(element).perform()

    def hover(self, selector: str) -> None:
        from selenium.webdriver import ActionChains

        element = self.all(selector)[0]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The text of each element that matches."""
        found: list[str] = self.run("[...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)
        return found

    def document(self) -> str:
        """The id of the document that is shown."""
        return str(self.texts("main .eyebrow .mono")[0])

    def barriers(self) -> list[str]:
        """What axe finds by WCAG 2.1 (A, AA) and its best practices: a rule, and the first element that breaks it."""
        axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, which brings axe")
        self.driver.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        script = """const done = arguments[0];
            axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }).then((found) => done(
              found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`)))"""
        return list(self.driver.execute_async_script(script))

    def errors(self) -> list[str]:
        """What the page logged since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def shoot(self, file: Path) -> bytes:
        shot = base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
        file.write_bytes(shot)
        return shot

    def pages(self) -> int:
        """How many A4 pages the page takes when it is printed."""
        asked = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True, "preferCSSPageSize": True}
        printed = base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", asked)["data"])
        return len(re.findall(rb"/Type\s*/Page\b", printed))

    def quit(self) -> None:
        self.driver.quit()
