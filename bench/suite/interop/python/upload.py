"""Sends uploads that are refused and prints what came of each: upload.py CLIENT URL BYTES RUNS CA"""

import http.client
import ssl
import sys
import urllib.parse

client, url, size, runs, ca = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
body = b"x" * size


def pieces():
    for at in range(0, size, 64 << 10):
        yield body[at : at + (64 << 10)]


def by_requests(data):
    import requests

    return requests.post(url, data=data, verify=ca, timeout=60).status_code


def by_library():
    to = urllib.parse.urlsplit(url)
    if to.scheme == "https":
        c = http.client.HTTPSConnection(to.netloc, context=ssl.create_default_context(cafile=ca), timeout=60)
    else:
        c = http.client.HTTPConnection(to.netloc, timeout=60)
    c.request("POST", to.path, body=body)  # all of it before the response is read
    return c.getresponse().status


clients = {
    "requests": lambda: by_requests(body),
    "requests-chunks": lambda: by_requests(pieces()),
    "library": by_library,
}

for _ in range(runs):
    try:
        print(clients[client]())
    except Exception as e:  # whatever it is, the test shows it
        print(repr(e))
