"""Consumer-to-shop search: exact match scores at matrix speed, and galleries on disk."""
