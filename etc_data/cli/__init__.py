"""The etc-data command."""
