"""The HTTP API: one file per resource. A router parses the request, calls another package, and answers."""
