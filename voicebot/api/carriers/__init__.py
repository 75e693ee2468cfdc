"""What carriers request: webhooks of calls and the media streams of their audio."""
