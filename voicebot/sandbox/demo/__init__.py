"""`voicebot demo`: a server, the sandbox's vendors and one caller, and what came of the call.

`play.py` conducts; `story.py` says who calls and what they want; `templates/` holds the three agents as their
author would write them; `office.py` is the author's own system, which their functions reach. The rest is
`server.py` (the server's process and its commands), `account.py` (what an author does by the API), `watch.py`
(what a running call tells), `screen.py` (how it looks) and `verdict.py` (whether it is as it should be).
"""
