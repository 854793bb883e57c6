"""The shell of every page: one style, a policy that allows nothing from elsewhere, and at most one small script.

The content security policy names the style and the script by their SHA-256, so that nothing else on a page can run.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from flashstill.report.style import stylesheet, text_of


def render_page(template: str, script: str = "", **values: Any) -> str:
    """A template of this folder with its values, everything escaped; script: the name of its script in this folder."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    code = text_of(script) if script else ""
    policy = f"default-src 'none'; style-src '{_hashed(stylesheet())}'" + (
        f"; script-src '{_hashed(code)}'" if code else ""
    )
    return environment.get_template(template).render(style=stylesheet(), script=code, policy=policy, **values)


def _hashed(text: str) -> str:
    """The source expression of a content security policy for an inline element with this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
