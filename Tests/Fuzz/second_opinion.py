"""llhttp's reading of what our parser accepted (httptools is llhttp for Python).

Reads lines of `kind hex`, the hex being one whole message as our parser sees its end; prints a
JSON line for each: null where llhttp refuses, else what it understood."""

import json
import sys

import httptools


class Message:
    def __init__(self):
        self.headers = []
        self.body = 0
        self.complete = 0

    def on_header(self, name, value):
        # White space behind a value is no part of it; llhttp leaves that to its user.
        self.headers.append([name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")])

    def on_body(self, body):
        self.body += len(body)

    def on_message_complete(self):
        self.complete += 1


def read(kind, data):
    message = Message()
    make = httptools.HttpRequestParser if kind == "request" else httptools.HttpResponseParser
    parser = make(message)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    # Trailers are reported like fields; ours are counted in the head only.
    found = {"complete": message.complete, "body": message.body, "fields": message.headers}
    if kind == "request":
        found["method"] = parser.get_method().decode("latin-1")
    else:
        found["status"] = parser.get_status_code()
    return found


for line in sys.stdin:
    kind, text = line.split()
    data = bytes.fromhex(text)
    whole = read(kind, data)
    # One byte less must not be a whole message.
    short = read(kind, data[:-1])
    if whole is not None:
        whole["early"] = short["complete"] if short else 0
    print(json.dumps(whole))
