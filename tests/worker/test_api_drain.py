"""An API process that is asked to end while many watch."""

import asyncio
import collections
import signal

import httpx

from tests.worker.test_fault_matrix import SPEC

CLIENTS = 100


def test_an_api_that_ends_lets_a_hundred_streams_end_cleanly_and_they_resume_elsewhere(embedded) -> None:
    api = embedded.start_api()
    links = httpx.post(f"{api.url}/v1/experiments", json=SPEC).json()["links"]

    async def watch(client: httpx.AsyncClient, begun: asyncio.Event, seen: list[str]) -> str:
        headers = {"Accept": "text/event-stream"}
        try:
            async with client.stream("GET", links["events"], headers=headers) as answer:
                async for line in answer.aiter_lines():
                    seen.append(line)
                    begun.set()
        except httpx.TransportError as error:
            begun.set()
            return repr(error)
        return "clean end"

    async def everybody() -> tuple[collections.Counter, list[list[str]]]:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=limits) as client:
            begun = [asyncio.Event() for _ in range(CLIENTS)]
            seen: list[list[str]] = [[] for _ in range(CLIENTS)]
            watching = [asyncio.create_task(watch(client, *each)) for each in zip(begun, seen, strict=True)]
            await asyncio.gather(*(each.wait() for each in begun))
            api.process.terminate()
            return collections.Counter(await asyncio.gather(*watching)), seen

    ends, seen = asyncio.run(everybody())
    assert ends == {"clean end": CLIENTS}
    assert all("event: snapshot" in lines and lines[-1] == "" for lines in seen), "each saw whole messages"
    assert api.process.wait(60) in {0, -signal.SIGTERM}, api.log.read_text()
    assert not api.has_said("graceful shutdown exceeded"), "they ended by themselves, within the drain time"

    [last] = {line.removeprefix("id: ") for lines in seen for line in lines if line.startswith("id: ")}
    heir = embedded.start_api()
    embedded.start_worker()
    with httpx.stream(
        "GET", heir.url + links["events"], headers={"Accept": "text/event-stream", "Last-Event-ID": last},
        timeout=60,
    ) as answer:  # fmt: skip
        names = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert "snapshot" not in names
    assert names[-1] == "end"
    embedded.check()
