"""Pages for people, as static files; they use only the public HTTP API.

`static/takeover.html` is where an operator takes a call over in a browser (docs/guides/handoffs.md).
"""
