"""Takes messages in over HTTP and hands them to the broker."""
