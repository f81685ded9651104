"""A worker calls the webhook of an experiment that it has ended."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from service.webhooks.repository import add_webhook, list_webhooks
from tests.worker.test_faults import SHORT


def test_a_worker_calls_at_the_end(embedded) -> None:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        host = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        embedded.start_worker(webhook_allow=host, webhook_secret="x" * 32)
        experiment = embedded.submit(SHORT)
        with embedded.database.writing() as session:
            add_webhook(session, experiment, f"http://{host}/")

        def status() -> str:
            with embedded.database.reading() as session:
                return list_webhooks(session, experiment)[0].status

        embedded.wait(lambda: status() == "delivered")
        server.shutdown()
    assert len(received) == 1
    assert str(experiment).encode() in received[0]
