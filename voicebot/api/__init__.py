"""The HTTP face: thin routers, one file a resource. Each parses, calls what does the work, and answers."""
