"""HTTP functions: requests that an author declares as data and a model makes during a call.

``HttpFunctions`` binds a declaration to a call; ``Courier`` carries requests into the world and back, over a
``CheckedNetwork`` that reaches the open internet only. Anything else that can answer a ``Request`` may stand
in for the courier, e.g. a file of prepared answers.
"""

from handlers.http.client import HttpClient
from handlers.http.errors import HttpFailure
from handlers.http.function import HttpFunctions, Send
from handlers.http.network import CheckedNetwork
from handlers.http.request import Origin, Reply, Request

__all__ = [
    "CheckedNetwork",
    "HttpClient",
    "HttpFailure",
    "HttpFunctions",
    "Origin",
    "Reply",
    "Request",
    "Send",
]
