"""The policy as the browser holds it: what a hole in our scripts could still not do."""

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import Watched

pytestmark = pytest.mark.browser

ATTEMPTS = {
    "connect-src": "fetch('http://127.0.0.1:9/').catch(() => {})",
    "img-src": "new Image().src = 'http://127.0.0.1:9/x.png'",
    "script-src-elem": "document.head.append(script('http://127.0.0.1:9/x.js'))",
    "style-src-attr": "document.body.setAttribute('style', 'color: red')",
    "style-src-elem": "document.head.append(style('* { color: red }'))",
    "frame-src": "document.body.append(frame('http://127.0.0.1:9/'))",
    "form-action": "submit('http://127.0.0.1:9/')",
    "require-trusted-types-for": "document.body.innerHTML = '<b>x</b>'",
    "trusted-types": "trustedTypes.createPolicy('default', { createHTML: (text) => text })",
}
MAKERS = """
    const made = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const style = (textContent) => made("style", { textContent });
    const frame = (src) => made("iframe", { src });
    const script = (src) => {
        const node = made("script", {});
        node.setAttribute("src", src);
        return node;
    };
    const submit = (action) => {
        const form = made("form", { action, method: "post" });
        document.body.append(form);
        form.submit();
    };
"""


@pytest.mark.parametrize("directive", ATTEMPTS)
def test_the_browser_refuses_what_the_policy_forbids(console: Watched, directive: str) -> None:
    expect(console.page.get_by_text("256 dimensions")).to_be_visible()

    found = console.evaluate(
        f"""new Promise((resolve) => {{
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            {MAKERS}
            try {{ {ATTEMPTS[directive]}; }} catch {{}}
        }})"""
    )

    # A script's address is a string that the page's own policy on strings catches first.
    allowed = (
        {directive, "require-trusted-types-for"} if directive.startswith("script") else {directive}
    )
    assert found in allowed
