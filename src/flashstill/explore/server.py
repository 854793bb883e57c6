"""The server of the page: Python's own HTTP server on 127.0.0.1, with the engine behind it.

The protocol (GET and HEAD only; every request carries the token of the start as `token=`, on whichever place of the
query; all answers are no-store):

    GET /?token=T&STATE              the page
    GET /page.js?token=T             its script; GET /page.css?token=T its style
    GET /states?token=T&STATE        JSON: {"state": {...}, "query": canonical STATE, "views": [...], "controls": [...]}
        views:    {"name", "title", "controls": names of the controls that it listens to}, in the order of the page
        controls: {"name", "label", "kind", "unit", "help", "default", ...} where kind is
                  "choice"  one of `choices`: [{"value", "label"}]; a value that is not listed may be refused
                  "choices" several of `choices` with commas between, at most `most`
                  "number"  from `low` to `high`; `stops`: the values that a slider goes through; `optional`: may be
                            left out, which `default` null says (a bound that is not set)
                  "edits"   repeated `set=NAME.QUANTITY=AMOUNT`, at most `most`; `choices`: the facts of the chips in
                            the state, {"value": "h100-sxm.memory_bytes_per_s", "label", "unit", "now": number}
    GET /view/NAME?token=T&STATE     JSON of view.View, with "query" (canonical STATE) and "state"
    GET /table/CHART.csv?token=T&STATE   the table of a chart of the state's view

STATE is a query string, as `view=model&model=qwen3-8b&chip=h100-sxm&batch=16&set=h100-sxm.memory_bytes_per_s%3D5e12`;
what is left out has its default.  A mistake is answered with status 400 and {"error": one sentence}; what no
configuration can do with 200 and a View whose lead says so, with the counted reasons as a table; a wrong token, Host
or Origin with 403, another method with 405, another path with 404, a busy server with 503.
"""
