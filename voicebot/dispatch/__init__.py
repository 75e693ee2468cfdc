"""Outbound dialling: leads are claimed, checked, dialled, and settled when their call has ended."""
