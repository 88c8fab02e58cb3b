#!/usr/bin/python3
"""Prints so many free ports of 127.0.0.1, a line each."""

import socket
import sys

held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
    print(one.getsockname()[1])
