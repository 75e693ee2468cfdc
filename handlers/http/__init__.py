"""HTTP functions: requests that an author declares as data and that a model can make during a call.

``function.HttpFunctions`` binds a declaration to a call and validates the arguments; it needs pipecat, which
the senders of webhooks do not. ``request`` builds the request, ``HttpClient`` sends it over a
``CheckedNetwork``, which connects to public addresses only, and ``answer`` reads the response. Simulated
calls replace ``HttpClient.send`` by prepared answers.
"""

from handlers.http.client import HttpClient
from handlers.http.errors import HttpFailure
from handlers.http.network import CheckedNetwork
from handlers.http.request import HttpRequest, HttpResponse, Origin

__all__ = [
    "CheckedNetwork",
    "HttpClient",
    "HttpFailure",
    "HttpRequest",
    "HttpResponse",
    "Origin",
]
