"""`voicebot demo`: a server, the vendors' stand-ins and one caller; one routed call, and a check of it.

- `run.py`: starts everything, places the call, shows it, and stops everything
- `scenario.py`: who calls, what is said, and what is expected of the call
- `templates/`: the three agents as their author would write them
- `account.py`: what the author does through the API
- `backend.py`: the author's own system, which HTTP functions reach
- `server.py`: the server and its commands as processes
- `call_log.py`: follows a running call through the API; `display.py`: prints it
- `checks.py`: whether the call is as expected
- `person.py`, `person_scenario.py`, `person_templates/`: `voicebot demo --person`
"""
