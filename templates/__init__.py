"""Conversation templates: what an author writes down about an agent, and how it becomes something that runs.

A template is data. ``model`` is its shape, ``values`` its typed variables, ``check`` what may not be saved,
and ``compile`` turns it and the functions of a call into a pipecat flow. Nothing here knows a database, a
carrier or a call.
"""
