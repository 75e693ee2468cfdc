"""Conversation templates: model, variables, check, and compilation to pipecat flows.

A template is data. ``model`` defines its fields, ``values`` its typed variables, ``check`` reports its
problems, and ``compile`` makes a pipecat flow from it and the functions of a call. This package has no access
to a database, a carrier or a call.
"""
