"""The container's health check: exits 0 if /ready answers 200. Only sockets, because it starts every few seconds."""

import os
import socket
import sys

with socket.create_connection(("127.0.0.1", int(os.environ.get("PORT") or 8080)), timeout=2) as connection:
    connection.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    sys.exit(not connection.recv(64).startswith(b"HTTP/1.1 200 "))
