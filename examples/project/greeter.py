"""Greets whoever asks, over HTTP."""

from http.server import BaseHTTPRequestHandler, HTTPServer

from jinja2 import Template

PAGE = Template("<h1>Hello, {{ name }}!</h1>")


def greet(path):
    """Returns the page for a path such as `/world`."""
    return PAGE.render(name=path.strip("/") or "world")


class Greeter(BaseHTTPRequestHandler):
    """Answers every GET with a greeting."""

    def do_GET(self):
        body = greet(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    HTTPServer(("", 8000), Greeter).serve_forever()
